"""Packed update rules against ``torch.optim``, step by step in float64, with hyper-parameters of each run's own.

Every file of ``dd/optim`` and ``dd/components/optimizer.py``, but for closed forms.

Covers: dd/components/optimizer.py, dd/optim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch

from dd.components.optimizer import MatrixRule, Optimizer, QuadraticRule, UpdateRule
from dd.components.polynomials import Modes
from dd.optim.muon import orthogonalized
from dd.runs.registry import kind, names
from dd.trainers.updates import hyper

STEPS = 60
OPT = torch.optim
Case = tuple[list[dict[str, float]], Callable[..., Any]]

CASES: dict[str, Case] = {
    "sgd": ([{}, {"weight_decay": 0.1}], lambda p, lr, o: OPT.SGD([p], lr, **o)),
    "gd": ([{}, {"weight_decay": 0.1}], lambda p, lr, o: OPT.SGD([p], lr, **o)),
    "momentum": (
        [{"momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.02}, {"momentum": 0.0}],
        lambda p, lr, o: OPT.SGD([p], lr, **o),
    ),
    "nesterov": (
        [{"momentum": 0.9}, {"momentum": 0.7, "weight_decay": 0.02}],
        lambda p, lr, o: OPT.SGD([p], lr, nesterov=True, **o),
    ),
    "adam": (
        [{}, {"beta1": 0.5, "beta2": 0.99, "eps": 1e-3}, {"weight_decay": 0.1}],
        lambda p, lr, o: OPT.Adam([p], lr, (o.pop("beta1", 0.9), o.pop("beta2", 0.999)), **o),
    ),
    "adamw": (
        [{}, {"beta1": 0.5, "weight_decay": 0.3}, {"weight_decay": 0.0}],
        lambda p, lr, o: OPT.AdamW([p], lr, (o.pop("beta1", 0.9), o.pop("beta2", 0.999)), **o),
    ),
    "rmsprop": (
        [{}, {"alpha": 0.9, "momentum": 0.9}, {"weight_decay": 0.1, "eps": 1e-2}],
        lambda p, lr, o: OPT.RMSprop([p], lr, **o),
    ),
    "adagrad": (
        [{}, {"lr_decay": 0.1, "initial_accumulator": 0.5}, {"weight_decay": 0.1}],
        lambda p, lr, o: OPT.Adagrad(
            [p], lr, initial_accumulator_value=o.pop("initial_accumulator", 0.0), **o
        ),
    ),
    "lion": (
        [{}, {"beta1": 0.5, "beta2": 0.8}, {"weight_decay": 0.3}],
        lambda p, lr, o: pytorch_optimizer.Lion([p], lr, (o.pop("beta1", 0.9), o.pop("beta2", 0.99)), **o),
    ),
    "signsgd": (
        [{}, {"momentum": 0.8}, {"weight_decay": 0.1}],
        lambda p, lr, o: pytorch_optimizer.SignSGD([p], lr, o.pop("momentum", 0.0), weight_decouple=False, **o),
    ),
}  # fmt: skip
LRS = [0.03, 0.1, 0.01]


def made(name: str, **options: float) -> Optimizer:
    rule = kind("optimizer", name)(**options)
    assert isinstance(rule, Optimizer)
    return rule


def test_every_packed_rule_is_compared() -> None:
    packed = {n for n in names("optimizer") if isinstance(made(n), UpdateRule)}
    assert packed == CASES.keys() | {"muon"}


def curvature(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    return root @ root.T / 12 + 0.1 * torch.eye(12), torch.randn(12, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_equals_torch_step_by_step(name: str) -> None:
    variants, build = CASES[name]
    rules = [made(name, **o) for o in variants]
    lrs = LRS[: len(variants)]
    problems = [curvature(i) for i in range(len(variants))]
    start = torch.randn(len(variants), 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    rule, values = rules[0], hyper(rules, torch.tensor(lrs, dtype=torch.float64))
    theta = start.clone()
    state = rule.init_state(theta, values)
    singles = [start[i].clone().requires_grad_(True) for i in range(len(variants))]
    optimizers = [build(p, lr, dict(o)) for p, lr, o in zip(singles, lrs, variants, strict=True)]
    for step in range(1, STEPS + 1):
        grad = torch.stack([a @ theta[i] - b for i, (a, b) in enumerate(problems)])
        rule.update(theta, grad, state, values, step)
        for i, (a, b) in enumerate(problems):
            singles[i].grad = (a @ singles[i] - b).detach()
            optimizers[i].step()
        torch.testing.assert_close(theta, torch.stack([p.detach() for p in singles]), rtol=1e-12, atol=1e-12)
    assert (theta - start).abs().max() > 0.05


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "adagrad"])
def test_preconditioner_is_the_divisor_of_the_step(name: str) -> None:
    rule = made(name, weight_decay=0.0)
    values = hyper([rule], torch.tensor([0.1], dtype=torch.float64))
    theta = torch.ones(1, 5, dtype=torch.float64)
    state = rule.init_state(theta, values)
    grad = torch.tensor([[1.0, -2.0, 0.5, 3.0, 1e-3]], dtype=torch.float64)
    before = theta.clone()
    rule.update(theta, grad.clone(), state, values, 1)
    divisor = rule.preconditioner(state, values, 1)
    torch.testing.assert_close(before - theta, 0.1 * grad / divisor, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_float32_is_as_close_to_float64_as_torchs(name: str) -> None:
    """Complements of decay rates are rounded once, as by torch: no digits are lost in 1 - 0.999."""
    variants, build = CASES[name]
    rule = made(name, **variants[0])
    a, b = (x.float() for x in curvature(0))
    theta = torch.ones(1, 12)
    values = hyper([rule], torch.tensor([0.03]))
    state = rule.init_state(theta, values)
    single = torch.ones(12, requires_grad=True)
    optimizer = build(single, 0.03, dict(variants[0]))
    for step in range(1, 6):
        grad = (a @ theta[0] - b)[None]
        single.grad = grad[0].clone()
        rule.update(theta, grad, state, values, step)
        optimizer.step()
        torch.testing.assert_close(theta[0], single.detach(), rtol=1e-6, atol=1e-7)
        with torch.no_grad():
            single.copy_(theta[0])


@pytest.mark.parametrize("name", sorted(n for n in names("optimizer") if getattr(made(n), "elementwise", False)))
def test_what_says_elementwise_is(name: str) -> None:
    """Parameters do not see each other, zeros without gradient stay, and leading axes may be any."""
    rules = [made(name), made(name, weight_decay=0.1)]
    values = hyper(rules, torch.tensor([0.1, 0.02], dtype=torch.float64))
    deep = {k: v[:, None] for k, v in values.items()}
    generator = torch.Generator().manual_seed(4)
    start = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    start[:, 5] = 0.0
    flat, alone, leading = start.clone(), start[:, :3].clone(), start.clone()[:, None]
    states = [rules[0].init_state(t, v) for t, v in ((flat, values), (alone, values), (leading, deep))]
    for step in range(1, 6):
        grad = torch.randn(2, 6, generator=generator, dtype=torch.float64)
        grad[:, 5] = 0.0
        rules[0].update(flat, grad.clone(), states[0], values, step)
        rules[0].update(alone, grad[:, :3].clone(), states[1], values, step)
        rules[0].update(leading, grad.clone()[:, None], states[2], deep, step)
    assert torch.equal(flat[:, :3], alone)
    assert torch.equal(flat, leading[:, 0])
    assert not flat[:, 5].any()


EXACT = sorted(n for n in names("optimizer") if made(n).exact and made(n).iterable)


@pytest.mark.parametrize("name", EXACT)
def test_steps_on_a_quadratic_follow_the_residual_polynomial(name: str) -> None:
    rule, lr, steps = made(name), 0.8, 6
    curvature = torch.tensor([0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0], dtype=torch.float64)
    distance = torch.linspace(1.0, 2.0, 8, dtype=torch.float64)
    theta = distance[None].clone()
    seen = [theta.clone()]
    if isinstance(rule, QuadraticRule):
        state = rule.start(0.02, 1.0)
    else:
        values = hyper([rule], torch.tensor([lr], dtype=torch.float64))
        state = rule.init_state(theta, values)
    for step in range(1, steps + 1):
        if isinstance(rule, QuadraticRule):
            rule.update(theta, curvature * theta, state, lambda direction: curvature * direction)
        else:
            rule.update(theta, curvature * theta, state, values, step)
        seen.append(theta.clone())
    response = rule.response(lr if rule.step_size else None, Modes(curvature, distance, 0.02, 1.0), range(steps + 1))
    torch.testing.assert_close(response.residual * distance, torch.cat(seen), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(response.filter, 1 - torch.cat(seen) / distance, rtol=1e-9, atol=1e-12)


def newton_schulz(g: np.ndarray) -> np.ndarray:
    """The published iteration, on one matrix in NumPy."""
    x = g / np.linalg.norm(g)
    for _ in range(5):
        outer = x @ x.T
        x = 3.4445 * x + (-4.7750 * outer + 2.0315 * outer @ outer) @ x
    return x


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_muon_is_newton_schulz_on_matrices_and_adamw_on_vectors(shape: tuple[int, int]) -> None:
    options = [{}, {"momentum": 0.5, "weight_decay": 0.2, "beta1": 0.8}]
    rules = [made("muon", **o) for o in options]
    rule, lrs = rules[0], torch.tensor([0.03, 0.1], dtype=torch.float64)
    assert isinstance(rule, MatrixRule)
    generator = torch.Generator().manual_seed(1)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        sizes = (2, *shape), (2, shape[0])
        return tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)

    matrix, vector = draw()
    values = hyper(rules, lrs)
    states = [rule.init_state(part, values) for part in (matrix, vector)]
    weights = [m.numpy().copy() for m in matrix]
    vectors = [v.clone().requires_grad_(True) for v in vector]
    adamw = [
        OPT.AdamW([v], float(lrs[i]), (o.get("beta1", 0.9), 0.95), weight_decay=o.get("weight_decay", 0.0))
        for i, (v, o) in enumerate(zip(vectors, options, strict=True))
    ]
    velocity = [np.zeros(shape), np.zeros(shape)]
    for step in range(1, 11):
        grads = draw()
        rule.update_matrix(matrix, grads[0].clone(), states[0], values, step)
        rule.update_vector(vector, grads[1].clone(), states[1], values, step)
        for i, o in enumerate(options):
            g, mu, lr = grads[0][i].numpy(), o.get("momentum", 0.95), float(lrs[i])
            velocity[i] = mu * velocity[i] + g
            nesterov = g + mu * velocity[i]
            wide = newton_schulz(nesterov) if shape[0] <= shape[1] else newton_schulz(nesterov.T).T
            weights[i] = weights[i] * (1 - lr * o.get("weight_decay", 0.0)) - lr * 0.2 * 9**0.5 * wide
            vectors[i].grad = grads[1][i].clone()
            adamw[i].step()
            np.testing.assert_allclose(matrix[i].numpy(), weights[i], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(vector[i], vectors[i].detach(), rtol=1e-10, atol=1e-12)


def test_muon_takes_no_flat_parameters() -> None:
    flat = torch.ones(1, 4)
    rule = made("muon")
    values = hyper([rule], torch.tensor([0.1]))
    with pytest.raises(TypeError, match="muon updates matrices"):
        rule.update(flat, flat, rule.init_state(flat, values), values, 1)


def test_orthogonalized_keeps_singular_vectors_and_levels_singular_values() -> None:
    x = torch.randn(1, 20, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    inner = u.mT @ orthogonalized(x, 5) @ vh.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert ((values > 0.6) & (values < 1.3)).all()
    torch.testing.assert_close(inner, torch.diag_embed(values), rtol=0, atol=1e-9)
