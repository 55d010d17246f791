"""``python -m dd.theory``: the CSV, its units, its grammar, bad input, pipes.

Covers: dd/theory/__main__.py.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dd.cli.theory import COMMANDS, main
from dd.models.random_features import RandomFeatures
from dd.runs.axis import axes_of
from dd.theory import units
from tests.helpers import runs_of, solve_rows
from tests.theory.simulation import erf_features
from tests.theory.test_flow import REFERENCE as FLOW
from tests.theory.test_flow import TIMES
from tests.theory.test_isotropic import FLOW as ISOTROPIC_FLOW
from tests.theory.test_isotropic import RIDGE
from tests.theory.test_random_features import REFERENCE, RIDGES, mei_montanari

ROOT = Path(__file__).parents[2]

Table = list[dict[str, str]]


def table(capsys: pytest.CaptureFixture[str], *parts: str) -> Table:
    """What a command line prints; parts are split at blanks."""
    assert main(" ".join(parts).split()) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def column(rows: Table, name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def test_the_first_line_names_the_columns_inputs_first(capsys: pytest.CaptureFixture[str]) -> None:
    line = "random_features activation=erf psi1=1.8 psi2=2 ridge=1e-3 signal=1 noise=0.25"
    assert main(line.split()) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head == "activation,psi1,psi2,signal,nonlinear,noise,ridge,excess_test,test,train,bias,variance"
    assert line.startswith("erf,1.8,2,1,0,0.25,0.001,")
    row = dict(zip(head.split(","), line.split(","), strict=True))
    expected = mei_montanari(1.8, 2.0, 1e-3, "erf", 1.0, 0.25)
    assert float(row["excess_test"]) == pytest.approx(expected, rel=1e-11)
    assert float(row["test"]) == pytest.approx(expected + 0.25, rel=1e-11)
    assert float(row["bias"]) + float(row["variance"]) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_random_features_have_their_reference_values(capsys: pytest.CaptureFixture[str], activation: str) -> None:
    ratios = [psi1 for name, psi1 in REFERENCE if name == activation]
    rows = table(capsys, "random_features", f"activation={activation}", "psi2=2", "noise=0.25",
                 f"psi1={','.join(map(str, ratios))}", f"ridge={','.join(map(str, RIDGES))}")  # fmt: skip
    expected = [REFERENCE[activation, psi1] for psi1 in ratios]
    np.testing.assert_allclose(column(rows, "excess_test"), [v for test, _ in expected for v in test], atol=6e-7)
    np.testing.assert_allclose(column(rows, "train"), [v for _, train in expected for v in train], atol=6e-7)
    assert len(rows) == len(ratios) * len(RIDGES)


def test_a_nonlinear_part_is_that_of_mei_and_montanari(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = table(capsys, "random_features activation=tanh psi1=3 psi2=2 ridge=0.01 signal=2 noise=0.25",
                   "nonlinear=0.7")  # fmt: skip
    expected = mei_montanari(3, 2.0, 1e-2, "tanh", 2.0, 0.25 + 0.7) + 0.7
    assert float(row["excess_test"]) == pytest.approx(expected, rel=1e-11)


def test_random_features_are_those_of_a_simulation(capsys: pytest.CaptureFixture[str]) -> None:
    d, n, p, ridge = 200, 400, 160, 3e-3
    (row,) = table(capsys, "random_features", "activation=erf", f"psi1={p / d}", f"psi2={n / d}", f"ridge={ridge}",
                   "noise=0.25")  # fmt: skip
    # (1/n)|y - Z w|² + (p ridge/d) |a|² with a = w/√p
    lam = n * ridge / d
    draws = [erf_features(d, n, p, seed)(lambda s: s / (s**2 + lam)) for seed in range(3)]
    assert np.mean([e.test @ [1, 0.25, 0] for e in draws]) == pytest.approx(float(row["excess_test"]), rel=0.01)
    assert np.mean([e.train @ [1, 0.25, 0] for e in draws]) == pytest.approx(float(row["train"]), rel=0.01)


@pytest.mark.parametrize(("activation", "psi1"), FLOW)
def test_flow_has_its_reference_values(capsys: pytest.CaptureFixture[str], activation: str, psi1: int) -> None:
    rows = table(capsys, "flow", f"activation={activation}", f"psi1={psi1}", "psi2=2", "noise=0.25",
                 f"time={','.join(map(str, TIMES))}")  # fmt: skip
    np.testing.assert_allclose(column(rows, "excess_test"), FLOW[activation, psi1][0], atol=6e-7)
    np.testing.assert_allclose(column(rows, "train"), FLOW[activation, psi1][1], atol=6e-7)


def test_a_start_begins_with_its_variance(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = table(capsys, "flow activation=relu psi1=1 psi2=2 time=1e-9 start=0.5 signal=2 noise=0.25")
    assert float(row["excess_test"]) == pytest.approx(2 + 0.5 * (0.5 - 1 / (2 * math.pi)), rel=1e-6)


def test_isotropic_has_its_reference_values(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(capsys, "isotropic", "gamma=0.25,0.5,1,1.1,2", "ridge=0,1e-3,0.1,1", "noise=0.25")
    np.testing.assert_allclose(column(rows, "excess_test"), list(itertools.chain(*RIDGE.values())), atol=6e-9)
    rows = table(capsys, "isotropic", "gamma=0.5,1", "time=0.5,10,1e3,1e5", "noise=0.25")
    np.testing.assert_allclose(column(rows, "excess_test"), list(itertools.chain(*ISOTROPIC_FLOW.values())), atol=6e-11)


def test_samples_and_inputs_stand_for_their_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(capsys, "isotropic", "n=100", "p=range(50,300,50)", "ridge=0.1")
    alone = table(capsys, "isotropic", "gamma=range(0.5,3,0.5)", "ridge=0.1")
    assert list(rows[0])[:2] == ["n", "p"]
    assert "n" not in alone[0]
    for name in ("gamma", "excess_test", "train"):
        assert column(rows, name) == column(alone, name)


def test_edges_have_their_reference_values(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(capsys, "edges activation=tanh,relu psi1=0.5,4 psi2=2 dim=200")
    low, high = [0.1382475, 0.003589657, 0.2074692, 0.01115339], [5.688316, 2.803486, 4.387450, 2.055858]
    np.testing.assert_allclose(column(rows, "lowest"), low, rtol=5e-7)
    np.testing.assert_allclose(column(rows, "highest"), high, rtol=5e-7)
    np.testing.assert_allclose(column(rows, "outlier"), [math.nan, math.nan, 65.38348, 64.17714], rtol=5e-7)
    top = [5.688316, 2.803486, 65.38348, 64.17714]
    np.testing.assert_allclose(column(rows, "condition"), np.sqrt(np.divide(top, low)), rtol=1e-6)
    # square tanh and relu features of n = 200, d = 100: medians by Edelman's law
    rows = table(capsys, "edges activation=tanh,relu psi1=2 psi2=2 dim=100")
    np.testing.assert_allclose(column(rows, "condition"), [2945, 5444], atol=0.5)


def test_the_limit_of_edges_is_that_of_many_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    limit, many = (
        table(capsys, "edges", "activation=tanh,relu", "psi1=0.5,2,4", "psi2=2", f"dim={dim}")
        for dim in ("inf", "1000000")
    )
    for name in ("lowest", "highest"):
        np.testing.assert_allclose(column(limit, name), column(many, name), rtol=1e-9)
    infinite = [False, True, False, True, True, True]  # at the threshold, and of a mean that grows like n
    assert np.isinf(column(limit, "condition")).tolist() == infinite
    assert all(value > 1e3 for value, out in zip(column(many, "condition"), infinite, strict=True) if out)
    assert np.isinf(column(limit, "outlier")).tolist() == [False] * 3 + [True] * 3


def test_infinity_is_written_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(capsys, "random_features psi1=2 psi2=2 ridge=0,1e-15 noise=0.1")
    assert rows[0]["excess_test"] == "inf"
    assert rows[0]["train"] == "0"
    assert 1e6 < float(rows[1]["excess_test"]) < 1e9


def test_lists_and_ranges_make_all_combinations_the_last_key_fastest(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(capsys, "random_features", "noise=0,0.25", "psi1=range(0.1,0.4,0.1),4,logrange(5,500,3)")
    assert column(rows, "psi1") == [0.1, 0.2, 0.3, 4, 5, 50, 500] * 2
    assert column(rows, "noise") == [0] * 7 + [0.25] * 7
    assert column(table(capsys, "random_features", "psi1=range(1,4)"), "psi1") == [1, 2, 3]


def test_every_activation_with_independent_features_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    known = set(axes_of(RandomFeatures)["activation"].choices)
    rows = table(capsys, "random_features", f"activation={','.join(sorted(known - {'fourier'}))}", "ridge=0.1")
    assert len(rows) == len(known) - 1
    assert all(0 < float(row["excess_test"]) < 2 for row in rows)
    assert main(["random_features", "activation=fourier"]) == 2


@pytest.mark.parametrize(("arguments", "words"), [
    ("", "command=null"),
    ("ridge psi1=1", "must be one of random_features, isotropic, flow, edges"),
    ("random_features psi3=1", "psi3=1 (from the command line): no such key"),
    ("random_features psi1", "psi1=null"),
    ("random_features psi1=1 psi1=2", "is given twice"),
    ("random_features psi1=0", "psi1=0 (from the command line): must be a number >= 0.0001"),
    ("random_features psi1=x", "psi1=x"),
    ("random_features psi1=", "psi1="),
    ("random_features psi1=1,,2", "psi1="),
    ("random_features psi1=nan", "psi1=nan"),
    ("random_features psi1=inf", "psi1=inf"),
    ("random_features psi1=1,2,1e9", "psi1=1000000000.0"),
    ("random_features ridge=-1", "ridge=-1"),
    ("random_features ridge=1,1e-300", "ridge=1e-300 (from the command line): must be 0, or >= 1e-15"),
    ("random_features psi1=range(3,1)", "must hold values"),
    ("random_features psi1=range(1,2,0)", "must be range(start,stop,step)"),
    ("random_features psi1=range(a,2)", "must be range(start,stop,step)"),
    ("random_features psi1=range(1,1e9,1e-3)", "must be 1000000 values at most"),
    ("random_features psi1=logrange(0,2,3)", "must be logrange(start,stop,count)"),
    ("random_features psi1=logrange(1,2,3.5)", "must be logrange(start,stop,count)"),
    ("random_features psi1=logrange(1,2,1)", "must have a count of 2"),
    ("random_features activation=swish", "must be one of relu, tanh, erf"),
    ("isotropic ridge=1", "needs gamma, or n and p"),
    ("isotropic n=10", "needs gamma, or n and p"),
    ("isotropic gamma=1 n=10 p=5", "needs gamma, or n and p"),
    ("isotropic gamma=1 ridge=0,1 time=inf,1", "must be 0 beside a time"),
    ("isotropic n=1 p=100000", "must be 0.0001 to 10000 times n"),
    ("isotropic n=1.5 p=2", "n=1.5"),
    ("flow time=0", "time=0"),
    ("flow ridge=1", "no such key"),
    ("edges psi1=0.001 dim=100", "must be >= 1/dim, here 0.01"),
    ("edges dim=2", "dim=2"),
])  # fmt: skip
def test_bad_input_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: str, words: str) -> None:
    assert main(arguments.split()) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert got.err.count("\n") == 1
    assert got.err.startswith("dd: ")
    assert words in got.err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_every_key_column_and_an_example_that_runs(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["--help"]) == 0
    whole = capsys.readouterr().out
    assert main([name, "--help"]) == 0
    own = capsys.readouterr().out
    assert own.isascii()
    command = COMMANDS[name]
    for text in (own, whole):
        assert all(f"\n    {word} " in text for word in (*axes_of(command), *command.columns))
    assert all(f"\n{other}\n" not in own for other in set(COMMANDS) - {name})
    rows = table(capsys, name, *command.example.replace("'", "").split())
    assert set(command.columns) - {"gamma"} <= set(rows[0])
    assert all(float(row[result]) >= 0 for row in rows for result in command.columns if row.get(result, "0") != "nan")


PAGE = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["ridge", "gradient flow"])
def test_the_worked_example_of_the_page_holds(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """The page's conversion of dd's keys, its prediction, and dd's own losses."""
    example = PAGE.split("A worked example:")[1].split("## What is implemented")[0].replace("\\\n", "")
    command = "random_features" if name == "ridge" else "flow"
    optimizer = "optimizer=ridge" if name == "ridge" else "optimizer=gradient_flow"
    (typed,) = re.findall(rf"^ *python -m dd\.run -m (.* {optimizer} .*)$", example, re.MULTILINE)
    (theory,) = re.findall(rf"^ *python -m dd\.theory ({command} .*)$", example, re.MULTILINE)
    (row,) = table(capsys, theory)
    runs = runs_of(*shlex.split(typed))
    d, p, n = 100, runs[0].width, runs[0].n_train
    assert (len(runs), float(row["psi1"]), float(row["psi2"])) == (30, p / d, n / d)
    if name == "ridge":
        # λ of Mei & Montanari beside the penalty of the theory's own units
        lam = units.ridge(3.6, p)
        assert "optimizer.penalty=3.6" in typed
        assert float(row["ridge"]) == pytest.approx(lam * d / n)
    else:
        assert {"lr=0.1", "steps=2000", "init=zero"} <= set(typed.split())
        assert float(row["time"]) == pytest.approx(units.time("gradient_flow", 0.1, 2000, p, 1) / d)
    (cells,) = re.findall(rf"^\| {name} \| (.*) \|$", example, re.MULTILINE)
    test, shown_test, train, shown_train = cells.split(" | ")
    rows = solve_rows(*runs)
    for key, column_name, shown, predicted in (
        ("test_loss", "excess_test", test, shown_test), ("train_loss", "train", train, shown_train),
    ):  # fmt: skip
        assert float(predicted) == pytest.approx(float(row[column_name]), abs=6e-5)
        measured = np.array([r[key] for r in rows])
        error = measured.std() / math.sqrt(len(measured))
        mean, told = map(float, shown.split(" ± "))
        assert abs(mean - measured.mean()) < 0.1 * told + 10.0 ** -len(shown.split(" ± ")[0].split(".")[1])
        assert told == pytest.approx(error, rel=0.5)
        assert abs(float(predicted) - measured.mean()) < 3 * error + 0.02 * mean


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", f"set -o pipefail; {line.replace('PYTHON', sys.executable)}"], cwd=ROOT,
                          capture_output=True, text=True, timeout=300)  # fmt: skip


def test_a_reader_that_leaves_ends_it_without_a_word() -> None:
    got = shell("PYTHON -m dd.theory random_features 'psi1=range(1,100,0.01)' | head -2")
    assert (got.returncode, got.stderr) == (0, "")
    assert got.stdout.splitlines()[1].startswith("relu,1,2,")
    assert got.stdout.count("\n") == 2
