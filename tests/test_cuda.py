"""On a GPU the same numbers as on a CPU, and no work of the host in every step.

Each test runs on the emulated device (:mod:`tests.emulated_cuda`), and on a real one where there is one.

Covers: dd/trainers/randomness.py, dd/trainers/replay.py.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

import dd
from dd.components.module import shared_module
from dd.components.optimizer import UpdateRule
from dd.environment import environment
from dd.measure import curvature
from dd.measure.curvature import Curvature, lanczos
from dd.measure.jacobian import Jacobian
from dd.measure.solution import Solution
from dd.numerics import reproducible
from dd.packs.place import ON_GPU, device_of, limits_of, place_of
from dd.packs.plan import Pack, plan
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers import replay
from dd.trainers.course import Stepper
from dd.trainers.randomness import GlobalRandom
from dd.workers.count import worker_count
from tests.emulated_cuda import MEMORY, REAL, Emulation, Mode, emulated_cuda
from tests.helpers import run_of, runs_of, solve_rows
from tests.models import networks
from tests.training import assert_close, groups_of, solutions, task_of

real = pytest.param("real", marks=pytest.mark.skipif(not REAL, reason="no CUDA device"))


def _forget_devices() -> None:
    """What is kept for a process's life is of one device only."""
    shared_module.cache_clear()
    environment.cache_clear()


@pytest.fixture(autouse=True)
def _graphs_are_recorded_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two steps, however few are left; where a step cannot be replayed a warning fails the test."""
    monkeypatch.delenv("DD_CUDA_GRAPHS", raising=False)
    monkeypatch.setattr(replay, "WARM", 2)
    monkeypatch.setattr(replay, "WORTH", 0)


@pytest.fixture(params=["emulated", real])
def cuda(request: pytest.FixtureRequest) -> Iterator[Emulation | None]:
    """A CUDA device; None for a real one."""
    _forget_devices()
    if request.param == "real":
        yield None
    else:
        with emulated_cuda() as emulation:
            yield emulation
    _forget_devices()


@pytest.fixture
def emulated() -> Iterator[Emulation]:
    """The emulated device alone, for what only it can tell."""
    _forget_devices()
    with emulated_cuda() as emulation:
        yield emulation
    _forget_devices()


BASE = ("data.n_train=50", "data.n_test=30", "lr_unit=absolute", "lr=0.01", "dtype=float64", "steps=8")
PACKED = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "lion", "signsgd")


def assert_same(runs: list[Run], trainer: str, *, rel: float = 1e-8, scale: float = 1e-10) -> list[Solution]:
    """Runs trained by one trainer on a GPU are as on a CPU; ``scale`` is of the weights themselves.

    Returns:
        The GPU's solutions.
    """
    here, there = solutions(runs), solutions(runs, device="cuda")
    for run in runs:
        alone, packed = here[run.run_id], there[run.run_id]
        assert packed.trainer == trainer
        largest = max(1.0, float(alone.theta.abs().max()))
        assert_close(packed, alone, rel=rel, scale=scale * largest)
    return list(there.values())


@cache
def grid_runs(model: str) -> list[Run]:
    """Two seeds, two widths that share a grid, every packed optimizer, one of them with two step sizes."""
    line = (*BASE, *model.split(), "batch_size=20", "solver=iterative", "seed=0,1")
    runs = runs_of(*line, "width=8,9", f"optimizer={','.join(PACKED)}")
    return runs + [run.replace(lr=0.02) for run in runs if run.optimizer.name == "sgd"]


@pytest.mark.parametrize(("batch_size", "losses"), [(20, ("mse", "cross_entropy")), (50, ("cross_entropy",))])
@pytest.mark.parametrize(
    "model",
    [
        "model=two_layer",
        "model=two_layer model.bias=false model.activation=tanh",
        "model=random_features",
        "model=random_features model.bias=true model.activation=tanh",
    ],
)
def test_a_grid_trains_as_the_cpu_does(
    model: str, batch_size: int, losses: tuple[str, ...], cuda: Emulation | None
) -> None:
    """Mini-batches, the last of which is smaller, and full ones; both losses side by side, and one alone."""
    runs = [run.replace(loss=loss, batch_size=batch_size) for run in grid_runs(model) for loss in losses]
    assert_same(runs, "grid")


def test_a_grid_follows_schedules(cuda: Emulation | None) -> None:
    """Runs of one grid share a schedule; step sizes are found on the device by the number of a recorded step."""
    line = (*BASE, "model=two_layer", "batch_size=20", "width=8", "optimizer=sgd,adamw", "schedule.warmup=2")
    runs = [*runs_of(*line, "schedule=cosine"), *runs_of(*line, "schedule=linear", "schedule.per=epoch")]
    assert_same(runs + [run.replace(lr=0.02) for run in runs], "grid")


@pytest.mark.parametrize(("trainer", "model"), [("grid", "two_layer"), ("stack", "two_layer normalization=layer_norm")])
def test_runs_with_samples_held_out_end_where_they_do_on_the_cpu(
    trainer: str, model: str, cuda: Emulation | None
) -> None:
    line = (*BASE, *f"model={model}".split(), "batch_size=20", "steps=40", "validation=0.2", "data.label_noise=0.5")
    runs = runs_of(*line, "optimizer=sgd", "seed=0,1", "width=8,9", "lr=1")
    found = assert_same(runs, trainer, rel=1e-7, scale=1e-8)
    assert {0 < (one.steps_done or 0) < 40 for one in found} == {True}
    assert all(point.validation_loss is not None for one in found for point in one.curve)


@pytest.mark.parametrize(("network", "trainer"), [("cnn", "stack"), ("deciding", "single")])
def test_a_users_networks_train_as_on_the_cpu(network: str, trainer: str, cuda: Emulation | None) -> None:
    """Stacked where vmap takes them, else one by one; augmented images too."""
    path = f"model.path={Path(networks.__file__)}:{network}"
    line = (*BASE, "model=module", path, "width=4", "batch_size=20", "optimizer=momentum", "data.standardize=global")
    images = ("data.augment=crop_flip",) if network == "cnn" else ()
    # dropout draws other numbers on another device: a network that cannot be stacked for another reason
    runs = runs_of(*line, *images, "seed=0,1")
    if trainer == "stack":
        assert_same(runs, trainer, rel=1e-7)
    else:
        found = solutions(runs, device="cuda")
        assert {one.trainer for one in found.values()} == {trainer}
        assert all(torch.isfinite(one.theta).all() for one in found.values())
        alone = solutions(runs[:1], device="cuda")[runs[0].run_id]
        assert torch.equal(alone.theta, found[runs[0].run_id].theta), "its draws follow from its seed alone"


@pytest.mark.parametrize("model", ["two_layer", "random_features"])
def test_runs_leave_a_grid_as_they_leave_the_cpu(model: str, cuda: Emulation | None) -> None:
    """At ``stop_loss``, and where they diverge; some for every seed, some for one."""
    line = (*BASE, f"model={model}", "batch_size=20", "steps=200", "stop_loss=0.06", "seed=0,1", "width=18,20")
    kinds = (("sgd", "0.05,1e6"), ("adam", "0.03"), ("momentum", "0.3,1e6"))
    runs = [run for o, lr in kinds for run in runs_of(*line, f"optimizer={o}", f"lr={lr}")]
    got = assert_same(runs, "grid", rel=1e-7, scale=1e-8)
    assert {s.status for s in got} == {"ok", "diverged"}
    assert any(s.status == "ok" and s.steps_done < 200 for s in got if s.steps_done)


@pytest.mark.parametrize(
    ("line", "trainer"),
    [
        ("model=two_layer normalization=batch_norm optimizer=adam", "stack"),
        ("model=two_layer normalization=batch_norm optimizer=sgd batch_size=full", "stack"),
        ("model=two_layer normalization=layer_norm optimizer=momentum", "stack"),
        ("model=two_layer normalization=standardize optimizer=momentum", "analytic"),
        ("model=two_layer normalization=none optimizer=muon", "analytic"),
        ("model=two_layer normalization=none optimizer=muon schedule=cosine schedule.warmup=2", "analytic"),
        ("model=random_features normalization=batch_norm optimizer=adam loss=cross_entropy", "stack"),
        ("model=two_layer optimizer=lbfgs lr=1 batch_size=full", "stack"),
        ("model=two_layer optimizer=pytorch_optimizer optimizer.method=adan", "stack"),
    ],
)
def test_other_architectures_and_optimizers_train_as_on_the_cpu(
    line: str, trainer: str, cuda: Emulation | None
) -> None:
    runs = runs_of(*BASE, "batch_size=20", *line.split(), "width=3,8", "seed=0,1")
    if isinstance(runs[0].optimizer, UpdateRule):
        runs += [run.replace(lr=0.02) for run in runs]
    assert_same(runs, trainer, rel=1e-7)


@pytest.mark.parametrize(
    "optimizer", ["conjugate_gradient", "conjugate_gradient optimizer.reorthogonalize=false", "chebyshev"]
)
def test_iterated_methods_for_quadratics_are_as_on_the_cpu(optimizer: str, cuda: Emulation | None) -> None:
    line = ("data.n_train=50", "data.n_test=30", "batch_size=full", "steps=8", "solver=iterative", "dtype=float64")
    runs = [run_of(*line, *f"optimizer={optimizer}".split(), f"width={w}") for w in (20, 70)]
    assert_same(runs, "analytic", rel=1e-6, scale=1e-8)


def test_function_space_is_weight_space_there(cuda: Emulation | None) -> None:
    line = (*BASE, "batch_size=20", "steps=100", "solver=dual", "width=70")
    runs = runs_of(*line, "optimizer=sgd,momentum,nesterov", "lr=0.01,0.02,1e8", "seed=0,1")
    got = assert_same(runs, "grid", rel=1e-7, scale=1e-8)
    assert {s.status for s in got} == {"ok", "diverged"}


DEEP = ("model=rmt", "data.n_train=16", "data.n_test=10", "batch_size=8", "epochs=2", "lr=0.003", "lr_unit=absolute",
        "width=2")  # fmt: skip


@pytest.mark.parametrize(
    ("line", "rel", "scale"),
    [
        ("dtype=float64", 1e-6, 1e-7),
        ("dtype=float64 normalization=layer_norm batch_size=full loss=cross_entropy model.depths=1", 1e-6, 1e-7),
        ("dtype=float32 model.depths=1", 3e-3, 3e-3),
        ("dtype=bfloat16 model.depths=1", 3e-2, 3e-2),
    ],
)
def test_stacked_deep_networks_train_as_the_cpu_does(
    line: str, rel: float, scale: float, cuda: Emulation | None
) -> None:
    """Several training sets and seeds in one program; in float32 rounding grows along the way."""
    runs = runs_of(*DEEP, *line.split(), "seed=0,1", "data.seed=0,1", "optimizer=adam,muon")
    runs = [run for run in runs if run.seed == run.data_seed]
    if runs[0].dtype == "float64":
        assert_same(runs, "stack", rel=rel, scale=scale)
        return
    here, there = solutions(runs), solutions(runs, device="cuda")
    for run in runs:
        alone, packed = here[run.run_id], there[run.run_id]
        assert packed.trainer == "stack"
        assert packed.curve[-1].train_loss == pytest.approx(alone.curve[-1].train_loss, rel=rel)
        assert float((packed.theta.cpu() - alone.theta).norm() / alone.theta.norm()) < scale


SMALL = ("data.n_train=50", "data.n_test=30", "model.activation=tanh")
NET = (*SMALL, "model=two_layer", "batch_size=20", "steps=20", "width=4", "dtype=float64")
EXACT = ("gd", "momentum", "nesterov", "gradient_flow", "conjugate_gradient", "chebyshev")
MEASURED = {
    "closed forms": [(*SMALL, f"optimizer={o}") for o in ("min_norm", "ridge", "truncated_svd")],
    "closed forms behind norms": [
        (*SMALL, "optimizer=ridge", f"normalization={n}") for n in ("batch_norm", "layer_norm", "standardize")
    ],
    "exact dynamics": [(*SMALL, f"optimizer={o}", "batch_size=full", "steps=1000") for o in EXACT],
    "exact dynamics up to a loss": [(*SMALL, "optimizer=gd", "batch_size=full", "steps=1000", "stop_loss=0.05")],
    "conjugate gradients": [(*SMALL, "optimizer=conjugate_gradient", "steps=10", "solver=iterative", "dtype=float64")],
    "function space": [(*SMALL, "optimizer=sgd", "solver=dual", "epochs=20")],
    "iteration": [(*SMALL, "optimizer=adam", "epochs=5", "dtype=float64")],
    "nets": [(*NET, "optimizer=momentum"), (*NET, "optimizer=adam", "loss=cross_entropy")],
    "a net behind batch norm": [(*NET, "normalization=batch_norm", "optimizer=momentum")],
    "a net in units of its sharpness": [(*NET, "optimizer=sgd", "lr_unit=sharpness", "lr=0.5")],
}
COLUMNS = (
    "feature_condition", "feature_condition_init", "hessian_condition", "preconditioned_condition", "jacobi_condition",
    "ntk_condition", "ntk_condition_init", "hessian_lambda_max", "sharpness_init", "hessian_rank", "train_loss",
    "test_loss", "train_error", "test_error", "min_norm_test_loss", "weight_norm", "effective_parameters_test",
    "measure_method", "steps_done", "status",
)  # fmt: skip


def assert_same_rows(runs: list[Run], settings: Settings, columns: tuple[str, ...], rel: float = 1e-8) -> None:
    """Rows of a pack on a GPU are those on a CPU; condition numbers beyond 1e8 are rounding."""
    here, there = (
        {row["run_id"]: row for row in solve_rows(*runs, settings=replace(settings, device=device))}
        for device in ("cpu", "cuda")
    )
    for run in runs:
        row, other = here[run.run_id], there[run.run_id]
        assert row["status"] == "ok"
        assert other["device"] == "cuda"
        for column in columns:
            value = row.get(column)
            if isinstance(value, float) and "condition" in column and value > 1e8:
                continue
            if isinstance(value, float):
                assert other[column] == pytest.approx(value, rel=rel, abs=1e-16), column
            else:
                assert other.get(column) == value, column


@pytest.mark.parametrize("name", MEASURED)
def test_rows_are_those_of_the_cpu(name: str, cuda: Emulation | None) -> None:
    """To 1e-8 relative; several seeds, so that decompositions are batched."""
    widths = "width=4" if "net" in name else "width=12,70"
    runs = [run for line in MEASURED[name] for run in runs_of(*line, widths, "seed=0,1")]
    assert_same_rows(runs, Settings(measure_name="full"), COLUMNS)


def test_estimates_of_curvature_are_those_of_the_cpu(cuda: Emulation | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanczos by SciPy, whose vectors go to the device and back."""
    monkeypatch.setattr(curvature, "LANCZOS_RESTARTS", 2)
    line = ("data=linear_teacher", "data.dim=6", "data.n_train=64", "model=two_layer", "width=12", "batch_size=full")
    run = run_of(*line, "steps=5", "optimizer=sgd", "dtype=float64", "lr=0.01", "lr_unit=absolute")

    def found(device: str) -> Curvature:
        network = task_of(run, device).network
        return lanczos(Jacobian(network, network.theta[0], {}), 10**6, diagonal=torch.ones_like(network.theta[0]))

    here, there = found("cpu"), found("cuda")
    assert here.method == there.method
    for column in ("highest", "lowest", "trace"):
        assert getattr(there, column) == pytest.approx(getattr(here, column), rel=1e-6, nan_ok=True)


@pytest.mark.parametrize(("measure", "epochs"), [("basic", "1,2"), ("full", "1")])
def test_rows_of_deep_networks_are_those_of_the_cpu(measure: str, epochs: str, cuda: Emulation | None) -> None:
    """Two budgets of one trajectory, and every measurement."""
    line = (*DEEP, "data.n_train=6", "batch_size=3", "dtype=float64", "optimizer=adam")
    columns = ("train_loss", "test_loss", "weight_norm", "gradient_norm", "feature_sigma_max", "hessian_lambda_max",
               "measure_method", "ntk_condition_init", "steps_done")  # fmt: skip
    assert_same_rows(runs_of(*line, f"epochs={epochs}"), Settings(measure_name=measure), columns, rel=1e-5)


LOOPS: dict[str, tuple[str, ...]] = {
    "grid": (*BASE, "model=two_layer", "width=8", f"optimizer={','.join(PACKED)}"),
    "grid of features": (*BASE, "solver=iterative", "optimizer=sgd,adam", "seed=0,1", "schedule=inverse_sqrt"),
    "stack": (*BASE, "model=two_layer", "width=8", "normalization=batch_norm", "optimizer=adam", "lr=0.01,0.02"),
    "stack of seeds": (*BASE, "model=two_layer", "width=8", "normalization=layer_norm", "optimizer=lion", "seed=0,1"),
    "analytic": (*BASE, "model=two_layer", "width=8", "optimizer=muon", "lr=0.01,0.02", "schedule=cosine"),
    "stack of deep networks": (*DEEP, "optimizer=adam", "lr=0.003,0.002", "model.depths=1"),
}


@pytest.mark.parametrize(("name", "batch"), [*((name, "batch_size=8") for name in LOOPS), ("grid", "batch_size=full")])
def test_steps_neither_wait_for_the_device_nor_send_to_it(
    name: str, batch: str, emulated: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of steps, batch indices are sent once; the first steps may ask once for a fixed choice."""
    monkeypatch.setenv("DD_CUDA_GRAPHS", "0")
    short, long = (2, 4) if "deep" in name else (15, 30)
    counts = [seen[:3] for seen in stretches(name, batch, emulated, 3, 3 + short, 3 + short + long)]
    assert counts == [(0, 0 if batch == "batch_size=full" else 1, 0)] * 2


@pytest.mark.parametrize(("name", "batch"), [*((name, "batch_size=8") for name in LOOPS), ("grid", "batch_size=full")])
def test_a_recorded_step_is_one_launch(name: str, batch: str, emulated: Emulation) -> None:
    """Beside it the batch is gathered and put in its place; nothing where that is all samples."""
    first, steps = (4, 4) if "deep" in name else (28, 21)
    ((waits, sent, replays, operations),) = stretches(name, batch, emulated, first, first + steps)
    assert (waits, replays) == (0, steps)
    assert sent <= 1
    each = (3 if "grid" in name else 12) if batch == "batch_size=8" else 0
    assert operations <= each * steps + 5


def begun(runs: list[Run]) -> Stepper:
    """The one trainer of some runs, before their first step."""
    ((trainer, tasks),) = groups_of(runs, "cuda")
    assert issubclass(trainer, Stepper)
    return trainer.begun(tasks)


def stretches(name: str, batch: str, emulated: Emulation, *looks: int) -> list[tuple[int, int, int, int]]:
    """Waits, copies to the device, graphs launched and operations from one look to the next, after the first."""
    runs = runs_of(*LOOPS[name], batch, "optimizer.weight_decay=0.1")
    out = []
    with reproducible(torch.device("cuda")), torch.no_grad():
        trainer = begun([run.replace(steps=100) for run in runs])
        assert trainer.name == name.split()[0]
        trainer.advance(0, looks[0])
        for first, last in itertools.pairwise(looks):
            emulated.reset()
            trainer.advance(first, last)
            out.append((*emulated.counts, emulated.replays, emulated.operations))
    return out


def test_a_step_that_cannot_be_recorded_is_taken_all_the_same(emulated: Emulation) -> None:
    """One that asks the device in every step, and one whose replay gives other numbers."""
    x = torch.ones(3, device="cuda")

    def waits(number: Tensor) -> None:
        x.mul_(float(number))

    def differs(number: Tensor) -> None:
        x.mul_(number if emulated.tape is None else 2 * number)

    def counts(number: Tensor) -> None:
        x.mul_(next(numbers))

    numbers = itertools.chain((1, 2, 3), range(3, 7))
    cases = ((waits, "not permitted"), (differs, "other numbers"), (counts, "other numbers"))
    for step, message in cases:
        x.fill_(1)
        steps = replay.Replay(6, x.device)
        with pytest.warns(RuntimeWarning, match=message):
            steps.run(step, lambda: [x], 0, [()] * 6)
        assert x.tolist() == [720.0] * 3
        assert emulated.stream == "default"
    assert emulated.replays == 2


@pytest.mark.parametrize("name", LOOPS)
def test_runs_go_on_as_they_would_where_others_leave_after_a_recording(
    name: str, emulated: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> list[Tensor]:
        with reproducible(torch.device("cuda")), torch.no_grad():
            runs = runs_of(*LOOPS[name], "batch_size=full")
            trainer = begun([run.replace(steps=100) for run in runs])
            trainer.advance(0, 6)
            trainer.drop(range(0, len(runs), 2))
            emulated.reset()
            trainer.advance(6, 16)
            return [trainer.state(i, 16, saved=False).theta.cpu() for i in range(len(runs) // 2)]

    recorded = trained()
    assert emulated.replays > 4
    monkeypatch.setenv("DD_CUDA_GRAPHS", "0")
    for one, other in zip(recorded, trained(), strict=True):
        assert torch.equal(one, other)
    assert emulated.replays == 0


def test_products_are_deterministic_and_in_full_precision(emulated: Emulation) -> None:
    """Whatever the process has set before, while dd trains and when its networks are called."""
    before = Mode.now()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    changed = Mode.now()
    x = torch.rand(12, 1, 8, 8)
    try:
        for line in ("model=rmt width=2", "model=two_layer width=4", "model=random_features width=4"):
            line = f"{line} steps=4 batch_size=6 lr=0.001 lr_unit=absolute device=cuda"
            (net,) = dd.train(x if "rmt" in line else x.flatten(1), torch.arange(12) % 2, *line.split())
            net(x if "rmt" in line else x.flatten(1))
        assert emulated.modes == {Mode()}
        assert Mode.now() == changed
    finally:
        torch.set_float32_matmul_precision(before.precision)
        torch.backends.cudnn.benchmark = before.timed_convolutions


def test_networks_trained_on_ones_own_tensors_are_those_of_the_cpu(cuda: Emulation | None) -> None:
    x = torch.linspace(-3, 3, 60, dtype=torch.float64)[:, None]
    y = torch.sin(2 * x)
    line = ("model=two_layer", "width=4,16", "optimizer=sgd,adam", "lr=0.01", "lr_unit=absolute", "epochs=5",
            "batch_size=10", "dtype=float64")  # fmt: skip
    here, there = (dd.train(x[::2], y[::2], *line, f"device={d}", test=(x[1::2], y[1::2])) for d in ("cpu", "cuda"))
    for a, b in zip(here, there, strict=True):
        assert b.curve[-1].test_loss == pytest.approx(a.curve[-1].test_loss, rel=1e-9)
        assert b(x).is_cuda, "outputs are where the network is, whatever device the inputs come from"
        torch.testing.assert_close(b(x).cpu(), a(x), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(b(x.to("cuda")).cpu(), a(x), rtol=1e-8, atol=1e-10)
        for name, weight in a.weights.items():
            torch.testing.assert_close(b.weights[name].cpu(), weight, rtol=1e-8, atol=1e-10)


def test_a_sweep_from_end_to_end(cuda: Emulation | None, results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = (
        "device=cuda", f"results_dir={results}", "data.n_train=40", "data.n_test=30", "steps=10", "batch_size=10",
        "width=8,9", "model=two_layer", "lr=0.01", "lr_unit=absolute", "seed=0,1", "measure.predictions=true",
    )  # fmt: skip
    table = dd.sweep(*line)
    assert len(table) == 4
    assert set(table["status"]) == {"ok"}
    assert set(table["device"]) == {"cuda"}
    (part,) = (results / "default" / "runs").glob("*.parquet")
    assert torch.cuda.get_device_name() in str(pq.read_metadata(part).metadata)
    capfd.readouterr()
    assert len(dd.sweep(*line)) == 4
    assert "0 of 4 runs to do" in capfd.readouterr().err


def test_auto_takes_the_device_and_one_process(cuda: Emulation | None) -> None:
    assert device_of(Settings()).type == "cuda"
    assert device_of(Settings(device="cpu")).type == "cpu"
    packs = [Pack((run,)) for run in runs_of(*BASE, "width=range(1,9)")]
    assert worker_count(Settings(), len(packs)) == 1


def test_packs_leave_half_of_the_devices_memory_free(emulated: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(device="cuda")
    assert limits_of(settings) == replace(ON_GPU, bytes=MEMORY // 2)
    assert limits_of(replace(settings, n_jobs=4)).bytes == MEMORY // 8
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1 << 40, 1 << 40))
    assert limits_of(settings) == ON_GPU
    runs = runs_of(*BASE, "data.n_train=1000", "width=range(1000,1040)", "model=two_layer")
    assert len(plan(runs, place_of(settings))) == 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1 << 28, 1 << 34))
    assert len(plan(runs, place_of(settings))) > 1


def test_global_random_numbers_of_a_run_are_its_own_on_the_device_too(cuda: Emulation | None) -> None:
    torch.cuda.manual_seed(5)

    def draws(disturb: bool) -> list[Any]:
        own = GlobalRandom(0, "optimizer")
        out = []
        for _ in range(2):
            if disturb:
                torch.randn(7, device="cuda")
            with own.swapped_in():
                out.append((random.random(), torch.randn(2).tolist(), torch.randn(2, device="cuda").tolist()))
        return out

    before = torch.cuda.get_rng_state()
    found = draws(disturb=False)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert draws(disturb=True) == found
    assert found[0] != found[1]
