"""The reproducibility check finds what it is for: dd.reproduce, dd.results.rebuilt.

Covers: dd/results/rebuilt.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dd import reproduce
from dd.cli.compose import compose_runs
from dd.results.rebuilt import completed

FEW = (("width=5,20", "optimizer=sgd,min_norm", "epochs=2"), ("width=4", "model=two_layer", "epochs=2"))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A smaller sweep with numbers of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "SWEEPS", FEW)
    monkeypatch.setattr(reproduce, "REFERENCE", tmp_path / "reference.csv")
    assert reproduce.main(["--write"]) == 0
    return tmp_path


@pytest.mark.rounding
def test_this_machine_gives_the_numbers_that_come_with_dd(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main([]) == 0
    environment, first, second = capsys.readouterr().out.splitlines()
    assert re.search(r"torch [\d.]+.*, engine (avx512|avx2|baseline|none)$", environment)
    assert first.endswith(": the same")
    assert second.endswith(": the same")


def test_a_changed_number_is_told(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (few / "reference.csv").read_text()
    line = text.splitlines()[1].split(",")
    (few / "reference.csv").write_text(text.replace(line[2], repr(float(line[2]) * 1.00001), 1))
    capsys.readouterr()
    assert reproduce.main([]) == 1
    out = capsys.readouterr().out
    assert "1 values differ" in out
    assert f"{line[1]}: train_loss" in out


def test_one_bit_between_the_arrangements_is_told(
    few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = reproduce.compute

    def touched(packs, settings, processes):  # type: ignore[no-untyped-def]
        honest(packs, settings, processes)
        if processes == 1:
            part = sorted(Path(settings.results_dir, "reproduce", "runs").glob("*.parquet"))[0]
            table = pq.read_table(part)
            column = table["weight_norm"].to_numpy().copy()
            column[0] *= 1 + 2.3e-16
            at = table.schema.get_field_index("weight_norm")
            pq.write_table(table.set_column(at, "weight_norm", pa.array(column)), part)

    monkeypatch.setattr(reproduce, "compute", touched)
    capsys.readouterr()
    assert reproduce.main([]) == 1
    assert "weight_norm" in capsys.readouterr().out


def test_the_arrangements_are_what_they_are_said_to_be(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "TOGETHER", 2)
    seen = []
    honest = reproduce.compute

    def watched(packs, settings, processes):  # type: ignore[no-untyped-def]
        seen.append(([len(pack.runs) for pack in packs], processes))
        honest(packs, settings, processes)

    monkeypatch.setattr(reproduce, "compute", watched)
    assert reproduce.main([]) == 0
    (together, processes), (alone, one) = seen
    assert processes == 2
    assert len(together) >= 2
    assert max(together) == 2
    assert (alone, one) == ([1] * sum(together), 1)


def test_bits_are_bits() -> None:
    assert reproduce.same(float("nan"), float("nan"), 0.0)
    assert not reproduce.same(0.0, -0.0, 0.0)
    assert not reproduce.same(1.0, 1.0 + 2.3e-16, 0.0)
    assert reproduce.same(1.0, 1.0 + 1e-7, 1e-6)
    assert not reproduce.same(1.0, 1.0 + 1e-5, 1e-6)
    assert not reproduce.same(1.0, None, 1e-6)


@pytest.mark.parametrize(("close", "apart"), [(0.0, 2), (1e-6, 1)])
def test_single_precision_is_compared_as_such_where_bits_may_differ(close: float, apart: int) -> None:
    """A float32 net (b) ends elsewhere in its sixth digit where a GPU trains it beside others."""
    first, second = ([{"run_id": run, "weight_norm": value} for run in "ab"] for value in (1.0, 1.00001))
    found = reproduce.differences(first, second, ["run_id", "weight_norm"], close, {"b"})
    assert len(found) == apart


def test_a_run_is_read_back_from_its_row() -> None:
    from dd.packs.rows import axes_row
    from dd.results.rebuilt import run_of

    lines = (("optimizer=adam", "model.activation=erf"), ("optimizer=min_norm",), ("model=rmt", "optimizer=muon"))
    for line in lines:
        run = compose_runs(*line)[0]
        assert run_of(axes_row(run)) == run


@pytest.mark.parametrize("older", ["without the column", "null"])
def test_a_row_from_before_there_were_schedules_has_the_constant_one(older: str) -> None:
    from dd.packs.rows import run_axes
    from dd.results.rebuilt import run_of

    (run,) = compose_runs("model=two_layer", "optimizer=adam")
    row = dict(run_axes(run))
    for name in [name for name in row if name.startswith("schedule")]:
        if older == "null":
            row[name] = None
        else:
            del row[name]
    assert run_of(row) == run
    assert run_of(row).run_id == run.run_id


def test_older_rows_of_a_table_are_completed() -> None:
    rows = pa.table({
        "optimizer": ["sgd", "sgd", "adam"], "schedule": ["constant", None, "cosine"], "lr": [None, 0.5, None],
        "schedule_per": ["epoch", None, "step"], "schedule_final": pa.array([None, None, 0.5]),
        "optimizer_beta1": pa.array([None, None, None], pa.float64()),
    })  # fmt: skip
    assert completed(rows).to_pydict() == {
        "optimizer": ["sgd", "sgd", "adam"], "schedule": ["constant", "constant", "cosine"], "lr": [None, 0.5, None],
        "schedule_per": ["epoch", "step", "step"], "schedule_final": [None, None, 0.5],
        "optimizer_beta1": [None, None, 0.9],
    }  # fmt: skip


def test_runs_of_a_table_are_computed_again(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import dd

    dd.sweep("name=mine", "width=3,9,30", "optimizer=sgd,adam", "epochs=2", "data.n_train=50", "measure=full")
    dd.sweep("name=mine", "width=4", "epochs=2", "data.n_train=50", "trainer=stack")
    capsys.readouterr()
    assert reproduce.main(["table=mine", "runs=7"]) == 0
    assert "7 of 7 runs" in capsys.readouterr().out
    part = sorted((few / "results/mine/runs").glob("*.parquet"))[0]
    table = pq.read_table(part)
    pq.write_table(table.drop_columns(["model_bandwidth", "label_noise_over"]), part)  # a table of an older dd
    assert reproduce.main(["table=mine", "runs=7"]) == 0
    assert "left out" not in capsys.readouterr().out
    at = table.schema.get_field_index("test_loss")
    pq.write_table(table.set_column(at, "test_loss", pa.array([0.5] * len(table))), part)
    assert reproduce.main(["table=mine", "runs=100"]) == 1
    assert "test_loss 0.5 and" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "start", "end"),
    [
        (["runs=3"], "dd: runs=3", "needs table=<name>"),
        (["table=none_such"], "dd: table=none_such", "results/none_such/runs has no finished run"),
        (["table=x", "runs=0"], "dd: runs=0", "must be an integer >= 1"),
        (["table=x", "runs=²"], "dd: runs=²", "must be an integer >= 1"),
        (["width=3"], "dd: width=3", "no such key; there are device, table, runs, results_dir"),
        (["--write", "table=x"], "dd: table=x", "does not go with --write"),
        (["device=mars"], "dd: device=mars", "must be one of auto, cpu, cuda"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    start: str,
    end: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reproduce.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(start)
    assert error.endswith(end)
    assert len(error.splitlines()) == 1
