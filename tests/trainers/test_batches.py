"""The order of samples, and batches of stacked runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dd.errors import ConfigError
from dd.trainers.batches import PADDING, Batches, Moves, Orders, batch_orders, indices, moved
from dd.trainers.table import TRAINERS, refusal
from tests.helpers import run_of
from tests.training import tasks_of

SMALL = ("data.n_train=23", "data.n_test=10", "batch_size=10", "width=4", "steps=30", "lr_unit=absolute")
EPOCHS = 5


def test_batches_do_not_depend_on_width_or_batch_size() -> None:
    one, other = batch_orders(run_of("width=10")), batch_orders(run_of("width=300", "batch_size=7", "optimizer=adam"))
    for _ in range(3):
        a, b = next(one), next(other)
        assert (a == b).all()
        assert sorted(a) == list(range(500))


def test_orders_are_asked_for_in_any_pieces() -> None:
    run = run_of(*SMALL)
    every = np.stack([order for _, order in zip(range(EPOCHS), batch_orders(run), strict=False)])
    pieces = Orders(run)
    assert (pieces.between(0, 2) == every[:1]).all()
    assert (pieces.between(2, 7) == every[:3][-3:]).all()
    assert (pieces.between(7, 15) == every[2:5]).all()


def test_indices_are_the_batches_of_every_seed() -> None:
    runs = [run_of(*SMALL, f"seed={seed}") for seed in (0, 1)]
    found = indices([Orders(run) for run in runs], 10, 0, 6, torch.device("cpu"))
    assert [index.shape for index in found] == [(2, 10), (2, 10), (2, 3)] * 2
    for k, run in enumerate(runs):
        orders = batch_orders(run)
        assert torch.cat([index[k] for index in found]).tolist() == [*next(orders), *next(orders)]


@pytest.mark.parametrize("batch", ["batch_size=10", "batch_size=full"])
@pytest.mark.parametrize("model", ["two_layer", "random_features"])
def test_each_run_of_a_stack_sees_its_own_samples(model: str, batch: str) -> None:
    """Several seeds and training sets at once give each run the batches that it has alone; also after some left."""
    line = (*SMALL, f"model={model}", batch)
    runs = [run_of(*line, f"seed={s}", f"data.seed={d}") for s, d in ((0, 0), (1, 0), (1, 2), (0, 2))]
    tasks = tasks_of(runs)
    alone = [list(Batches([task.network]).between(0, 9)) for task in tasks]
    together = Batches([task.network for task in tasks])

    def compare(batches: list[tuple[torch.Tensor, torch.Tensor]], rows: list[int], first: int) -> None:
        for step, (x, y) in enumerate(batches, start=first):
            for position, row in enumerate(rows):
                assert torch.equal(x[position], alone[row][step][0][0])
                assert torch.equal(y[position], alone[row][step][1].view(y[position].shape))

    compare(list(together.between(0, 4)), [0, 1, 2, 3], 0)
    train = together.samples("train")
    for task, x, y in zip(tasks, train.inputs.expand(4, -1, -1), train.targets.expand(4, -1, -1), strict=True):
        assert torch.equal(x, task.network.train.inputs[0])
        assert torch.equal(y, task.network.train.targets)
    together.keep(torch.tensor([1, 3]))
    compare(list(together.between(4, 9)), [1, 3], 4)
    assert len(together.samples("test").inputs) == 2


def test_moved_images_against_a_loop() -> None:
    x = torch.randn(2, 6, 2 * 5 * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moves = torch.from_numpy(np.random.default_rng(0).integers(0, 2 * PADDING + 1, (2, 6, 3)))
    moves[..., 2] %= 2
    black = torch.tensor([-0.3, 2.0], dtype=torch.float64)
    got = moved(x, (2, 5, 4), moves, black).view(2, 6, 2, 5, 4)
    for run in range(2):
        for sample in range(6):
            wide = np.full((2, 5 + 2 * PADDING, 4 + 2 * PADDING), float(black[run]))
            wide[:, PADDING:-PADDING, PADDING:-PADDING] = x[run, sample].view(2, 5, 4).numpy()
            top, left, mirrored = moves[run, sample].tolist()
            cut = wide[:, top : top + 5, left : left + 4]
            np.testing.assert_array_equal(got[run, sample].numpy(), cut[..., ::-1] if mirrored else cut)


def test_augmented_batches_are_new_in_each_epoch_and_a_runs_own() -> None:
    line = (*SMALL, "model=cnn5", "data.standardize=global", "data.augment=crop_flip")
    for batch in ("batch_size=10", "batch_size=full"):
        runs = [run_of(*line, batch, f"seed={s}", f"data.seed={d}") for s, d in ((0, 0), (1, 0), (1, 2))]
        tasks = tasks_of(runs)
        alone = [list(Batches([task.network]).between(0, 9)) for task in tasks]
        together = list(Batches([task.network for task in tasks]).between(0, 9))
        for step, (x, _) in enumerate(together):
            assert all(torch.equal(x[i], alone[i][step][0][0]) for i in range(3))
        again = list(Batches([tasks[0].network]).between(0, 9))
        assert all(torch.equal(a[0], b[0]) for a, b in zip(alone[0], again, strict=True))
    assert not torch.equal(alone[0][0][0], alone[0][1][0]), "full batches, two epochs"
    found = np.concatenate([Moves(run_of(*line, f"seed={seed}")).epoch(3) for seed in range(40)])
    assert set(found[:, :2].flatten()) == set(range(2 * PADDING + 1))
    assert abs(found[:, 2].mean() - 0.5) < 0.05


def test_augmentation_is_for_images_and_trainers_that_know_it() -> None:
    line = (*SMALL, "model=cnn5", "data.standardize=global", "data.augment=crop_flip")
    cpu = torch.device("cpu")
    assert [trainer.name for trainer in TRAINERS if refusal(trainer, run_of(*line), cpu) is None] == ["single", "stack"]
    for other, message in (
        ("model=two_layer", "data.augment=crop_flip.*for models that take images.*model=two_layer does not"),
        ("data.standardize=sphere", "data.standardize=sphere.*must be none or global"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_of(*line, other)
