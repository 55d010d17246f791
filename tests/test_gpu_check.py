"""The check of a GPU runs without one, and makes its table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(os.name == "nt", reason="a script for bash")
def test_a_trial_on_the_cpu_makes_a_table(tmp_path: Path) -> None:
    """The shortest part alone."""
    environment = os.environ | {"OUT": str(tmp_path), "PYTHON": sys.executable}
    command = ["benchmarks/gpu_check.sh", "--device", "cpu", "decompositions"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("no GPU, ")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6}
    assert "| part decompositions |" in rows[-1]
    assert "rc 0 |" in rows[-1]
