"""What a user can choose from: dd.cli.choices, dd.cli.help and dd.cli.axes_page.

Covers: dd/cli/help.py.
"""

from __future__ import annotations

import pytest

from dd.cli import axes_page
from dd.cli.choices import axes, choices, known_keys, settings
from dd.cli.help import help_text
from dd.runs import registry
from dd.runs.run import core_axes
from dd.runs.settings import setting_axes
from dd.trainers.table import TRAINERS


def test_help_says_of_every_key_its_meaning_range_and_default() -> None:
    text = help_text()
    for line in (
        "  batch_size               samples per step; an integer >= 1 [samples], or full, or null; default 50",
        "    optimizer.eps            added to the denominator; a number >= 0; default 1e-10",
        "    sets lr=0.5, lr_unit=sharpness",
        "    sets normalization=batch_norm",
        "    sets data.n_train=200, data.standardize=none",
    ):
        assert line in text.splitlines()
    for axis in (*(a for name, a in core_axes().items() if name not in registry.ROOMS), *setting_axes()):
        (line,) = [x for x in text.splitlines() if x.startswith(f"  {axis.key} ") and axis.help in x]
        assert "; default " in line
    for key, axis in registry.option_axes():
        assert any(line.startswith(f"    {key} ") and axis.help in line for line in text.splitlines())


def test_every_choice_has_its_own_options() -> None:
    for group in registry.ROOMS:
        assert [choice.name for choice in choices(group)] == list(registry.names(group))
        for choice in choices(group):
            own = registry.kind(group, choice.name).axes().values()
            assert list(choice.options) == [f"{group}.{axis.key}" for axis in own]
            assert not choice.sets.keys() & choice.options.keys()
            assert choice.sets.keys() <= set(known_keys())


def test_defaults_of_axes_are_allowed() -> None:
    for axis, default in (*axes(), *settings()):
        if default is not None:
            axis.check(default)
    (trainer,) = [axis for axis, _ in settings() if axis.key == "trainer"]
    assert trainer.choices == ("auto", *(kind.name for kind in TRAINERS))


def test_the_page_of_axes_is_current() -> None:
    assert axes_page.main(["--check"]) == 0


def test_a_page_that_is_not_current_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "axes.md"  # type: ignore[operator]
    page.write_text("before\n<!-- table: model options -->\n<!-- end -->\nafter\n")
    monkeypatch.setattr(axes_page, "PAGE", page)
    assert axes_page.main(["--check"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert axes_page.main([]) == 0
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "| `model.bias` | `two_layer` | true or false | `true` |  | any | biases in both layers |" in lines
    assert axes_page.main(["--check"]) == 0
