"""Identities of runs: dd.runs.run and dd.runs.settings (their keys: tests/runs/test_scopes.py).

Covers: dd/runs/axis.py, dd/runs/settings.py.
"""

from __future__ import annotations

import dataclasses

import pytest

from dd.runs.run import core_axes
from tests.helpers import run_of


@pytest.mark.parametrize(
    ("overrides", "run_id"),
    [
        ((), "198bc9affba7f573daef"),
        (("optimizer=adam", "lr=0.01", "width=510"), "057490be82c7d0870145"),
        (("optimizer=min_norm", "data.label_noise=0.2"), "c6f1069c71eda0fc1798"),
        (("model=two_layer", "init=he", "init.scale=2", "normalization=batch_norm", "seed=3"), "e4d19f94da3edf896173"),
        (("model=linear", "data=linear_teacher", "data.dim=50", "width=20", "optimizer=ridge"), "a110d5c173f94b67267a"),
    ],
)
def test_ids_are_pinned(overrides: tuple[str, ...], run_id: str) -> None:
    """A change here orphans every table that users have: raise ID_VERSION only where numbers changed."""
    assert run_of(*overrides).run_id == run_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("lr=1",), ("lr=1.0",)),
        (("lr=0.3",), ("lr=0.30000000000000004",)),
        (("epochs=10",), ("steps=100",)),
        (("batch_size=full",), ("batch_size=500",)),
        (("optimizer=min_norm",), ("optimizer=min_norm", "batch_size=7", "epochs=3", "init=he", "lr=2")),
        (("model.bandwidth=3",), ()),
        (("optimizer=min_norm",), ("optimizer=min_norm", "schedule=step", "schedule.every=3")),
        (("optimizer=chebyshev",), ("optimizer=chebyshev", "schedule=cosine", "schedule.warmup=10000")),
        (("schedule=constant",), ("schedule.per=epoch",)),
        (("init=zero",), ("init=zero", "init.scale=10")),
        (("width=7", "seed=1"), ("seed=1", "width=7")),
        (("device=cpu", "name=x", "n_jobs=1"), ()),
    ],
)
def test_one_run_has_one_id_however_it_is_spelt(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert run_of(*one) == run_of(*other)
    assert run_of(*one).run_id == run_of(*other).run_id


def test_every_axis_changes_the_id() -> None:
    changed = {
        "width": "width=11", "n_train": "data.n_train=100", "n_test": "data.n_test=100", "seed": "seed=1",
        "label_noise": "data.label_noise=0.1", "label_noise_over": "data.label_noise_over=all",
        "data_seed": "data.seed=1", "standardize": "data.standardize=none", "init": "init=he",
        "init_scale": "init.scale=2", "normalization": "normalization=scale", "optimizer": "optimizer=momentum",
        "lr": "lr=0.1", "lr_unit": "lr_unit=absolute", "batch_size": "batch_size=10", "steps": "steps=7",
        "stop_loss": "stop_loss=0.1", "loss": "loss=cross_entropy", "dtype": "dtype=float64",
        "model": "model=two_layer", "data": "data=mnist1d", "solver": "solver=dual",
        "test_seed": "data.test_seed=1", "targets": "data.targets=linear",
        "data_content": "data.content=0a", "classes": "data.classes=0,6", "schedule": "schedule=step",
        "augment": "data.augment=crop_flip", "n_validation": "data.n_validation=9",
    }  # fmt: skip
    assert changed.keys() == core_axes().keys()
    images = ("model=cnn5", "data.standardize=global")  # what data.augment asks for
    ids = {run_of(*(images if name == "augment" else ()), text).run_id for name, text in changed.items()}
    assert len(ids | {run_of().run_id}) == len(changed) + 1


@pytest.mark.parametrize(("drawn", "share"), [(200, 0.1), (55, 0.1), (35, 0.3), (500, 0.25), (1000, 0.125), (7, 0.0)])
def test_the_share_held_out_is_told_as_it_was_asked_for(drawn: int, share: float) -> None:
    held = round(share * drawn)
    assert run_of().replace(n_train=drawn - held, n_validation=held).validation == share


def test_a_copy_is_a_run_of_its_own() -> None:
    run = run_of("data.classes=0,6")
    assert run.chosen == (0, 6)
    other = run.replace(width=7, classes="1,7")
    assert (other.width, other.chosen, run.width, run.chosen) == (7, (1, 7), 100, (0, 6))
    assert other.run_id != run.run_id
    assert other == dataclasses.replace(run, width=7, classes="1,7")
    with pytest.raises(TypeError, match="a run has no widht"):
        run.replace(widht=7)
