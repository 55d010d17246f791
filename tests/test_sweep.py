"""The benchmark of whole commands runs, and its plain script does the work that dd does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(os.name == "nt", reason="os.wait4 tells what a command took")
def test_a_trial_compares_the_losses_of_a_script_with_those_of_dd() -> None:
    command = [sys.executable, "benchmarks/sweep.py", "trial", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {6}
    assert "(4 of 4 nets)" in rows[-1][3]
    trained, tested = (float(text) for text in rows[-1][3].split("(")[0].split(","))
    assert max(trained, tested) < 1e-4
