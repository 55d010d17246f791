"""One pack, from its runs to its part of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dd.packs.plan import Pack
from dd.packs.rows import Row, run_axes
from dd.results import Store
from dd.runs.run import Run
from dd.runs.settings import Settings


class PackLost(RuntimeError):
    """A pack that came to no end: its process died, it took too long, or it failed outside any of its runs."""


class OutOfMemory(PackLost):
    """A pack that the memory did not hold."""


@dataclass(frozen=True)
class Lost:
    """Runs of a pack that have no row.

    Attributes:
        runs: which.
        error: why.
        again: whether they are tried again, each by itself; if not, they have failed.
    """

    runs: tuple[Run, ...]
    error: PackLost
    again: bool


def solve_and_store(pack: Pack, settings: Settings, on_run: Callable[[Row], None]) -> None:
    """Solve a pack and write its part at once; after an interruption, write the runs that are finished."""
    import torch

    from dd.environment import environment, git_commit
    from dd.packs.solve import Solved, solve

    solved = Solved()

    def store(done: Pack) -> None:
        Store(settings.results_dir, settings.name).append(
            done.pack_id,
            solved.rows,
            solved.curves,
            provenance={"torch_version": str(torch.__version__), "git_commit": git_commit()},
            metadata={
                "environment": environment(), "settings": settings.values(), "runs": [run_axes(r) for r in done.runs]
            },
            predictions=solved.predictions,
        )  # fmt: skip

    try:
        solve(pack, settings, solved, on_run)
        store(pack)
    except (KeyboardInterrupt, SystemExit):
        finished = {row["run_id"] for row in solved.rows}
        if finished:
            store(Pack(tuple(run for run in pack.runs if run.run_id in finished)))
        raise


def lost(pack: Pack, error: PackLost, stored: set[str]) -> tuple[Lost, list[Pack]]:
    """What is lost with a pack, and the packs in which it is tried again: one of its runs may be to blame.

    Args:
        pack: the pack.
        error: why.
        stored: ``run_id`` of the runs whose rows were written all the same.
    """
    runs = tuple(run for run in pack.runs if run.run_id not in stored)
    again = len(pack.runs) > 1
    return Lost(runs, error, again), [Pack((run,), pack.place) for run in runs] if again else []
