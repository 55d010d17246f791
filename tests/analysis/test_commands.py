"""Commands made of rows: they compose to the runs that the rows are of."""

from __future__ import annotations

import shlex

import pandas as pd
import pytest

from analysis.commands import commands, key_of, settings_of
from dd.results.schema import runs_schema
from tests.helpers import run_of, solve_rows

BASE = ("data.n_train=60", "data.n_test=50", "epochs=3")

SWEEPS = {
    "widths and seeds": [(*BASE, f"width={w}", f"seed={s}") for w in (5, 10, 15, 20, 25) for s in (0, 1)],
    "optimizers with step sizes of their own": [
        (*BASE, f"width={w}", f"optimizer={o}") for w in (5, 9) for o in ("sgd", "adam", "min_norm")
    ],
    "options of one component": [(*BASE, "optimizer=ridge", f"optimizer.penalty={p}") for p in (0.001, 0.5)]
    + [(*BASE, "optimizer=min_norm")],
    "steps, full batches and a start": [
        (*BASE[:2], "optimizer=gd", f"steps={t}", f"init.scale={i}") for t in (10, 1e6) for i in (0, 3)
    ],
    "a training set for each seed": [(*BASE, "data.label_noise=0.2", f"seed={s}", f"data.seed={s}") for s in range(3)],
    "teachers whose dimension is the width": [
        (*BASE, "data=linear_teacher", "model=linear", f"width={w}", f"data.dim={w}") for w in (3, 6)
    ],
}  # fmt: skip


def composed(line: str) -> set[str]:
    """Identities of the runs of a command: its lists and ranges are taken apart here, not by dd."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "dd.run"]
    points: list[dict[str, str]] = [{}]
    for word in words[3:]:
        if word == "-m" or word.startswith("name="):
            continue
        key, _, text = word.partition("=")
        if text.startswith("range("):
            values = [str(v) for v in range(*map(int, text[6:-1].split(",")))]
        else:
            values = text.split(",")
        points = [p | {key: v} for p in points for v in values]
    for point in points:
        for key, value in point.items():
            if value.startswith("${"):
                point[key] = point[value[2:-1]]
    return {run_of(*(f"{k}={v}" for k, v in p.items())).run_id for p in points}


@pytest.mark.parametrize("name", SWEEPS)
def test_commands_make_the_runs_of_a_table_and_no_others(name: str) -> None:
    runs = [run_of(*words) for words in SWEEPS[name]]
    rows = pd.DataFrame(solve_rows(*runs))
    lines, total = commands(rows, "my table")
    assert total == len(lines)
    assert all("'name=my table'" in line for line in lines)
    assert set.union(*map(composed, lines)) == {run.run_id for run in runs}


def test_a_full_crossing_is_one_command_without_what_is_at_its_default() -> None:
    rows = pd.DataFrame(solve_rows(*(run_of(*words) for words in SWEEPS["widths and seeds"])))
    (line,), _ = commands(rows, "mine")
    assert line == ("python -m dd.run -m width=5,10,15,20,25 data.n_test=50 data.n_train=60 steps=6 seed=0,1 name=mine")


def test_what_differs_from_the_defaults_is_told() -> None:
    rows = pd.DataFrame(solve_rows(run_of(*BASE, "optimizer=adam", "optimizer.beta1=0.5")))
    assert set(settings_of(rows).changed()) == {"data.n_train", "data.n_test", "steps", "optimizer", "optimizer.beta1"}


def test_every_column_of_an_axis_has_a_key() -> None:
    names = set(runs_schema().names)
    for column, key in {
        "n_train": "data.n_train",
        "init_scale": "init.scale",
        "optimizer_beta1": "optimizer.beta1",
    }.items():
        assert column in names
        assert key_of(column) == key
