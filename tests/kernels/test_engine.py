"""The compiled engine: neighbours change no bit, runs leave alone, memory layout."""

from __future__ import annotations

import random

import pytest
import torch

from dd.config import RunConfig
from dd.kernels import library as library_module
from dd.kernels.engine import Engine, stream_key
from dd.solvers._solution import Solution
from dd.solvers.logs import log_steps
from dd.solvers.train import Stack, together, train, trainer_of
from tests.helpers import networks_of, run_of

pytestmark = pytest.mark.rounding

SMALL = ("data.n_train=83", "data.n_test=40", "steps=60", "batch_size=20", "lr_unit=absolute", "lr=0.02")


def solved(runs: list[RunConfig]) -> dict[str, Solution]:
    """Train runs as one pack."""
    networks = networks_of(runs)
    out = {}
    for members in together(networks):
        trainer = trainer_of([networks[i] for i in members], [float(runs[i].lr or 0) for i in members])
        out |= {runs[i].run_id: s for i, s in zip(members, train(trainer), strict=True)}
    return out


def family(*overrides: str, widest: int = 300) -> list[RunConfig]:
    """Runs of many widths, optimizers and seeds."""
    return [
        run_of(f"optimizer={optimizer}", *SMALL, f"width={width}", f"seed={seed}", *overrides)
        for width in (1, 3, 8, 17, 40, 129, 300)
        if width <= widest
        for optimizer in ("sgd", "adam", "lion")
        for seed in (0, 1)
    ]  # fmt: skip


def same_bits(a: Solution, b: Solution) -> bool:
    curves = [[vars(p) for p in s.curve] for s in (a, b)]
    return torch.equal(a.theta, b.theta) and curves[0] == curves[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", ["two_layer", "random_features", "random_features model.bias=true", "linear"])
def test_neighbours_and_order_change_no_bit(model: str, dtype: str) -> None:
    runs = family(*f"model={model}".split(), f"dtype={dtype}", widest=64 if model == "linear" else 300)
    pack = solved(runs)
    shuffled = runs.copy()
    random.Random(0).shuffle(shuffled)
    again = solved(shuffled)
    halves = solved(shuffled[::2]) | solved(shuffled[1::2])
    for run in runs:
        alone = solved([run])[run.run_id]
        for other in (pack, again, halves):
            assert same_bits(alone, other[run.run_id]), f"{run.width} {run.optimizer} {run.seed}"
        assert alone.status == "ok"
        if run.width > 3:  # the first pixels are blank
            assert alone.curve[-1].train_loss != alone.curve[0].train_loss


def test_runs_of_a_stream_share_one_engine() -> None:
    networks = networks_of(family())
    groups = together(networks)
    assert sorted(len(g) for g in groups) == [21, 21], "one for each seed"
    assert len({stream_key(n.run, n) for n in networks}) == 2


def test_runs_that_leave_disturb_nobody() -> None:
    good = [run_of(*SMALL, "optimizer=sgd", f"width={w}") for w in (10, 30, 50)]
    bad = run_of(*SMALL, "optimizer=sgd", "width=20", "lr=1000")
    pack = solved([good[0], bad, *good[1:]])
    assert pack[bad.run_id].status == "diverged"
    assert pack[bad.run_id].steps_done < 60
    assert torch.isfinite(pack[bad.run_id].theta).all()
    for run in good:
        assert same_bits(pack[run.run_id], solved([run])[run.run_id])


def test_a_run_at_stop_loss_leaves_with_its_state_of_that_step() -> None:
    base = (*SMALL, "optimizer=momentum", "model=two_layer", "steps=2000", "lr=0.1")
    easy, hard = (run_of(*base, "stop_loss=0.03", f"width={w}") for w in (60, 2))
    pack = solved([hard, easy])
    assert pack[hard.run_id].steps_done == 2000
    stopped = pack[easy.run_id]
    assert stopped.steps_done % 5 == 0 or stopped.steps_done in log_steps(2000), "looked at after every epoch"
    assert stopped.curve[-1].train_loss <= 0.03 < stopped.curve[-2].train_loss
    assert same_bits(stopped, solved([easy])[easy.run_id])


@pytest.mark.parametrize("model", ["two_layer", "random_features model.bias=true", "random_features"])
def test_parameters_survive_the_way_into_memory_and_back(model: str) -> None:
    runs = [run_of(*SMALL, *f"model={model}".split(), f"width={w}", "optimizer=adam") for w in (1, 7, 33)]
    networks = networks_of(runs)
    engine = Engine(networks, [0.1] * 3)
    for i, network in enumerate(networks):
        assert torch.equal(engine.state(i, 0, saved=False).theta, network.theta[0])


def test_without_a_compiled_engine_pytorch_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(*SMALL, "model=two_layer", "width=17", "optimizer=adam", "dtype=float64")
    with_engine = solved([run])[run.run_id]
    monkeypatch.setattr("dd.kernels.engine.library", lambda: None)
    (network,) = networks_of([run])
    assert isinstance(trainer_of([network], [0.02]), Stack)
    without = solved([run])[run.run_id]
    torch.testing.assert_close(with_engine.theta, without.theta, rtol=1e-9, atol=1e-11)


def test_a_library_of_other_sources_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "sources", lambda: 1)
    library_module._found.cache_clear()
    try:
        assert library_module.library() is None
    finally:
        monkeypatch.undo()
        library_module._found.cache_clear()
    assert library_module.library() is not None


def test_a_tiny_eps_goes_the_other_way() -> None:
    run = run_of(*SMALL, "width=17", "optimizer=adam", "optimizer.eps=1e-39", "dtype=float32")
    assert solved([run])[run.run_id].status == "ok"
