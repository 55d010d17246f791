"""dd's training beside a plain PyTorch loop and JAX jit + vmap + scan, on identical work in one process.

    python benchmarks/packed.py                 all rows (about half an hour)
    python benchmarks/packed.py one_net         some of them
    python benchmarks/packed.py --list          their names

Every method starts from the same weights, sees the same batches in the same order and takes the same steps in float32,
on one pinned core; final training losses are compared before anything is printed. Times are medians of three, except
where a row says otherwise; JAX's compilation is stated apart. "dd with curves" also logs losses and errors on training
and test set at logarithmically spaced steps, as every run of dd does; the others compute none.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
import torch
from methods import Work, dd, jax_scan, torch_loop

from dd.api import compose_runs
from dd.runs.run import Run

REPEATS = 3
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def nets(*overrides: str) -> list[Run]:
    """Runs of two-layer nets with momentum 0.9."""
    fixed = ("model=two_layer", "optimizer=momentum", "lr_unit=absolute", "lr=0.05")
    return compose_runs(*fixed, *overrides)


WIDTHS = "width=2,4,8,12,16,24,32,40,50,64,80,96,128,160,192,256,320,384,448,500"
WIDTHS_256 = "width=2,3,4,6,8,10,12,16,20,24,32,40,50,64,80,96,128,160,192,256"
SCALES = "init.scale=" + ",".join(f"{0.5 + i / 100:.2f}" for i in range(100))


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what is done.
        runs: builds the runs.
        loop_repeats: timed repetitions of the PyTorch loops; 0 leaves the DataLoader out and times the other once.
        two: also time two processes, one a core.
    """

    name: str
    runs: Callable[[], list[Run]]
    loop_repeats: int = REPEATS
    two: bool = False


ROWS: dict[str, Row] = {
    "one_net": Row("one net of width 8, digits, 100 epochs", lambda: nets("width=8", "epochs=100")),
    "hundred_nets": Row("100 nets of width 8, digits, 20 epochs", lambda: nets("width=8", "epochs=20", SCALES)),
    "twenty_widths": Row("20 widths 2-500, digits, 50 epochs", lambda: nets(WIDTHS, "epochs=50")),
    "long": Row("20 widths 2-500, digits, 500 epochs", lambda: nets(WIDTHS, "epochs=500"), 1),
    "images": Row(
        "20 widths 2-500, Fashion-MNIST, 20 epochs", lambda: nets(WIDTHS, "epochs=20", "data=fashion_mnist"), two=True
    ),
    "images_long": Row(
        "20 widths 2-500, Fashion-MNIST, 500 epochs", lambda: nets(WIDTHS, "epochs=500", "data=fashion_mnist"), 0, True
    ),
    "many": Row(
        "20 widths 2-256 x 16 seeds x 4 step sizes, digits, 20 epochs",
        lambda: nets(WIDTHS_256, "epochs=20", "seed=range(16)", "lr=0.01,0.02,0.05,0.1"),
        0,
    ),
    "wide": Row(
        "one net of width 2000, Fashion-MNIST, 10 epochs", lambda: nets("width=2000", "epochs=10", "data=fashion_mnist")
    ),
}


def seconds(function: Callable[[], list[float]], repeats: int) -> tuple[float, float, list[float]]:
    """First call, median of the following ones (or the first where there are none), and the losses."""
    start = time.perf_counter()
    losses = function()
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return first, statistics.median(times or [first]), losses


def measure(key: str) -> None:
    """Run all methods on one row and print a line each."""
    row = ROWS[key]
    work = Work(row.name, row.runs())
    loop = max(row.loop_repeats, 1) if row.loop_repeats != 1 else 1
    methods: dict[str, tuple[Callable[[], Callable[[], list[float]]], int]] = {
        "dd": (lambda: dd(work), REPEATS),
        "dd with curves": (lambda: dd(work, curve=True), REPEATS),
        "torch, indexed": (lambda: torch_loop(work), 0 if row.loop_repeats < REPEATS else loop),
        "torch, DataLoader": (lambda: torch_loop(work, loader=True), 0 if row.loop_repeats < REPEATS else loop),
        "jax scan": (lambda: jax_scan(work), REPEATS),
    }
    if row.loop_repeats == 0:
        del methods["torch, DataLoader"]
    print(f"\n{work.name}: {len(work.runs)} nets, {work.steps} steps, {work.flops / 1e9:.1f} GFLOP in all")
    if row.two:  # first, because JAX's threads do not survive a fork
        median = statistics.median(two_processes(work) for _ in range(REPEATS))
        print(f"  {'dd, two processes':20s} {median:8.3f} s, {work.flops / median / 1e9:.1f} GFLOP/s", flush=True)
    base: float | None = None
    reference: list[float] | None = None
    for name, (build, repeats) in methods.items():
        try:
            first, median, losses = seconds(build(), repeats)
        except ImportError:
            print(f"  {name:20s} not installed")
            continue
        reference = reference or losses
        np.testing.assert_allclose(losses, reference, rtol=0.03, err_msg=f"{name} did other work")
        base = base or median
        extra = f", first call {first - median:+.2f} s" if name in ("jax scan", "dd") else ""
        extra += "" if repeats else " (once)"
        print(
            f"  {name:20s} {median:8.3f} s {median / work.steps * 1e6:8.1f} us a net and step, "
            f"{work.flops / median / 1e9:5.1f} GFLOP/s, {median / base:6.2f} x dd{extra}",
            flush=True,
        )


def gemm_peak(cores: Sequence[int]) -> float:
    """GFLOP/s of PyTorch's float32 product of 2048 x 2048 matrices, one process on each core at once."""

    def work(_: int) -> float:
        a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
        times = []
        for _ in range(6):
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
        return 2 * 2048**3 / min(times) / 1e9

    return sum(in_processes(work, cores))


def two_processes(work: Work) -> float:
    """Wall seconds of dd on two cores: runs are dealt out by cost, widest first, each process trains its own."""
    halves: list[list[int]] = [[], []]
    cost = [0, 0]
    for i in sorted(range(len(work.runs)), key=lambda i: -work.runs[i].width):
        to = cost.index(min(cost))
        halves[to].append(i)
        cost[to] += work.runs[i].width
    parts = [Work(work.name, [work.runs[i] for i in half]) for half in halves]
    return max(in_processes(lambda k: seconds(dd(parts[k]), 0)[1], CORES[:2]))


def in_processes(function: Callable[[int], float], cores: Sequence[int]) -> list[float]:
    """Call ``function`` with 0, 1 ... at the same time, each in a process on a core of its own."""
    fork = multiprocessing.get_context("fork")
    barrier, results = fork.Barrier(len(cores)), fork.Queue()

    def child(k: int) -> None:
        os.sched_setaffinity(0, {cores[k]})
        torch.set_num_threads(1)
        barrier.wait()
        results.put(function(k))

    children = [fork.Process(target=child, args=(k,)) for k in range(len(cores))]
    for process in children:
        process.start()
    got = [results.get() for _ in children]
    for process in children:
        process.join()
    return got


def main_job() -> None:
    """The README's main job from the command line on all cores, beside the plain loop and JAX on one."""
    arguments = ["width=range(10,2000,50)", "optimizer=sgd,adam"]
    work = Work("main job", compose_runs(*arguments))
    lrs = {}
    times = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "dd.run", "-m", *arguments, f"results_dir={folder}"]
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, preexec_fn=lambda: os.sched_setaffinity(0, CORES))
            times.append(time.perf_counter() - start)
            import pandas as pd

            table = pd.read_parquet(f"{folder}/default/runs")
            lrs = table.set_index("run_id").lr_absolute.to_dict()
            losses = table.set_index("run_id").train_loss.to_dict()
    work.runs = [run.replace(lr=lrs[run.run_id], lr_unit="absolute") for run in work.runs]
    reference = [losses[run.run_id] for run in compose_runs(*arguments)]
    wall = statistics.median(times)
    print(f"\nmain job: {len(work.runs)} runs, {work.steps} steps, {work.flops / 1e9:.0f} GFLOP of training")
    print(f"  dd, whole command, {len(CORES)} cores   {wall:7.1f} s (with start, spectra, curves, table)", flush=True)
    start = time.perf_counter()
    spectra(work)
    measured = time.perf_counter() - start
    print(f"  plain spectra, one core        {measured:7.1f} s (once)", flush=True)
    for name, build in (("torch, indexed", torch_loop), ("jax scan", jax_scan)):
        try:
            first, _, got = seconds(build(work), 0)
        except ImportError:
            print(f"  {name} not installed")
            continue
        # beyond interpolation Adam oscillates, and after some 3000 steps rounding decides in which phase
        calm = [run.optimizer.name == "sgd" or run.width < 500 for run in work.runs]
        pairs = np.array([got, reference])
        np.testing.assert_allclose(*pairs[:, calm], rtol=0.03, err_msg=f"{name} did other work")
        np.testing.assert_allclose(*np.log(pairs), atol=1.6, rtol=0, err_msg=f"{name} did other work")
        print(
            f"  {name}, one core        {first:7.1f} s training alone ({first / wall:.1f} x dd), "
            f"{first + measured:.1f} s with the spectra ({(first + measured) / wall:.1f} x dd) (once)",
            flush=True,
        )


def spectra(work: Work) -> None:
    """What a plain script would add for dd's columns: one SVD of each feature matrix, ten of Adam's scaled ones."""
    for network in work.networks:
        design = network.exact_train.inputs[0]
        if network.run.optimizer.name == "adam":
            scale = torch.rand(network.problem.outputs, design.shape[1], dtype=torch.float64) + 0.5
            for c in range(len(scale)):
                torch.linalg.svdvals(design * scale[c])
        torch.linalg.svd(design, full_matrices=False)
        network.release()


def main() -> None:
    """Pin one core and measure the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="rows to measure; all by default")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--here", action="store_true", help="in this process, not each row in one of its own")
    options = parser.parse_args()
    names = [*ROWS, "main_job"]
    if options.list:
        print(
            "\n".join([*(f"{key:15s} {row.name}" for key, row in ROWS.items()), "main_job        the README's sweep"])
        )
        return
    if unknown := set(options.rows) - set(names):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    torch.set_num_threads(1)
    if options.here:
        if CORES:
            os.sched_setaffinity(0, {CORES[-1]})
        for row in options.rows:
            main_job() if row == "main_job" else measure(row)
        return
    machine = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    print(f"python {platform.python_version()}, torch {torch.__version__}, {machine}, {sys.platform}")
    if CORES:
        peaks = ", ".join(f"{gemm_peak(CORES[:k]):.0f} on {k}" for k in range(1, min(len(CORES), 2) + 1))
        print(f"float32 matrix product, GFLOP/s by cores: {peaks}", flush=True)
    for row in options.rows or names:
        subprocess.run([sys.executable, __file__, "--here", row], check=True)


if __name__ == "__main__":
    main()
