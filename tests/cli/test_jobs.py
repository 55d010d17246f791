"""Jobs composed one by one as Hydra composes them: what the tests assemble from single choices is the same."""

from __future__ import annotations

import pytest

from dd.cli.compose import compose_jobs
from dd.cli.grid import Grid
from dd.cli.jobs import Composer
from dd.errors import ConfigError
from dd.runs import registry
from tests.helpers import Assembler, composer


def jobs() -> list[str]:
    """Lines that together choose every file of every group, in changing order, with a value between."""
    longest = max(len(registry.names(group)) for group in registry.ROOMS)
    found = []
    for i in range(longest):
        chosen = [f"{group}={names[i % len(names)]}" for group in registry.ROOMS if (names := registry.names(group))]
        turn = i % len(chosen)
        found.append(" ".join([*chosen[turn:], "width=7", *chosen[:turn]]))
    return [*found, "model=rmt", "model=cnn5 optimizer=muon", "width=3 optimizer=adam width=7"]


@pytest.mark.parametrize("job", jobs())
def test_choices_assembled_are_as_hydra_composes_them(job: str) -> None:
    own = composer()
    assembler, hydra = (kind(own.config, own.loader) for kind in (Assembler, Composer))
    assignments = tuple(assembler.reader.assignment(text) for text in job.split())
    ours = assembler.compose(assignments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own.loader, "load_sweep_config", None)
        assert assembler.compose(assignments).config == ours.config, "without Hydra"
    theirs = hydra.compose(assignments)
    assert ours.config == theirs.config
    for group in registry.ROOMS:
        assert ours.choices[group] == theirs.choices[group]


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


SWEEPS = [
    "width=3,4 seed=0,1,2 lr=0.1,1",
    "seed=2,0,1 data.seed=${seed} width=3,4",
    "data.seed=0,1,2 data.test_seed=null,1 width=3,4",
    "model=two_layer,random_features optimizer=momentum optimizer.momentum=0.5,0.9 seed=0,1 init.scale=1,2",
    "optimizer=adam,min_norm seed=0,1.0 lr=1,1.0 data.label_noise=0,0.1",
    "data.classes=[0,6],[1,7] seed=0,1 data.n_train=all,50 data.n_test=20",
    "model.activation=relu,tanh model.bias=true,false seed=3,4",
]
"""Sweeps whose runs have much in common."""


@pytest.mark.parametrize("line", SWEEPS)
def test_a_run_of_a_sweep_is_as_composed_alone(line: str) -> None:
    one, typed = composer(), line.split()
    grid = Grid.of(one.reader, one.reader.overrides(typed))
    runs, _ = one.runs(grid, typed)
    alone = [one.runs([job], job)[0][0] for job in grid]
    assert runs == alone
    assert [run.run_id for run in runs] == [run.run_id for run in alone]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("width=3,0 seed=0,1", "width=0"),
        ("seed=0,-1 width=3", "seed=-1"),
        ("seed=0,1.5 width=3", "seed=1.5"),
        ("seed=0,true width=3", "seed=True"),
        ("optimizer=momentum optimizer.momentum=0.5,2 seed=0,1", "optimizer.momentum=2"),
        ("lr=1,0 width=3,0", "width=0"),
        ("data.n_train=100,60 batch_size=80", "batch_size=80"),
    ],
)
def test_the_first_fault_of_a_later_run_is_told(line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        compose_jobs(line.split())
