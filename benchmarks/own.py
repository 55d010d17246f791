"""A user's own modules: dd beside a plain PyTorch loop over the same modules, batches and starts.

    python benchmarks/own.py            both networks of own_networks.py
    python benchmarks/own.py mlp        one of them
    python benchmarks/own.py --quick    less work, once

Six widths, two optimizers and three seeds on Fashion-MNIST, n = 1000, 20 epochs, one process. CPU seconds, medians of
three that take turns; the final train losses are compared. "Training alone" is dd's trainer without measurements; the
whole command measures, logs curves and writes the table. The script's start-up is in its time as dd's is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import own_networks
import torch
from commands import cost
from torch import nn

from dd.api import compose_jobs, load
from dd.packs.content import identified
from dd.packs.prepare import prepare
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.problems.problem import load as problem_of
from dd.runs.run import Run
from dd.trainers.batches import Orders

WIDTHS = {"mlp": "width=8,16,32,64,128,256", "cnn": "width=2,4,6,8,12,16"}
AGREEMENT = 0.02
"""Largest median relative difference of final train losses, in float32."""


def line(name: str, *, quick: bool) -> list[str]:
    """The sweep's overrides."""
    network = f"model.path={Path(own_networks.__file__)}:{name}"
    epochs, seeds = ("epochs=2", "seed=0") if quick else ("epochs=20", "seed=0,1,2")
    rules = ("optimizer=sgd,adam", "lr=0.01", "lr_unit=absolute", "n_jobs=1")
    return ["model=module", network, WIDTHS[name], *rules, seeds, epochs, "data=fashion_mnist", "data.n_train=1000"]


def plain(runs: list[Run], name: str) -> list[float]:
    """Final train losses of the same networks by a plain loop."""
    losses = []
    make: Callable[..., nn.Module] = getattr(own_networks, name)
    for run in runs:
        problem = problem_of(run, SETTINGS)
        x, y = problem.train_x.float(), problem.train_y.float()
        sample = run.data.image if name == "cnn" else run.data.input_count
        x = x.view(len(x), *run.data.image) if name == "cnn" else x
        torch.manual_seed(run.model.start_seed(run))
        net = make(run.width, sample, 10)
        rule = torch.optim.SGD if run.optimizer.name == "sgd" else torch.optim.Adam
        optimizer, orders = rule(net.parameters(), lr=run.lr), Orders(run)
        for epoch in range(run.steps // run.batches_per_epoch):
            for batch in torch.from_numpy(orders.epoch(epoch)).split(run.batch_size):
                optimizer.zero_grad()
                nn.functional.mse_loss(net(x[batch]), y[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            losses.append(float(nn.functional.mse_loss(net.eval()(x), y)))
    return losses


def alone(runs: list[Run]) -> tuple[float, list[float]]:
    """CPU seconds of dd's training without measurements, and final train losses on the last logged step."""
    jobs = [prepare(run, Shared(SETTINGS, [run])) for run in runs]
    start = time.process_time()
    done = [next(iter(train_jobs([job]))) for job in jobs]
    took = time.process_time() - start
    return took, [job.result.curve[-1].train_loss for job in done]


def timed(work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """CPU seconds, and what came out."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def row(name: str, folder: Path, *, quick: bool) -> str:
    """Measure one network; a line of the table."""
    overrides = line(name, quick=quick)
    runs = identified(compose_jobs(overrides)[0], SETTINGS)
    ours, theirs, whole, script = [], [], [], []
    for turn in range(1 if quick else 3):
        took, losses = alone(runs)
        ours.append(took)
        took, expected = timed(lambda: plain(runs, name))
        theirs.append(took)
        table = f"{name}{turn}"
        command = [sys.executable, "-m", "dd.run", "-m", *overrides, f"name={table}", f"results_dir={folder}"]
        whole.append(cost(command, f"{name}: whole command").cpu)
        again = [sys.executable, __file__, name, "--script", *(["--quick"] if quick else [])]
        script.append(cost(again, f"{name}: script").cpu)
    frame = load(table, folder).set_index("run_id")
    for found in (losses, [frame.train_loss[run.run_id] for run in runs]):
        difference = float(np.median(np.abs(np.array(found) / np.array(expected) - 1)))
        assert difference < AGREEMENT, f"{name}: train losses differ by {difference:.1e}"
    a, b, c, d = map(statistics.median, (ours, theirs, whole, script))
    return (
        f"| {name}, {len(runs)} runs | {a:.1f} s | {b:.1f} s | {a / b:.2f} × | {c:.1f} s | {d:.1f} s | {c / d:.2f} × |"
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[*WIDTHS, []], default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--script", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.script:
        (name,) = given.networks
        plain(identified(compose_jobs(line(name, quick=given.quick))[0], SETTINGS), name)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(name, Path(folder), quick=given.quick) for name in given.networks or WIDTHS]
    print("| network | dd, training alone | plain loop | ratio | dd, whole command | plain script | ratio |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


SETTINGS = compose_jobs(["width=10", "measure=none"])[1]

if __name__ == "__main__":
    sys.exit(main())
