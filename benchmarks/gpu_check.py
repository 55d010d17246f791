"""Parts of ``gpu_check.sh``: each prints rows of one markdown table.

    python benchmarks/gpu_check.py training                 each way to train on a GPU by itself, some typical sweeps
    python benchmarks/gpu_check.py normalized               the same for nets behind batch norm
    python benchmarks/gpu_check.py deep                     the same for RMT's width variants
    python benchmarks/gpu_check.py modules                  a user's modules, stacked and one by one
    python benchmarks/gpu_check.py decompositions           batched decompositions, GPU and CPU
    python benchmarks/gpu_check.py commands                 whole commands, GPU and CPU
    python benchmarks/gpu_check.py training --device cpu    a trial without a GPU, small sizes

Training: float32, no evaluation, same initial weights and batches for all. A way's seconds are what it needs before its
first step, plus the time of a step, measured after some epochs, times all steps. The first way is dd on one core of the
CPU. Losses after the measured steps are compared with it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import own_networks
import torch
from methods import CPU, Work, torch_loop
from packed import seconds
from rmt import plain_loop

from dd.api import compose_runs
from dd.measure.factors import factorize
from dd.numerics import reproducible
from dd.runs.run import Run
from dd.trainers.analytic import Analytic
from dd.trainers.base import Task
from dd.trainers.course import Stepper
from dd.trainers.grid import Grid
from dd.trainers.single import Single
from dd.trainers.stack import Stack
from dd.trainers.table import trainer_for


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        trainer: what trains; the table's choice where None.
        graphs: whether steps are CUDA graphs.
        on_cpu: whether it trains on the CPU.
    """

    trainer: type[Stepper] | None
    graphs: bool = True
    on_cpu: bool = False


ON_CPU = {"CPU, one core": Way(None, on_cpu=True)}
GRIDS = {"grid": Way(Grid), "grid, no graphs": Way(Grid, graphs=False)}
ANALYTIC = {"analytic": Way(Analytic), "analytic, no graphs": Way(Analytic, graphs=False)}
STACKS = {"stack": Way(Stack), "stack, no graphs": Way(Stack, graphs=False)}


def row(work: str, way: str, took: float | None = None, base: float | None = None, result: str = "") -> None:
    """Print a row of the table."""
    beside = f"{took / base:.2f} x" if took and base else ""
    print(f"| {work} | {way} | {'' if took is None else f'{took:.3g}'} | {beside} | {result} |", flush=True)


def wait() -> None:
    """Until the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def groups(way: Way, tasks: Sequence[Task], device: torch.device) -> list[tuple[type[Stepper], list[Task]]]:
    """Runs that are trained together, each group with its trainer."""
    found: dict[Hashable, list[Task]] = {}
    for task in tasks:
        trainer = way.trainer or trainer_for(task.run, device)
        found.setdefault((trainer, trainer.group_key(task.run, device)), []).append(task)
    out = []
    for (trainer, _), members in found.items():
        assert issubclass(trainer, Stepper)
        out += [(trainer, part) for part in trainer.parts(members)]
    return out


def trained(way: Way, tasks: Sequence[Task], warm: int, steps: int) -> tuple[float, float, dict[str, float]]:
    """Seconds before the first step, seconds of a step of all runs, and their losses after ``warm + steps``."""
    before, step, losses = 0.0, 0.0, {}
    os.environ["DD_CUDA_GRAPHS"] = "1" if way.graphs else "0"
    device = tasks[0].network.theta.device
    with reproducible(device), torch.no_grad():
        for kind, members in groups(way, tasks, device):
            wait()
            start = time.perf_counter()
            trainer = kind.begun(members)
            trainer.advance(0, warm)
            wait()
            middle = time.perf_counter()
            trainer.advance(warm, warm + steps)
            wait()
            each = (time.perf_counter() - middle) / steps
            step += each
            before += max(middle - start - warm * each, 0.0)
            points = trainer.evaluate()
            losses |= {run.run_id: p.train_loss for run, p in zip(trainer.runs, points, strict=True)}
    return before, step, losses


def tasks_of(runs: Sequence[Run], device: torch.device) -> list[Task]:
    """One a run; those that share inputs share them here, too."""
    return [Task(network.run, network, network.run.lr) for network in Work("", list(runs), device).networks]


def compare(
    name: str,
    runs: list[Run],
    ways: dict[str, Way],
    device: torch.device,
    *,
    epochs: int,
    share: int = 1,
    base: float = 0.0,
) -> float:
    """Print a row a way; the CPU trains every ``share``-th run, and its time is multiplied, or is given as ``base``.

    Returns:
        Seconds on the CPU.
    """
    per_epoch, budget = runs[0].batches_per_epoch or 1, runs[0].steps or 0
    warm = -(-24 // per_epoch) * per_epoch  # a graph is recorded after 20 steps
    reference: dict[str, float] = {}
    torch.set_flush_denormal(True)
    for label, way in (ways if base else (ON_CPU | ways)).items():
        if label.endswith("no graphs") and device.type == "cpu":
            continue
        tasks = tasks_of(runs[::share] if way.on_cpu else runs, CPU if way.on_cpu else device)
        try:
            before, step, losses = trained(way, tasks, warm, epochs * per_epoch)
        except Exception as error:
            row(name, label, result=f"{type(error).__name__}: {str(error).splitlines()[0][:90]}".replace("|", "/"))
            continue
        if way.on_cpu:
            scale = len(runs) / len(tasks)
            before, step, reference = scale * before, scale * step, losses
        took = before + budget * step
        base = base or took
        apart = [abs(losses[k] / reference[k] - 1) for k in reference]
        far = statistics.median(apart) if apart else 0.0
        note = f", losses {far:.0%} apart" if far > 0.03 else ""
        row(name, label, took, base, f"{1e3 * step:.3g} ms a step, {before:.2g} s before{note}")
        del tasks
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return base


def loop(name: str, runs: list[Run], base: float, device: torch.device) -> None:
    """A row of the plain PyTorch loop, from two epochs of some runs."""
    some = runs[:: max(len(runs) // 4, 1)]
    short = [run.replace(steps=2 * (run.batches_per_epoch or 1)) for run in some]
    work = Work(name, short, device)
    with reproducible(device):
        _, median, _ = seconds(torch_loop(work, device=device), 1)
    step = median / work.steps * len(runs)
    row(name, "plain PyTorch loop", step * (runs[0].steps or 0), base, f"{1e3 * step:.3g} ms a step")


def training(device: torch.device) -> None:
    """Random features and two-layer nets."""
    small = device.type == "cpu"
    features = ("lr_unit=absolute", "solver=iterative", f"width=range(10,2000,{1000 if small else 50})")
    net = ("model=two_layer", "lr_unit=absolute", "optimizer=momentum", "lr=0.02", "batch_size=50", "epochs=60")
    widths = "width=4,8" if small else "width=range(3,175,9)"
    for batch in (20,) if small else (20, 50):
        line = (*features, f"batch_size={batch}", "epochs=200")
        runs = [*compose_runs(*line, "optimizer=sgd", "lr=0.002"), *compose_runs(*line, "optimizer=adam", "lr=0.001")]
        name = f"random features, {len(runs) // 2} widths 10-1960, sgd and adam, batch {batch}, 200 epochs"
        loop(name, runs, compare(name, runs, GRIDS | ANALYTIC, device, epochs=4), device)
    line = ("lr_unit=absolute", f"width=range(510,2000,{1000 if small else 50})", "batch_size=20", "epochs=200")
    for solver in ("dual", "iterative"):
        runs = compose_runs(*line, "optimizer=sgd", "lr=0.002", f"solver={solver}")
        compare(f"random features, {len(runs)} widths 510-1960, sgd, {solver}", runs, GRIDS, device, epochs=4)
    runs = compose_runs(*net, widths, "seed=range(5)")
    name = f"two layers, {len(runs) // 5} widths 3-174, 5 seeds, 60 epochs"
    loop(name, runs, compare(name, runs, GRIDS | ANALYTIC, device, epochs=4), device)
    runs = compose_runs(*net, widths, f"seed=range({2 if small else 16})", "optimizer=momentum,adam", "lr=0.002,0.004")
    compare(f"two layers, {len(runs)} nets, 20 widths 3-174", runs, GRIDS, device, epochs=4)
    lrs = ",".join(f"{0.01 + i / 1e4:.4f}" for i in range(4 if small else 100))
    runs = compose_runs(*net, "width=32", f"lr={lrs}")
    single = GRIDS | ANALYTIC | STACKS
    compare(f"two layers, {len(runs)} nets of width 32, one seed", runs, single, device, epochs=10)
    runs = compose_runs(*net, f"width={20 if small else 2000}")
    name = f"two layers, one net of width {runs[0].width}"
    loop(name, runs, compare(name, runs, single, device, epochs=10), device)
    samples, width = (1000, 20) if small else (5000, 2000)
    data = ("data=linear_teacher", "data.dim=784", f"data.n_train={samples}", "data.n_test=100")
    runs = compose_runs(*net, *data, f"width={width}", "batch_size=500", "lr=0.0001", "epochs=20")
    name = f"two layers, one net of width {width}, {samples} samples of 784 inputs, batch 500"
    loop(name, runs, compare(name, runs, single, device, epochs=1), device)


def normalized(device: torch.device) -> None:
    """Two-layer nets behind batch norm, which no grid takes: many step sizes, many seeds."""
    small = device.type == "cpu"
    net = ("model=two_layer", "normalization=batch_norm", "lr_unit=absolute", "optimizer=momentum", "batch_size=50")
    lrs = ",".join(f"{0.01 + i / 1e4:.4f}" for i in range(4 if small else 100))
    for name, line in {
        "one width, 100 step sizes, one seed": ("width=32", f"lr={lrs}"),
        "5 widths, 20 seeds": ("width=8,16,32,64,128", f"seed=range({2 if small else 20})", "lr=0.02"),
    }.items():
        runs = compose_runs(*net, *line, "epochs=60")
        compare(f"two layers behind batch norm, {name}", runs, STACKS, device, epochs=4, share=50)


def deep(device: torch.device) -> None:
    """RMT's width variants in float32 and bfloat16, beside the backbone as a module in a plain loop."""
    small = device.type == "cpu"
    for width, seeds in [(2, 2)] if small else [(8, 3), (8, 16), (16, 3), (16, 16)]:
        base = 0.0
        for dtype in ("float32", "bfloat16"):
            runs = compose_runs(
                "model=rmt", f"width={width}", f"data.n_train={20 if small else 1000}", "data.n_test=10",
                "data.standardize=global", f"batch_size={10 if small else 125}", "epochs=60", "optimizer=adam",
                "lr=0.001", "lr_unit=absolute", f"seed=range({seeds})", f"dtype={dtype}",
            )  # fmt: skip
            name = f"RMT, k = {width}, {seeds} seeds, {dtype}, {runs[0].steps} steps"
            share = max(seeds // 2, 1)
            base = compare(name, runs, STACKS, device, epochs=1 if small else 3, share=share, base=base)
            if dtype == "float32":
                networks = Work("", runs[:1], device).networks
                with reproducible(device):
                    plain_loop(networks)
                    wait()
                    start = time.perf_counter()
                    plain_loop(networks)
                    wait()
                steps = 2 * (runs[0].batches_per_epoch or 1)
                step = (time.perf_counter() - start) / steps * len(runs)
                row(name, "plain PyTorch loop", step * (runs[0].steps or 0), base, f"{1e3 * step:.3g} ms a step")


def modules(device: torch.device) -> None:
    """A user's networks on digits: stacked over seeds, and one by one."""
    small = device.type == "cpu"
    ways = STACKS | {"single": Way(Single, graphs=False)}
    for network, widths in {"mlp": (8, 256), "cnn": (4, 32)}.items():
        for width in widths[:1] if small else widths:
            seeds = 2 if small else 16
            runs = compose_runs(
                "model=module", f"model.path={Path(own_networks.__file__)}:{network}", f"width={width}",
                "optimizer=momentum", "lr=0.01", "lr_unit=absolute", "epochs=60", f"seed=range({seeds})",
            )  # fmt: skip
            compare(f"{network} of width {width}, {seeds} seeds", runs, ways, device, epochs=4, share=seeds // 2)


def decompositions(device: torch.device) -> None:
    """Float64 matrices one by one on one core of the CPU and on the GPU, and in one call."""
    methods: dict[str, Callable[[torch.Tensor], object]] = {
        "svd, as dd takes it": lambda a: [factorize(matrix) for matrix in a],
        "QR (R alone)": lambda a: torch.linalg.qr(a.mT if a.shape[-2] < a.shape[-1] else a, mode="r"),
        "eigenvalues and vectors of the Gram matrix": lambda a: torch.linalg.eigh(
            a @ a.mT if a.shape[-2] < a.shape[-1] else a.mT @ a
        ),
    }
    shapes = [(4, 50, 20)] if device.type == "cpu" else [(64, 500, 20), (64, 500, 100), (8, 500, 500), (4, 500, 1500)]
    for count, rows, columns in shapes:
        designs = torch.randn(count, rows, columns, dtype=torch.float64)
        there = designs.to(device)
        for name, method in methods.items():
            what = f"{name}: {count} of {rows} x {columns}"
            base = 0.0
            for way, given in (
                ("CPU, one by one", list(designs.split(1))), ("GPU, one by one", list(there.split(1))),
                ("GPU, one call", [there]),
            ):  # fmt: skip
                method(given[0])
                wait()
                start = time.perf_counter()
                for matrix in given:
                    method(matrix)
                wait()
                took = time.perf_counter() - start
                base = base or took
                row(what, way, took, base)


def commands(device: torch.device) -> None:
    """Sweeps of ``benchmarks/sweep.py``, start to exit, on all cores and on the GPU; a teacher's data for images."""
    small = device.type == "cpu"
    jobs = {
        "200 two-layer nets, whole command": (
            "model=two_layer", "width=3,12" if small else "width=range(3,175,9)", "lr=0.5,1", "seed=range(5)",
            "optimizer=momentum", f"epochs={1 if small else 60}",
        ),
        "1280 two-layer nets, whole command": (
            "model=two_layer", "width=2,15" if small else "width=range(2,257,13)", "lr_unit=absolute",
            "lr=0.02,0.05,0.1,0.2", f"seed=range({1 if small else 16})", "optimizer=momentum",
            f"epochs={1 if small else 20}",
        ),
        "60,000 samples of 784 inputs, two nets, whole command": (
            "model=two_layer", "data=linear_teacher", "data.dim=784", f"data.n_train={600 if small else 60_000}",
            f"data.n_test={100 if small else 10_000}", "width=64,512", "optimizer=adam", "batch_size=128", "epochs=2",
        ),
        "main job (80 runs), whole command": (
            "width=10,60" if small else "width=range(10,2000,50)", "optimizer=sgd,adam", f"epochs={1 if small else 200}"
        ),
    }  # fmt: skip
    cores = f"CPU, {os.cpu_count()} cores"
    ways = {cores: "device=cpu", "GPU": f"device={device.type}"}
    for name, line in jobs.items():
        base = None
        for way, where in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "dd.run", "-m", *line, where, f"results_dir={folder}"]
                start = time.perf_counter()
                try:
                    done = subprocess.run(command, timeout=90, capture_output=True, text=True)
                except subprocess.TimeoutExpired:
                    row(name, way, result="more than 90 s")
                    continue
                took = time.perf_counter() - start
            base = base or took
            row(name, way, took, base, f"rc {done.returncode}")
            if done.returncode:
                print(done.stderr[-3000:], flush=True)


def card(device: torch.device) -> None:
    """Print what was measured, where and when."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    cpu = f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{name}, {cpu}; {versions}; {datetime.datetime.now(datetime.UTC):%d %B %Y}.")


PARTS = {f.__name__: f for f in (training, normalized, deep, modules, decompositions, commands, card)}


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a trial")
    given = parser.parse_args()
    torch.set_num_threads(1)
    PARTS[given.part](torch.device(given.device))


if __name__ == "__main__":
    main()
