"""Measures whole commands, for ``sweep.py``: medians, start-up apart, and lines of a Markdown table."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from peers import SETS

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each command would compile its sources again

LONG = 60.0
"""A command that takes more wall seconds is measured once."""

PEERS, TIMED = (str(Path(__file__).with_name(name)) for name in ("peers.py", "timed.py"))
Command = Callable[[], list[str]]


@dataclass(frozen=True)
class Cost:
    """What a command took: wall seconds, CPU seconds, GB of its largest process; and the lines that it printed."""

    wall: float
    cpu: float
    peak: float
    lines: Sequence[str] = ()


def cost(command: Sequence[str], name: str) -> Cost:
    """Run a command.

    Raises:
        RuntimeError: it fails; the message is its last line.
    """
    done = subprocess.run([sys.executable, TIMED, *command], stdout=subprocess.PIPE, text=True, check=True)
    *lines, report = filter(None, done.stdout.splitlines())
    took = json.loads(report)
    if took.pop("code"):
        raise RuntimeError(lines[-1] if lines else f"{name} failed")
    got = Cost(**took, lines=lines)
    print(f"  {name}: {got.wall:.2f} s, {got.cpu:.2f} s CPU, {got.peak:.2f} GB", file=sys.stderr, flush=True)
    return got


def median(costs: Sequence[Cost]) -> Cost:
    """Median of each number."""
    return Cost(*(statistics.median(getattr(c, part) for c in costs) for part in ("wall", "cpu", "peak")))


def losses_file(kind: str, work: Path) -> Path:
    """Where a script writes its final losses."""
    return work.with_name(f"{work.stem}_{kind}.npy")


@dataclass
class Bench:
    """Runs commands.

    Attributes:
        folder: where tables and files go.
        quick: whether commands are run once, and long rows do less.
        started: CPU seconds of start-up of dd and of each script, once measured.
        tables: numbers for the names of tables.
    """

    folder: Path
    quick: bool
    started: dict[str, float] = field(default_factory=dict)
    tables: itertools.count[int] = field(default_factory=itertools.count)

    def dd(self, *overrides: str, sweep: bool = True) -> list[str]:
        """A command; its table is a new one unless the overrides name one."""
        name = [] if any(o.startswith("name=") for o in overrides) else [f"name=table{next(self.tables)}"]
        front = [sys.executable, "-m", "dd.run", *(["-m"] if sweep else [])]
        return [*front, *overrides, *name, f"results_dir={self.folder}"]

    def peer(self, kind: str, work: Path) -> list[str]:
        """A script's command; its losses go to :func:`losses_file`."""
        return [sys.executable, PEERS, kind, str(work), str(losses_file(kind, work))]

    def race(self, commands: Mapping[str, Command], **first: Cost) -> dict[str, Cost]:
        """Medians of three; commands take turns, so that a busy moment of the machine meets all.

        Args:
            commands: each by its name.
            first: what some took a first time.
        """
        found = {name: [first[name]] if name in first else [] for name in commands}
        for turn in range(1 if self.quick else 3):
            for name, command in commands.items():
                if len(found[name]) == turn and (turn == 0 or found[name][0].wall < LONG):
                    found[name].append(cost(command(), name))
        return {name: median(costs) for name, costs in found.items()}

    def measure(self, name: str, command: Command) -> Cost:
        """Median of three of one command."""
        return self.race({name: command})[name]

    def beyond(self, kind: str, cpu: float) -> float:
        """CPU seconds beyond start-up, of dd or of a script."""
        if kind not in self.started:
            empty = self.folder / "empty.npz"
            none = {key: np.zeros((20, 64), np.float32) for key in SETS} | {"orders": np.zeros((1, 1, 20), np.int64)}
            np.savez(empty, batch_size=20, optimizer="momentum", momentum=0.9, widths=np.zeros(0, int), **none)
            tiny = ("width=10", "optimizer=min_norm", "data.n_train=20", "n_jobs=1")
            command = partial(self.dd, *tiny, sweep=False) if kind == "dd" else partial(self.peer, kind, empty)
            self.started[kind] = self.measure(f"start-up of {kind}", command).cpu
        return cpu - self.started[kind]


@dataclass
class Table:
    """Lines of one Markdown table."""

    lines: list[str] = field(default_factory=list)

    def add(
        self, what: str, value: float | str, unit: str = "", *, most: float | None = None, least: float | None = None
    ) -> None:
        """A line; ``met`` stays empty where there is no target."""
        target = met = ""
        if isinstance(value, float) and (most is not None or least is not None):
            target = f"≤ {most:g} {unit}" if most is not None else f"≥ {least:g} {unit}"
            met = "yes" if (value <= most if most is not None else value >= (least or 0.0)) else "**no**"
        measured = f"{value:.3g} {unit}" if isinstance(value, float) else value.replace("|", "/")
        self.lines.append(f"| {what} | {target} | {measured} | {met} |")

    def add_times(self, what: str, times: float, faster: float) -> None:
        """How many times as long a script takes as dd; the other way round where dd need not be faster."""
        if faster < 1:
            self.add(f"dd beside the {what}", 1 / times, "×", most=round(1 / faster, 6))
        else:
            self.add(f"{what} beside dd", times, "×", least=faster)
