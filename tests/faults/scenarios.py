"""Commands on a table, each with the table that it starts from; and a server that carries them out in children.

``python -m tests.faults.scenarios`` reads lines of JSON ``{"folder", "scenario", "part": "base"|"command", "kill"}``,
forks a child for each, and answers ``{"status", "steps"}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dd.results import Store, compaction
from dd.results import store as store_module
from dd.results.merging import merge
from dd.results.predictions import Prediction
from dd.results.repair import repair
from dd.results.schema import runs_schema
from tests.faults.steps import faults, kill

BASE: list[list[str]] = [["a", "b"], ["c", "d"]]
OTHER: list[list[str]] = [["a", "c"], ["b", "d", "e"]]


def append(
    store: Store, run_ids: Sequence[str], value: float, *, measure: str = "basic", outputs: bool = False
) -> None:
    """Write a pack as the executor does; ``value`` is the train loss of rows and points. Runs named x fail."""
    rows = [
        {"run_id": i, "status": "failed" if value < 0 and i in "bc" else "ok", "train_loss": value, "measure": measure}
        for i in run_ids
    ]
    good = [row["run_id"] for row in rows if row["status"] == "ok"]
    points = [{"run_id": i, "step": s, "train_loss": value} for i in good for s in range(3)]
    made = [Prediction(str(i), np.full((2, 1), value, np.float32), "t", np.zeros((2, 1))) for i in good]
    store.append("-".join(run_ids), rows, points, {}, {"environment": {"value": value}}, made if outputs else [])


def sweep(
    packs: list[list[str]], value: float, *, force: bool = False, measure: str = "basic", outputs: bool = False
) -> Callable[[Path], None]:
    """What a sweep does with its table: open, look what is there, append pack by pack, tidy."""

    def command(results: Path) -> None:
        store = Store(results, "t")
        store.open()
        had = set() if force else store.finished(measure, predictions=outputs)
        for pack in packs:
            if todo := [run_id for run_id in pack if run_id not in had]:
                append(store, todo, value, measure=measure, outputs=outputs)
        store.tidy()

    return command


def nothing(results: Path) -> None:
    """A table that is not there yet."""


def single_parts(results: Path) -> None:
    """Six parts of one run."""
    sweep([[i] for i in "abcdef"], 1.0, outputs=True)(results)


def as_left_by_earlier_versions(results: Path) -> None:
    """Doubled rows and orphan points, as a killed force=true over other packs left them."""
    for pack, value in ((["a", "b"], 1.0), (["c", "d"], 1.0), (["a", "c"], 2.0), (["b", "d", "e"], 2.0)):
        append(Store(results, "t"), pack, value) if (results / "t/runs").exists() else _first(results, pack, value)
        for kind in ("runs", "curves"):  # from under the store's eyes, so that the next does not replace
            for part in list((results / "t" / kind).glob("*.parquet")):
                part.rename(results / f"{kind}-{part.name}")
    for path in results.glob("*-*.parquet"):
        kind, name = path.name.split("-", 1)
        path.rename(results / "t" / kind / name)
    (results / "t/runs/b-d-e.parquet").unlink()


def _first(results: Path, pack: list[str], value: float) -> None:
    store = Store(results, "t")
    store.open()
    append(store, pack, value)


def compact(results: Path) -> None:
    """What ``python -m dd.results compact`` does."""
    store = Store(results, "t")
    store.open()
    compaction.compact(store.folder)


def tidy(results: Path) -> None:
    """A sweep of two more runs in two packs, with a limit on small parts that it exceeds."""
    store_module.MANY = 5
    sweep([["g"], ["h"]], 1.0, outputs=True)(results)


def two_tables(results: Path) -> None:
    """Tables to merge, which share runs."""
    for name, packs, value in (("first", [["a", "b"], ["c"]], 1.0), ("second", [["b", "d"], ["e"]], 2.0)):
        store = Store(results, name)
        store.open()
        for pack in packs:
            append(store, pack, value, outputs=True)


def merge_two(results: Path) -> None:
    """What ``python -m dd.results merge first second into=t`` does."""
    merge([Store(results, "first"), Store(results, "second")], Store(results, "t"))


def damaged(results: Path) -> None:
    """A table whose curves have lost a byte."""
    sweep(BASE, 1.0, outputs=True)(results)
    part = results / "t/curves/a-b.parquet"
    part.write_bytes(part.read_bytes()[:-30] + part.read_bytes()[-29:])


def repair_and_compute(results: Path) -> None:
    """What ``python -m dd.results repair`` does, then the sweep's own command."""
    repair(results / "t")
    sweep(BASE, 1.0, outputs=True)(results)


Command = Callable[[Path], None]
SCENARIOS: dict[str, tuple[Command, Command]] = {
    "append": (nothing, sweep(BASE, 1.0)),
    "append with outputs": (sweep([["z"]], 1.0), sweep(BASE, 1.0, outputs=True)),
    "force": (sweep(BASE, 1.0, outputs=True), sweep(BASE, 2.0, force=True, outputs=True)),
    "force over other packs": (sweep(BASE, 1.0, outputs=True), sweep(OTHER, 2.0, force=True)),
    "measure=full over other packs": (sweep(BASE, 1.0), sweep(OTHER, 2.0, measure="full", outputs=True)),
    "retry of failures": (sweep(BASE, -1.0), sweep(OTHER, 2.0)),
    "earlier versions": (as_left_by_earlier_versions, sweep(OTHER, 2.0, force=True)),
    "compact": (single_parts, compact),
    "tidy": (single_parts, tidy),
    "merge": (two_tables, merge_two),
    "repair": (damaged, repair_and_compute),
}


def _child(request: dict[str, object]) -> None:
    base, command = SCENARIOS[str(request["scenario"])]
    at = request.get("kill")
    results = Path(str(request["folder"]))
    with faults(None if at is None else int(str(at)), kill) as count:
        (base if request["part"] == "base" else command)(results)
    sys.stdout.write(json.dumps({"status": 0, "steps": count[0]}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the input ends."""
    runs_schema()  # imports every component, once for all children
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            try:
                _child(json.loads(line))
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"status": status, "steps": None}), flush=True)


if __name__ == "__main__":
    main()
