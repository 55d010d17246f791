"""How cost grows: training time against total parameters for packs of 10 to 10,000 runs, Hydra's share, peak memory.

python benchmarks/scaling.py                prints figures and draws docs/scaling.png
python benchmarks/scaling.py --largest 1000
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib.pyplot as plt
import numpy as np
import torch
from methods import Work, dd

from dd.api import compose_runs
from dd.packs.plan import plan

COUNTS = (10, 30, 100, 300, 1000, 3000, 10_000)
WIDTHS = "4,8,12,16,24,32,40,48,56,64"


def training(count: int) -> tuple[int, float]:
    """Total parameters of ``count`` nets of widths 4 to 64, and the seconds that their packs take (median of 3)."""
    rates = ",".join(f"{0.001 + 0.00001 * i:.5f}" for i in range(count // 10))
    runs = compose_runs(
        "model=two_layer", "optimizer=momentum", "lr_unit=absolute", f"width={WIDTHS}", f"lr={rates}", "epochs=10"
    )
    parameters, times = 0, [0.0, 0.0, 0.0]
    for pack in plan(runs):
        work = Work("pack", list(pack.runs))
        parameters += sum(network.parameters for network in work.networks)
        method = dd(work)
        for k in range(len(times)):
            start = time.perf_counter()
            method()
            times[k] += time.perf_counter() - start
    return parameters, statistics.median(times)


def linear(largest: int) -> None:
    """Print and draw time against parameters."""
    got = []
    for count in [c for c in COUNTS if c <= largest]:
        parameters, seconds = training(count)
        got.append((parameters, seconds))
        print(
            f"{count:6d} nets, {parameters:10d} parameters: {seconds:7.3f} s, "
            f"{seconds / parameters / 100 * 1e9:.2f} ns a parameter and step",
            flush=True,
        )
    x, y = np.array(got).T
    slope = np.polyfit(np.log(x), np.log(y), 1)[0]
    print(f"slope on logarithmic axes: {slope:.3f}")
    figure, axes = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
    axes.loglog(x, y, "o-", label="dd, one core")
    axes.loglog(x, y[-1] * x / x[-1], "--", color="0.6", label="proportional")
    axes.set(xlabel="parameters of all nets together", ylabel="seconds for 100 steps of each")
    axes.legend(frameon=False)
    target = Path(__file__).parent.parent / "docs" / "scaling.png"
    figure.savefig(target, dpi=150, metadata={"Software": None})
    print(f"drawn: {target}")


def command(*arguments: str) -> tuple[float, float]:
    """Wall seconds of ``python -m dd.run`` and its processes' largest resident memory in MB."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dd.run", *arguments], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def overhead(largest: int) -> None:
    """Hydra's share: a whole sweep is composed, validated and planned; then trained; then found finished."""
    with tempfile.TemporaryDirectory() as folder:
        base = min(command("-m", "width=1", "plan_only=true", f"results_dir={folder}")[0] for _ in range(3))
        for count in [c for c in (100, 1000, 10_000) if c <= largest]:
            sweep = (
                "-m", "width=range(1,101)", f"seed=range({count // 100})", "optimizer=min_norm", "data.n_train=50",
                f"name=n{count}", f"results_dir={folder}",
            )  # fmt: skip
            planned = statistics.median(command(*sweep, "plan_only=true")[0] for _ in range(3))
            whole, memory = command(*sweep)
            again, _ = command(*sweep)
            print(
                f"{count:6d} jobs: {(planned - base) / count * 1e3:.2f} ms a job composed, validated and planned; "
                f"sweep {whole:.1f} s, {memory:.0f} MB in the largest process; finished sweep answers in {again:.1f} s",
                flush=True,
            )


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=10_000, help="runs of the largest sweep")
    options = parser.parse_args()
    torch.set_num_threads(1)
    linear(options.largest)
    overhead(options.largest)


if __name__ == "__main__":
    main()
