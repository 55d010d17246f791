"""Training of RMT's width variants: dd's compiled engine beside a plain PyTorch loop and a stack under torch.func.vmap.

    python benchmarks/rmt.py                          digits, k = 4, 8, 16, 32 (about three minutes)
    python benchmarks/rmt.py --widths 8 --data mnist  other widths, 28x28 images

Each trains the same runs (three seeds, same initial weights, batches and steps, float32, Adam, mean squared error) on
one core, without evaluation. The loop is what one would write: the backbone as a module, indexed batches,
``torch.optim.Adam``. Final training losses are compared before anything is printed. Figures also go to a parquet file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch
from torch import nn

from dd.api import compose_jobs
from dd.models.rmt.backbone import RMT
from dd.models.rmt.family import RMTWidth
from dd.network import Network
from dd.numerics import reproducible
from dd.problems.problem import load
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.base import Task
from dd.trainers.batches import batch_orders
from dd.trainers.compiled import Compiled
from dd.trainers.stack import Stack

SEEDS, EPOCHS, BATCH, REPEATS = 3, 2, 125, 3
SIZES = {"digits": (1000, 797), "mnist": (1000, 1000), "fashion_mnist": (1000, 1000), "cifar10": (500, 500)}


def networks_of(runs: Sequence[Run], settings: Settings) -> list[Network]:
    """One network a run, float32, on the CPU."""
    return [Network([run], load(run, settings), torch.device("cpu"), torch.float32) for run in runs]


def loss_of(network: Network, theta: torch.Tensor) -> float:
    """Training loss of final parameters with the statistics of the whole training set, in float64."""
    named = network.named(theta.double()[None])
    design = network.seen(named, network.exact_train.inputs, {}, training=True)[0]
    outputs = design @ named.named["readout"][0].T
    return float((outputs - network.exact_train.targets).square().mean())


def plain_loop(networks: Sequence[Network]) -> list[torch.Tensor]:
    """Final parameters of each run, trained one after the other as one would write it."""
    out = []
    for network in networks:
        run = network.run
        assert isinstance(run.model, RMTWidth)
        assert run.data.image is not None
        _, height, width = run.data.image
        module = RMT(run.model.architecture(run), size=(height, width)).train()
        named = {k: v[0].clone() for k, v in network.named(network.theta).named.items()}
        readout = named.pop("readout")
        with torch.no_grad():
            for name, value in (named | {"head.weight": readout[:, :-1], "head.bias": readout[:, -1]}).items():
                parameter = module.get_parameter(name)
                parameter.copy_(value.reshape(parameter.shape))
        optimizer = torch.optim.Adam(module.parameters(), lr=run.lr)
        images = network.train.inputs[0].view(run.n_train, -1, height, width)
        module.to(images.device)
        orders = batch_orders(run)
        for _ in range(EPOCHS):
            for index in torch.from_numpy(next(orders)).to(images.device).split(BATCH):
                optimizer.zero_grad()
                nn.functional.mse_loss(module(images[index]), network.train.targets[index]).backward()
                optimizer.step()
        head = torch.cat([module.head.weight, module.head.bias[:, None]], dim=1)
        final = {k: module.get_parameter(k) for k in named} | {"readout": head}
        out.append(torch.cat([v.detach().flatten() for v in final.values()]))
    return out


def stacked(networks: Sequence[Network]) -> list[torch.Tensor]:
    """All runs in one program, under vmap."""
    return _advanced(Stack, networks)


def compiled(networks: Sequence[Network]) -> list[torch.Tensor]:
    """Each run by dd's compiled engine, as a sweep on a CPU does."""
    return [theta for network in networks for theta in _advanced(Compiled, [network])]


def _advanced(kind: type[Stack], networks: Sequence[Network]) -> list[torch.Tensor]:
    """Final parameters of runs in one stack."""
    stack = kind([Task(network.run, network, network.run.lr) for network in networks])
    with torch.no_grad():
        stack.advance(0, networks[0].run.steps or 0)
    return list(stack.theta)


METHODS: dict[str, Callable[[Sequence[Network]], list[torch.Tensor]]] = {
    "plain loop": plain_loop, "vmap": stacked, "dd": compiled,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--data", choices=sorted(SIZES), default="digits")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rmt.parquet"))
    given = parser.parse_args()
    n_train, n_test = SIZES[given.data]
    rows = []
    print(f"{'k':>4} {'steps':>6}" + "".join(f"{name + ', ms a step':>24}" for name in METHODS) + "     dd / loop")
    with reproducible(torch.device("cpu")):
        for width in given.widths:
            runs, settings = compose_jobs([
                "model=rmt", f"width={width}", f"data={given.data}", f"data.n_train={n_train}",
                f"data.n_test={n_test}", "data.standardize=global", "data.label_noise=0.2", f"batch_size={BATCH}",
                f"epochs={EPOCHS}", "optimizer=adam", "lr=0.001", f"seed=range({SEEDS})",
            ])  # fmt: skip
            steps = SEEDS * (runs[0].steps or 0)
            seconds: dict[str, list[float]] = {name: [] for name in METHODS}
            losses: dict[str, list[float]] = {}
            for _ in range(REPEATS):
                for name, method in METHODS.items():
                    networks = networks_of(runs, settings)
                    for network in networks:
                        _ = network.train
                    start = time.perf_counter()
                    found = method(networks)
                    seconds[name].append(time.perf_counter() - start)
                    losses[name] = [loss_of(n, theta) for n, theta in zip(networks, found, strict=True)]
            for name, values in losses.items():
                for a, b in zip(values, losses["plain loop"], strict=True):
                    if abs(a - b) > 2e-3 * abs(b):
                        raise SystemExit(f"k={width}: {name} ends at loss {a:.6g}, the plain loop at {b:.6g}")
            medians = {name: statistics.median(values) / steps for name, values in seconds.items()}
            ratio = medians["plain loop"] / medians["dd"]
            cells = "".join(f"{1e3 * value:24.1f}" for value in medians.values())
            print(f"{width:4d} {steps:6d}{cells} {ratio:12.1f}x", flush=True)
            rows += [{"data": given.data, "width": width, "method": k, "seconds_a_step": v} for k, v in medians.items()]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(given.out)


if __name__ == "__main__":
    main()
