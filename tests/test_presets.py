"""What presets there are, and how large they are: dd.presets and dd.cli.presets.

Covers: dd/cli/presets.py.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dd import presets
from dd.cli import presets as numbers
from dd.cli.compose import compose_runs
from dd.cli.presets import Size, digest, grids, notes, questions, size, sizes


def test_every_preset_is_listed_with_its_question_runs_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert presets.main([]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["preset", "runs", "one", "core", "question"]
    listed = {line.split()[0]: line for line in lines if line[:1].islower() and "  " in line}
    assert listed.keys() == questions().keys()
    assert "  1120       9 s  Does more training bring the peak?" in listed["iterations"]


def test_every_question_is_one_line() -> None:
    for name, question in questions().items():
        assert "?" in question, name
        assert len(question) <= 90, name
        assert "python -m" not in question, name


def test_the_numbers_that_come_with_dd_are_of_all_presets_as_they_are() -> None:
    known = sizes()
    assert known.keys() == {(name, digest(name)) for name in questions()}, "python -m dd.presets --write"


@pytest.mark.parametrize("name", ["iterations", "linear_teacher", "two_layer_optimizer", "rmt_conditioning"])
def test_the_numbers_that_come_with_dd_are_those_of_the_plan(name: str) -> None:
    found, known = numbers.planned(name), size(name)
    assert found.runs == known.runs
    assert found.seconds == pytest.approx(known.seconds, rel=0.5), "python -m dd.presets --write"


def test_a_preset_whose_files_have_changed_is_planned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "presets.csv"
    with old.open("w", newline="") as file:
        csv.writer(file).writerows(
            [numbers.COLUMNS, ("linear_teacher", "another", 1, 1.0), ("ridge", digest("ridge"), 2, 3)]
        )
    monkeypatch.setattr(numbers, "NUMBERS", old)
    assert size("ridge") == Size(2, 3.0)
    assert size("linear_teacher").runs == len(compose_runs("+experiment=linear_teacher"))
    monkeypatch.setattr(numbers, "NUMBERS", tmp_path / "none.csv")
    assert sizes() == {}


def test_numbers_are_written_as_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "NUMBERS", tmp_path / "presets.csv")
    monkeypatch.setattr(numbers, "questions", lambda: {"linear_teacher": ""})
    assert presets.main(["--write"]) == 0
    assert sizes() == {("linear_teacher", digest("linear_teacher")): Size(170, pytest.approx(2, abs=2))}


def test_comments_do_not_change_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = numbers.path_of("iterations").read_text()
    before = digest("iterations")
    for changed, same in ((text.replace("?", "!"), True), (text.replace("1e8", "1e9"), False)):
        copy = numbers.path_of("iterations").with_name("_changed_by_a_test.yaml")
        monkeypatch.setattr(numbers, "with_bases", lambda path, text=changed: _written(tmp_path, text, path))
        assert (digest("iterations") == before) is same, copy


def _written(folder: Path, text: str, path: Path) -> list[Path]:
    (folder / path.name).write_text(text)
    return [folder / path.name, path.with_name("_random_features.yaml")]


def test_a_page_has_axes_command_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert presets.main(["early_stopping"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "early_stopping: Does early stopping on held-out samples remove the peak?"
    assert lines[2:5] == notes("early_stopping")
    assert "  validation  0,0.1" in lines
    assert "command  python -m dd.run -m +experiment=early_stopping" in lines
    assert lines[-1] == "figures  python -m analysis.figures: figures/early_stopping*.png and figures/index.html"


def test_its_commands_begin_as_the_program_was_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.orig_argv", ["/usr/bin/python3", "/usr/bin/dd-lab", "presets", "iterations"])
    assert presets.main(["iterations"]) == 0
    assert presets.main([]) == 0
    said = capsys.readouterr().out
    assert "command  dd-lab run -m +experiment=iterations\n" in said
    assert "figures  dd-lab figures: " in said
    assert said.endswith("dd-lab presets NAME shows axes and command; dd-lab run -m +experiment=NAME runs one\n")


def test_axes_are_those_that_are_swept() -> None:
    (grid,) = grids("iterations")
    swept = dict(axis.split("=", 1) for axis in grid)
    runs = compose_runs("+experiment=iterations")
    assert {int(w) for w in swept["width"].split(",")} == {run.width for run in runs}
    assert {int(float(s)) for s in swept["steps"].split(",")} == {run.steps for run in runs}


def test_an_unknown_preset_is_one_line_with_those_that_are_like_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert presets.main(["iteratons"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dd: preset=iteratons (from the command line): did you mean iterations")
    assert error.count("\n") == 1
    assert presets.main(["zzz"]) == 2
    assert "python -m dd.presets lists them" in capsys.readouterr().err


def test_help_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert presets.main(["--help"]) == 0
    assert "python -m dd.presets iterations" in capsys.readouterr().out
