"""The ways to do one piece of work that ``packed.py`` compares: dd, a plain PyTorch loop, JAX.

Every method takes the same initial weights, batches, steps and step sizes in float32 and returns the final training
loss of each run, so that the caller can check that they did the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from peers import jax_fit, torch_net, torch_train
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


def weights_of(network: Network) -> tuple[np.ndarray, ...]:
    """Initial weights and biases, layer by layer, as plain scripts take them."""
    named = {key: value[0].cpu().numpy() for key, value in network.named(network.theta).named.items()}
    if network.linear:
        return (named["readout"],)
    return named["hidden"][:, :-1], named["hidden"][:, -1], named["readout"][:, :-1], named["readout"][:, -1]


def inputs_of(network: Network) -> torch.Tensor:
    """What a plain script would train on: features, or inputs without the column of ones, [n, columns]."""
    x = network.train.inputs[0]
    return x if network.linear else x[:, :-1].contiguous()


def torch_loop(work: Work, *, loader: bool = False, device: torch.device = CPU) -> Method:
    """The loop anybody would write: nn.Module, torch.optim, indexed batches or a DataLoader."""
    y = work.problem.train_y.float().to(device)
    orders = {seed: torch.from_numpy(order) for seed, order in work.orders.items()}

    def run_all() -> list[float]:
        losses = []
        for network in work.networks:
            run, x = network.run, inputs_of(network).to(device)
            net = torch_net(weights_of(network)).to(device)
            adam, momentum = run.optimizer.name == "adam", momentum_of(run)
            torch_train(
                net, x, y, orders[run.seed], run.batch_size or 0, run.lr, adam=adam, momentum=momentum, loader=loader
            )
            losses.append(float(nn.functional.mse_loss(net(x), y).detach()))
        return losses

    return run_all


def jax_scan(work: Work) -> Method:
    """JAX: jit + vmap over the nets of one width and optimizer + scan over all steps; compiles at the first call."""
    import jax.numpy as jnp

    y = jnp.asarray(work.problem.train_y.float().numpy())
    shared = len(work.orders) == 1
    groups: dict[tuple[int, str], list[int]] = {}
    for i, run in enumerate(work.runs):
        groups.setdefault((run.width, run.optimizer.name), []).append(i)
    calls = []
    for (_, optimizer), members in groups.items():
        network = work.networks[members[0]]
        x = jnp.asarray(inputs_of(network).numpy())
        p = tuple(jnp.stack(parts) for parts in zip(*(weights_of(work.networks[i]) for i in members), strict=True))
        lr = jnp.asarray([work.runs[i].lr for i in members], dtype=jnp.float32)
        orders = [work.orders[work.runs[i].seed].reshape(-1, network.run.batch_size or 0) for i in members]
        batches = jnp.asarray(orders[0] if shared else np.stack(orders), dtype=jnp.int32)
        fit = jax_fit(adam=optimizer == "adam", momentum=momentum_of(network.run), shared=shared)
        calls.append((members, fit, (p, lr, batches, ((x, y),))))
        network.release()

    def run() -> list[float]:
        losses = [0.0] * len(work.runs)
        for members, fit, arguments in calls:
            for i, value in zip(members, fit(*arguments)[0].tolist(), strict=True):
                losses[i] = value
        return losses

    return run
