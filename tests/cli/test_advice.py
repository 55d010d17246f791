"""What is said at the end of a sweep: dd.cli.advice."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import dd
from analysis import judgement
from dd.cli import advice
from dd.cli.advice import by_steps, descents, figures, report, through
from dd.cli.compose import compose_jobs
from dd.cli.summary import Summary, find_peak
from dd.errors import DataNotFoundError
from dd.runs.run import Run
from dd.runs.settings import Settings
from tests.cli.test_summary import CURVE, along_samples, rows
from tests.helpers import run_of, runs_of, solve_rows

SMALL = ("data.n_train=60", "data.n_test=100", "batch_size=20", "epochs=20")
TYPED = (
    "python -m dd.run -m 'width=range(10,150,20)' optimizer=sgd data.n_train=60 data.n_test=100 batch_size=20 lr=0.1"
)
FLAT = {10: 0.5, 30: 0.3, 50: 0.3, 70: 0.3, 90: 0.3, 110: 0.3, 130: 0.3}


def said(found: list[dict[str, object]], runs: list[Run], command: str = "") -> list[str]:
    """What follows the table."""
    whole = report(Summary.of(found), runs, Settings(), command)
    return whole.partition("ratio: test/valley\n\n")[2].splitlines()


def test_the_head_names_widths_and_threshold() -> None:
    head = report(Summary.of(rows(CURVE)), [], Settings()).splitlines()[0]
    assert head == "6 widths from 10 to 400; threshold 190: the width that can just fit the training set"
    unknown = report(Summary.of(rows(CURVE, interpolation_width=None)), [], Settings()).splitlines()[0]
    assert unknown == "6 widths from 10 to 400; no threshold is known"


def test_a_rise_of_few_seeds_is_not_called_tested() -> None:
    assert (advice.SEEDS, advice.WIDTHS) == (judgement.FEWEST_SEEDS, judgement.FEWEST_POINTS)
    at = {"interpolation_width": 200.0}
    one = said(rows(CURVE, **at), [])
    assert one == ["rise: x13.3 at width 200, train loss 0.01; one seed: not tested; seed=range(5) tests it"]
    three = said([row for seed in range(3) for row in rows(CURVE, seed=seed, **at)], [])
    assert three[0].endswith("; 3 seeds: python -m analysis.peaks default tests it")
    few = said(rows({100: 1.0, 200: 2.0, 300: 1.0}, **at), [])
    assert few[0].endswith("; 3 widths: not tested; 4 or more are")
    assert not any("peak" in line for line in one + few)


def test_of_several_rises_the_highest_is_named_and_lines_without_one() -> None:
    found = [
        *rows(CURVE, lr=1.0, interpolation_width=200.0),
        *rows({w: 2 * t if w == 200 else t for w, t in CURVE.items()}, lr=2.0, interpolation_width=200.0),
        *rows(dict.fromkeys(CURVE, 1.0), lr=3.0, interpolation_width=200.0, train_loss=0.5),
    ]
    rise, none = said(found, [])
    assert rise.startswith("highest rise: x26.7 at width 200 (sgd, lr 2.0), train loss 0.01; ")
    assert none == "no rise (sgd, lr 3.0): train loss at width 200 is 0.5"


def test_a_grid_that_misses_the_threshold_says_so_with_widths_that_do_not() -> None:
    missed = said(rows(CURVE, interpolation_width=240.0), [])
    assert missed[0] == "no width is the threshold 240, where a peak is highest; the nearest is 200"
    assert missed[1] == "  widths that hit it: width=72,120,192,216,228,240,252,264,300,480,720"
    assert said(rows(CURVE, interpolation_width=900.0), [])[0].startswith("no width reaches the threshold 900")
    assert said(rows({10: 1.0, 20: 1.0}), [])[0] == "fewer than 3 widths show no peak"


def test_training_set_sizes_have_the_sentences_of_widths() -> None:
    head, *_ = report(Summary.of(along_samples()), [], Settings()).splitlines()
    assert (
        head == "6 numbers of training samples from 10 to 400; threshold 191: the most samples that the width can fit"
    )
    missed, better, rise = said(along_samples(), [])
    assert missed == "no number of training samples is the threshold 191, where a peak is highest; the nearest is 200"
    assert better.startswith("  numbers of training samples that hit it: data.n_train=57,96,153,172,181,191,")
    assert rise == "rise: x13.3 at data.n_train 200, train loss 0.01; one seed: not tested; seed=range(5) tests it"

    seeds = [row for seed in range(3) for row in along_samples(seed=seed)]
    assert said(seeds, [])[-1].endswith("; 3 seeds: python -m analysis.peaks default --x n_train tests it")


def test_training_set_sizes_without_a_rise_get_a_command_that_has_one() -> None:
    typed = "python -m dd.run -m 'data.n_train=range(40,200,30)' width=60 optimizer=sgd data.n_test=100 batch_size=20"
    sweep = shlex.split(typed)[4:]
    frame = Summary.of(solve_rows(*runs_of(*sweep, "epochs=20")))
    lines = report(frame, runs_of(*sweep, "epochs=20"), Settings(device="cpu"), typed).splitlines()
    assert lines[0].startswith("6 numbers of training samples from 40 to 190; threshold 60: ")
    assert any(
        line.startswith("gradient descent on full batches for ") and "at data.n_train 60" in line for line in lines
    )
    assert "'data.n_train=range(30,210,30)'" in lines[-1]
    advised = compose_jobs(shlex.split(lines[-1])[4:])[0]
    assert [run.n_train for run in advised] == [30, 60, 90, 120, 150, 180]
    assert {run.width for run in advised} == {60}
    peak = find_peak(solve_rows(*advised), axis="n_train")
    assert peak is not None
    assert (peak.x, peak.ratio > 2) == (60, True)


def test_training_set_sizes_that_the_data_do_not_have_are_left_out() -> None:
    (run,) = runs_of("data.n_test=1000", "width=500", "optimizer=sgd", "batch_size=100")
    assert through([100, 200], 500, [run], "n_train") == "data.n_train=150,250,400,450,475,500,525,550,625"
    assert through([100, 200], 900, [run], "n_train") == "", "the threshold is beyond the 797 samples"


@pytest.mark.parametrize(("first", "step", "count", "at"), [(10, 50, 40, 500), (3, 7, 9, 40), (1, 10, 5, 13)])
def test_a_range_is_moved_onto_the_threshold(first: int, step: int, count: int, at: int) -> None:
    widths = range(first, first + step * count, step)
    override = through(widths, at)
    moved = [run.width for run in runs_of(override, "optimizer=min_norm")]
    assert at in moved
    assert len(moved) == count
    assert min(moved) >= 1
    assert abs(moved[0] - first) <= step


def test_widths_that_a_model_does_not_take_are_left_out() -> None:
    (run,) = runs_of("model=linear", "data=linear_teacher", "data.n_train=25", "width=5", "optimizer=min_norm")
    assert through([5, 30], 25, [run]) == "width=8,12,20,22,24,25,26,28"
    assert through([5, 30], 40, [run]) == "", "the threshold is beyond the inputs"


def test_gradient_descent_reaches_what_is_said_by_the_command_that_is_said() -> None:
    runs = runs_of("width=range(10,150,20)", "optimizer=sgd", "lr=0.1", *SMALL)
    lines = said(rows(FLAT, interpolation_width=60.0), runs, TYPED)
    found = by_steps(runs, Settings(device="cpu"), 0.3)
    assert found is not None
    assert (found.x, found.test > advice.CLEAR * 0.3) == (60, True)
    assert f"for {found.steps:.0e} steps".replace("e+0", "e") in lines[-2]
    assert f"test loss {found.test:.3g}" in lines[-2]
    command = shlex.split(lines[-1])
    assert command[:4] == ["python", "-m", "dd.run", "-m"]
    assert not any(argument.startswith("lr=") for argument in command), "a step size belongs to its optimizer"
    advised = [run for run in compose_jobs(command[4:])[0] if run.width == found.x]
    assert [run.run_id for run in advised] == [run.run_id for run in descents(runs[0]) if run.steps == found.steps]
    (row,) = solve_rows(*advised)
    assert (row["train_loss"], row["test_loss"]) == pytest.approx((found.train, found.test), rel=1e-9)


def test_the_sweep_that_is_advised_rises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ("width=range(10,150,20)", "optimizer=sgd", *SMALL, f"results_dir={tmp_path}", "n_jobs=1")
    dd.sweep(*sweep)
    printed = capsys.readouterr().out.splitlines()
    advised = printed[printed.index(next(line for line in printed if line.startswith("gradient descent"))) + 1]
    assert advised.split()[0] == "width=range(20,160,20)", "without a command line, what to change"
    frame = dd.sweep(*sweep[2:4], *sweep[-2:], "name=advised", *advised.split())
    peak = find_peak(frame.to_dict("records"))
    assert peak is not None
    assert (peak.x, peak.ratio > 2) == (60, True)


def test_what_takes_long_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "PATIENCE", 0.0)
    monkeypatch.setattr(advice, "solve", lambda *_: pytest.fail("solved"))
    assert by_steps([run_of("width=50", *SMALL)], Settings(device="cpu"), 0.1) is None
    assert by_steps([run_of("model=two_layer", "width=5", *SMALL)], Settings(), 0.1) is None, "no closed form"


def test_a_sweep_that_is_done_does_not_fail_by_what_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise DataNotFoundError("data", "digits", "files not found")

    monkeypatch.setattr(advice, "solve", gone)
    assert by_steps([run_of("width=50", *SMALL)], Settings(device="cpu"), 0.1) is None


@pytest.mark.parametrize(
    ("overrides", "loss", "line", "command"),
    [
        (("optimizer=min_norm",), 1e-20, "label noise makes a rise likelier:", "  data.label_noise=0.2"),
        (("optimizer=ridge",), 0.1, "the closed form is damped; without damping:", "  optimizer=min_norm"),
        (
            ("model=two_layer", "epochs=30"), 0.1, "the training set is not fitted; more training may bring a rise:",
            "  epochs=300",
        ),
        (("model=two_layer",), 1e-6, "label noise makes a rise likelier:", "  data.label_noise=0.2"),
    ],
)  # fmt: skip
def test_each_kind_of_sweep_has_its_own_reason(
    overrides: tuple[str, ...], loss: float, line: str, command: str
) -> None:
    runs = runs_of("width=30,60,90", "data.n_train=60", "data.n_test=100", *overrides)
    flat = rows({30: 0.3, 60: 0.3, 90: 0.3}, interpolation_width=60.0, train_loss=loss)
    assert said(flat, runs)[-2:] == [line, command]


def test_the_next_command_is_make_in_a_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(dd.__file__).parents[1])
    assert figures(Settings()) == "make figures"
    assert figures(Settings(results_dir="my results")) == (
        "python -m analysis.figures --results 'my results' --out figures"
    )
    monkeypatch.chdir(tmp_path)
    assert figures(Settings()) == "python -m analysis.figures --results results --out figures"
