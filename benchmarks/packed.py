"""dd's training beside a plain PyTorch loop and JAX jit + vmap + scan, on identical work in one process.

    python benchmarks/packed.py                 all rows
    python benchmarks/packed.py one_net         some of them

Every method starts from the same weights, sees the same batches in the same order and takes the same steps in
float32, on one pinned core; final training losses are compared before anything is printed. Times are medians of three;
JAX's compilation is stated apart. "dd with curves" also logs losses and errors on train and test set at
logarithmically spaced steps, as every run of dd does.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
import torch
from torch import nn

from dd.api import compose_runs
from dd.config import RunConfig, Settings
from dd.data._problem import load
from dd.network import Network
from dd.solvers.train import batch_orders, train

REPEATS = 3
LR, MOMENTUM = 0.05, 0.9


@dataclass
class Work:
    """One row: nets to train, one RunConfig each."""

    name: str
    runs: list[RunConfig]

    @property
    def problem(self) -> object:
        """The data, the same for all."""
        return load(self.runs[0], Settings())

    def networks(self) -> list[Network]:
        """Dd's stacks, one net each."""
        return [Network([run], self.problem, torch.device("cpu"), torch.float32) for run in self.runs]

    def orders(self) -> np.ndarray:
        """Order of the samples in each epoch, [epochs, n]."""
        run = self.runs[0]
        generator = batch_orders(run)
        return np.stack([next(generator) for _ in range(round(run.epochs))])


def dd(work: Work, *, curve: bool = False) -> Callable[[], list[float]]:
    """Dd's own training, with or without the curve that the others do not compute."""
    networks = work.networks()
    lr = torch.tensor([LR], dtype=torch.float64)

    def run() -> list[float]:
        losses = []
        for network in networks:
            theta = network.named(train(network, lr, curve=curve)[0].theta[None])
            losses.append(float(network.loss(theta, network.train.inputs, network.train.targets, {})))
        return losses

    return run


def torch_loop(work: Work, *, loader: bool = False) -> Callable[[], list[float]]:
    """The loop anybody would write: nn.Sequential, torch.optim.SGD, indexed batches or a DataLoader."""
    networks, orders = work.networks(), torch.from_numpy(work.orders())
    problem = work.problem
    x, y = problem.train_x.float(), problem.train_y.float()

    def run() -> list[float]:
        losses = []
        for network in networks:
            named = network.named(network.theta).named
            width = network.run.width
            net = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, y.shape[1]))
            with torch.no_grad():
                for layer, key in ((net[0], "hidden"), (net[2], "readout")):
                    layer.weight.copy_(named[key][0][:, :-1])
                    layer.bias.copy_(named[key][0][:, -1])
            optimizer = torch.optim.SGD(net.parameters(), LR, momentum=MOMENTUM)
            size = network.run.batch_size
            for order in orders:
                if loader:
                    data = torch.utils.data.TensorDataset(x, y)
                    batches = torch.utils.data.DataLoader(data, batch_size=size, sampler=order.tolist())
                else:
                    batches = ((x[i], y[i]) for i in order.split(size))
                for a, b in batches:
                    optimizer.zero_grad()
                    nn.functional.mse_loss(net(a), b).backward()
                    optimizer.step()
            losses.append(float(nn.functional.mse_loss(net(x), y).detach()))
        return losses

    return run


def jax_scan(work: Work) -> Callable[[], list[float]]:
    """JAX: one jitted scan over all steps, vmapped over the nets of equal width."""
    import jax
    import jax.numpy as jnp

    problem = work.problem
    x, y = jnp.asarray(problem.train_x.float().numpy()), jnp.asarray(problem.train_y.float().numpy())
    size = work.runs[0].batch_size
    batches = jnp.asarray(work.orders().reshape(-1, size))

    def loss(p: tuple, a: object, b: object) -> object:
        hidden = jax.nn.relu(a @ p[0].T + p[1])
        return jnp.mean((hidden @ p[2].T + p[3] - b) ** 2)

    def fit(p: tuple) -> object:
        def step(carry: tuple, rows: object) -> tuple:
            p, v = carry
            g = jax.grad(loss)(p, x[rows], y[rows])
            v = jax.tree.map(lambda v, g: MOMENTUM * v + g, v, g)
            return (jax.tree.map(lambda p, v: p - LR * v, p, v), v), None

        (p, _), _ = jax.lax.scan(step, (p, jax.tree.map(jnp.zeros_like, p)), batches)
        return loss(p, x, y)

    groups: dict[int, list[tuple]] = {}
    for network in work.networks():
        named = {k: v[0].numpy() for k, v in network.named(network.theta).named.items()}
        h, r = named["hidden"], named["readout"]
        groups.setdefault(network.run.width, []).append((h[:, :-1], h[:, -1], r[:, :-1], r[:, -1]))
    stacks = [tuple(jnp.stack([jnp.asarray(m[i]) for m in members]) for i in range(4)) for members in groups.values()]
    compiled = jax.jit(jax.vmap(fit))
    return lambda: [float(v) for stack in stacks for v in compiled(stack).block_until_ready()]


def seconds(function: Callable[[], list[float]], repeats: int = REPEATS) -> tuple[float, float, list[float]]:
    """First call, median of the following ones, and the losses."""
    start = time.perf_counter()
    losses = function()
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return first, statistics.median(times), losses


def nets(*overrides: str) -> list[RunConfig]:
    """Runs of two-layer nets with momentum."""
    fixed = ("model=two_layer", "optimizer=momentum", f"lr={LR}", "lr_unit=absolute", "seed=0")
    return compose_runs(*fixed, *overrides)


WIDTHS = "width=2,4,8,12,16,24,32,40,50,64,80,96,128,160,192,256,320,384,448,500"

ROWS: dict[str, Callable[[], Work]] = {
    "one_net": lambda: Work("one net of width 8, digits, 100 epochs", nets("width=8", "epochs=100")),
    "hundred_nets": lambda: Work(
        "100 nets of width 8, digits, 20 epochs",
        nets("width=8", "epochs=20", "init.scale=" + ",".join(f"{0.5 + i / 100:.2f}" for i in range(100))),
    ),
    "twenty_widths": lambda: Work("20 widths 2-500, digits, 50 epochs", nets(WIDTHS, "epochs=50")),
    "long": lambda: Work("20 widths 2-500, digits, 500 epochs", nets(WIDTHS, "epochs=500")),
    "images": lambda: Work(
        "20 widths 2-500, Fashion-MNIST, 20 epochs", nets(WIDTHS, "epochs=20", "data=fashion_mnist")
    ),
}


def measure(row: str) -> None:
    """Run all methods on one row and print a line each."""
    work = ROWS[row]()
    steps = sum(run.steps for run in work.runs)
    repeats = 1 if row == "long" else REPEATS
    methods: dict[str, Callable[[], Callable[[], list[float]]]] = {
        "dd": lambda: dd(work),
        "dd with curves": lambda: dd(work, curve=True),
        "torch, indexed": lambda: torch_loop(work),
        "torch, DataLoader": lambda: torch_loop(work, loader=True),
        "jax scan": lambda: jax_scan(work),
    }
    if row == "long":
        del methods["torch, DataLoader"]
    print(f"\n{work.name}: {len(work.runs)} nets, {steps} steps in all")
    base: float | None = None
    reference: list[float] | None = None
    for name, build in methods.items():
        try:
            first, median, losses = seconds(build(), repeats)
        except ImportError:
            print(f"  {name:20s} not installed")
            continue
        reference = reference or losses
        np.testing.assert_allclose(losses, reference, rtol=0.02, err_msg=f"{name} did other work")
        base = base or median
        each = median / steps * 1e6
        extra = f", first call {first - median:+.2f} s" if name in ("jax scan", "dd") else ""
        print(
            f"  {name:20s} {median:8.3f} s {each:8.1f} us a net and step, {median / base:6.2f} x dd{extra}", flush=True
        )


def main() -> None:
    """Pin one core and measure the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help=f"any of {', '.join(ROWS)}; all by default")
    options = parser.parse_args()
    if unknown := set(options.rows) - ROWS.keys():
        parser.error(f"no row {', '.join(sorted(unknown))}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    machine = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    print(f"python {platform.python_version()}, torch {torch.__version__}, {machine}, one core, {sys.platform}")
    for row in options.rows or list(ROWS):
        measure(row)


if __name__ == "__main__":
    main()
