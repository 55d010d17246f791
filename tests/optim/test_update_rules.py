"""Packed update rules against ``torch.optim``, step by step in float64, with hyper-parameters of each run's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch

from dd.optim._base import UpdateRule
from dd.optim.muon import orthogonalized
from dd.registry import get, names
from tests.helpers import run_of

STEPS = 60
OPT = torch.optim
Case = tuple[str, list[dict[str, float]], Callable[..., Any]]

CASES: dict[str, Case] = {
    "sgd": ("sgd", [{}, {"weight_decay": 0.1}], lambda p, lr, o: OPT.SGD([p], lr, **o)),
    "gd": ("gd", [{}, {"weight_decay": 0.1}], lambda p, lr, o: OPT.SGD([p], lr, **o)),
    "momentum": (
        "momentum", [{"momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.02}, {"momentum": 0.0}],
        lambda p, lr, o: OPT.SGD([p], lr, **o),
    ),
    "nesterov": (
        "nesterov", [{"momentum": 0.9}, {"momentum": 0.7, "weight_decay": 0.02}],
        lambda p, lr, o: OPT.SGD([p], lr, nesterov=True, **o),
    ),
    "adam": (
        "adam", [{}, {"beta1": 0.5, "beta2": 0.99, "eps": 1e-3}, {"weight_decay": 0.1}],
        lambda p, lr, o: OPT.Adam([p], lr, (o.pop("beta1", 0.9), o.pop("beta2", 0.999)), **o),
    ),
    "adamw": (
        "adamw", [{}, {"beta1": 0.5, "weight_decay": 0.3}, {"weight_decay": 0.0}],
        lambda p, lr, o: OPT.AdamW([p], lr, (o.pop("beta1", 0.9), o.pop("beta2", 0.999)), **o),
    ),
    "rmsprop": (
        "rmsprop", [{}, {"alpha": 0.9, "momentum": 0.9}, {"weight_decay": 0.1, "eps": 1e-2}],
        lambda p, lr, o: OPT.RMSprop([p], lr, **o),
    ),
    "adagrad": (
        "adagrad", [{}, {"lr_decay": 0.1, "initial_accumulator": 0.5}, {"weight_decay": 0.1}],
        lambda p, lr, o: OPT.Adagrad(
            [p], lr, initial_accumulator_value=o.pop("initial_accumulator", 0.0), **o
        ),
    ),
    "lion": (
        "lion", [{}, {"beta1": 0.5, "beta2": 0.8}, {"weight_decay": 0.3}],
        lambda p, lr, o: pytorch_optimizer.Lion([p], lr, (o.pop("beta1", 0.9), o.pop("beta2", 0.99)), **o),
    ),
    "signsgd": (
        "signsgd", [{}, {"momentum": 0.8}, {"weight_decay": 0.1}],
        lambda p, lr, o: pytorch_optimizer.SignSGD([p], lr, o.pop("momentum", 0.0), weight_decouple=False, **o),
    ),
}  # fmt: skip
LRS = [0.03, 0.1, 0.01]


def test_every_packed_rule_is_compared() -> None:
    packed = {n for n in names("optimizer") if isinstance(get("optimizer", n), UpdateRule)}
    assert packed == CASES.keys() | {"muon"}


def curvature(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    return root @ root.T / 12 + 0.1 * torch.eye(12), torch.randn(12, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_equals_torch_step_by_step(name: str) -> None:
    _, variants, build = CASES[name]
    runs = [run_of(f"optimizer={name}", *(f"optimizer.{k}={v}" for k, v in o.items())) for o in variants]
    lrs = LRS[: len(variants)]
    problems = [curvature(i) for i in range(len(variants))]
    start = torch.randn(len(variants), 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    rule = get("optimizer", name)
    hyper = rule.hyper(runs, torch.tensor(lrs, dtype=torch.float64))
    theta = start.clone()
    state = rule.init_state(theta, hyper)
    singles = [start[i].clone().requires_grad_(True) for i in range(len(variants))]
    optimizers = [build(p, lr, dict(o)) for p, lr, o in zip(singles, lrs, variants, strict=True)]
    for step in range(1, STEPS + 1):
        grad = torch.stack([a @ theta[i] - b for i, (a, b) in enumerate(problems)])
        rule.update(theta, grad, state, hyper, step)
        for i, (a, b) in enumerate(problems):
            singles[i].grad = (a @ singles[i] - b).detach()
            optimizers[i].step()
        torch.testing.assert_close(theta, torch.stack([p.detach() for p in singles]), rtol=1e-12, atol=1e-12)
    assert (theta - start).abs().max() > 0.05


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "adagrad"])
def test_preconditioner_is_the_divisor_of_the_step(name: str) -> None:
    runs = [run_of(f"optimizer={name}", "optimizer.weight_decay=0")]
    rule = get("optimizer", name)
    hyper = rule.hyper(runs, torch.tensor([0.1], dtype=torch.float64))
    theta = torch.ones(1, 5, dtype=torch.float64)
    state = rule.init_state(theta, hyper)
    grad = torch.tensor([[1.0, -2.0, 0.5, 3.0, 1e-3]], dtype=torch.float64)
    before = theta.clone()
    rule.update(theta, grad.clone(), state, hyper, 1)
    divisor = rule.preconditioner(state, hyper, 1)
    torch.testing.assert_close(before - theta, 0.1 * grad / divisor, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_float32_is_as_close_to_float64_as_torchs(name: str) -> None:
    """Complements of decay rates are rounded once, as by torch: no digits are lost in 1 - 0.999."""
    _, variants, build = CASES[name]
    run = run_of(f"optimizer={name}", *(f"optimizer.{k}={v}" for k, v in variants[0].items()))
    rule = get("optimizer", name)
    a, b = (x.float() for x in curvature(0))
    theta = torch.ones(1, 12)
    hyper = rule.hyper([run], torch.tensor([0.03]))
    state = rule.init_state(theta, hyper)
    single = torch.ones(12, requires_grad=True)
    optimizer = build(single, 0.03, dict(variants[0]))
    for step in range(1, 6):
        grad = (a @ theta[0] - b)[None]
        single.grad = grad[0].clone()
        rule.update(theta, grad, state, hyper, step)
        optimizer.step()
        torch.testing.assert_close(theta[0], single.detach(), rtol=1e-6, atol=1e-7)
        with torch.no_grad():
            single.copy_(theta[0])


def newton_schulz(g: np.ndarray) -> np.ndarray:
    """The published iteration, on one matrix in NumPy."""
    x = g / np.linalg.norm(g)
    for _ in range(5):
        outer = x @ x.T
        x = 3.4445 * x + (-4.7750 * outer + 2.0315 * outer @ outer) @ x
    return x


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_muon_is_newton_schulz_on_matrices_and_adamw_on_vectors(shape: tuple[int, int]) -> None:
    rows, columns = shape
    options = [{}, {"momentum": 0.5, "weight_decay": 0.2, "beta1": 0.8}]
    runs = [run_of("optimizer=muon", *(f"optimizer.{k}={v}" for k, v in o.items())) for o in options]
    lrs = torch.tensor([0.03, 0.1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(2, rows * (columns + 1), generator=generator, dtype=torch.float64)

    def split(flat: torch.Tensor) -> list[torch.Tensor]:
        matrix = flat.view(-1, rows, columns + 1)
        return [matrix[:, :, :-1], matrix[:, :, -1]]

    rule = get("optimizer", "muon").bind(split, runs)
    hyper = rule.hyper(runs, lrs)
    state = rule.init_state(theta, hyper)
    weights = [split(theta)[0][i].numpy().copy() for i in range(2)]
    vectors = [split(theta)[1][i].clone().requires_grad_(True) for i in range(2)]
    adamw = [
        OPT.AdamW([v], float(lrs[i]), (o.get("beta1", 0.9), 0.95), weight_decay=o.get("weight_decay", 0.0))
        for i, (v, o) in enumerate(zip(vectors, options, strict=True))
    ]
    velocity = [np.zeros(shape), np.zeros(shape)]
    for step in range(1, 11):
        grad = torch.randn(theta.shape, generator=generator, dtype=torch.float64)
        rule.update(theta, grad.clone(), state, hyper, step)
        for i, o in enumerate(options):
            g, mu, lr = split(grad)[0][i].numpy(), o.get("momentum", 0.95), float(lrs[i])
            velocity[i] = mu * velocity[i] + g
            nesterov = g + mu * velocity[i]
            wide = newton_schulz(nesterov) if rows <= columns else newton_schulz(nesterov.T).T
            weights[i] = weights[i] * (1 - lr * o.get("weight_decay", 0.0)) - lr * 0.2 * 9**0.5 * wide
            vectors[i].grad = split(grad)[1][i].clone()
            adamw[i].step()
            np.testing.assert_allclose(split(theta)[0][i].numpy(), weights[i], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(split(theta)[1][i], vectors[i].detach(), rtol=1e-10, atol=1e-12)


def test_orthogonalized_keeps_singular_vectors_and_levels_singular_values() -> None:
    x = torch.randn(1, 20, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    inner = u.mT @ orthogonalized(x, 5) @ vh.mT
    values = inner.diagonal(dim1=1, dim2=2)
    assert ((values > 0.6) & (values < 1.3)).all()
    torch.testing.assert_close(inner, torch.diag_embed(values), rtol=0, atol=1e-9)
