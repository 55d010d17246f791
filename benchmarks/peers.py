"""The plain scripts that dd is compared with: PyTorch, and JAX jit + vmap + scan. They know nothing of dd.

    python benchmarks/peers.py torch work.npz losses.npy    train all nets, one after the other
    python benchmarks/peers.py jax work.npz losses.npy      the same, nets of equal width together
    python benchmarks/peers.py svd matrix.npy               CPU seconds of one decomposition

``work.npz`` holds the samples (``SETS``, float32), ``orders`` [seeds, epochs, n], ``batch_size``, ``optimizer``,
``momentum``, ``widths`` [k], and of each width ``weights_<width>_<layer>`` [nets, ...], ``lr_<width>`` and
``seed_<width>`` [nets], the place in ``orders``. The losses are [nets, 2], on training and test set, once at the end,
width by width.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np

if TYPE_CHECKING:
    import torch

SETS = ("train_x", "train_y", "test_x", "test_y")


def torch_net(weights: Sequence[np.ndarray]) -> torch.nn.Module:
    """A net of given weights and biases, layer by layer, ReLU between them."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for k in range(0, len(weights), 2):
        weight, *bias = (torch.from_numpy(part) for part in weights[k : k + 2])
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias))
        with torch.no_grad():
            layer.weight.copy_(weight)
            if bias:
                layer.bias.copy_(bias[0])
        layers += [nn.ReLU(), layer] if layers else [layer]
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def torch_train(
    net: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    orders: Iterable[torch.Tensor],
    size: int,
    lr: float,
    *,
    adam: bool = False,
    momentum: float = 0.0,
    loader: bool = False,
) -> None:
    """The loop anybody would write: torch.optim, indexed batches or a DataLoader.

    Args:
        net: what is trained.
        x: inputs, [n, inputs].
        y: targets, [n, outputs].
        orders: order of the samples in each epoch, [n].
        size: batch size.
        lr: step size.
        adam: Adam instead of SGD.
        momentum: of SGD.
        loader: a DataLoader instead of indexed batches.
    """
    import torch

    parameters = list(net.parameters())
    optimizer: torch.optim.Optimizer
    optimizer = torch.optim.Adam(parameters, lr) if adam else torch.optim.SGD(parameters, lr, momentum=momentum)
    for order in orders:
        batches: Any = ((x[i], y[i]) for i in order.split(size))
        if loader:
            data = torch.utils.data.TensorDataset(x, y)
            batches = torch.utils.data.DataLoader(data, batch_size=size, sampler=order.tolist())
        for a, b in batches:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(net(a), b).backward()
            optimizer.step()


def jax_fit(*, adam: bool, momentum: float, shared: bool) -> Callable[..., Any]:
    """Training of all nets of one shape; compiles at the first call.

    Args:
        adam: Adam instead of SGD.
        momentum: of SGD.
        shared: whether the batches are the same for all nets.

    Returns:
        Function of weights (each [nets, ...]), step sizes [nets], batches [steps, batch] (or one each, [nets, ...])
        and sets (inputs, targets), the first of which is trained on. It returns the losses on each set, [nets].
    """
    import jax
    import jax.numpy as jnp

    def loss(p: Any, a: Any, b: Any) -> Any:
        if len(p) > 1:
            a = jax.nn.relu(a @ p[0].T + p[1])
            p = p[2:]
        out = a @ p[0].T
        return jnp.mean((out + p[1] - b if len(p) > 1 else out - b) ** 2)

    def one(p: Any, lr: Any, batches: Any, sets: Any) -> Any:
        x, y = sets[0]

        def step(carry: Any, rows: Any) -> Any:
            p, first, second, t = carry
            g = jax.grad(loss)(p, x[rows], y[rows])
            if adam:
                first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
                second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, g)
                c, d = 1 - 0.9**t, jnp.sqrt(1 - 0.999**t)
                move = jax.tree.map(lambda m, v: m / c / (jnp.sqrt(v) / d + 1e-8), first, second)
            elif momentum:
                first = move = jax.tree.map(lambda v, g: momentum * v + g, first, g)
            else:
                move = g
            return (jax.tree.map(lambda p, m: p - lr * m, p, move), first, second, t + 1), None

        zeros = jax.tree.map(jnp.zeros_like, p)
        start = (p, zeros if adam or momentum else 0.0, zeros if adam else 0.0, 1.0)
        (p, *_), _ = jax.lax.scan(step, start, batches)
        return [loss(p, *samples) for samples in sets]

    return jax.jit(jax.vmap(one, in_axes=(0, 0, None if shared else 0, None)))


def groups(work: Any) -> Iterable[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Weights, step sizes and seeds of the nets of each width."""
    for width in work["widths"]:
        weights = [work[f"weights_{width}_{k}"] for k in range(4)]
        yield weights, work[f"lr_{width}"], work[f"seed_{width}"]


def torch_script(work: Any) -> list[list[float]]:
    """Train and evaluate all nets, one after the other, on one thread."""
    import torch

    torch.set_num_threads(1)
    x, y, test_x, test_y = (torch.from_numpy(work[key]) for key in SETS)
    orders, size, mse = torch.from_numpy(work["orders"]), int(work["batch_size"]), torch.nn.functional.mse_loss
    adam, momentum = str(work["optimizer"]) == "adam", float(work["momentum"])
    losses = []
    for weights, lrs, seeds in groups(work):
        for i, (lr, seed) in enumerate(zip(lrs.tolist(), seeds.tolist(), strict=True)):
            net = torch_net([part[i] for part in weights])
            torch_train(net, x, y, orders[seed], size, lr, adam=adam, momentum=momentum)
            with torch.no_grad():
                losses.append([float(mse(net(x), y)), float(mse(net(test_x), test_y))])
    return losses


def jax_script(work: Any) -> list[list[float]]:
    """Train and evaluate all nets, those of one width together.

    Raises:
        ValueError: the batches are of different sizes.
    """
    import jax.numpy as jnp

    x, y, test_x, test_y = (jnp.asarray(work[key]) for key in SETS)
    orders, size = jnp.asarray(work["orders"], jnp.int32), int(work["batch_size"])
    if len(x) % size:
        raise ValueError(f"batches of {size} of {len(x)} samples do not stack")
    batches, shared = orders.reshape(len(orders), -1, size), len(orders) == 1
    fit = jax_fit(adam=str(work["optimizer"]) == "adam", momentum=float(work["momentum"]), shared=shared)
    losses: list[list[float]] = []
    for weights, lrs, seeds in groups(work):
        parts = tuple(jnp.asarray(part) for part in weights)
        own = batches[0] if shared else batches[seeds]
        found = fit(parts, jnp.asarray(lrs, jnp.float32), own, ((x, y), (test_x, test_y)))
        losses += np.stack([np.asarray(values) for values in found], axis=1).tolist()
    return losses


def svd_seconds(file: str) -> float:
    """CPU seconds of the singular value decomposition of one matrix on one thread."""
    import torch

    torch.set_num_threads(1)
    matrix = torch.from_numpy(np.load(file))
    start = time.process_time()
    torch.linalg.svd(matrix, full_matrices=False)
    return time.process_time() - start


if __name__ == "__main__":
    what, source, *target = sys.argv[1:]
    if what == "svd":
        print(svd_seconds(source))
    else:
        with np.load(source) as given:
            np.save(target[0], {"torch": torch_script, "jax": jax_script}[what](given))
