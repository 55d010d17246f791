"""``python -m dd.results``: check, repair, compact, merge.

Covers: dd/results/__main__.py, dd/results/compaction.py, dd/results/footers.py, dd/results/merging.py.
Covers: dd/results/repair.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dd.cli.results import main
from dd.results import Store, compaction
from tests.results.tables import add, add_as_before, contents, files, losses, outputs, points, row


def run(results: Path, *arguments: str) -> int:
    return main([*arguments, f"results_dir={results}"])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 5] ^= 1  # not in the second mark beside the checksums, which says the same as the first
    path.write_bytes(data)


def test_check_says_what_is_wrong_and_changes_nothing(
    store: Store, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(store, "a", "1", "2", outputs=True)
    add_as_before(Store(results, "old"), "a", "1")
    add_as_before(Store(results, "old"), "b", "1", "2")
    (results / "old/runs/_x.parquet.1.tmp").write_bytes(b"")
    assert run(results, "check", "t") == 0
    assert "t: in order (1 parts)" in capsys.readouterr().out
    before = files(Store(results, "old"))
    assert run(results, "check") == 1
    said = capsys.readouterr().out
    for text in ("t: in order", "old: 3 faults in 2 parts", "_x.parquet.1.tmp: left over", "1 doubled rows"):
        assert text in said
    assert files(Store(results, "old")) == before
    flip(store.curves / "a.parquet")
    assert run(results, "check", "t") == 1
    assert "curves/a.parquet: its bytes are not those that were written" in capsys.readouterr().out


def test_repair_mends_and_the_sweep_computes_the_rest(
    store: Store, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(store, "a", "1", "2", outputs=True)
    add(store, "b", "3", outputs=True)
    add(store, "c", "4")
    flip(store.curves / "a.parquet")
    flip(store.runs / "c.parquet")
    assert run(results, "repair", "t") == 0
    said = capsys.readouterr().out
    assert "moved" in said
    assert "the sweep's own command computes the runs that are missing now" in said
    assert store.finished("basic") == {"3"}, "rows whose curves are damaged are computed again"
    assert [f for f in files(store) if f.startswith("_damaged")] == [
        "_damaged/curves/a.parquet", "_damaged/curves/c.parquet", "_damaged/predictions/a.parquet",
        "_damaged/runs/a.parquet", "_damaged/runs/c.parquet",
    ]  # fmt: skip
    assert run(results, "check", "t") == 0
    add(store, "a", "1", "2", value=7.0)
    assert losses(store) == {"1": 7.0, "2": 7.0, "3": 1.0}
    capsys.readouterr()
    assert run(results, "repair") == 0
    assert "nothing to mend" in capsys.readouterr().out


def test_repair_takes_out_outputs_whose_targets_are_damaged(store: Store, results: Path) -> None:
    add(store, "a", "1", "2", outputs=True)
    flip(store.targets / "same.parquet")
    assert run(results, "repair", "t") == 0
    assert losses(store) == {"1": 1.0, "2": 1.0}
    assert outputs(store) == {}
    assert store.finished("basic", predictions=True) == set()
    assert files(store) == ["_damaged/targets/same.parquet", "curves/a.parquet", "runs/a.parquet"]


def test_repair_of_a_damaged_journal(store: Store, results: Path) -> None:
    add(store, "a", "1")
    (store.folder / "_journal.json").write_text("{")
    assert run(results, "check", "t") == 1
    assert run(results, "repair", "t") == 0
    assert run(results, "check", "t") == 0
    assert losses(store) == {"1": 1.0}
    assert "_damaged/_journal.json" in files(store)


def test_compact_keeps_everything(store: Store, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(9):
        pack = f"p{i}"
        store.append(pack, [row(str(i), train_loss=float(i))], [], {}, {"environment": {"python": i % 2}, "runs": [i]})
    add(store, "q", "x", "y", outputs=True)
    before, rows = contents(store), pd.read_parquet(store.runs).sort_values("run_id").reset_index(drop=True)
    assert run(results, "compact", "t") == 0
    assert len(store.parts()) == 1
    assert contents(store) == before
    assert run(results, "check") == 0
    pd.testing.assert_frame_equal(pd.read_parquet(store.runs).sort_values("run_id").reset_index(drop=True), rows)
    footer = json.loads(pq.read_metadata(store.parts()[0]).metadata[b"dd"])
    assert footer["environments"] == [{"python": 0}, {"python": 1}]
    assert footer["runs"] == list(range(9))
    add(store, "z", "3", "new", value=7.0)
    assert losses(store) == before[0] | {"3": 7.0, "new": 7.0}
    assert run(results, "compact", "t") == 0
    assert len(store.parts()) == 1
    assert set(points(store)) == {(i, s) for i in ("x", "y", "3", "new") for s in range(3)}


def test_parts_are_merged_up_to_a_size(store: Store) -> None:
    for i in range(10):
        add(store, f"p{i}", str(i))
    compaction.compact(store.folder, below=3, most=4)
    assert sorted(len(pq.read_table(p)) for p in store.parts()) == [2, 4, 4]
    assert len(losses(store)) == 10


def test_the_end_of_a_sweep_merges_small_parts_once_there_are_many(store: Store) -> None:
    for i in range(64):
        store.append(f"p{i:02}", [row(str(i))], [], {}, {})
    store.tidy()
    assert len(store.parts()) == 64
    store.append("p64", [row("64")], [], {}, {})
    store.tidy()
    assert len(store.parts()) == 1
    assert len(pd.read_parquet(store.runs)) == 65
    store.tidy()
    Store(store.folder.parent, "not there").tidy()


def test_merge_prefers_good_rows_then_full_ones_then_the_first_table(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, into = (Store(results, name) for name in ("one", "two", "all"))
    for each in (one, two):
        each.open()
    add(one, "a", "both", "mine", value=1.0, measure="basic", outputs=True)
    add(one, "b", "better", value=1.0, status="failed")
    add(one, "c", "fuller", value=1.0, measure="basic")
    add(two, "a", "both", "fuller", "better", "yours", value=2.0, measure="full", outputs=True)
    two.append("worse", [row("mine", status="failed", train_loss=2.0)], [], {}, {})
    add(two, "d", "same", value=2.0)
    add(one, "e", "same", value=1.0)
    wanted = {"both": 2.0, "mine": 1.0, "better": 2.0, "fuller": 2.0, "yours": 2.0, "same": 1.0}
    assert run(results, "merge", "one", str(two.folder), "into=all") == 0
    assert f"6 rows copied from {one.folder}, {two.folder}, 6 there now" in capsys.readouterr().out
    assert losses(into) == dict(sorted(wanted.items()))
    assert points(into) == {(i, s): v for i, v in losses(into).items() for s in range(3)}
    assert outputs(into) == {"both": 2.0, "better": 2.0, "fuller": 2.0, "mine": 1.0, "yours": 2.0}
    assert set(pd.read_parquet(into.runs)["name"]) == {"all"}
    assert (into.targets / "same.parquet").exists()
    assert run(results, "check") == 0
    before = contents(into)
    assert run(results, "merge", "two", "one", "into=all") == 0
    assert contents(into) == before, "what is there comes first"
    assert "0 rows copied" in capsys.readouterr().out


def test_copies_of_a_table_join_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two machines that share no file system: each has continued a copy of one table."""
    here, there = (Store(tmp_path / folder, "default") for folder in ("results", "from_laptop"))
    here.open()
    add(here, "a", "1", "2", outputs=True)
    shutil.copytree(here.folder, there.folder)
    add(here, "b", "mine", "both", value=2.0, outputs=True)
    add(there, "c", "yours", "both", value=3.0, outputs=True)
    theirs = contents(there)
    monkeypatch.chdir(tmp_path)
    assert main(["merge", "default", "from_laptop/default"]) == 0
    assert capsys.readouterr().out == "results/default: 1 rows copied from from_laptop/default, 5 there now\n"
    wanted = {"1": 1.0, "2": 1.0, "both": 2.0, "mine": 2.0, "yours": 3.0}
    assert losses(here) == outputs(here) == wanted
    assert points(here) == {(i, s): v for i, v in wanted.items() for s in range(3)}
    assert contents(there) == theirs, "only the first table changes"
    assert main(["check"]) == main(["check", "from_laptop/default"]) == 0
    monkeypatch.chdir(here.folder)
    capsys.readouterr()
    assert main(["merge", ".", "../../from_laptop/default"]) == 0
    assert "/results/default: 0 rows copied" in capsys.readouterr().out


def test_merge_reads_a_copy_that_was_made_while_the_table_was_changed(results: Path, tmp_path: Path) -> None:
    """What ``rsync`` copies may have a lock and a journal, and not the files that the journal names."""
    one, copy = Store(results, "one"), Store(tmp_path / "copied", "one")
    for store in (one, copy):
        store.open()
    add(one, "a", "1")
    add(copy, "b", "2", value=2.0)
    (copy.folder / "_held").mkdir()
    for name in ("abcdef.7.f00.host", "abcdef.7.f00.host.json"):
        (copy.folder / "_held" / name).touch()
    journal = {"renames": [["runs/_x.tmp", "runs/x.parquet"]], "removals": ["runs/b.parquet"]}
    (copy.folder / "_journal.json").write_text(json.dumps(journal))
    assert run(results, "merge", "one", str(copy.folder)) == 0
    assert losses(one) == {"1": 1.0, "2": 2.0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["merge", "t", "into=t"], "/t is the table to merge into; name another"),
        (["merge", "t", "t"], "/t is the table to merge into; name another"),
        (["merge", "t", "nowhere", "into=x"], "no table"),
        (["merge", "t"], "merge=t (from the command line): needs two tables, or one and into=<name>"),
        (["merge"], "needs two tables"),
        (["merge", "into=x"], "needs two tables"),
        (["merge", "t", "nowhere"], "no table"),
        (["merge", "t", "into="], "must be a plain folder name"),
        (["merge", "t", "into=../x"], "must be a plain folder name"),
        (["check", "nowhere"], "no table"),
        (["check", "t", "into=x"], "goes with merge only"),
        (["mend"], "must be one of check, repair, compact, merge"),
        ([], "must be one of"),
        (["check", "force=true"], "no such key"),
        (["check", "--all"], "no such key"),
    ],
)
def test_bad_input_is_a_line(
    store: Store, results: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add(store, "a", "1")
    assert (run(results, *arguments) if arguments else main([])) == 2
    error = capsys.readouterr().err
    assert error.startswith("dd: ")
    assert said in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in results.iterdir()) == ["t"]


def test_help_and_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "repair" in capsys.readouterr().out
    assert run(tmp_path, "check") == 2
    assert "there is no table" in capsys.readouterr().err


def test_one_table_holds_one_content_of_a_data_set(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, run_id, content in (("a", "1", "aa"), ("b", "2", "bb"), ("c", "3", "aa")):
        store = Store(results, name)
        store.open()
        store.append(name, [row(run_id, data="mnist", data_content=content)], [], {}, {})
    where = f"results_dir={results}"
    assert main(["merge", "a", "b", "into=d", where]) == 2
    line = capsys.readouterr().err
    assert "into=d: rows of data=mnist have two contents: aa in a, bb in b" in line
    assert not (results / "d").exists()
    assert main(["merge", "a", "c", "into=d", where]) == 0
    mixed = Store(results, "d")
    mixed.append("x", [row("2", data="mnist", data_content="bb")], [], {}, {})
    assert main(["check", "d", where]) == 1
    assert "rows of data=mnist have two contents" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\nb", "trail. ", "x" * 300, "a/b", ".a"])
def test_tables_are_merged_into_names_that_a_sweep_may_have(
    name: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(results, "a").open()
    assert main(["merge", "a", f"into={name}", f"results_dir={results}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in results.iterdir()] == ["a"]
