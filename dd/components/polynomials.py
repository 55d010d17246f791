"""What T steps do to a quadratic: the residual polynomials of the optimizers that have exact dynamics.

Along one eigendirection of a quadratic loss with curvature c, a linear method from distance e ends at distance
P_T(c) · e of the minimum; P_T is its residual polynomial, P_T(0) = 1, and 1 - P_T its filter factor. Both are returned,
each with its own relative accuracy: where 1 - P_T is small, its difference from 1 would be lost in P_T.

Sources: residual polynomials in general, Saad, *Iterative Methods for Sparse Linear Systems*; heavy ball, Polyak
1964; Nesterov's form as in ``torch.optim.SGD``, Sutskever et al. 2013; Chebyshev, Golub & Varga 1961.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Modes:
    """Eigendirections of the training loss plus weight decay, as an optimizer meets them.

    Attributes:
        curvature: eigenvalues, weight decay included, [modes]; the last stands for all directions that the loss does
            not see.
        distance: of the start from the minimum, over all outputs, [modes].
        lowest: smallest of the curvatures that the loss sees; 0 where it sees none.
        highest: largest of them.
    """

    curvature: Tensor
    distance: Tensor
    lowest: float
    highest: float


@dataclass(frozen=True)
class Response:
    """State of every mode after some numbers of steps.

    Attributes:
        residual: P_T, [steps, modes].
        filter: 1 - P_T, [steps, modes].
    """

    residual: Tensor
    filter: Tensor


def _column(steps: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor([float(t) for t in steps], dtype=torch.float64, device=like.device)[:, None]


def _odd(steps: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor([t % 2 == 1 for t in steps], device=like.device)[:, None]


def _power(q: Tensor, steps: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(1 - q)^T and 1 - (1 - q)^T for q >= 0, each [steps, modes]."""
    t = _column(steps, q)
    log = torch.where(q <= 1, torch.log1p(-q.clamp(max=1)), torch.log((q - 1).clamp(min=0)))
    exponent = torch.where(t == 0, 0.0, t * log)
    value = torch.where((q > 1) & _odd(steps, q), -1.0, 1.0) * exponent.exp()
    return value, torch.where(q <= 1, -torch.expm1(exponent), 1 - value)


def gradient_descent(h: Tensor, steps: Sequence[int]) -> Response:
    """P_T = (1 - h)^T.

    Args:
        h: step size times curvature, >= 0, [modes].
        steps: T.
    """
    return Response(*_power(h, steps))


def gradient_flow(h: Tensor, steps: Sequence[int]) -> Response:
    """P_T = exp(-h T): gradient descent in continuous time; arguments as :func:`gradient_descent`."""
    exponent = -_column(steps, h) * h
    return Response(exponent.exp(), -torch.expm1(exponent))


def heavy_ball(h: Tensor, steps: Sequence[int], momentum: float) -> Response:
    """V = mu v + g; w -= lr v, from v = 0: P_{T+1} = (1 + mu - h) P_T - mu P_{T-1}, P_1 = 1 - h."""
    if momentum == 0:
        return gradient_descent(h, steps)
    det = torch.full_like(h, momentum)
    return _two_term(h, steps, det, det.log(), h)


def nesterov(h: Tensor, steps: Sequence[int], momentum: float) -> Response:
    """V = mu v + g; w -= lr (g + mu v): P_{T+1} = (1 + mu)(1 - h) P_T - mu (1 - h) P_{T-1}, P_1 = 1 - (1 + mu) h."""
    if momentum == 0:
        return gradient_descent(h, steps)
    det = momentum * (1 - h)
    log_det = torch.full_like(h, momentum).log() + torch.log1p(-h.clamp(max=1))
    return _two_term(h, steps, det, log_det, (1 + momentum) * h)


def decay_rate(h: Tensor, det: Tensor) -> Tensor:
    """1 - spectral radius of P_{T+1} = (1 + det - h) P_T - det P_{T-1}: the share of a mode that late steps remove.

    Args:
        h: step size times curvature, [modes].
        det: determinant of the recursion, [modes]: mu for heavy ball, mu (1 - h) for Nesterov.

    Returns:
        [modes]; negative where the recursion diverges.
    """
    q1, q2, disc = _roots(h, det)
    real = torch.stack([q1, 2 - q1, q2, 2 - q2]).amin(dim=0)  # 1 - |1 - q| = min(q, 2 - q)
    return torch.where(disc < 0, -torch.expm1(0.5 * det.clamp(min=0).log()), real)


def _roots(h: Tensor, det: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Q = 1 - r of both real roots r of r² - (1 + det - h) r + det, the smaller first, and the discriminant."""
    half = (1 - det + h) / 2
    disc = half.square() - h
    q2 = half + disc.clamp(min=0).sqrt()
    return torch.where(q2 > 0, h / q2, 0.0), q2, disc


def _two_term(h: Tensor, steps: Sequence[int], det: Tensor, log_det: Tensor, first: Tensor) -> Response:
    """Solve P_{T+1} = (1 + det - h) P_T - det P_{T-1} with P_0 = 1, P_1 = 1 - first, for 1 - det + h >= 0.

    Two real roots: powers of both. A complex pair: rho^(T-1) (P_1 S(T) - rho S(T-1)), S(k) = sin(k phi)/sin(phi). The
    latter's hyperbolic twin serves where two real roots are so close that their powers would cancel.
    """
    t = _column(steps, h)
    q1, q2, disc = _roots(h, det)
    gap = q2 - q1
    (value1, gone1), (value2, gone2) = _power(q1, steps), _power(q2, steps)
    safe = torch.where(gap > 0, gap, 1.0)
    residual = (value1 * (q2 - first) - value2 * (q1 - first)) / safe
    removed = (gone1 * (q2 - first) - gone2 * (q1 - first)) / safe

    trace = 1 + det - h
    # two roots near zero: the first steps decide, and their powers would cancel
    early = (q1 > 0.5) & (t <= 2)
    residual = torch.where(early, torch.where(t == 1, 1 - first, trace * (1 - first) - det), residual)
    removed = torch.where(q1 > 0.5, 1 - residual, removed)
    negative = trace < 0
    sign = torch.where(negative, -1.0, 1.0)
    rho = (0.5 * log_det).exp()
    root = disc.abs().sqrt()
    phi = torch.atan2(root, trace.abs() / 2)
    psi = torch.asinh(root / torch.where(rho > 0, rho, 1.0))
    positive_det = det > 0
    close = (disc >= 0) & positive_det & (gap < 1e-3 * q2) & (t * psi < 1)

    def ratio(k: Tensor) -> Tensor:
        turning = torch.where(phi > 0, torch.sin(k * phi) / torch.where(phi > 0, phi.sin(), 1.0), k)
        small = (k * psi).clamp(max=1.0)
        growing = torch.where(psi > 0, torch.sinh(small) / torch.where(psi > 0, psi.sinh(), 1.0), k)
        return torch.where(disc < 0, turning, growing)

    flips = torch.where(negative & ~_odd(steps, h), -1.0, 1.0)  # (-1)^(T-1)
    power = torch.where(positive_det, flips * ((t - 1) * 0.5 * log_det).exp(), 0.0)
    paired = power * ((1 - first) * ratio(t) - sign * rho * ratio(t - 1))
    # 1 - rho^T (cos(T phi) + (P_1 - trace/2)/rho S(T)), every term small where the whole is
    half_turn = torch.where(disc < 0, torch.sin(t * phi / 2).square(), -torch.sinh((t * psi).clamp(max=1) / 2).square())
    turned = 2 * half_turn - ((1 - det + h) / 2 - first) / torch.where(rho > 0, rho, 1.0) * ratio(t)
    paired_removed = -torch.expm1(t * 0.5 * log_det) + (t * 0.5 * log_det).exp() * turned
    paired_removed = torch.where(negative, 1 - paired, paired_removed)
    use_pair = ((disc < 0) & positive_det) | close
    residual = torch.where(use_pair, paired, residual)
    removed = torch.where(t == 1, first, torch.where(use_pair, paired_removed, removed))
    still = (t == 0) | (h == 0)
    return Response(torch.where(still, 1.0, residual), torch.where(still, 0.0, removed))


def chebyshev(curvature: Tensor, steps: Sequence[int], low: float, high: float) -> Response:
    """P_T(c) = C_T(x(c)) / C_T(x(0)), x(c) = (high + low - 2 c)/(high - low), C_T Chebyshev's polynomial.

    Args:
        curvature: [modes], none above ``high``.
        steps: T.
        low: lower end of the interval on which P_T is smallest, > 0.
        high: upper end, >= low.
    """
    if high - low <= 4 * EPS * high:
        return Response(*_power(curvature / high, steps))
    t = _column(steps, curvature)
    width = high - low
    below = ((low - curvature) / width).clamp(min=0)
    above = ((curvature - low) / width).clamp(min=0, max=1)
    at_zero = t * (2 * torch.asinh(torch.tensor(low / width, dtype=torch.float64).sqrt())).to(t.device)
    turning = t * 2 * torch.asin(above.sqrt())  # C_T(x) = cos(turning) inside the interval
    growing = t * 2 * torch.asinh(below.sqrt())  # ... and cosh(growing) below it

    def log_cosh(a: Tensor) -> Tensor:
        return a + torch.log1p((-2 * a).exp()) - torch.log(torch.tensor(2.0, dtype=torch.float64))

    scale = (-log_cosh(at_zero)).exp()  # 1 / C_T(x(0))
    inside = scale * turning.cos()
    # at_zero - growing, without the difference of two like numbers
    a, b = torch.tensor(low / width, dtype=torch.float64).sqrt().to(t.device), below.sqrt()
    apart = t * 2 * torch.asinh((curvature / width) / (a * (1 + b * b).sqrt() + b * (1 + a * a).sqrt()))
    outside = (log_cosh(growing) - log_cosh(at_zero)).exp()
    half = (at_zero / 2).clamp(max=300)
    # 1 - cos b / cosh a = 2 (sinh²(a/2) + sin²(b/2)) / cosh a
    gone = torch.where(at_zero < 600, 2 * (half.sinh().square() + (turning / 2).sin().square()) * scale, 1.0)
    # 1 - cosh b / cosh a = 2 sinh((a+b)/2) sinh((a-b)/2) / cosh a
    mean = ((at_zero + growing) / 2).clamp(max=600)
    gone_outside = torch.where(at_zero < 600, 2 * mean.sinh() * (apart / 2).sinh() * scale, -torch.expm1(-apart))
    is_inside = curvature >= low
    return Response(torch.where(is_inside, inside, outside), torch.where(is_inside, gone, gone_outside))


def conjugate_gradient(modes: Modes, steps: Sequence[int]) -> Response:
    """Conjugate gradients on the loss of all outputs together.

    Gradients are kept orthogonal to all earlier ones, as in exact arithmetic, so that at most as many steps are taken
    as there are modes. A plain loop in float64 loses that orthogonality where the problem is ill-conditioned, and lags
    behind. The method itself is sensitive: where curvatures cluster over many decades, relative changes of 1e-16 in
    them move iterates in the middle of its course visibly.
    """
    start = modes.curvature * modes.distance
    active = start > 0
    curvature, distance, gradient = modes.curvature[active], modes.distance[active], start[active]
    residual, removed = torch.ones_like(gradient), torch.zeros_like(gradient)
    found, wanted = {0: (residual, removed)}, set(steps)
    direction, done, last = -gradient, 0, min(max(steps, default=0), len(gradient))
    memory = gradient.new_empty(last, len(gradient))
    while done < last:
        norm = gradient.norm()
        memory[done] = gradient / norm
        basis = memory[: done + 1]
        image = curvature * direction
        alpha = norm.square() / (direction @ image)
        removed = removed - alpha * direction / distance
        following = gradient + alpha * image
        for _ in range(2):
            following = following - basis.T @ (basis @ following)
        done += 1
        exhausted = done == len(gradient) or float(following.norm()) <= 8 * EPS * float(norm)
        if exhausted:
            residual, removed = torch.zeros_like(gradient), torch.ones_like(gradient)
        else:
            residual = torch.where(removed.abs() < 0.5, 1 - removed, following / (curvature * distance))
        if exhausted or done in wanted:
            found[done] = (residual, removed)
        if exhausted:
            break
        direction = -following + (following.norm() / norm).square() * direction
        gradient = following
    shape = (len(steps), len(start))
    out = Response(start.new_ones(shape), start.new_zeros(shape))
    for i, t in enumerate(steps):
        out.residual[i, active], out.filter[i, active] = found[min(t, done)]
    return out
