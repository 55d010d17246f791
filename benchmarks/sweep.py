"""Whole commands of dd, from start to exit, beside plain scripts that do the same work.

    python benchmarks/sweep.py                      all rows
    python benchmarks/sweep.py two_hundred one      some of them
    python benchmarks/sweep.py --quick              every command once, less work in the long rows
    python benchmarks/sweep.py --list               their names

Prints a Markdown table a row. CPU seconds are user and system time of a command and the processes that it started.
Start-up is the CPU time of a command with next to nothing to do: one tiny run of dd, a script without nets. The scripts
(``peers.py``) read dd's initial weights, batches and step sizes from a file, and evaluate training and test set once,
at the end. Their final losses are compared with those in dd's table.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import matplotlib.pyplot as plt
import numpy as np
import torch
from commands import PEERS, Bench, Command, Table, cost, losses_file
from methods import Work, dd, inputs_of, momentum_of, weights_of

from dd.api import compose_runs, load

AGREEMENT = 0.03
"""Largest median over nets of the relative difference of final losses."""

FIGURE = Path(__file__).parent.parent / "docs" / "sweep_growth.png"
NAMES = {"torch": "PyTorch script", "jax": "JAX script"}
FASHION = ("model=two_layer", "data=fashion_mnist", "data.n_test=10000")
NETS = ("model=two_layer", "optimizer=momentum", "lr_unit=absolute")


def prepare(overrides: Sequence[str], table: Path, work: Path) -> tuple[Work, np.ndarray]:
    """Write the scripts' file, from what dd composes and from its finished table.

    Returns:
        The nets, and dd's final losses, [nets, 2], in the same order; NaN for diverged runs.
    """
    rows = load(table.name, table.parent).set_index("run_id")
    runs = sorted(compose_runs(*overrides), key=lambda run: run.width)
    losses = rows.loc[[run.run_id for run in runs], ["train_loss", "test_loss"]].to_numpy(float, copy=True)
    losses[[rows.status[run.run_id] != "ok" for run in runs]] = np.nan
    steps = [float(rows.lr_absolute[run.run_id]) for run in runs]
    job = Work("", [run.replace(lr=lr, lr_unit="absolute") for run, lr in zip(runs, steps, strict=True)])
    seeds, first = list(job.orders), job.networks[0]
    problem, widths = job.problem, sorted({run.width for run in runs})
    arrays: dict[str, Any] = {
        "train_x": inputs_of(first).numpy(),
        "train_y": problem.train_y.float().numpy(),
        "test_x": problem.test_x.float().numpy(),
        "test_y": problem.test_y.float().numpy(),
        "orders": np.stack(list(job.orders.values())),
        "widths": widths,
    }
    for width in widths:
        nets = [network for network in job.networks if network.run.width == width]
        arrays[f"lr_{width}"] = [network.run.lr for network in nets]
        arrays[f"seed_{width}"] = [seeds.index(network.run.seed) for network in nets]
        for k, parts in enumerate(zip(*map(weights_of, nets), strict=True)):
            arrays[f"weights_{width}_{k}"] = np.stack(parts)
    run = first.run
    np.savez(work, batch_size=run.batch_size, optimizer=run.optimizer.name, momentum=momentum_of(run), **arrays)
    return job, losses


def training_alone(job: Work) -> float:
    """CPU seconds of dd's training, median of three: no curves, no measurements."""
    method, times = dd(job), []
    for _ in range(3):
        start = time.process_time()
        method()
        times.append(time.process_time() - start)
    return statistics.median(times)


def compare(
    bench: Bench,
    table: Table,
    overrides: Sequence[str],
    faster: Mapping[str, float],
    *,
    cpu: float | None = None,
    alone: float | None = None,
    wall: float | None = None,
    peak: float | None = None,
    bare: bool = False,
) -> None:
    """One sweep of two-layer nets beside scripts.

    Args:
        bench: runs the commands.
        table: takes the lines.
        overrides: the command.
        faster: of each script how many times as long as dd it should take.
        cpu: target, CPU seconds beyond start-up.
        alone: target, times dd's training alone; it is not measured where None.
        wall: target, wall seconds on two processes; they are not measured where None.
        peak: target, GB of the largest process.
        bare: also without measurements.

    Raises:
        RuntimeError: a script has other losses.
    """
    name = f"table{next(bench.tables)}"
    first = cost(bench.dd(*overrides, f"name={name}", "n_jobs=1"), "dd")
    work = bench.folder / f"{name}.npz"
    job, losses = prepare(overrides, bench.folder / name, work)
    peers = [kind for kind in faster if importlib.util.find_spec(kind)]
    commands: dict[str, Command] = {kind: partial(bench.peer, kind, work) for kind in peers}
    commands["dd"] = partial(bench.dd, *overrides, "n_jobs=1")
    if wall:
        commands["dd, two processes"] = partial(bench.dd, *overrides, "n_jobs=2")
    found = bench.race(commands, dd=first)
    took = bench.beyond("dd", found["dd"].cpu)
    table.add("dd, one process, CPU beyond start-up", took, "s", most=cpu)
    if alone:
        training = training_alone(job)
        table.add("dd's training alone, CPU", training, "s")
        table.add("dd beside its training alone", took / training, "×", most=alone)
    others = {kind: bench.beyond(kind, found[kind].cpu) for kind in peers}
    for kind, other in others.items():
        table.add(f"{NAMES[kind]}, CPU beyond start-up", other, "s")
        table.add_times(NAMES[kind], other / took, faster[kind])
    if bare:
        try:
            least = bench.measure("dd, measure=none", partial(bench.dd, *overrides, "n_jobs=1", "measure=none"))
            took = bench.beyond("dd", least.cpu)
            table.add("dd with `measure=none`, CPU beyond start-up", took, "s")
            for kind, other in others.items():
                table.add_times(f"{NAMES[kind]} (`measure=none`)", other / took, 1.0)
        except RuntimeError as error:
            table.add("dd with `measure=none`", str(error))
    if wall:
        table.add("dd, two processes, wall", found["dd, two processes"].wall, "s", most=wall)
    table.add("dd, one process, wall", found["dd"].wall, "s")
    table.add("dd, peak memory of a process", found["dd"].peak, "GB", most=peak)
    if peak:
        plan = cost(bench.dd(*overrides, "n_jobs=1", "plan_only=true"), "plan").lines
        estimates = [int(words[-2]) for words in map(str.split, plan) if words[-1] == "engine"]
        table.add("... as `plan_only=true` estimates", max(estimates) / 1e3, "GB")
    for kind in peers:
        table.add(f"{NAMES[kind]}, peak memory", found[kind].peak, "GB")
        differences = np.abs(np.load(losses_file(kind, work)) / losses - 1)[np.isfinite(losses).all(axis=1)]
        greatest, middle = differences.max(axis=0), float(np.median(differences, axis=0).max())
        text = f"{greatest[0]:.1e}, {greatest[1]:.1e} ({len(differences)} of {len(losses)} nets)"
        table.add(f"{NAMES[kind]}, largest relative difference of train and test loss", text)
        if not middle <= AGREEMENT:
            raise RuntimeError(f"the {NAMES[kind]} did other work: losses {text}, median {middle:.1e}")


def two_hundred(bench: Bench, table: Table) -> None:
    """200 two-layer nets on digits, 60 epochs."""
    line = ("model=two_layer", "optimizer=momentum", "width=range(3,175,9)", "lr=0.3,0.5", "seed=range(5)", "epochs=60")
    compare(bench, table, line, {"torch": 6, "jax": 1}, cpu=7, alone=3, wall=5.5)


def many(bench: Bench, table: Table) -> None:
    """1280 two-layer nets on digits, 20 epochs."""
    line = (*NETS, "width=range(2,257,13)", "lr=0.02,0.05,0.1,0.2", "seed=range(16)", "epochs=20")
    compare(bench, table, line, {"torch": 9, "jax": 1.5}, cpu=11, alone=3)


def fashion(bench: Bench, table: Table) -> None:
    """Two nets on all of Fashion-MNIST, Adam, 2 epochs."""
    line = (*FASHION, "data.n_train=60000", "width=64,512", "optimizer=adam", "batch_size=128", "epochs=2")
    compare(bench, table, line, {"torch": 1 / 1.8}, peak=1.5, bare=True)


def fashion_ten(bench: Bench, table: Table) -> None:
    """Ten nets on all of Fashion-MNIST, momentum, 20 epochs (--quick: 2)."""
    widths, epochs = "width=16,24,34,50,74,108,158,232,340,512", f"epochs={2 if bench.quick else 20}"
    line = (*FASHION, "data.n_train=60000", widths, "optimizer=momentum", "batch_size=128", epochs)
    compare(bench, table, line, {"torch": 1})


def main_job(bench: Bench, table: Table) -> None:
    """The README's main job: 80 runs of random features, SGD and Adam."""
    found = bench.measure("main job", partial(bench.dd, "width=range(10,2000,50)", "optimizer=sgd,adam", "n_jobs=2"))
    table.add("dd, two processes, wall", found.wall, "s", most=9)
    table.add("dd, two processes, CPU", found.cpu, "s")


def finished(bench: Bench, table: Table) -> None:
    """The same command on a finished table, all widths different (--quick: 3000 runs alone)."""
    tiny = ("optimizer=min_norm", "data.n_train=20", "data.n_test=10", "name=finished")
    for count in (3000,) if bench.quick else (3000, 10_000):
        ways = {
            "a comma list": f"width={','.join(map(str, range(1, count + 1)))}",
            "range(...)": f"width=range(1,{count + 1})",
        }
        cost(bench.dd(*tiny, ways["range(...)"], "n_jobs=2"), f"{count} runs")
        found = bench.race({way: partial(bench.dd, *tiny, widths, "n_jobs=1") for way, widths in ways.items()})
        for way, got in found.items():
            each = 1e3 * bench.beyond("dd", got.cpu) / count
            table.add(f"{count} finished runs, {way}: CPU beyond start-up", each, "ms a run", most=0.8)
            table.add("... wall", got.wall, "s")
            table.add("... peak memory", got.peak, "GB")


def one(bench: Bench, table: Table) -> None:
    """One run at the defaults."""
    found = bench.race(
        {
            "one": partial(bench.dd, "force=true", "name=one", sweep=False),
            "torch": lambda: [sys.executable, "-c", "import torch"],
        }
    )
    table.add("dd, one run, wall", found["one"].wall, "s", most=2.2)
    table.add("`import torch`, wall", found["torch"].wall, "s")


def min_norm(bench: Bench, table: Table) -> None:
    """Least squares of least norm, random features of Fashion-MNIST, n = width = 5000 (--quick: 1500)."""
    size, file = 1500 if bench.quick else 5000, bench.folder / "design.npy"
    line = ("optimizer=min_norm", "data=fashion_mnist", f"data.n_train={size}", f"width={size}")
    np.save(file, Work("", compose_runs(*line)).networks[0].exact_train.inputs[0].numpy())
    got = bench.measure("dd", partial(bench.dd, *line, "n_jobs=1", sweep=False))
    svd = float(cost([sys.executable, PEERS, "svd", str(file)], "svd").lines[-1])
    took = bench.beyond("dd", got.cpu)
    table.add("dd, CPU beyond start-up", took, "s")
    table.add("`torch.linalg.svd` of the same matrix, CPU", svd, "s")
    table.add("dd beside the decomposition", took / svd, "×", most=1.3)
    table.add("dd, peak memory", got.peak, "GB")


def growth(bench: Bench, table: Table) -> None:
    """One process, CPU seconds in all against samples, runs, width and steps (--quick: the first three)."""
    rates = [",".join(f"{0.001 + 0.00001 * i:.5f}" for i in range(count // 10)) for count in (10, 100, 1000, 10_000)]
    axes: dict[str, tuple[Sequence[int], Callable[[int], Sequence[str]]]] = {
        "samples": (
            (500, 2000, 8000, 20_000, 60_000),
            lambda n: (*FASHION, "optimizer=momentum", "width=64", "epochs=2", f"data.n_train={n}"),
        ),
        "runs": (
            (10, 100, 1000, 10_000),
            lambda n: (*NETS, "width=4,8,12,16,24,32,40,48,56,64", "epochs=5", f"lr={rates[len(str(n)) - 2]}"),
        ),
        "width": (
            tuple(2**k for k in range(4, 12)),
            lambda n: ("model=two_layer", "optimizer=momentum", "epochs=20", f"width={n}"),
        ),
        "steps": (
            (100, 1000, 10_000, 100_000),
            lambda n: ("model=two_layer", "optimizer=momentum", "width=64", f"steps={n}"),
        ),
    }
    points: dict[str, list[tuple[int, float]]] = {}
    tiny = partial(bench.dd, "width=10", "optimizer=min_norm", "data.n_train=20", "n_jobs=1", sweep=False)
    starts: dict[str, float] = {}
    for axis, (values, line) in axes.items():
        # beside its points: a shared machine is not equally fast at all times
        starts[axis] = bench.measure(f"{axis}: start-up", tiny).cpu
        for n in values[:3] if bench.quick else values:
            got = bench.measure(f"{axis} {n}", partial(bench.dd, *line(n), "n_jobs=1"))
            points.setdefault(axis, []).append((n, got.cpu))
            beyond = f"{1e3 * max(got.cpu - starts[axis], 0.0) / n:.3g} ms each beyond {starts[axis]:.2f} s of start-up"
            table.add(f"{axis}: {n}", f"{got.cpu:.3g} s, {beyond}, {got.peak:.2f} GB")
    if not bench.quick:
        draw(points, starts)


def draw(points: Mapping[str, Sequence[tuple[int, float]]], starts: Mapping[str, float]) -> None:
    """Draw docs/sweep_growth.png."""
    figure, panels = plt.subplots(1, len(points), figsize=(11.0, 2.8), layout="constrained", sharey=True)
    for panel, (axis, found) in zip(panels, points.items(), strict=True):
        x, y = np.array(found).T
        panel.loglog(x, y, "o-", label="dd, one process")
        panel.axhline(starts[axis], ls=":", color="0.6", label="start-up")
        line = np.geomspace(x[0], x[-1])
        rising = starts[axis] + (y[-1] - starts[axis]) * line / x[-1]
        panel.loglog(line, rising, "--", color="0.6", label="proportional")
        panel.set(xlabel=axis)
    panels[0].set(ylabel="CPU seconds of the command")
    panels[0].legend(frameon=False)
    figure.savefig(FIGURE, dpi=150, metadata={"Software": None})


def trial(bench: Bench, table: Table) -> None:
    """Four small nets: whether this program works."""
    line = ("model=two_layer", "optimizer=momentum", "width=3,5", "lr=0.3,0.5", "epochs=2")
    compare(bench, table, line, {"torch": 1})


ROWS: dict[str, Callable[[Bench, Table], None]] = {
    "two_hundred": two_hundred,
    "many": many,
    "fashion": fashion,
    "fashion_ten": fashion_ten,
    "main": main_job,
    "finished": finished,
    "one": one,
    "min_norm": min_norm,
    "growth": growth,
    "trial": trial,
}


def main() -> int:
    """Measure the rows asked for.

    Returns:
        1 if a command failed, or a script did other work than dd; else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="rows to measure; all but trial by default")
    parser.add_argument("--quick", action="store_true", help="every command once, less work in the long rows")
    parser.add_argument("--list", action="store_true", help="list the rows")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{name:12s} {row.__doc__}" for name, row in ROWS.items()))
        return 0
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.quick)
        for name in given.rows or [name for name in ROWS if name != "trial"]:
            print(f"{name}: {ROWS[name].__doc__}", file=sys.stderr, flush=True)
            table = Table()
            try:
                ROWS[name](bench, table)
            except RuntimeError as error:
                failed = 1
                table.add(f"**{name} failed**", str(error))
            print(f"\n{name}: {ROWS[name].__doc__}\n\n| what | target | measured | met |\n|---|---|---|---|")
            print("\n".join(table.lines), flush=True)
        starts = ", ".join(f"{kind} {cpu:.2f} s" for kind, cpu in bench.started.items())
        print(f"\nCPU seconds of start-up: {starts}{' (--quick: every command once)' if given.quick else ''}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
