"""The command dd-lab, as an installed one is started: from a folder that has packages of our names.

Covers: dd/cli/keys.py.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dd
import dd_lab
from dd.cli.keys import overrides_of
from tests.helpers import started

ROOT = Path(__file__).parent.parent


def lab(
    *arguments: str, cwd: Path, path: str = "", program: Path = ROOT / "dd_lab.py"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program), *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def test_the_script_is_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"dd-lab": "dd_lab:main"}


@pytest.mark.parametrize("name", dd_lab.COMMANDS)
def test_every_command_tells_what_it_takes(name: str, tmp_path: Path) -> None:
    done = started("dd_lab", name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 100
    assert f"dd-lab {name}" in dd_lab.usage()


def test_a_folder_with_packages_of_our_names_does_not_disturb(tmp_path: Path) -> None:
    for package in ("analysis", "dd"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('the wrong package')")
    path = str(tmp_path)
    done = lab("run", "-m", "width=20,40,60", "optimizer=min_norm", "seed=0,1,2", cwd=tmp_path, path=path)
    assert done.returncode == 0, done.stderr
    assert "next: dd-lab figures --results results --out figures" in done.stdout, "python -m would find the other one"
    done = lab("peaks", "default", "--csv", cwd=tmp_path, path=path)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert (row["table"], row["threshold_counted"]) == ("default", "500.0")
    done = lab("peaks", cwd=tmp_path, path=path)
    assert "threshold_counted" in done.stdout
    done = lab("claim", "--name", "default", cwd=tmp_path, path=path)
    assert done.returncode == 1
    assert done.stderr.startswith("claim: no problem in results")


def test_another_package_named_dd_is_named(tmp_path: Path) -> None:
    """Decision diagrams: both cannot be installed side by side."""
    site = tmp_path / "site"
    (site / "dd").mkdir(parents=True)
    (site / "dd" / "__init__.py").write_text("bdd = None")
    (site / "dd_lab.py").write_text((ROOT / "dd_lab.py").read_text())
    done = lab("run", cwd=tmp_path, program=site / "dd_lab.py")
    assert done.returncode == 2
    assert f"{site / 'dd' / '__init__.py'} is another one of this name" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nothing"], 2, "no command 'nothing'; there are run,"),
        (["--version"], 0, f"dd-lab {dd.__version__}"),
        ([], 0, "dd-lab run"),
    ],
)
def test_what_is_no_command(arguments: list[str], code: int, text: str, tmp_path: Path) -> None:
    done = started("dd_lab", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert text in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == (code == 2)


def test_keys_become_overrides(tmp_path: Path) -> None:
    import numpy as np

    keys = {
        "width": [8, 64], "optimizer": ("sgd", "adam"), "n_train": np.array([100, 200]), "lr": 0.1,
        "seed": range(2), "data_n_test": 50, "data.seed": "${seed}", "force": True, "stop_loss": None,
        "measure": "full", "model_bias": np.True_,
        "results_dir": tmp_path / "it's",
    }  # fmt: skip
    assert overrides_of(keys) == [
        "width=8,64", "optimizer=sgd,adam", "data.n_train=100,200", "lr=0.1", "seed=0,1", "data.n_test=50",
        "data.seed=${seed}", "force=true", "stop_loss=null", "measure=full", "model.bias=true",
        f"results_dir='{tmp_path}/it\\'s'",
    ]  # fmt: skip
