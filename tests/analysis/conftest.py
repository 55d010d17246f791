"""Fixtures of the tests of figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from analysis import setups


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn but not written, which takes most of the time: a test asks for what is in them alone."""

    def close(figure: Figure, stem: Path) -> Path:
        plt.close(figure)
        return stem.with_name(stem.name + ".png")

    monkeypatch.setattr(setups, "save", close)
