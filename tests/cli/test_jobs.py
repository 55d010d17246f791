"""Jobs composed one by one as Hydra composes them: what the tests assemble from single choices is the same."""

from __future__ import annotations

import pytest

from dd.cli.compose import compose_jobs
from dd.cli.jobs import Composer
from dd.runs import registry
from tests.helpers import Assembler, composer

JOBS = [
    "optimizer=adam width=7 model=two_layer normalization=scale",
    "normalization=none model=rmt optimizer=sgd data=mnist",
    "model=cnn5 optimizer=muon normalization=layer_norm",
    "schedule=cosine optimizer=ridge data=linear_teacher width=7 init=he",
]
"""Choices that set each other's keys and choices that do not, in changing order."""


@pytest.mark.parametrize("job", JOBS)
def test_choices_assembled_are_as_hydra_composes_them(job: str) -> None:
    assembler = composer()
    assert isinstance(assembler, Assembler)
    hydra = Composer(assembler.config, assembler.loader)
    assignments = tuple(assembler.reader.assignment(text) for text in job.split())
    (ours, chosen), (theirs, files) = (one.compose(assignments) for one in (assembler, hydra))
    assert ours == theirs
    assert {group: chosen[group] for group in registry.ROOMS} == {group: files[group] for group in registry.ROOMS}
    assert len(assembler._bases) > len(hydra._bases) == 1, "they go different ways"


LINES = [
    "width=3,4",
    "optimizer=adam model=rmt normalization=none lr=0.1 seed=0,1",
    "optimizer.beta1=0.5 optimizer=adam",
    "seed=1 data.seed=${seed} name=${seed}",
    "width=3 data.root=${oc.env:HOME}",
    "+experiment=ridge width=3",
]
"""Command lines whose jobs choose what is fixed for all of them."""


@pytest.mark.parametrize("line", LINES)
def test_what_is_composed_already_is_as_composed_again(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = compose_jobs(line.split())
    monkeypatch.setattr(Composer, "_own", lambda self: None)
    assert ours == compose_jobs(line.split())
