"""docs/extending.md: its examples are applied to a copy of the project, its commands run, and the outcome looked at.

Covers: dd/cli/axes_page.py.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import run_of
from tests.page import PAGE, ROOT, blocks

PARTS = ("dd", "conf", "analysis", "hydra_plugins", "docs", "tests/conftest.py", "tests/runs", "pyproject.toml")

DRIVER = """
import importlib, json, sys
import pytest

for module, *arguments in json.load(sys.stdin):
    one_process = ["n_jobs=1"] if module == "dd.run" else []
    print("$", module, *arguments, flush=True)
    if code := importlib.import_module(module).main([*arguments, *one_process]):
        sys.exit(code)
importlib.import_module("dd.cli.axes_page").main([])
sys.exit(pytest.main(["-p", "no:cacheprovider", "--assert=plain", "tests/runs/test_components.py"]))
"""
"""Runs all commands in one process: their imports cost more than they do."""


@dataclass(frozen=True)
class Project:
    """The copy, after all edits and commands.

    Attributes:
        folder: where it is.
        told: what the commands have printed.
    """

    folder: Path
    told: str

    def rows(self, name: str) -> pd.DataFrame:
        """One table, by width; no run of it failed."""
        rows = pd.read_parquet(self.folder / "results" / name / "runs").sort_values("width", ignore_index=True)
        assert set(rows["status"]) == {"ok"}, rows["error"].dropna().tolist()
        return rows


def commands() -> list[list[str]]:
    """What the page types: module and arguments of each line."""
    lines = [line for block in blocks() if block.kind == "sh" for line in block.text.splitlines()]
    for line in lines:
        assert line.startswith("python -m "), line
    return [shlex.split(line)[2:] for line in lines]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("copy")
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        else:
            shutil.copy(ROOT / part, folder / part)
    for block in blocks():
        if block.path:
            target = folder / block.path
            assert not target.exists(), f"{block.path} is no new file"
            target.write_text(block.text, encoding="utf-8")
        elif block.kind == "diff":
            apply(block.text, folder)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        input=json.dumps(commands()),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return Project(folder, done.stdout)


def apply(text: str, folder: Path) -> None:
    """Apply an edit, as ``patch -p1`` does."""
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}  # no repository around it
    command = ["git", "apply", "--whitespace=nowarn", "-"]
    done = subprocess.run(command, cwd=folder, env=alone, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{text}"


def test_every_section_is_executed(project: Project) -> None:
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    silent = [section.splitlines()[0] for section in sections if "```sh" not in section]
    assert silent == ["What holds for every component", "Before you commit"]


def test_new_files_are_in_the_projects_style(project: Project) -> None:
    files = [block.path for block in blocks() if block.kind == "python"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *files],
            cwd=project.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_optimizer_and_its_options(project: Project) -> None:
    rows = project.rows("qhm")
    assert rows.groupby("width")["optimizer_nu"].apply(sorted).tolist() == [[0, 0.7]] * 2
    assert set(rows["trainer"]) == {"analytic"}
    assert rows["run_id"].nunique() == rows["train_loss"].nunique() == 4
    page = (project.folder / "docs" / "axes.md").read_text(encoding="utf-8")
    assert "| `optimizer.nu` | `qhm` | number | `0.7` |  | >= 0 and <= 1 | weight of the mean gradient" in page


def test_a_new_option_leaves_run_ids(project: Project) -> None:
    rows = project.rows("muon")
    before = run_of("model=two_layer", "width=8", "optimizer=muon", "data.n_train=60", "data.n_test=100", "epochs=10")
    assert rows.set_index("optimizer_nesterov")["run_id"][True] == before.run_id
    assert rows["train_loss"].nunique() == 2


def test_an_activation_serves_both_families(project: Project) -> None:
    rows = project.rows("softplus")
    trainers = rows.groupby("model")["trainer"].unique().map(list).to_dict()
    assert trainers["two_layer"] == ["analytic"]
    assert set(rows["model_activation"]) == {"softplus"}


def test_a_normalization_keeps_the_fast_ways_of_frozen_features(project: Project) -> None:
    rows = project.rows("rms_norm").set_index(["model", "width"])
    assert rows.loc[("random_features", 5), "trainer"] in ("engine", "analytic")
    assert rows.loc[("random_features", 50), "min_norm_train_loss"] > 0
    assert set(rows.loc["two_layer", "trainer"]) == {"analytic"}


def test_a_schedule_is_followed(project: Project) -> None:
    rows = project.rows("trapezoid")
    assert sorted(rows["schedule_warmup"]) == [0, 5]
    assert set(rows["schedule_cooldown"]) == {0.2}
    assert rows["train_loss"].nunique() == 2
    assert set(rows["trainer"]) <= {"span", "engine", "analytic"}


def test_an_initialization_has_its_law(project: Project) -> None:
    rows = project.rows("mean_field").set_index("init")
    ratio = rows.loc["mean_field", "weight_norm"] / rows.loc["fan_in", "weight_norm"]
    assert ratio == pytest.approx(1 / 8, rel=0.2), "64 inputs and 50 units"


def test_a_module_is_a_model(project: Project) -> None:
    rows = project.rows("pyramid")
    assert len(rows) == 8
    assert set(rows["trainer"]) == {"single"}
    assert rows["trained_features"].all()
    assert rows["feature_condition"].notna().all()
    assert (rows["train_loss"] < rows["train_loss"].max() * 1.01).all()
    assert rows["parameters"].tolist()[0] == 64 * 4 + 4 + 4 * 2 + 2 + 10 * 2 + 10


def test_a_data_set_says_what_its_samples_are(project: Project) -> None:
    rows = project.rows("breast_cancer")
    assert rows[["inputs", "outputs"]].drop_duplicates().to_numpy().tolist() == [[30, 2]]
    assert (rows["data_content"] == rows["data_sha256"]).all()
    assert rows["test_error"].min() < 0.1


def test_a_trainer_takes_its_runs_and_agrees_with_the_stack(project: Project) -> None:
    found, reference = project.rows("gram"), project.rows("stack")
    assert found["run_id"].tolist() == reference["run_id"].tolist()
    assert (set(found["trainer"]), set(reference["trainer"])) == ({"gram"}, {"stack"})
    for column in ("train_loss", "test_loss", "weight_norm"):
        pd.testing.assert_series_equal(found[column], reference[column], rtol=1e-9, atol=0)
    plan = project.told.split("plan_only=true\n")[1].split("$ ")[0]
    assert "gram" in plan


def test_a_column_and_its_figure(project: Project) -> None:
    rows = project.rows("distance")
    assert (rows["weight_distance"] > 0).all()
    assert (rows["weight_distance"] < 2 * rows["weight_norm"]).all()
    drawn = {path.name: path.stat().st_size for path in (project.folder / "figures").iterdir()}
    for name in ("distance", "distance-distance"):  # the table's own figure, and the new one
        assert drawn[f"{name}.png"] > 5000
        assert drawn[f"{name}.pdf"] > 5000
