"""The table at the end of a sweep, and progress off a terminal: dd.cli.summary and dd.cli.progress.

Covers: dd/cli/progress.py.
"""

from __future__ import annotations

import math
import random

import pytest

from dd.cli.progress import Progress
from dd.cli.summary import GROUP_LIMIT, MINIMUM_RATIO, Summary, describe, find_peak, remark, shown, told
from dd.results import runs_schema
from dd.results.schema import table_of

CURVE = {10: 1.0, 50: 0.3, 100: 0.5, 200: 4.0, 300: 0.4, 400: 0.2}


def rows(curve: dict[int, float], **more: object) -> list[dict[str, object]]:
    base = {
        "status": "ok", "optimizer": "sgd", "lr": 0.5, "seed": 0, "min_norm_test_loss": None, "train_loss": 0.01,
        "interpolation_width": 190.0, "feature_condition": 7.0, "measure": "basic",
    }  # fmt: skip
    return [base | {"width": w, "test_loss": t} | more for w, t in curve.items()]


def summary(found: list[dict[str, object]]) -> str:
    return Summary.of(found).table()


def body(found: list[dict[str, object]]) -> list[list[str]]:
    """Cells of the lines below the head, without the explanation of the columns."""
    return [
        line.split() for line in summary(found).splitlines()[1:] if not line.startswith(("width:", "valley:", "κ:"))
    ]


def test_peak_is_the_rise_above_both_valleys() -> None:
    peak = find_peak(rows(CURVE))
    assert (peak.x, peak.test_loss, peak.train_loss) == (200, 4.0, 0.01)
    assert peak.ratio == pytest.approx(4.0 / 0.3)


@pytest.mark.parametrize(
    "curve", [{10: 3.0, 20: 2.0, 30: 1.0}, {10: 1.0, 20: 2.0}, {10: 1.0, 20: 1.05, 30: 1.0}, {10: 1.0}]
)
def test_falling_rising_and_flat_curves_have_no_peak(curve: dict[int, float]) -> None:
    assert find_peak(rows(curve)) is None


def test_the_peak_is_that_of_every_split_tried_out() -> None:
    rng = random.Random(0)
    for n in (3, 4, 10, 30):
        losses = [round(rng.lognormvariate(0, 1), 1) + 0.1 for _ in range(n)]
        ratios = [losses[i] / max(min(losses[:i]), min(losses[i + 1 :])) for i in range(1, n - 1)]
        peak = find_peak(rows(dict(enumerate(losses, 1))))
        if max(ratios) < MINIMUM_RATIO:
            assert peak is None
        else:
            assert (peak.x, peak.ratio) == (ratios.index(max(ratios)) + 2, max(ratios))


class Counted(float):
    """A loss that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: float) -> bool:
        Counted.compared += 1
        return float(self) < float(other)

    def __gt__(self, other: float) -> bool:
        Counted.compared += 1
        return float(self) > float(other)


def test_the_search_for_the_peak_is_proportional_to_the_curve() -> None:
    needed = []
    for n in (500, 1000):
        Counted.compared = 0
        find_peak(rows({w: Counted(1 + w % 7) for w in range(1, n + 1)}))
        needed.append(Counted.compared)
    assert 0 < needed[1] <= 2 * needed[0] + 10


def test_medians_over_seeds_decide() -> None:
    outlier = rows(CURVE) + rows(CURVE, seed=1) + rows({50: 1e9}, seed=2)
    assert find_peak(outlier).x == 200


def test_failed_runs_are_counted_and_left_out() -> None:
    text = summary([*rows(CURVE), *rows({500: 1e9}, status="failed"), *rows({150: 1e9}, status="diverged")])
    assert "8 (1 failed) (1 diverged)" in text
    assert text.splitlines()[1].split()[6] == "200", "the diverged run in the middle is no rise"


def test_a_line_says_where_how_high_and_over_what() -> None:
    (line,) = Summary.of(rows(CURVE)).lines
    assert (line.x, line.rises, line.test, line.valley, line.lowest) == (200, True, 4.0, 0.3, (0.2, 400))
    assert line.ratio == pytest.approx(4.0 / 0.3)
    assert body(rows(CURVE)) == [["sgd", "6", "200", "4", "0.3", "x13.3", "0.01", "0.2", "at", "400"]]


def test_without_a_rise_the_line_is_about_the_threshold() -> None:
    falling = {100: 3.0, 180: 2.0, 400: 1.0}
    (line,) = Summary.of(rows(falling)).lines
    assert (line.x, line.rises, line.test, line.valley) == (180, False, 2.0, 3.0)
    assert math.isnan(Summary.of(rows({100: 3.0, 180: 2.0})).lines[0].ratio), "no width on one side"
    (line,) = Summary.of(rows(falling, interpolation_width=None)).lines
    assert (line.x, line.threshold, line.cells()[2:]) == (None, None, ["-", "-", "-", "-", "-", "1 at 400"])


def test_lines_are_sorted_numbers_by_size() -> None:
    found = [r for lr in (10.0, 2.0, None) for name in ("sgd", "adam") for r in rows(CURVE, optimizer=name, lr=lr)]
    assert [line[:2] for line in body(found)] == [
        ["adam", "-"], ["adam", "2.0"], ["adam", "10.0"], ["sgd", "-"], ["sgd", "2.0"], ["sgd", "10.0"]
    ]  # fmt: skip


def test_columns_are_one_word_each_and_explained_in_80_to_100_characters() -> None:
    text = summary(
        rows(CURVE, optimizer="conjugate_gradient", steps=1000) + rows(CURVE, steps=10**12) + rows(CURVE, steps=1)
    )
    head, *_ = lines = text.splitlines()
    assert head.split() == ["optimizer", "steps", "runs", "width", "test", "valley", "ratio", "train", "lowest"]
    assert max(map(len, lines)) <= 100
    assert all(f"{word}:" in text or f"{word}," in text for word in ("width", "test", "train", "valley", "ratio"))
    assert "1e12" in text


def test_the_condition_number_is_told_where_the_question_is_conditioning() -> None:
    plain, normed = rows(CURVE, normalization="none"), rows(CURVE, normalization="scale", feature_condition=5.0)
    assert "κ" not in summary(rows(CURVE))
    text = summary(plain + normed)
    assert text.splitlines()[0].split()[-2:] == ["κ", "lowest"]
    assert [line[-4] for line in body(plain + normed)] == ["7", "5"]
    assert "κ: condition number" in summary(rows(CURVE, measure="full"))


def test_thresholds_that_differ_have_a_column() -> None:
    found = rows(CURVE, n_train=60, interpolation_width=60.0) + rows(CURVE, n_train=200, interpolation_width=200.0)
    assert summary(found).splitlines()[0].split()[:4] == ["optimizer", "n_train", "runs", "threshold"]
    assert [line[3] for line in body(found)] == ["60", "200"]


def test_more_lines_than_fit_are_counted() -> None:
    found = [r for i in range(GROUP_LIMIT + 3) for r in rows(CURVE, lr=float(i + 1))]
    assert "... and 3 more lines; see the table" in summary(found)
    assert len(body(found)) == GROUP_LIMIT + 1


def test_pairs_of_seeds_are_counted() -> None:
    found = rows(CURVE, data_seed=0) + rows(CURVE, data_seed=1) + rows(CURVE, seed=1, data_seed=1)
    assert Summary.of(found).seeds == 3


def test_lines_follow_what_varies_within_an_optimizer() -> None:
    adam = rows(CURVE, optimizer="adam", lr=0.001)
    assert summary(rows(CURVE) + adam).splitlines()[0].split()[:2] == ["optimizer", "runs"]
    text = summary(rows(CURVE) + rows(CURVE, lr=1.0) + adam)
    assert text.splitlines()[0].split()[:3] == ["optimizer", "lr", "runs"]
    assert len(body(rows(CURVE) + rows(CURVE, lr=1.0) + adam)) == 3


def test_the_min_norm_limit_has_a_line_of_its_own() -> None:
    limit = [row | {"min_norm_test_loss": 100 * row["test_loss"], "min_norm_train_loss": 0.0} for row in rows(CURVE)]
    assert body(limit)[-1][:4] == ["(min-norm", "limit)", "200", "400"]


def test_each_problem_has_its_own_limit() -> None:
    def limited(**more: object) -> list[dict[str, object]]:
        return [r | {"min_norm_test_loss": r["test_loss"], "min_norm_train_loss": 0.0} | more for r in rows(CURVE)]

    text = summary(limited(n_train=60) + limited(n_train=100) + limited(n_train=100, optimizer="adam"))
    lines = [line.split() for line in text.splitlines() if line.startswith("(min-norm limit)")]
    assert [line[2] for line in lines] == ["60", "100"]


def test_options_vary_only_within_their_component() -> None:
    plain = rows(CURVE, normalization="none", normalization_eps=None)
    normed = rows(CURVE, normalization="batch_norm", normalization_eps=1e-5)
    assert summary(plain + normed).splitlines()[0].split()[:3] == ["optimizer", "normalization", "runs"]


def test_what_is_read_is_enough() -> None:
    """Of columns that are not read nothing is told."""

    class Row(dict[str, object]):
        def __missing__(self, key: str) -> object:
            raise AssertionError(f"{key} is not read")

    whole = dict.fromkeys(runs_schema().names) | {"model": "two_layer", "normalization": "none", "init": "default"}
    some = [Row({k: (whole | row)[k] for k in told(runs_schema().names)}) for row in rows(CURVE) + rows(CURVE, lr=1.0)]
    assert summary(some) == summary([whole | row for row in rows(CURVE) + rows(CURVE, lr=1.0)])
    measured = {"test_error": 0.25, "feature_condition": 12.0, "feature_rank": 3}
    assert describe(some[0] | measured) == describe(whole | some[0] | measured)
    assert not {"finished_at", "hessian_trace", "data_source"} & set(told(runs_schema().names))


def test_one_run_in_words() -> None:
    row = {
        "model": "linear",
        "width": 7,
        "status": "ok",
        "train_loss": 0.5,
        "test_loss": 1.0,
        "test_error": 0.25,
        "feature_condition": 10.0,
        "feature_rank": 3,
    }
    assert describe(row) == (
        "linear, width 7: train loss 0.5, test loss 1, test error 0.250, feature condition 10 (rank 3)"
    )
    assert describe(row | {"status": "diverged"}).startswith("linear, width 7: diverged: last finite values train loss")
    assert describe(row | {"status": "failed", "error": "X: y"}) == "linear, width 7: failed: X: y"


def test_progress_prints_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(200, 200.0) as progress:
        for i in range(200):
            progress.update("failed" if i == 3 else "ok", 1.0)
    lines = capsys.readouterr().err.splitlines()
    assert 9 <= len(lines) <= 12
    assert lines[-1].startswith("dd: 200/200 runs, 1 failed")
    assert all("s left" in line for line in lines)


def test_the_time_left_goes_by_the_work_that_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 60.0, 61.0, 200.0])
    monkeypatch.setattr("dd.cli.progress.time.perf_counter", lambda: next(clock))
    with Progress(100, 10.0) as progress:
        progress.update("ok", 6.0)
        progress.update("ok", 0.0)
        progress.update("ok", 2.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["dd: 1/100 runs, 60 s, 40 s left", "dd: 3/100 runs, 200 s, 50 s left"], "one after a silence"


def test_contents_tell_curves_apart_only_where_nothing_else_does() -> None:
    both = rows(CURVE, data="mnist", data_content="a" * 64) + rows(CURVE, data="mnist", data_content="b" * 64)
    assert summary(both).splitlines()[0].split()[:2] == ["optimizer", "data_content"]
    # a generator from outside has another content for every training set
    drawn = [row | {"data_seed": s, "data_content": f"{s}"} for s in (0, 1) for row in rows(CURVE, data="mine")]
    assert summary(drawn).splitlines()[0].split()[:2] == ["optimizer", "runs"]


def test_rows_of_an_older_dd_stand_for_the_defaults() -> None:
    old, new = rows(CURVE), rows({15: 0.9, 25: 0.8}, n_validation=0, targets="given", label_noise=0.0)
    (line,) = body(shown(table_of([*old, *new], runs_schema())))
    assert line[:2] == ["sgd", "8"]


def test_notes_are_one_line_for_a_sweep_and_whole_for_a_run() -> None:
    dead, thin = "dead units: 2 of 9 (because)", "near-constant inputs: 5 of 64 (so)"
    assert remark([dead, None, dead, f"{dead}; {thin}"]) == (
        "3 runs have dead units, 1 has near-constant inputs: see status_note"
    )
    assert remark([None, thin]) == "1 run has near-constant inputs: see status_note"
    assert remark([f"{dead}; {thin}"]) == f"{dead}; {thin}"
    assert remark([None]) is remark([None, None]) is remark([]) is None


def along_samples(**more: object) -> list[dict[str, object]]:
    """The curve at width 190, along the number of training samples; two numbers fit a bit less than themselves."""
    found = rows(CURVE, **more)
    return [row | {"width": 190, "n_train": row["width"], "interpolation_width": row["width"] - 1.0} for row in found]


def test_a_sweep_of_training_set_sizes_at_one_width_is_one_curve() -> None:
    found = Summary.of(along_samples())
    (line,) = found.lines
    assert (found.axis, found.axes) == ("n_train", ("optimizer",))
    assert (line.x, line.rises, line.valley, line.lowest) == (200, True, 0.3, (0.2, 400))
    assert line.threshold == pytest.approx(191)
    assert "n_train: where test loss rises most, else nearest the threshold" in found.table()


def test_what_follows_the_number_of_samples_is_no_axis() -> None:
    found = [
        row | {"steps": 10 * row["n_train"], "batch_size": row["n_train"], "epochs": 10.0} for row in along_samples()
    ]
    assert Summary.of(found).axes == ("optimizer",)
    more = [row | {"steps": 2 * row["steps"], "epochs": 20.0} for row in found]  # type: ignore[operator]
    small = [row | {"batch_size": 5} for row in found]
    summary = Summary.of([*found, *more, *small])
    assert summary.axes == ("optimizer", "batch_size", "epochs")
    assert [(line.label[1:], line.x) for line in summary.lines] == [
        (("5", "10.0"), 200),
        (("full", "10.0"), 200),
        (("full", "20.0"), 200),
    ]


def test_two_widths_or_two_training_sets_stay_curves_along_the_width() -> None:
    found = along_samples()
    assert Summary.of([*found, *(row | {"width": 191} for row in found)]).axis == "width"
    assert Summary.of(found[:2]).axis == "width"
