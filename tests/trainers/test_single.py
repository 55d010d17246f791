"""One run of a module at a time: the numbers of the stack, and which runs it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dd.components.module import ModuleModel
from dd.network import Network
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.course import train
from dd.trainers.single import Single
from dd.trainers.stack import Stack
from dd.trainers.table import trainer_for
from tests.helpers import problem_of, run_of
from tests.models import networks

CPU, GPU = torch.device("cpu"), torch.device("cuda")
DATA = ("data.n_train=60", "data.n_test=40")
LINE = (*DATA, "width=6", "batch_size=25", "steps=12", "lr=0.05", "lr_unit=absolute", "dtype=float64")
MODELS = {
    "mlp": f"model=module model.path={Path(networks.__file__)}:mlp",
    "cnn": f"model=module model.path={Path(networks.__file__)}:cnn",
    "linear": f"model=module model.path={Path(networks.__file__)}:linear",
    "rmt": "model=rmt normalization=batch_norm",
}


def of(name: str, *overrides: str) -> Run:
    return run_of(*LINE, *MODELS.get(name, f"model=module model.path={networks.__file__}:{name}").split(), *overrides)


def task(run: Run) -> Task:
    dtype = torch.float64 if run.dtype == "float64" else torch.float32
    return Task(run, Network([run], problem_of(*DATA), CPU, dtype), lr=0.05)


@pytest.mark.parametrize("overrides", ["optimizer=momentum", "optimizer=adam loss=cross_entropy", "optimizer=lbfgs"])
@pytest.mark.parametrize("name", MODELS)
def test_it_trains_as_the_stack_does(name: str, overrides: str) -> None:
    run = of(name, *overrides.split(), *(["batch_size=full"] if "lbfgs" in overrides else []))
    (ours,), (theirs,) = train(Single([task(run)])), train(Stack([task(run)]))
    torch.testing.assert_close(ours.theta, theirs.theta, rtol=1e-7, atol=1e-8)
    assert ours.buffers.keys() == theirs.buffers.keys()
    for key, value in ours.buffers.items():
        torch.testing.assert_close(value, theirs.buffers[key], rtol=1e-7, atol=1e-8)
    assert [point.step for point in ours.curve] == [point.step for point in theirs.curve]


def test_products_in_bfloat16() -> None:
    run = of("mlp", "dtype=bfloat16", "optimizer=momentum")
    (ours,), (theirs,) = train(Single([task(run)])), train(Stack([task(run)]))
    assert ours.theta.dtype == torch.float32
    torch.testing.assert_close(ours.theta, theirs.theta, rtol=0.05, atol=0.01)


def test_which_runs_it_takes() -> None:
    assert trainer_for(of("mlp"), CPU) is Single
    assert trainer_for(of("mlp"), GPU) is Stack, "runs of one shape are stacked there"
    for name in ("dropout", "deciding"):
        assert trainer_for(of(name), GPU) is trainer_for(of(name), CPU) is Single
        assert "draws random numbers" in str(Stack.objection(of(name), CPU))
    assert Single.objection(run_of("model=two_layer"), CPU) == "model=two_layer is no torch module"
    model = of("mlp").model
    assert isinstance(model, ModuleModel)
    assert Single.group_key(of("mlp"), CPU) == of("mlp")


def test_it_leaves_the_shared_module_as_it_is() -> None:
    run = of("cnn", "optimizer=momentum")
    first = task(run)
    trainer = Single([first])
    before = first.network.theta.clone()
    with torch.no_grad():
        trainer.advance(0, 12)
    assert torch.equal(first.network.theta, before)
    assert not torch.equal(trainer.theta, before)
    again = Single([task(run)])
    with torch.no_grad():
        again.advance(0, 12)
    assert torch.equal(again.theta, trainer.theta)
