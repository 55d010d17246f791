"""What dd costs beside the work: planning of large sweeps, estimates, shards, and how evenly elements of an array end.

    python benchmarks/scale.py                  all tables
    python benchmarks/scale.py plan shards      some of them
    python benchmarks/scale.py --quick          less work

CPU seconds are user and system time, of a command with all processes that it starts. They hold where other programs run
beside it, wall seconds do not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import own_networks
import torch
from commands import Bench, Cost, cost

from dd.api import compose_jobs
from dd.numerics import neutral
from dd.packs.content import identified
from dd.packs.place import place_of
from dd.packs.plan import plan
from dd.packs.shards import dealt
from dd.packs.solve import Solved, solve
from dd.workers.machine import cores

LARGE = ("width=range(10,2010,20)", "optimizer=sgd,adam", "lr=0.01,0.02,0.05,0.1,0.2", "seed=range(50)")
"""100,000 runs of random features and of two-layer nets."""

CHEAP = ("model=two_layer", "optimizer=momentum", "lr_unit=absolute", "width=4,8,12,16,24,32,40,48,56,64")
SHARDS = 4

FASHION = ("model=two_layer", "data=fashion_mnist", "data.n_test=10000", "data.n_train=60000", "batch_size=128")
NETS = ("model=two_layer", "optimizer=momentum")
TEN_WIDTHS = "width=16,24,34,50,74,108,158,232,340,512"
NETWORKS = f"model.path={Path(own_networks.__file__)}"
OWN = ("model=module", "data=fashion_mnist", "lr=0.01", "lr_unit=absolute")
MUON = ("optimizer=muon", "epochs=20")
RMT = ("model=rmt", "optimizer=adam", "lr=0.003", "batch_size=125", "data.n_train=1000", "data.n_test=797")

SIX = {
    "200 two-layer nets, 60 epochs": (*NETS, "width=range(3,175,9)", "lr=0.3,0.5", "seed=range(5)", "epochs=60"),
    "1280 two-layer nets, 20 epochs": (
        *NETS, "lr_unit=absolute", "width=range(2,257,13)", "lr=0.02,0.05,0.1,0.2", "seed=range(16)", "epochs=20",
    ),
    "two nets on 60,000 images, Adam": (*FASHION, "width=64,512", "optimizer=adam", "epochs=2"),
    "ten nets on 60,000 images, momentum": (*FASHION, TEN_WIDTHS, "optimizer=momentum", "epochs=2"),
    "main job: random features, SGD and Adam": ("width=range(10,2000,50)", "optimizer=sgd,adam"),
    "least squares, n = width = 5000": (
        "optimizer=min_norm", "data=fashion_mnist", "data.n_train=5000", "width=5000",
    ),
}  # fmt: skip
"""The workloads of ``sweep.py``, with fewer epochs where they take minutes."""

MORE = {
    "wide two-layer nets": (*NETS, "width=500,1000,2000", "epochs=20"),
    "two-layer nets behind batch norm": (*NETS, "normalization=batch_norm", "width=8,64,256", "epochs=20"),
    "two-layer nets, Muon": (*MUON, "model=two_layer", "width=8,64,256"),
    "two-layer nets, Muon, `trainer=stack`": (*MUON, "model=two_layer", "width=8,64,256", "trainer=stack"),
    "random features, Muon": (*MUON, "width=50,500,1000"),
    "RMT, k = 2, 4, 8": (*RMT, "width=2,4,8", "epochs=5"),
    "a module of one's own, `trainer=single`": (
        *OWN, f"{NETWORKS}:mlp", "width=8,64,256", "optimizer=sgd,adam", "trainer=single", "epochs=5",
        "data.n_train=1000",
    ),
    "a CNN of one's own": (
        *OWN, f"{NETWORKS}:cnn", "width=4,16", "optimizer=sgd", "epochs=3", "data.n_train=1000",
    ),
    "two-layer nets, `measure=full`": (*NETS, "measure=full", "width=8,64", "epochs=20"),
    "random features, `measure=full`": ("measure=full", "width=100,500,1000", "optimizer=sgd,adam", "epochs=50"),
    "exact gradient descent, four budgets": ("width=range(25,1025,100)", "optimizer=gd", "steps=1e2,1e4,1e6,1e8"),
    "exact gradient descent, 360 runs": (
        "width=range(25,1025,100)", "optimizer=gd,momentum,nesterov", "steps=1e2,1e4", "init.scale=0.5,1,2", "seed=0,1",
    ),
    "random features, cosine schedule": ("width=100,500,1000", "schedule=cosine", "epochs=50"),
    "300 small nets, one epoch": (
        "model=two_layer", "width=4,8,12", "epochs=1", "data.n_train=50", "data.n_test=50", "lr=0.01,0.02",
        "seed=range(50)",
    ),
}  # fmt: skip


def table(title: str, head: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for line in lines:
        print(f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in line)} |", flush=True)


def planning(bench: Bench) -> None:
    """100,000 runs planned (--quick: 10,000)."""
    sweep = (*LARGE, "model=random_features,two_layer", "steps=1000", "plan_only=true")
    sweep = tuple(one.replace("seed=range(50)", "seed=range(5)") for one in sweep) if bench.quick else sweep
    start = cost(bench.dd("width=10", "plan_only=true", sweep=False), "start-up")
    whole, shard = (cost(bench.dd(*sweep, *more), "plan") for more in ((), ("shard=3/10",)))
    clock = time.process_time()
    runs, settings = compose_jobs(sweep)
    composed = time.process_time()
    distinct = {run.run_id: run for run in runs}
    known = time.process_time()
    packs = plan(distinct.values(), place_of(settings))
    planned = time.process_time()
    lines = [
        ("start-up: a command that plans one run", start.cpu, start.peak),
        ("composing and checking", composed - clock, ""),
        ("run ids", known - composed, ""),
        ("planning", planned - known, ""),
        ("the whole command, `plan_only=true`", whole.cpu, whole.peak),
        ("the whole command, `plan_only=true shard=3/10`", shard.cpu, shard.peak),
    ]
    table(f"{len(distinct):,} runs in {len(packs):,} packs", ("what", "CPU seconds", "peak GB"), lines)


@cache
def solved(overrides: Sequence[str]) -> list[tuple[float, float]]:
    """Of each pack of a sweep the estimated seconds, and the CPU seconds that solving it takes, on one core."""
    runs, settings = compose_jobs([*overrides])
    found = []
    with neutral():
        for pack in plan(identified(runs, settings), place_of(settings)):
            clock, got = time.process_time(), Solved()
            solve(pack, settings, got)
            found.append((pack.seconds, time.process_time() - clock))
            if errors := [row["error"] for row in got.rows if row["status"] == "failed"]:
                raise RuntimeError(f"{errors[0]}")
    print(f"  {' '.join(overrides)}: {len(found)} packs", file=sys.stderr, flush=True)
    return found


def estimates(bench: Bench) -> None:
    """Estimated beside measured seconds of the packs (--quick: of the six workloads the short ones)."""
    for title, works in (("The six workloads", SIX), ("Further workloads", MORE)):
        lines = []
        for name, overrides in works.items():
            if bench.quick and ("60,000" in name or "5000" in name):
                continue
            packs = solved(overrides)
            estimate, took = (sum(times) for times in zip(*packs, strict=True))
            lines.append((name, len(packs), estimate, took, f"{took / estimate:.2f}"))
        head = ("workload", "packs", "estimated seconds on one core", "CPU seconds", "ratio")
        table(f"{title}: the plan's estimate", head, lines)


def together(commands: Sequence[Sequence[str]]) -> tuple[float, list[Cost]]:
    """Run commands at once; wall seconds until the last ends, and what each took."""
    clock = time.perf_counter()
    with ThreadPoolExecutor(len(commands)) as pool:
        costs = list(pool.map(lambda command: cost(command, "shard"), commands))
    return time.perf_counter() - clock, costs


def shards(bench: Bench) -> None:
    """10,000 runs in four shards at once, beside one process (--quick: shorter runs).

    What the cores at hand give at best is measured: the command of one process, whole, once on every core at the same
    time. Cores that share caches, memory or a clock slow each other down.
    """
    sweep = (*CHEAP, "lr=range(0.001,0.010995,0.00001)", f"epochs={5 if bench.quick else 120}", "n_jobs=1")
    one = cost(bench.dd(*sweep), "one process")
    ceiling, copies = together([bench.dd(*sweep, f"name=copy_{k}") for k in range(cores())])
    best = cores() * one.wall / ceiling
    all_cores = cost(bench.dd(*sweep[:-1], f"n_jobs={cores()}", "name=processes"), "one command on all cores")
    parts = [f"shard={k}/{SHARDS}" for k in range(1, SHARDS + 1)]
    wall, each = together([bench.dd(*sweep, part, "name=shards") for part in parts])
    again = [cost(bench.dd(*sweep, part, "name=shards"), f"{part}, finished").cpu for part in parts]

    def line(what: str, cpu: float, seconds: float, speedup: float) -> tuple[object, ...]:
        return what, cpu, seconds, f"{speedup:.2f}", f"{speedup / best:.0%}"

    lines = [
        line("one process", one.cpu, one.wall, 1.0),
        line("the same on every core at once", sum(copy.cpu for copy in copies), ceiling, best),
        line("one command on all cores", all_cores.cpu, all_cores.wall, one.wall / all_cores.wall),
        line(f"{SHARDS} shards at once", sum(part.cpu for part in each), wall, one.wall / wall),
        ("of it start-up, composing, planning, the table", sum(again), "", "", ""),
    ]
    table(f"10,000 runs on {cores()} cores", ("what", "CPU seconds", "wall seconds", "speed-up", "of the best"), lines)


def balance(bench: Bench) -> None:
    """Simulated: packs dealt by their estimates, and how long the longest element of a job array takes."""
    spread = np.array([ratio for name in SIX if "60,000" not in name and "5000" not in name for ratio in ratios(name)])
    random, lines = np.random.default_rng(0), []
    low, middle, high = np.quantile(spread, (0.1, 0.5, 0.9))
    for elements in (10, 100, 1000):
        for each in (1, 4, 16, 64):
            longest = [makespan(random, spread, elements, each) for _ in range(20)]
            lines.append((elements, each, f"{np.mean(longest):.2f}", f"{np.max(longest):.2f}"))
    head = ("elements", "packs an element", "longest / mean", "worst of 20 draws")
    title = f"Measured / estimated seconds of {len(spread)} packs: median {middle:.2f}, 80 % in {low:.2f} to {high:.2f}"
    table(title, head, lines)


class Piece(NamedTuple):
    """A pack of the simulation: estimated seconds, and measured over estimated ones."""

    seconds: float
    ratio: float


def ratios(name: str) -> list[float]:
    """Measured over estimated seconds of each pack of a workload."""
    return [took / estimate for estimate, took in solved(SIX[name])]


def makespan(random: np.random.Generator, spread: np.ndarray, elements: int, each: int) -> float:
    """The longest element's seconds over the mean; packs are dealt as ``dd/packs/shards.py`` deals them.

    Estimates lie between half a full pack and a full one; the seconds are estimates times measured ratios.
    """
    estimated = np.sort(random.uniform(0.5, 1.0, elements * each))[::-1]
    hands = dealt(
        [Piece(*both) for both in zip(estimated, random.choice(spread, len(estimated)), strict=True)], elements
    )
    loads = np.array([sum(piece.seconds * piece.ratio for piece in hand) for hand in hands])
    return float(loads.max() / loads.mean())


TABLES: dict[str, Callable[[Bench], None]] = {
    "plan": planning,
    "estimates": estimates,
    "shards": shards,
    "balance": balance,
}


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="less work")
    given = parser.parse_args()
    if unknown := set(given.tables) - set(TABLES):
        parser.error(f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.quick)
        for name in given.tables or TABLES:
            print(f"{name}: {TABLES[name].__doc__}", file=sys.stderr, flush=True)
            TABLES[name](bench)


if __name__ == "__main__":
    main()
