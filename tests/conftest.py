"""Fixtures: every test sees one thread and an own cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dd.environment import described
from dd.results import Store

# what matplotlib knows of the system's fonts; without it every program that a test starts would look for them again
os.environ.setdefault("MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "matplotlib"))


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
