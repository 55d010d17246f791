"""The experiments that the report knows are the presets that there are."""

from __future__ import annotations

from pathlib import Path

from analysis import experiments

PRESETS = Path(__file__).parents[2] / "conf" / "experiment"


def test_every_preset_has_its_place_in_the_report_and_the_other_way_round() -> None:
    listed = [name for part in experiments.PARTS.values() for name in part]
    assert sorted(listed) == sorted(path.stem for path in PRESETS.glob("[!_]*.yaml"))


def test_the_study_is_what_builds_on_the_shared_bases() -> None:
    built = {path.stem for path in PRESETS.glob("[!_]*.yaml") if "  - _" in path.read_text()}
    assert {*experiments.STUDY, *experiments.FEW_RUNS} == built


def test_every_experiment_of_the_study_has_a_factor() -> None:
    assert all(experiments.factor(name) != name or name in experiments.FACTORS.values() for name in experiments.STUDY)
