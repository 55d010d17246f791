"""The compiled engine: the reference's steps, neighbours change no bit, runs leave alone, memory layout."""

from __future__ import annotations

import random

import pytest
import torch

from dd.components.optimizer import Optimizer
from dd.kernels.library import library
from dd.runs.logs import log_steps
from dd.runs.run import Run
from dd.schedules.cosine import Cosine
from dd.trainers.batches import batch_orders
from dd.trainers.engine import Engine
from dd.trainers.rules import RULES
from dd.trainers.table import trainer_for
from dd.trainers.updates import hyper
from tests.helpers import run_of
from tests.training import assert_close, same_bits, solution, solutions, task_of, tasks_of

pytestmark = pytest.mark.rounding

SMALL = ("data.n_train=83", "data.n_test=40", "steps=60", "batch_size=20", "lr_unit=absolute", "lr=0.02")
CPU = torch.device("cpu")


def family(*overrides: str, widest: int = 300) -> list[Run]:
    """Runs of many widths, optimizers and seeds."""
    return [
        run_of(f"optimizer={optimizer}", *SMALL, f"width={width}", f"seed={seed}", *overrides)
        for width in (1, 3, 8, 17, 40, 129, 300)
        if width <= widest
        for optimizer in ("sgd", "adam", "lion")
        for seed in (0, 1)
    ]  # fmt: skip


OPTIONS = [
    ("optimizer=adamw", "optimizer.weight_decay=0.3"),
    ("optimizer=momentum", "optimizer.weight_decay=0.1", "model.activation=tanh"),
    ("optimizer=rmsprop", "optimizer.momentum=0.8", "optimizer.eps=0.01", "optimizer.weight_decay=0.05"),
    ("optimizer=adagrad", "optimizer.lr_decay=0.05", "optimizer.initial_accumulator=0.3", "optimizer.weight_decay=0.1"),
    ("optimizer=adam", "optimizer.beta1=0.5", "optimizer.eps=0.001", "optimizer.weight_decay=0.1", "batch_size=17"),
    ("optimizer=lion", "optimizer.beta1=0.5", "optimizer.beta2=0.8", "optimizer.weight_decay=0.3", "lr=0.003"),
    ("optimizer=signsgd", "optimizer.momentum=0.5", "optimizer.weight_decay=0.1", "lr=0.003"),
    ("optimizer=sgd", "optimizer.weight_decay=0.1", "batch_size=1"),
    ("optimizer=nesterov", "batch_size=full", "loss=cross_entropy"),
]


@pytest.mark.parametrize("overrides", OPTIONS, ids=" ".join)
@pytest.mark.parametrize(
    "model", ["two_layer", "random_features", "random_features model.bias=true", "two_layer model.bias=false"]
)
def test_its_steps_are_those_of_the_reference(overrides: tuple[str, ...], model: str) -> None:
    """With every option of a rule, at three widths in one call."""
    line = (*SMALL, "lr=0.03", "steps=40", "dtype=float64", "solver=iterative", f"model={model.split()[0]}")
    runs = [run_of(*line, *model.split()[1:], f"width={width}", *overrides) for width in (1, 5, 37)]
    together, reference = solutions(runs, "engine"), solutions(runs, "stack")
    for run in runs:
        assert_close(together[run.run_id], reference[run.run_id])


@pytest.mark.parametrize("batch_size", ["7", "50", "83"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize(
    "model", ["two_layer", "two_layer model.activation=tanh", "random_features", "random_features model.bias=true"]
)
def test_its_gradient_is_autograds(model: str, loss: str, batch_size: str) -> None:
    overrides = (*f"model={model}".split(), f"loss={loss}", f"batch_size={batch_size}", "width=29", "dtype=float64")
    run = run_of(*SMALL, "optimizer=sgd", "solver=iterative", "lr=1", "steps=1", *overrides)
    network = task_of(run).network
    moved = network.theta[0] - solution(run, "engine").theta
    rows = torch.arange(83)
    if run.batch_size != run.n_train:
        rows = torch.from_numpy(next(batch_orders(run)))[: run.batch_size]
    leaf = network.theta.clone().requires_grad_(True)
    samples = network.train
    network.loss(network.named(leaf), samples.inputs[:, rows], samples.targets[rows], {}).sum().backward()
    torch.testing.assert_close(moved, leaf.grad[0], rtol=1e-12, atol=1e-13)


def test_it_was_compiled_and_knows_the_rules_it_names() -> None:
    assert library() is not None, "pip install -e . compiles it"
    for rule, known in RULES.items():
        assert issubclass(rule, Optimizer)
        assert rule.elementwise, "runs are padded"
        state = rule().init_state(torch.zeros(1, 2), hyper([rule()], torch.ones(1)))
        assert state.keys() == set(known.state)
        numbers = {field for field, axis in rule.axes().items() if axis.kind is float}
        assert set(known.options) <= numbers
        assert numbers - set(known.options) <= {"initial_accumulator"}, "an option that the engine does not hear of"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", ["two_layer", "random_features", "random_features model.bias=true", "linear"])
def test_neighbours_and_order_change_no_bit(model: str, dtype: str) -> None:
    runs = family(*f"model={model}".split(), f"dtype={dtype}", widest=64 if model == "linear" else 300)
    pack = solutions(runs)
    shuffled = runs.copy()
    random.Random(0).shuffle(shuffled)
    again = solutions(shuffled)
    halves = solutions(shuffled[::2]) | solutions(shuffled[1::2])
    for run in runs:
        alone = solution(run)
        for other in (pack, again, halves):
            assert same_bits(alone, other[run.run_id]), f"{run.width} {run.optimizer.name} {run.seed}"
        assert alone.status == "ok"
        if run.width > 3:  # the first pixels are blank
            assert alone.curve[-1].train_loss != alone.curve[0].train_loss


def test_which_runs_share_a_call() -> None:
    def keys(*runs: Run) -> int:
        assert all(trainer_for(run, CPU) is Engine for run in runs)
        return len({Engine.group_key(run, CPU) for run in runs})

    assert keys(*family()) == 2, "one for each seed"
    base = run_of(*SMALL, "optimizer=adam", "model=two_layer")
    same = [
        base.replace(lr=0.1),
        base.replace(loss="cross_entropy"),
        base.replace(init_scale=2.0),
        base.replace(width=9),
        base.replace(schedule=Cosine(final=0.5)),
    ]
    assert keys(base, *same) == 1
    others = [base.replace(batch_size=7), base.replace(steps=61), base.replace(dtype="float64"), base.replace(seed=3)]
    assert keys(base, *others, base.replace(stop_loss=0.1)) == 6
    assert keys(base.replace(stop_loss=0.2), base.replace(stop_loss=0.1)) == 1
    scaled = [run_of(*SMALL, "optimizer=adam", "normalization=standardize", f"width={w}") for w in (5, 6)]
    assert keys(*scaled) == 2, "columns of a narrow run are scaled by statistics of its own"


@pytest.mark.parametrize("line", ["model=two_layer", "width=300 solver=dual", ""])
def test_schedules_side_by_side_change_no_bit_of_each_other(line: str) -> None:
    runs = [run_of(*SMALL, "optimizer=momentum", *line.split(), *s) for s in ((), ("schedule=cosine",), ("lr=0.1",))]
    runs.append(run_of(*SMALL, "optimizer=momentum", *line.split(), "schedule=step", "schedule.every=2", "lr=0.1"))
    together = solutions(runs)
    assert len({round(found.curve[-1].train_loss, 12) for found in together.values()}) == 4
    assert all(same_bits(together[run.run_id], solution(run)) for run in runs)


def test_runs_that_leave_disturb_nobody() -> None:
    good = [run_of(*SMALL, "optimizer=sgd", f"width={w}") for w in (10, 30, 50)]
    bad = run_of(*SMALL, "optimizer=sgd", "width=20", "lr=1000")
    pack = solutions([good[0], bad, *good[1:]])
    assert pack[bad.run_id].status == "diverged"
    assert pack[bad.run_id].steps_done < 60
    assert torch.isfinite(pack[bad.run_id].theta).all()
    for run in good:
        assert same_bits(pack[run.run_id], solution(run))


def test_a_run_at_stop_loss_leaves_with_its_state_of_that_step() -> None:
    base = (*SMALL, "optimizer=momentum", "model=two_layer", "steps=2000", "lr=0.1")
    easy, hard = (run_of(*base, "stop_loss=0.03", f"width={w}") for w in (60, 2))
    pack = solutions([hard, easy])
    assert pack[hard.run_id].steps_done == 2000
    stopped = pack[easy.run_id]
    assert stopped.steps_done % 5 == 0 or stopped.steps_done in log_steps(2000), "looked at after every epoch"
    assert stopped.curve[-1].train_loss <= 0.03 < stopped.curve[-2].train_loss
    assert same_bits(stopped, solution(easy))


@pytest.mark.parametrize("model", ["two_layer", "random_features model.bias=true", "random_features"])
def test_parameters_survive_the_way_into_memory_and_back(model: str) -> None:
    runs = [run_of(*SMALL, *f"model={model}".split(), f"width={w}", "optimizer=adam") for w in (1, 7, 33)]
    tasks = tasks_of(runs)
    engine = Engine(tasks)
    for i, task in enumerate(tasks):
        assert torch.equal(engine.state(i, 0, saved=False).theta, task.network.theta[0])


@pytest.mark.parametrize("line", ["model=two_layer width=17 optimizer=adam", "width=120 optimizer=sgd solver=dual"])
def test_without_a_compiled_engine_pytorch_trains(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(*SMALL, "dtype=float64", *line.split())
    compiled = solution(run)
    monkeypatch.setattr("dd.trainers.engine.library", lambda: None)
    assert Engine.objection(run.replace(solver="iterative"), CPU) == "there is no compiled engine for this machine"
    without = solution(run)
    assert (compiled.trainer in ("engine", "function_space"), without.trainer) == (True, "analytic")
    torch.testing.assert_close(compiled.theta, without.theta, rtol=1e-9, atol=1e-11)


def test_a_tiny_eps_goes_the_other_way() -> None:
    run = run_of(*SMALL, "width=17", "optimizer=adam", "optimizer.eps=1e-39", "dtype=float32")
    found = solution(run)
    assert (found.status, found.trainer) == ("ok", "analytic")
    assert solution(run.replace(dtype="float64")).trainer == "engine"


def test_inputs_that_are_not_finite_are_told() -> None:
    run = run_of(*SMALL, "width=17", "optimizer=adam", "dtype=float64").replace(dtype="float32")
    task = task_of(run)
    task.network.exact_train.inputs[0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="inputs or features are not finite in float32"):
        Engine([task])
