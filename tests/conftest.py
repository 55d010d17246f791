"""Fixtures: every test sees one thread and an own cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dd.environment import described
from dd.results import Store


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What numbers may hang on."""
    terminalreporter.write_line(described())


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    torch.set_num_threads(1)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """An empty folder for tables."""
    return tmp_path / "results"


@pytest.fixture
def store(results: Path) -> Store:
    """An empty table."""
    made = Store(results, "t")
    made.open()
    return made
