"""The ways to do one piece of work that ``packed.py`` compares: dd, a plain PyTorch loop, JAX.

Every method takes the same initial weights, batches, steps and step sizes in float32 and returns the final training
loss of each run, so that the caller can check that they did the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from dd.network import Inputs, Network, common_inputs
from dd.optim.momentum import Momentum
from dd.problems.problem import Problem, load
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.base import Task
from dd.trainers.batches import batch_orders
from dd.trainers.course import Stepper, train
from dd.trainers.table import trainer_for

CPU = torch.device("cpu")
Method = Callable[[], list[float]]


@dataclass
class Work:
    """Runs to train: two-layer ReLU nets or random features, ``lr_unit=absolute``, squared loss, full epochs.

    Attributes:
        name: what is done.
        runs: the runs.
        device: where initial weights and inputs are; JAX takes them from the CPU.
    """

    name: str
    runs: list[Run]
    device: torch.device = CPU

    @property
    def problem(self) -> Problem:
        """The data, the same for all."""
        return load(self.runs[0], Settings())

    @cached_property
    def networks(self) -> list[Network]:
        """Initial weights and inputs."""
        made: dict[object, Inputs] = {}
        for run in sorted(self.runs, key=lambda run: -run.width):
            if run.inputs_key not in made:
                made[run.inputs_key] = common_inputs(run, self.problem, self.device)
        return [Network([run], self.problem, self.device, torch.float32, made[run.inputs_key]) for run in self.runs]

    @cached_property
    def orders(self) -> dict[int, np.ndarray]:
        """Seed -> order of the samples in each epoch, [epochs, n]."""
        out = {}
        for run in self.runs:
            if run.seed not in out:
                generator = batch_orders(run)
                out[run.seed] = np.stack([next(generator) for _ in range(round(run.epochs or 0))])
        return out

    @property
    def steps(self) -> int:
        """Steps of all runs together."""
        return sum(run.steps or 0 for run in self.runs)

    @property
    def flops(self) -> float:
        """Floating-point operations of the products: 4 a weight and sample, 6 where gradients are passed on."""
        total = 0.0
        for run, network in zip(self.runs, self.networks, strict=True):
            outputs = self.problem.outputs
            weights = (
                4 * run.width * outputs if network.linear else run.width * (4 * (self.problem.inputs + 1) + 6 * outputs)
            )
            total += float(weights * (run.batch_size or 0) * (run.steps or 0))
        return total


def momentum_of(run: Run) -> float:
    """The run's momentum, 0 without."""
    return run.optimizer.momentum if isinstance(run.optimizer, Momentum) else 0.0


def dd(work: Work, *, curve: bool = False) -> Method:
    """Dd's own training, with or without the curve that the others do not compute."""
    tasks = [Task(run, network, run.lr) for run, network in zip(work.runs, work.networks, strict=True)]

    def run() -> list[float]:
        losses: dict[str, float] = {}
        torch.set_flush_denormal(True)  # as in every process of a sweep
        groups: dict[Hashable, list[Task]] = {}
        for task in tasks:
            kind = trainer_for(task.run, work.device)
            groups.setdefault((kind, kind.group_key(task.run, work.device)), []).append(task)
        for members in groups.values():
            kind = trainer_for(members[0].run, work.device)
            assert issubclass(kind, Stepper)
            for part in kind.parts(members):
                for task, solution in zip(part, train(kind.begun(part), curve=curve), strict=True):
                    losses[task.run.run_id] = solution.curve[-1].train_loss
        torch.set_flush_denormal(False)
        return [losses[run.run_id] for run in work.runs]

    return run


def torch_loop(work: Work, *, loader: bool = False, device: torch.device = CPU) -> Method:
    """The loop anybody would write: nn.Module, torch.optim, indexed batches or a DataLoader."""
    y = work.problem.train_y.float().to(device)
    orders = {seed: torch.from_numpy(order) for seed, order in work.orders.items()}

    def build(network: Network) -> nn.Module:
        run, named = network.run, network.named(network.theta).named
        last = nn.Linear(run.width, y.shape[1], bias=network.bias)
        layers = {"readout": last}
        net: nn.Module = last
        if not network.linear:
            first = nn.Linear(network.problem.inputs, run.width)
            layers["hidden"] = first
            net = nn.Sequential(first, nn.ReLU(), last)
        with torch.no_grad():
            for name, layer in layers.items():
                weight = named[name][0]
                layer.weight.copy_(weight[:, : layer.in_features])
                if layer.bias is not None:
                    layer.bias.copy_(weight[:, -1])
        return net.to(device)

    def optimizer_of(run: Run, net: nn.Module) -> torch.optim.Optimizer:
        if run.optimizer.name == "adam":
            return torch.optim.Adam(net.parameters(), run.lr)
        return torch.optim.SGD(net.parameters(), run.lr, momentum=momentum_of(run))

    def run_all() -> list[float]:
        losses = []
        for network in work.networks:
            run = network.run
            x = network.train.inputs[0].to(device)
            x = x if network.linear else x[:, :-1].contiguous()
            net = build(network)
            optimizer = optimizer_of(run, net)
            for order in orders[run.seed]:
                batches: Any = ((x[i], y[i]) for i in order.split(run.batch_size))
                if loader:
                    data = torch.utils.data.TensorDataset(x, y)
                    batches = torch.utils.data.DataLoader(data, batch_size=run.batch_size, sampler=order.tolist())
                for a, b in batches:
                    optimizer.zero_grad()
                    nn.functional.mse_loss(net(a), b).backward()
                    optimizer.step()
            losses.append(float(nn.functional.mse_loss(net(x), y).detach()))
        return losses

    return run_all


def jax_scan(work: Work) -> Method:
    """JAX: jit + vmap over the nets of one width and optimizer + scan over all steps; compiles at the first call."""
    import jax
    import jax.numpy as jnp

    y = jnp.asarray(work.problem.train_y.float().numpy())
    size = work.runs[0].batch_size
    seeds = {run.seed for run in work.runs}
    groups: dict[tuple[int, str], list[int]] = {}
    for i, run in enumerate(work.runs):
        groups.setdefault((run.width, run.optimizer.name), []).append(i)

    def loss(p: Any, a: Any, b: Any) -> Any:
        if len(p) > 1:
            a = jax.nn.relu(a @ p[0].T + p[1])
            p = p[2:]
        out = a @ p[0].T
        return jnp.mean((out + p[1] - b if len(p) > 1 else out - b) ** 2)

    def fit(adam: bool, mu: float) -> Callable[..., Any]:
        def one(p: Any, lr: Any, batches: Any, x: Any) -> Any:
            def step(carry: Any, rows: Any) -> Any:
                p, first, second, t = carry
                g = jax.grad(loss)(p, x[rows], y[rows])
                if adam:
                    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
                    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, g)
                    c, d = 1 - 0.9**t, jnp.sqrt(1 - 0.999**t)
                    move = jax.tree.map(lambda m, v: m / c / (jnp.sqrt(v) / d + 1e-8), first, second)
                elif mu:
                    first = move = jax.tree.map(lambda v, g: mu * v + g, first, g)
                else:
                    move = g
                return (jax.tree.map(lambda p, m: p - lr * m, p, move), first, second, t + 1), None

            zeros = jax.tree.map(jnp.zeros_like, p)
            start = (p, zeros if adam or mu else 0.0, zeros if adam else 0.0, 1.0)
            (p, *_), _ = jax.lax.scan(step, start, batches)
            return loss(p, x, y)

        # one seed: the batches are shared; several: each net has its own
        return jax.jit(jax.vmap(one, in_axes=(0, 0, None if len(seeds) == 1 else 0, None)))

    def weights(i: int) -> tuple[np.ndarray, ...]:
        network = work.networks[i]
        named = {k: v[0].numpy() for k, v in network.named(network.theta).named.items()}
        if network.linear:
            return (named["readout"],)
        return named["hidden"][:, :-1], named["hidden"][:, -1], named["readout"][:, :-1], named["readout"][:, -1]

    calls = []
    for (_, optimizer), members in groups.items():
        network = work.networks[members[0]]
        x = network.train.inputs[0].numpy()
        x = x if network.linear else x[:, :-1]
        p = tuple(jnp.stack(parts) for parts in zip(*(weights(i) for i in members), strict=True))
        lr = jnp.asarray([work.runs[i].lr for i in members], dtype=jnp.float32)
        orders = [work.orders[work.runs[i].seed].reshape(-1, size) for i in members]
        batches = jnp.asarray(orders[0] if len(seeds) == 1 else np.stack(orders), dtype=jnp.int32)
        function = fit(optimizer == "adam", momentum_of(network.run))
        calls.append((members, function, (p, lr, batches, jnp.asarray(np.ascontiguousarray(x)))))
        network.release()

    def run() -> list[float]:
        losses = [0.0] * len(work.runs)
        for members, function, arguments in calls:
            for i, value in zip(members, function(*arguments).tolist(), strict=True):
                losses[i] = value
        return losses

    return run
