"""examples/: pages, a notebook and a script run as they stand, and end where they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot
import pandas as pd
import pytest

from analysis.peaks import table
from analysis.tables import load_runs

FOLDER = Path(__file__).parent.parent / "examples"

DRIVER = """
import importlib, re, shlex, sys
text = open(sys.argv[1], encoding="utf-8").read()
for kind, body in re.findall(r"^```(python|sh)\\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
    if kind == "python":
        exec(body, {"__name__": "__main__"})
        continue
    for line in body.splitlines():
        start, module, *arguments = shlex.split(line)[1:]
        assert line.startswith("python -m "), line
        more = ["n_jobs=1"] if module == "dd.run" else []
        if code := importlib.import_module(module).main([*arguments, *more]):
            sys.exit(code)
"""
"""Runs all blocks in one process: imports cost more than they do."""


def run(page: str, folder: Path) -> str:
    """Run a page's blocks in a folder; what they print."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(FOLDER / page)], cwd=folder, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", sorted(path.name for path in FOLDER.glob("*.md")))
def test_a_page_is_short_and_its_links_lead_somewhere(page: str) -> None:
    text = (FOLDER / page).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("http") or (FOLDER / target).exists(), target


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    script = FOLDER / "own_model.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = load_runs(tmp_path / "results", "own_model")
    assert len(rows) == 20
    assert set(rows["status"]) == {"ok"}
    assert set(rows["trainer"]) == {"single"}
    adam, sgd = (rows[rows["optimizer"] == name].groupby("width")["train_loss"].median() for name in ("adam", "sgd"))
    assert (adam < sgd).all()
    assert "threshold_counted" in done.stdout
    assert (tmp_path / "figures" / "own_model.png").is_file()


def notebook(name: str) -> dict[str, object]:
    """Run a notebook's cells; the names that it leaves."""
    cells = json.loads((FOLDER / name).read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "a notebook is kept without its outputs"
            exec("".join(cell["source"]), names)
    return names


def test_the_first_steps_say_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = notebook("first_steps.ipynb")
    (peak,) = table(load_runs(tmp_path / "results", "first_steps")).to_dict("records")
    assert (peak["decision"], peak["location"], peak["threshold_counted"]) == ("peak", 200, 200)
    budgets = table(load_runs(tmp_path / "results", "first_steps_budget")).set_index("steps")
    assert budgets.loc[100, "decision"] == "no peak"
    assert budgets.loc[10**8, "decision"] == "peak"
    assert budgets["train_loss_at_threshold"].sort_index(ascending=False).is_monotonic_increasing
    assert names["found"].noisy.sum() == 40  # type: ignore[attr-defined]
    matplotlib.pyplot.close("all")


def test_arrays_of_ones_own_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook("own_data.ipynb")
    (peak,) = table(load_runs(tmp_path / "results", "own_data")).to_dict("records")
    assert peak["decision"] == "peak"
    assert peak["threshold_counted"] == 455
    assert abs(peak["location"] - 455) <= 15
    matplotlib.pyplot.close("all")


def test_a_table_of_ones_own_has_its_peak_at_the_number_of_samples(tmp_path: Path) -> None:
    told = run("own_csv.md", tmp_path)
    (peak,) = table(load_runs(tmp_path / "results", "wine")).to_dict("records")
    assert peak["threshold_counted"] == 142
    assert peak["decision"] == "peak"
    assert abs(peak["location"] - 142) <= 20
    assert str(peak["location"]) in told
    assert (tmp_path / "figures" / "wine.png").is_file()
    assert set(pd.read_csv(tmp_path / "wine.csv")["cultivar"]) == {"class_0", "class_1", "class_2"}
