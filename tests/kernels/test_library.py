"""Which build of the engine is used; dd.kernels.library.

Covers: dd/environment.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dd.environment import environment
from dd.kernels import library
from tests.helpers import dd_run


def chosen(monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[str | None, bool]:
    """Which build the switch chooses, and whether it is there."""
    monkeypatch.setenv(library.SWITCH, name)
    library._found.cache_clear()
    try:
        return library.variant(), library.library() is not None
    finally:
        library._found.cache_clear()


def test_the_switch_chooses_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    here = library.VARIANTS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",))
    for name in here:
        assert chosen(monkeypatch, name) == (name, True)
    assert chosen(monkeypatch, "none") == (None, False)
    assert chosen(monkeypatch, "") == (here[0], True)


def test_pytorchs_own_switch_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor is taken for what PyTorch takes it for."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv(library.SWITCH, "")
    code = "from dd.kernels.library import library, variant; print(variant(), library() is not None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.stdout.strip() == "baseline True"


def test_a_library_of_other_sources_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "sources", lambda: 1)
    assert chosen(monkeypatch, "") == (None, False)


def test_a_build_that_does_not_run_here_is_one_line(tmp_path: Path) -> None:
    done = dd_run("epochs=1", cwd=tmp_path, DD_ENGINE="sse9")
    assert done.returncode == 2
    assert "DD_ENGINE=sse9 (from the environment): must be one of" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_environment_names_the_build() -> None:
    assert environment()["engine"] == library.variant()
