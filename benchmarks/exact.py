"""Exact dynamics beside iterated gradient descent, and a sweep of 9600 runs that share 200 decompositions.

    python benchmarks/exact.py                        both (about six minutes)
    python benchmarks/exact.py --part dynamics        one of them
    python benchmarks/exact.py --steps 1000 10000     other budgets

Dynamics: gradient descent on random features of digits (n = 500) in float64 on one core. Exact: decomposition, all
logged steps with losses and errors on training and test set, and the final weights; iterated: a plain PyTorch loop
without any evaluation, and dd's own compiled engine. Up to ``MEASURED`` steps loops are timed, beyond that extrapolated
from there and marked so. Final losses are compared before anything is printed. Figures also go to a parquet file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch

from dd.api import compose_runs
from dd.closed.dynamics import Group
from dd.measure.factors import factorize
from dd.network import Network
from dd.numerics import reproducible
from dd.problems.problem import load
from dd.runs.settings import Settings
from dd.trainers.base import Task
from dd.trainers.course import train
from dd.trainers.engine import Engine

MEASURED = 100_000
WIDTHS = (250, 500, 1000)
STEPS = (1_000, 100_000, 10_000_000)
REPEATS = 3

SWEEP = (
    "optimizer=gd", "width=range(25,1025,25)", "seed=range(5)",
    "steps=" + ",".join(str(10**k) for k in range(1, 13)), "lr=0.1,0.5,1,1.9",
)  # fmt: skip


def exact(network: Network, lr: float) -> tuple[float, float]:
    """Seconds (median) and final training loss."""
    times, loss = [], float("nan")
    for _ in range(REPEATS):
        start = time.perf_counter()
        solution = Group(network, factorize(network.exact_train.inputs[0])).solve(network, lr)
        times.append(time.perf_counter() - start)
        assert solution.measured is not None
        loss = solution.measured.point.train_loss
    return statistics.median(times), loss


def plain_loop(network: Network, lr: float, steps: int) -> tuple[float, float]:
    """Seconds and final training loss of gradient descent as one would write it."""
    design, targets = network.exact_train.inputs[0], network.exact_train.targets
    weight = network.named(network.theta.double()).named["readout"][0].T.clone()
    start = time.perf_counter()
    for _ in range(steps):
        weight -= (2 * lr / targets.numel()) * (design.T @ (design @ weight - targets))
    return time.perf_counter() - start, float((design @ weight - targets).square().mean())


def engine(network: Network, lr: float) -> tuple[float, float]:
    """Seconds and final training loss of dd's iterative solver."""
    start = time.perf_counter()
    solution = train(Engine.begun([Task(network.run, network, lr)]), curve=False)[0]
    seconds = time.perf_counter() - start
    outputs = network.outputs(network.named(solution.theta[None]), network.exact_train.inputs, {})[0]
    return seconds, float((outputs - network.exact_train.targets).square().mean())


def dynamics(budgets: list[int]) -> list[dict[str, Any]]:
    """One row a width and budget."""
    rows = []
    print("gradient descent, digits, n = 500, float64, one core; * extrapolated from 100,000 steps")
    print(f"{'width':>6} {'steps':>10} {'exact':>9} {'torch loop':>12} {'dd engine':>12} {'ratios':>22}")
    for width in WIDTHS:
        timed: dict[str, tuple[float, int]] = {}
        for steps in budgets:
            run = compose_runs("optimizer=gd", f"width={width}", f"steps={min(steps, MEASURED)}", "dtype=float64")[0]
            network = Network([run], load(run, Settings()), torch.device("cpu"), torch.float64)
            s = torch.linalg.svdvals(network.exact_train.inputs[0])
            lr = 0.5 / (2 * float(s[0]) ** 2 / network.exact_train.targets.numel())
            asked = Network([run.replace(steps=steps)], network.problem, torch.device("cpu"), torch.float64)
            seconds, _ = exact(asked, lr)
            known = min(steps, MEASURED)
            if steps <= MEASURED:
                expected = exact(network, lr)[1]
                for name, got in (("loop", plain_loop(network, lr, steps)), ("engine", engine(network, lr))):
                    if abs(got[1] / expected - 1) > 1e-8:
                        raise SystemExit(
                            f"{name} disagrees at width {width}, {steps} steps: {got[1]} against {expected}"
                        )
                    timed[name] = (got[0], steps)
            elif "loop" not in timed or timed["loop"][1] < MEASURED:
                timed = {"loop": (plain_loop(network, lr, known)[0], known), "engine": (engine(network, lr)[0], known)}
            loop, own = (timed[name][0] * steps / timed[name][1] for name in ("loop", "engine"))
            mark = "*" if steps > MEASURED else " "
            print(
                f"{width:6d} {steps:10d} {seconds:8.3f}s {loop:11.2f}s{mark} {own:11.2f}s{mark} "
                f"{loop / seconds:9.0f}x {own / seconds:9.0f}x{mark}",
                flush=True,
            )
            rows.append(
                {"part": "dynamics", "width": width, "steps": steps, "exact_seconds": seconds, "loop_seconds": loop,
                 "engine_seconds": own, "extrapolated": steps > MEASURED}
            )  # fmt: skip
    return rows


def sweep(seconds_per_step_and_column: float | None) -> dict[str, Any]:
    """Time the whole command on all cores, start and table included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dd.run", "-m", f"results_dir={folder}", *SWEEP]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        table = pd.read_parquet(Path(folder) / "default" / "runs")
    if len(table) != 9600 or set(table["status"]) != {"ok"} or set(table["solver"]) != {"exact"}:
        raise SystemExit(f"the sweep is not whole: {len(table)} runs, {table['status'].value_counts().to_dict()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"sweep of {len(table)} runs (40 widths, 5 seeds, 12 budgets, 4 step sizes): {seconds:.1f} s, {cores} cores")
    row: dict[str, Any] = {"part": "sweep", "runs": len(table), "sweep_seconds": seconds, "cores": cores}
    if seconds_per_step_and_column:
        short = table[table["steps"] <= MEASURED]
        loop = float((short["steps"] * short["width"]).sum()) * seconds_per_step_and_column
        every = float((table["steps"] * table["width"]).sum()) * seconds_per_step_and_column
        print(
            f"a plain loop on one core, from its time a step and column: {loop / 3600:.1f} hours for the {len(short)} "
            f"runs up to 1e5 steps* ({loop / seconds:.0f}x), {every / 3600 / 24 / 365:.0f} years for all*"
        )
        row |= {"loop_seconds_to_1e5": loop, "loop_seconds": every, "extrapolated": True}
    return row


def main() -> None:
    """Run the parts, print, write the parquet file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("dynamics", "sweep"), help="only this part")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="budgets of the first part")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/exact.parquet"), help="parquet file")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    cost: float | None = None
    if chosen.part != "sweep":
        with reproducible(torch.device("cpu")):
            rows = dynamics(sorted(chosen.steps))
        cost = statistics.median(r["loop_seconds"] / r["steps"] / r["width"] for r in rows)
    if chosen.part != "dynamics":
        rows.append(sweep(cost))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(chosen.out)
    print(f"table: {chosen.out}")


if __name__ == "__main__":
    main()
