"""Which build of the engine is used; dd.kernels.library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dd.environment import environment
from dd.kernels import library
from tests.helpers import dd_run

CODE = "from dd.kernels.library import library, variant; print(variant(), library() is not None)"


def says(code: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    return done.stdout.strip()


def test_the_switch_chooses_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    here = library.VARIANTS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",))
    for name in here:
        assert says(CODE, monkeypatch, DD_ENGINE=name) == f"{name} True"
    assert says(CODE, monkeypatch, DD_ENGINE="none") == "None False"
    assert says(CODE, monkeypatch, DD_ENGINE="") == f"{here[0]} True"


def test_pytorchs_own_switch_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor is taken for what PyTorch takes it for."""
    assert says(CODE, monkeypatch, ATEN_CPU_CAPABILITY="default", DD_ENGINE="") == "baseline True"


def test_a_build_that_does_not_run_here_is_one_line(tmp_path: Path) -> None:
    done = dd_run("epochs=1", cwd=tmp_path, DD_ENGINE="sse9")
    assert done.returncode == 2
    assert "DD_ENGINE=sse9 (from the environment): must be one of" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_environment_names_the_build() -> None:
    assert environment()["engine"] == library.variant()
