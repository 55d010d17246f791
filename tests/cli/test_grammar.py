"""Ranges, sorting and names as they are typed: dd.cli.grammar and dd.cli.grid.

Covers: dd/cli/grid.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dd.cli.compose import compose_jobs, compose_runs
from dd.cli.grammar import Range, as_typed, parser
from dd.cli.grid import MAX_RUNS, Grid, Reader
from dd.cli.loading import own_loader
from dd.errors import ConfigError
from dd.run import main

pytestmark = pytest.mark.hydra

READER = Reader(own_loader())


def values(text: str) -> list[str]:
    return [job[0].partition("=")[2] for job in Grid.of(READER, READER.overrides([text]))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width=sort(range(100,10,-25))", ["25", "50", "75", "100"]),
        ("width=sort(range(10,100,25),reverse=true)", ["85", "60", "35", "10"]),
        ("lr=sort(range(0.1,0.45,0.1),reverse=true)", ["0.4", "0.3", "0.2", "0.1"]),
        ("lr=sort(range(0.45,0.1,-0.1))", ["0.15", "0.25", "0.35", "0.45"]),
        ("width=sort(shuffle(range(1,5)))", ["1", "2", "3", "4"]),
        ("width=sort(shuffle(3,1,2))", ["1", "2", "3"]),
        ("width=sort(tag(a,range(3,0,-1)))", ["1", "2", "3"]),
        ("width=tag(a,range(3))", ["0", "1", "2"]),
        ("width=sort(sweep=range(3,0,-1))", ["1", "2", "3"]),
        ("width=int(range(0.5,3,1.5))", ["0", "2"]),
        ("lr=float(range(1,3))", ["1.0", "2.0"]),
        ("width=range(5)", ["0", "1", "2", "3", "4"]),
        ("lr=range(1e20,1.0000000000000001e20,1e19)", ["1e+20"]),
        ("optimizer=glob(ada*)", ["adagrad", "adam", "adamw"]),
        ("width=choice(3,1)", ["3", "1"]),
        ("lr=sort(0.3,0.1)", ["0.1", "0.3"]),
        ("width=logrange(10,2000,5)", ["10", "38", "141", "532", "2000"]),
        ("width=logrange(1,4,9)", ["1", "2", "3", "4"]),
        ("width=logrange(100,1,3)", ["100", "10", "1"]),
        ("steps=logrange(1e2,1e8,4)", ["100", "10000", "1000000", "100000000"]),
        ("lr=logrange(1e-3,10,5)", ["0.001", "0.01", "0.1", "1.0", "10.0"]),
        ("optimizer.penalty=logrange(1,100,3)", ["1.0", "10.0", "100.0"]),
        ("width=sort(logrange(1,100,3),reverse=true)", ["100", "10", "1"]),
        ("width=7,logrange(1,100,3)", ["7", "1", "10", "100"]),
        ("width=zip(3,1)", ["3", "1"]),
        ("width=zip(range(1,4))", ["1", "2", "3"]),
        ("width=zip(logrange(1,100,3))", ["1", "10", "100"]),
    ],
)
def test_sweeps_hold_what_they_say(text: str, expected: list[str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize("text", ["width=shuffle(range(1,9))", "width=shuffle(sort(range(8,0,-1)))"])
def test_a_shuffled_range_has_its_values_in_one_order(text: str) -> None:
    grid = Grid.of(READER, READER.overrides([text]))
    assert sorted(grid) == [[f"width={i}"] for i in range(1, 9)]
    assert list(grid) == list(grid) == [grid[i] for i in range(8)]


bounds = st.integers(-(10**20), 10**20)


@settings(max_examples=300, deadline=None)
@given(bounds, bounds, st.integers(-(10**7), 10**7).filter(bool), st.sampled_from([None, True, False]))
def test_integer_ranges_are_pythons(start: int, span: int, step: int, descending: bool | None) -> None:
    stop = start + span % (step * 50) if step else start
    expected: Sequence[int] = range(start, stop, step)
    if descending is not None:
        expected = sorted(expected, reverse=descending)
    found = Range(start=start, stop=stop, step=step, descending=descending)
    assert found.count == len(expected)
    assert list(found) == list(expected)


@settings(max_examples=300, deadline=None)
@given(st.integers(-9999, 9999), st.integers(0, 400), st.integers(1, 99), st.integers(1, 6), st.booleans())
def test_decimal_ranges_are_decimal_arithmetic(start: int, span: int, step: int, digits: int, down: bool) -> None:
    sign, unit = -1 if down else 1, Decimal(10) ** -digits
    expected = [float(unit * v) for v in range(start, start + sign * span, sign * step)]
    typed = [float(unit * v) for v in (start, start + sign * span, sign * step)]
    found = Range(*(), start=typed[0], stop=typed[1], step=typed[2])
    assert found.count == len(expected)
    assert list(found) == expected
    assert [repr(v) for v in Range(start=typed[0], stop=typed[1], step=typed[2], descending=down)] == [
        repr(v) for v in sorted(expected, reverse=down)
    ]


@pytest.mark.parametrize(
    "inner", ["0,10,3", "1,10", "1,10,1", "1,10,2.5", "a,10,3", "1,10,3,4", "1,inf,3", "1,2,1e9", ""]
)
def test_a_logrange_without_values_is_refused_in_one_line(inner: str) -> None:
    with pytest.raises(ConfigError, match=r"^lr=logrange\(.*is logrange\(start,stop,count\): .*must") as caught:
        compose_jobs([f"lr=logrange({inner})"])
    assert "\n" not in str(caught.value)


def test_keys_with_zip_advance_together_and_are_crossed_with_the_others() -> None:
    line = ["seed=0,1", "optimizer=zip(sgd,adam)", "width=5,6", "lr=zip(0.5,0.001)"]
    runs = compose_runs(*line)
    assert [(run.seed, run.optimizer.name, run.lr, run.width) for run in runs] == [
        (seed, name, lr, width) for seed in (0, 1) for name, lr in (("sgd", 0.5), ("adam", 0.001)) for width in (5, 6)
    ]
    grid = Grid.of(READER, READER.overrides(line))
    assert [grid[i] for i in range(len(grid))] == list(grid)
    assert len({run.lr for run in compose_runs(*line, "lr=0.1")}) == 1, "a later override takes a key out"


def test_keys_that_advance_together_have_equally_many_values() -> None:
    with pytest.raises(ConfigError, match="width has 2, lr has 3"):
        compose_jobs(["width=zip(1,2)", "lr=zip(range(1,4))"])


TWO_GRIDS = """# @package _global_
# Does gradient descent peak where SGD does not?
name: two_grids
hydra:
  sweeper:
    params:
      width: logrange(5,20,3)
      seed: range(2)
    grids:
      - optimizer: sgd,adam
      - {optimizer: gd, batch_size: full, 'steps': '1e1,1e2', seed: '7'}
"""


def test_a_preset_may_have_several_grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/two_grids.yaml").write_text(TWO_GRIDS)
    line = ("-m", "--config-dir", "mine", "+experiment=two_grids", "data.n_train=50", "n_jobs=1", "width=5,20")
    assert main([*line, "steps=9"]) == 0
    table = pd.read_parquet("results/two_grids/runs")
    assert table.groupby("optimizer").size().to_dict() == {"adam": 4, "gd": 2, "sgd": 4}, "an override is for each grid"
    assert set(table[table.optimizer == "gd"].seed) == {7}
    assert main([*line, "name=whole", "seed=0", "epochs=null"]) == 0
    whole = pd.read_parquet("results/whole/runs")
    assert whole.groupby("optimizer").size().to_dict() == {"adam": 2, "gd": 4, "sgd": 2}


def test_blocks_of_a_grid_follow_each_other() -> None:
    grid = Grid.of(READER, READER.overrides(["width=1,2"]), READER.overrides(["width=3", "seed=0,1,2"]))
    whole = list(grid)
    assert whole == [["width=1"], ["width=2"], *(["width=3", f"seed={s}"] for s in range(3))]
    assert [grid[i] for i in range(len(grid))] == whole
    assert [list(part) for part in grid.batches(2)] == [whole[:2], whole[2:4], whole[4:]]


def test_commands_of_the_page_are_sweeps() -> None:
    page = (Path(__file__).parents[2] / "docs/command_line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^|]*)` \| (?:20 numbers|All keys|10, 60|a list|`zip`)", page, re.MULTILINE)
    counts = [len(compose_jobs([part.strip("'") for part in shlex.split(row)])[0]) for row in rows]
    assert counts == [2, 40, 20, 2, 3]
    for command in re.findall(r"(?:`|^    (?:\$ |  )?)python -m dd.run -m ([^`#\n]*)", page, re.MULTILINE):
        if "--config-dir" not in command:
            assert compose_jobs([a for a in shlex.split(command) if a != "plan_only=true"])[0]


def test_presets_and_job_directories_have_the_same_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ("width=sort(range(100,10,-25))", "optimizer=min_norm", "hydra.sweep.dir=jobs", "n_jobs=1")
    assert main(["-m", *sweep, "hydra.output_subdir=.hydra"]) == 0
    texts = [(tmp_path / f"jobs/{i}/.hydra/overrides.yaml").read_text() for i in range(4)]
    assert [text.splitlines()[0] for text in texts] == [f"- width={w}" for w in (25, 50, 75, 100)]
    assert sorted(pd.read_parquet(tmp_path / "results/default/runs").width) == [25, 50, 75, 100]
    preset = "+hydra.sweeper.params.width='sort(range(100,10,-25))'"
    assert main(["-m", preset, *sweep[1:], "name=preset"]) == 0
    assert sorted(pd.read_parquet(tmp_path / "results/preset/runs").width) == [25, 50, 75, 100]


def test_a_sweep_is_counted_before_it_is_expanded() -> None:
    huge = "9" * 4000
    for line in (
        ["width=range(1,100000000)"],
        [f"width=range(1,{MAX_RUNS + 2})"],
        ["width=range(1,1001)", "seed=range(1000)"],
        ["lr=range(0,1,1e-300)"],
        [f"width=range({huge})", f"seed=range({huge})"],
        ["lr=range(0,inf,1)"],
    ):
        with pytest.raises(ConfigError, match=rf"^sweep=.* at most {MAX_RUNS} runs") as caught:
            compose_jobs(line)
        assert len(str(caught.value)) < 200
    assert len(Grid.of(READER, READER.overrides([f"width=range({MAX_RUNS})"]))) == MAX_RUNS


def test_a_later_override_of_a_key_counts_at_the_place_of_the_first() -> None:
    runs = compose_runs("width=range(1,100000000)", "optimizer=sgd,adam", "width=3,4")
    assert [(run.width, run.optimizer.name) for run in runs] == [(3, "sgd"), (3, "adam"), (4, "sgd"), (4, "adam")]


def test_parts_of_a_grid_are_its_jobs() -> None:
    grid = Grid.of(READER, READER.overrides(["width=range(1,8)", "optimizer=sgd,adam"]))
    whole = list(grid)
    assert [job for part in grid.batches(4) for job in part] == whole
    assert [len(part) for part in grid.batches(4)] == [4, 4, 4, 2]
    assert [grid[i] for i in range(len(grid))] == whole
    assert grid[3:9][1] == whole[4]


TYPED = ["2024_01_01", "1.10", "1.1", "1e5", "true", "0x10", "null", "-1", "NaN", "1_0", "TRUE", "a b", "Ä", "1.1.0"]


@pytest.mark.parametrize("name", TYPED)
def test_names_stay_as_they_are_typed(name: str) -> None:
    found = compose_jobs([f"name={name}", f"results_dir={name}", f"data.root={name}"])[1]
    assert (found.name, found.results_dir) == (name, name)
    assert found.data_root == (None if name == "null" else name)


def test_names_in_other_forms_stay_as_they_are_typed() -> None:
    assert [compose_jobs([form])[1].name for form in ("++name=1.10", "name=choice(1.10)")] == ["1.10"] * 2


def test_names_beside_a_preset_stay_as_they_are_typed() -> None:
    assert compose_jobs(["+experiment=ridge", "name=1.10", "width=3", "seed=0"])[1].name == "1.10"


def test_two_spellings_are_two_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for mode in ((), ("-m",)):
        for name in ("1.10", "1.1", "null"):
            assert main([*mode, f"name={name}", "width=5", "optimizer=min_norm", "results_dir=2.50", "n_jobs=1"]) == 0
    tables = {path.name: set(pd.read_parquet(path / "runs").name) for path in (tmp_path / "2.50").iterdir()}
    assert tables == {name: {name} for name in ("1.10", "1.1", "null")}


def test_a_name_may_refer_to_a_number() -> None:
    for line in (["name=${seed}"], ["name=${seed}", "seed=7"], ["name='${oc.decode:\"7\"}'"]):
        assert compose_jobs(line)[1].name in ("0", "7")


def test_a_number_in_yaml_has_to_be_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/mine.yaml").write_text("# @package _global_\nname: 1.10\n")
    for mode in ((), ("-m",)):
        assert main([*mode, "--config-dir", str(tmp_path), "+mine=mine"]) == 2
        assert capsys.readouterr().err.endswith(": must be a word, in one line: write it in quotes\n")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("width=1_0", "width=1_0"),
        ("name=range(1,3)", "name=range(1,3)"),
        ("name=choice(1.10,b)", "name=choice('1.10',b)"),
        ("name=sort(2,1,reverse=true)", "name=sort('2','1',reverse=true)"),
        ("name=str(1.10)", "name=str('1.10')"),
        ("name='1.10'", "name='1.10'"),
        ("name=[1.10]", "name=[1.10]"),
        ("data.root=null", "data.root=null"),
        ("optimizer.method=1.10", "optimizer.method='1.10'"),
        ("optimizer.beta1=0.9", "optimizer.beta1=0.9"),
        ("name", "name"),
        ("name=${seed}", "name=${seed}"),
    ],
)
def test_only_bare_words_of_text_are_quoted(text: str, kept: str) -> None:
    assert as_typed(text) == kept
    assert as_typed(kept) == kept


def test_hydras_own_functions_stay(capsys: pytest.CaptureFixture[str]) -> None:
    found = parser().parse_override("a=interval(0,1)")
    assert found.is_interval_sweep()
    assert capsys.readouterr().err == ""
