"""Schedules of the step size: torch's own, step by step, and what is refused.

Covers: dd/components/schedule.py, dd/schedules.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from dd.components.schedule import Factors
from dd.errors import ConfigError
from dd.packs.plan import families
from dd.runs import registry
from dd.runs.run import Run
from dd.schedules.constant import Constant
from tests.helpers import run_of, solve_rows
from tests.training import torch_scheduler

OPTIONS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "inverse_sqrt": ("schedule.scale=3.5",),
    "cosine": ("schedule.final=0.1",),
    "linear": ("schedule.final=0.25",),
    "step": ("schedule.every=4", "schedule.gamma=0.3"),
}
UNEVEN = ("data.n_train=60", "data.n_test=40", "batch_size=25", "steps=70", "lr=0.3", "lr_unit=absolute")
"""Three batches an epoch, the last of which is short; the last epoch is cut short, too."""


def torchs(run: Run) -> list[float]:
    """Step sizes that a loop with torch's scheduler takes."""
    assert run.lr is not None
    assert run.steps is not None
    assert run.batches_per_epoch is not None
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], run.lr)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR's own way to its second schedule
        scheduler = torch_scheduler(run, optimizer)
        for step in range(1, run.steps + 1):
            found.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if run.schedule.per == "step" or step % run.batches_per_epoch == 0:
                scheduler.step()
    return found


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize("options", [True, False], ids=["options", "defaults"])
@pytest.mark.parametrize("name", registry.names("schedule"))
def test_step_sizes_are_those_of_torch(name: str, options: bool, per: str, warmup: int) -> None:
    own = OPTIONS[name] if options else ()
    run = run_of(*UNEVEN, f"schedule={name}", f"schedule.per={per}", f"schedule.warmup={warmup}", *own)
    ours = run.lr * run.schedule.factors(run, 0, 70)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, torchs(run), rtol=0, atol=1e-12)
    pieces = [run.schedule.factors(run, a, b) for a, b in ((0, 1), (1, 33), (33, 33), (33, 70))]
    assert np.array_equal(np.concatenate(pieces), run.schedule.factors(run, 0, 70)), "in whatever pieces"


def test_the_published_step_size_of_the_information_bottleneck_is_the_inverse_root_of_epochs() -> None:
    run = run_of(*UNEVEN, "lr=0.01", "schedule=inverse_sqrt", "schedule.per=epoch")
    published = [0.01 / np.sqrt(1 + step // 3) for step in range(70)]
    np.testing.assert_allclose(run.lr * run.schedule.factors(run, 0, 70), published, rtol=1e-15)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("schedule.warmup=70",), "schedule.warmup=70 .*: must be < 70, the steps of the budget: it would never end"),
        (("schedule=cosine", "schedule.warmup=24", "schedule.per=epoch"),
         "schedule.warmup=24 .*: must be < 24, the epochs of the budget: it would never end"),
        (("schedule=step", "schedule.warmup=1", "steps=0"), "schedule.warmup=1 .*: must be < 0"),
        (("schedule=cosine", "steps=0"),
         "schedule=cosine .*: spans the budget, and steps=0 has nothing to span; use schedule=constant"),
        (("schedule=linear", "steps=0"), "schedule=linear .*: spans the budget"),
        (("schedule=step", "schedule.every=1", "steps=400"),
         "schedule=step .*: must leave the last step a size > 0, but leaves 0 of lr"),
        (("schedule.warmup=-1",), r"schedule.warmup=-1 .*: must be an integer >= 0 \[steps or epochs\]"),
        (("schedule=step", "schedule.every=0"), r"schedule.every=0 .*: must be an integer >= 1 \[steps or epochs\]"),
        (("schedule=step", "schedule.gamma=0"), "schedule.gamma=0 .*: must be a number > 0 and <= 1"),
        (("schedule=linear", "schedule.final=1.5"), "schedule.final=1.5 .*: must be a number >= 0 and <= 1"),
        (("schedule=inverse_sqrt", "schedule.scale=0"), "schedule.scale=0 .*: must be a number > 0"),
        (("schedule.per=batch",), "schedule.per=batch .*: must be one of step, epoch"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_of(*UNEVEN, *overrides)
    assert "\n" not in str(caught.value)


def test_without_steps_only_a_schedule_that_ends_with_them_is_refused() -> None:
    assert run_of(*UNEVEN, "steps=0", "schedule=inverse_sqrt").steps == 0


def test_a_subclass_with_another_shape_inherits_no_claim() -> None:
    @dataclass(frozen=True)
    class Half(Constant):
        def shape(self, unit: Factors, units: int) -> Factors:
            return np.full_like(unit, 0.5)

    run = run_of(*UNEVEN).replace(schedule=Half())
    assert Constant().flat
    assert not Half().flat
    assert not Half.prefix
    assert run.schedule.factors(run, 0, 3).tolist() == [0.5] * 3


@pytest.mark.parametrize("name", ["cosine", "inverse_sqrt"])
def test_budgets_together_are_as_each_alone(name: str) -> None:
    small = ("model=rmt", "width=2", "optimizer=adam", "data.n_train=16", "data.n_test=10", "batch_size=8",
             "measure=none")  # fmt: skip
    runs = [run_of(*small, f"schedule={name}", f"steps={steps}") for steps in (20, 40)]
    assert len(families(runs)) == (2 if name == "cosine" else 1)
    rows = {row["run_id"]: row for row in solve_rows(*runs)}
    for run in runs:
        alone, mine = solve_rows(run)[0], rows[run.run_id]
        assert mine["steps_done"] == run.steps
        assert {k: v for k, v in alone.items() if k != "seconds"} == {k: v for k, v in mine.items() if k != "seconds"}
