"""A sweep on a GPU beside the plain PyTorch loop, and JAX jit + vmap + scan, on the same GPU.

    python benchmarks/gpu.py                    40 widths x 2 optimizers x 16 seeds, 20 epochs
    python benchmarks/gpu.py --epochs 2 --device cpu    a trial without a GPU

Two-layer nets of width 5 to 200 on digits with momentum and Adam, float32, the same initial weights and batches for
all, products in full precision. The loop is timed on every fortieth run, JAX on every eighth width, and multiplied by
the steps (their lines say so); dd also without its CUDA graphs. Final training losses are compared, also with
dd's own on the CPU.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform

import numpy as np
import torch
from methods import CPU, Work, dd, jax_scan, torch_loop
from packed import seconds

from dd.api import compose_runs
from dd.numerics import reproducible
from dd.runs.run import Run

SAMPLE = 40
"""The loop trains every run of so many."""


def runs_of(epochs: int) -> list[Run]:
    """40 widths x 2 optimizers x 16 seeds."""
    fixed = ("model=two_layer", "lr_unit=absolute", "width=range(5,205,5)", "seed=range(16)", f"epochs={epochs}")
    return [*compose_runs(*fixed, "optimizer=momentum", "lr=0.05"), *compose_runs(*fixed, "optimizer=adam", "lr=0.003")]


def line(name: str, median: float, work: Work, base: float, note: str = "") -> None:
    """Print a method's time beside dd's."""
    each = median / work.steps * 1e6
    print(f"  {name:25s} {median:9.3f} s {each:9.2f} us a net and step, {median / base:8.2f} x dd{note}", flush=True)


def differences(name: str, losses: list[float], reference: list[float]) -> None:
    """Print how far final losses are apart.

    Raises:
        AssertionError: if one in twenty is farther than 3 %: then the work was another.
    """
    apart = np.abs(np.array(losses) / np.array(reference) - 1)
    print(f"    losses beside {name}: median {np.median(apart):.1e}, greatest {apart.max():.1e} relative", flush=True)
    if np.quantile(apart, 0.95) > 0.03:
        raise AssertionError(f"{name} did other work")


def main() -> None:
    """Measure all methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a trial")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu makes a trial")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    work = Work("40 widths x 2 optimizers x 16 seeds", runs_of(options.epochs), device)
    print(f"{work.name} on {name}, torch {torch.__version__}: {len(work.runs)} nets, {work.steps} steps")
    with reproducible(device):
        first, median, losses = seconds(dd(work), 3)
        peak = f", {torch.cuda.max_memory_reserved() / 2**30:.2f} GiB" if device.type == "cuda" else ""
        line("dd", median, work, median, f", first call {first - median:+.2f} s{peak}")
        line("dd with curves", seconds(dd(work, curve=True), 1)[1], work, median)
        if device.type == "cuda":
            os.environ["DD_CUDA_GRAPHS"] = "0"
            line("dd, no CUDA graphs", seconds(dd(work), 3)[1], work, median)
            del os.environ["DD_CUDA_GRAPHS"]
            torch.cuda.empty_cache()
    sample = Work("sample", work.runs[::SAMPLE], device)
    sampled = seconds(torch_loop(sample, device=device), 0)
    line("torch, indexed", sampled[1] / sample.steps * work.steps, work, median, f" (from {len(sample.runs)} runs)")
    differences("the loop's", losses[::SAMPLE], sampled[2])
    on_cpu = Work("on the CPU", work.runs[::SAMPLE], CPU)
    differences("dd's on the CPU", losses[::SAMPLE], dd(on_cpu)())
    gc.collect()
    try:
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
        print(f"  jax {jax.__version__} on {jax.default_backend()}")
        some = [i for i, run in enumerate(work.runs) if run.width % 40 == 0]
        scanned = Work("jax", [work.runs[i] for i in some], CPU)
        first, again, found = seconds(jax_scan(scanned), 3)
        scale = work.steps / scanned.steps
        note = f", first call {scale * (first - again):+.2f} s (from every eighth width)"
        line("jax scan", scale * again, work, median, note)
        differences("jax's", [losses[i] for i in some], found)
    except ImportError:
        print("  jax is not installed")


if __name__ == "__main__":
    main()
