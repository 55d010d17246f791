"""An empty table."""

from __future__ import annotations

from pathlib import Path

import pytest

from dd.results import Store


@pytest.fixture
def store(results: Path) -> Store:
    """An empty table."""
    made = Store(results, "t")
    made.open()
    return made
