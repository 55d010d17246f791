"""How whole tensors of parameters are moved: hyper-parameters, kinds, matrices, optimizers of PyTorch's kind."""

from __future__ import annotations

import pytest
import torch

from dd.errors import ConfigError
from dd.optim.adam import Adam
from dd.trainers.updates import RuleUpdate, hyper, kind
from tests.helpers import row_of, run_of, solve_rows
from tests.training import solution, task_of

pytestmark = pytest.mark.rounding

DATA = ("data.n_train=60", "data.n_test=40", "dtype=float64", "lr_unit=absolute", "batch_size=20")


def test_every_numeric_option_is_a_hyper_parameter_of_each_run() -> None:
    rules = [Adam(), Adam(beta2=0.9, eps=1e-3)]
    found = hyper(rules, torch.tensor([0.1, 0.2], dtype=torch.float32))
    assert found["lr"][:, 0].tolist() == pytest.approx([0.1, 0.2])
    assert {name for name in found if " " not in name and "-" not in name} == {"lr", *Adam.axes()}
    assert all(value.shape == (2, 1) for value in found.values())
    assert found["exact beta2"].tolist() == [[0.999], [0.9]]
    assert found["1-beta2"].dtype == torch.float32
    assert float(found["1-beta2"][0]) == pytest.approx(0.001, rel=1e-7), "not 1 - 0.999 in float32"


def test_runs_of_one_kind_differ_in_numbers_alone() -> None:
    muon = [run_of("optimizer=muon", *o) for o in ((), ("optimizer.momentum=0.5",), ("optimizer.ns_steps=3",))]
    assert kind(muon[0]) == kind(muon[1]) != kind(muon[2])
    assert kind(run_of("optimizer=sgd")) != kind(run_of("optimizer=adam"))
    torchs = [run_of("optimizer=lbfgs", f"optimizer.history={h}") for h in (5, 6)]
    assert kind(torchs[0]) != kind(torchs[1])


def test_a_rule_of_matrices_gets_matrices_and_vectors() -> None:
    """One step of muon on every part of the parameters is its step on that part alone."""
    run = run_of(*DATA, "model=two_layer", "width=5", "optimizer=muon", "lr=0.1")
    network = task_of(run).network
    update = RuleUpdate([run], torch.tensor([0.1], dtype=torch.float64), network.theta, network.split)
    theta, grad = network.theta.clone(), torch.randn_like(network.theta)
    update.apply(theta, grad.clone(), 1)
    shapes = [tuple(part.shape) for part in network.split(theta)]
    assert shapes == [(1, 5, 64), (1, 5), (1, 10, 5), (1, 10)]
    for part, moved, slope in zip(network.split(network.theta), network.split(theta), network.split(grad), strict=True):
        own = RuleUpdate([run], torch.tensor([0.1], dtype=torch.float64), part.clone().flatten(1), lambda flat: [flat])
        expected = part.clone()
        own.split = lambda flat, shape=part.shape: [flat.view(shape)]
        flat = expected.flatten(1)
        own.apply(flat, slope.clone().flatten(1), 1)
        torch.testing.assert_close(moved, flat.view(part.shape), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", ["two_layer", "random_features"])
@pytest.mark.parametrize(("optimizer", "lr"), [("lion", 0.003), ("signsgd", 0.003), ("muon", 0.02)])
def test_sign_methods_and_muon_learn_wherever_they_run(optimizer: str, lr: float, model: str) -> None:
    row = row_of(f"model={model}", f"optimizer={optimizer}", "width=40", "epochs=60", f"lr={lr}", "data.n_train=100")
    assert row["status"] == "ok"
    assert row["train_loss"] < 0.06
    assert row["preconditioned_condition"] is None


@pytest.mark.parametrize(
    ("rule", "package"),
    [
        (("optimizer=lion",), ("optimizer.method=lion",)),
        (("optimizer=lion", "schedule=cosine"), ("optimizer.method=lion", "schedule=cosine")),
        (("optimizer=signsgd", "optimizer.momentum=0.9"),
         ("optimizer.method=signsgd", "optimizer.arguments='momentum=0.9'")),
    ],
    ids=["lion", "lion, schedule", "signsgd"],
)  # fmt: skip
def test_a_packages_optimizer_is_the_packed_rule(rule: tuple[str, ...], package: tuple[str, ...]) -> None:
    base = (*DATA, "model=two_layer", "width=9", "steps=40", "lr=0.003")
    ours, theirs = (solution(run_of(*base, *o)) for o in (rule, ("optimizer=pytorch_optimizer", *package)))
    torch.testing.assert_close(ours.theta, theirs.theta, rtol=1e-9, atol=1e-11)


def test_a_packages_optimizer_sees_matrices() -> None:
    line = ("optimizer=pytorch_optimizer", "optimizer.method=soap", "model=two_layer", "width=6", "steps=30")
    row = row_of(*line, "data.n_train=60")
    assert row["status"] == "ok"
    assert row["train_loss"] < 0.15


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optimizer.method=no_such", "optimizer.method"),
        ("optimizer.method=adahessian", "optimizer.method"),
        ("optimizer.arguments=rho", "optimizer.arguments"),
        ("optimizer.arguments='nonsense=1'", "optimizer.arguments"),
        ("optimizer.arguments='lr=1'", "optimizer.arguments"),
        ("optimizer.arguments='weight_decay=-1'", "optimizer.arguments"),
    ],
)
def test_a_package_s_optimizer_is_checked_first(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        run_of("optimizer=pytorch_optimizer", override)


@pytest.mark.parametrize("method", ["adafactor", "alig"])
def test_a_package_s_optimizer_without_step_sizes_takes_no_schedule(method: str) -> None:
    own = ("optimizer=pytorch_optimizer", f"optimizer.method={method}")
    assert run_of(*own).schedule.flat
    with pytest.raises(ConfigError, match=f"schedule=cosine .*: {method} sets its step sizes by itself"):
        run_of(*own, "schedule=cosine")


def test_a_packages_arguments_are_read_as_numbers_and_its_names_without_case() -> None:
    one = run_of("optimizer=pytorch_optimizer", "optimizer.method=Adan", "optimizer.arguments='weight_decay=1e-3'")
    two = run_of("optimizer=pytorch_optimizer", "optimizer.arguments='weight_decay=1e-3'")
    assert one.run_id == two.run_id
    (row,) = solve_rows(one.replace(steps=3, width=5))
    assert row["status"] == "ok"


def test_what_an_optimizer_of_ones_own_draws_follows_from_the_seed_alone() -> None:
    line = ("optimizer=pytorch_optimizer", "optimizer.method=kron", "steps=20", *DATA[:2], "batch_size=20")
    runs = [run_of(*line, f"width={w}") for w in (6, 9)]
    forth, back = solve_rows(*runs), solve_rows(*reversed(runs))
    for run in runs:
        every = (forth, back, solve_rows(run))
        losses = [row["train_loss"] for rows in every for row in rows if row["width"] == run.width]
        assert len(set(losses)) == 1
