"""Where packs are solved: one file an executor, chosen by ``executor=...``.

An executor takes packs and yields events, one for each run that is in the table, or one for what was lost with a pack.
Nothing coordinates executors: runs have ids, parts appear whole, and what the table has is not computed again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterable, Sequence

from dd.packs.place import Place, check_device, place_of
from dd.packs.plan import Pack, plan
from dd.packs.rows import Row, failed_row, run_axes
from dd.results import Store
from dd.runs import registry
from dd.runs.component import Component
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.workers.solving import Lost

Event = tuple[Pack, Row | Lost]
"""A pack, and the row of one of its runs, or what was lost with it."""


class Executor(Component):
    """Base of the executors: a frozen dataclass whose fields are the keys ``executor.*``."""

    def ensure(self, settings: Settings) -> None:
        """Make sure that the executor can work, before any run starts.

        Raises:
            ConfigError: something that it needs is not there.
        """
        check_device(settings)

    def place(self, settings: Settings) -> Place:
        """Device and limits that packs are planned for."""
        return place_of(settings)

    def plan(self, runs: Sequence[Run], settings: Settings) -> list[Pack]:
        """Packs for :meth:`execute`."""
        return plan(runs, self.place(settings))

    @abstractmethod
    def execute(self, packs: Sequence[Pack], settings: Settings) -> Generator[Event]:
        """Solve packs; each run's row is in the table when its event comes.

        Closing the generator ends what it started; finished runs are written.

        Raises:
            DDError: nothing can be solved, or a part could not be written.
        """


def executor_of(settings: Settings) -> Executor:
    """The executor that the settings name; ``auto`` where they name none."""
    executor = settings.executor or registry.kind("executor", "auto")()
    assert isinstance(executor, Executor)
    return executor


def recorded(events: Iterable[Event], store: Store) -> Generator[Event]:
    """The events; runs that are lost for good become failed rows of the table."""
    for pack, event in events:
        if isinstance(event, Lost) and not event.again:
            rows = [failed_row(run, event.error) for run in event.runs]
            store.append(pack.pack_id, rows, [], {}, {"runs": [run_axes(run) for run in event.runs]})
        yield pack, event
