"""The presets of ``conf/experiment/``: what each asks, how many runs it has, how long it takes.

Composing and planning all of them takes more than a minute. So their numbers come with dd (``dd/presets.csv``), each
with a digest of the files that make the preset; where those differ, the preset is composed and planned anew.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dd.cli.choices import choices
from dd.cli.conf import conf_dir, content_of, with_bases
from dd.cli.grid import preset_overrides

NUMBERS = Path(__file__).parents[1] / "presets.csv"
"""Name, digest, runs and seconds of every preset."""

COLUMNS = ("preset", "digest", "runs", "seconds")


@dataclass(frozen=True)
class Size:
    """How large a preset is.

    Attributes:
        runs: distinct runs.
        seconds: estimated, on one core, without what a table may have already.
    """

    runs: int
    seconds: float


def path_of(name: str) -> Path:
    """A preset's file."""
    return conf_dir() / "experiment" / f"{name}.yaml"


def questions() -> dict[str, str]:
    """What each preset asks, by its name."""
    return {choice.name: choice.description for choice in choices("experiment")}


def notes(name: str) -> list[str]:
    """Further lines of the comment at the head of a preset's file, without its command."""
    lines = []
    for line in path_of(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" "))
    command = f"python -m dd.run -m +experiment={name}"
    kept = [line for line in lines if "@package" not in line and line != command][1:]
    return kept[1:] if kept and not kept[0] else kept


def grids(name: str) -> list[list[str]]:
    """The sweeps of each grid of a preset, as they are typed."""
    from dd.cli.loading import load, own_loader

    sweeper = load(own_loader(), [f"+experiment={name}"]).hydra.sweeper
    return preset_overrides(sweeper.params, sweeper.grids)


def digest(name: str) -> str:
    """Of what makes a preset: its own file, those that it builds on, and the small scale; comments do not count."""
    files = (*with_bases(path_of(name)), conf_dir() / "scale" / "small.yaml")
    return hashlib.sha256(json.dumps([content_of(path) for path in files]).encode()).hexdigest()[:16]


def size(name: str) -> Size:
    """How large a preset is: as dd knows it, or planned now.

    Raises:
        ConfigError: it cannot be composed.
    """
    return sizes().get((name, digest(name))) or planned(name)


def sizes() -> Mapping[tuple[str, str], Size]:
    """The numbers that come with dd, by name and digest."""
    if not NUMBERS.is_file():
        return {}
    with NUMBERS.open(encoding="utf-8", newline="") as file:
        return {
            (row["preset"], row["digest"]): Size(int(row["runs"]), float(row["seconds"]))
            for row in csv.DictReader(file)
        }


def planned(name: str) -> Size:
    """Compose and plan a preset, for a CPU."""
    from dd.cli.compose import compose_jobs
    from dd.packs.place import place_of
    from dd.packs.plan import plan

    runs, settings = compose_jobs([f"+experiment={name}", "device=cpu"])
    distinct = {run.run_id: run for run in runs}
    return Size(len(distinct), sum(pack.seconds for pack in plan(distinct.values(), place_of(settings))))


def write() -> None:
    """Plan every preset and write the numbers that come with dd."""
    rows = [(name, digest(name), planned(name)) for name in questions()]
    with NUMBERS.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        out.writerows((name, of, found.runs, f"{found.seconds:.3g}") for name, of, found in rows)
