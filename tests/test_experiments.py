"""Presets one after the other."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import dd
from dd import experiments
from dd.api import compose_runs
from dd.errors import ConfigError
from dd.trainers.stack import Stack
from tests.data.test_cifar10 import NAMES, archive

SMALL = ("width=20,40", "seed=0", "n_jobs=1")


def test_presets_run_one_after_the_other_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["width_reference", "label_noise", *SMALL]
    assert experiments.main(line) == 0
    assert len(dd.load("width_reference")) == 20
    assert len(dd.load("label_noise")) == 4
    assert "== label_noise (2/2" in capsys.readouterr().out
    assert experiments.main(line) == 0
    assert "20 already in the table" in capsys.readouterr().err


def test_all_presets_are_known_and_shared_parts_are_none() -> None:
    assert {"iterations", "claim", "two_layer_optimizer", "ridge"} <= set(experiments.presets())
    assert not any(name.startswith("_") for name in experiments.presets())


def test_patterns_name_presets_in_order_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "presets", lambda: ["claim", "claim_decay", "nets_adam", "nets_fashion"])
    assert experiments.chosen(["nets_[!f]*", "claim*", "nets_*"]) == [
        "nets_adam",
        "claim",
        "claim_decay",
        "nets_fashion",
    ]
    assert experiments.chosen([]) == ["claim"], "the hour of the study runs by name alone"
    with pytest.raises(ConfigError, match="mine"):
        experiments.chosen(["claim", "mine_*"])


def test_an_unknown_preset_is_one_clear_line_before_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiments.main(["width_reference", "nothing"]) == 2
    assert "preset=nothing (from the command line): must be one of batch_size" in capsys.readouterr().err
    assert experiments.main(["width_reference", "width=0"]) == 2
    assert "width=0" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_long_presets_run_by_name_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(experiments, "presets", lambda: ["rmt_width_digits"])
    assert experiments.main([]) == 0
    assert "rmt_width_digits" not in capsys.readouterr().out
    assert experiments.main(["--help"]) == 0
    assert "long ones: rmt_width_digits" in capsys.readouterr().out


def test_the_presets_of_rmt_train_and_share_trajectories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("width=2,4", "seed=0", "epochs=1,2", "data.n_train=40", "data.n_test=20", "batch_size=20", "n_jobs=1")
    steps = []
    advance = Stack.advance

    def counted(stack: Stack, first: int, last: int) -> None:
        steps.append(last - first)
        advance(stack, first, last)

    monkeypatch.setattr(Stack, "advance", counted)
    assert experiments.main(["rmt_width_digits", *small]) == 0
    assert sum(steps) == 2 * 2 * 2 * 4, "the longer budget alone is trained"
    table = dd.load("rmt_width_digits")
    assert len(table) == 2 * 2 * 2 * 2
    assert set(table["status"]) == {"ok"}
    assert set(table["steps_done"]) == {2, 4}
    assert set(table["normalization"]) == {"batch_norm"}
    assert table["feature_condition"].notna().all()


def test_the_full_size_presets_of_rmt_train_on_a_small_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dd.data.fashion_mnist.FashionMNIST.content_sha256", None)
    generator = np.random.default_rng(0)
    for part, samples in (("train", 40), ("t10k", 20)):
        images = generator.integers(0, 256, (samples, 28, 28), dtype=np.uint8)
        labels = (np.arange(samples) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    archive(tmp_path / "cifar-10-python.tar.gz", NAMES)
    small = (
        "width=2", "seed=0", "lr=0.003", "optimizer=adam", "epochs=1", "data.n_train=40", "data.n_test=20",
        "batch_size=20", f"data.root={tmp_path}", "n_jobs=1",
    )  # fmt: skip
    for name, parameters in (("rmt_width_fashion", 2764), ("rmt_width_cifar10", 14122)):
        assert experiments.main([name, *small]) == 0
        table = dd.load(name)
        assert list(table["status"]) == ["ok"]
        assert list(table["parameters"]) == [parameters]


def test_the_predecessors_definitions_are_those_of_the_preset() -> None:
    """As runs/toy_synthetic/definitions/fashionmnist_{mse,ce}_784xWx2.json of its repository have them."""
    runs = compose_runs("+experiment=liu_predecessor")
    assert sorted({run.width for run in runs}) == list(range(4, 401, 4))
    assert {run.loss for run in runs} == {"mse", "cross_entropy"}
    for run in runs:
        assert (run.data.name, run.classes, run.n_train) == ("fashion_mnist", "0,6", 100)
        assert (run.label_noise, run.label_noise_over) == (0.05, "all")
        assert (run.model.name, run.model.values()["activation"], run.model.has_bias) == (
            "random_features",
            "tanh",
            False,
        )
        assert (run.optimizer.name, run.batch_size, run.epochs) == ("sgd", 1, 1000)
        assert (run.init.name, run.init_scale) == ("fan_in", 1.0)
        assert (run.lr, run.lr_unit) == (0.01, "absolute")
    steps = np.array([1, 100, 101, 99_901])  # of 100 an epoch
    sizes = [run.lr * float(run.schedule.factors(run, step - 1, step)[0]) for step in steps]
    np.testing.assert_allclose(sizes, 0.01 / np.sqrt(1 + (steps - 1) // 100), rtol=1e-12)


def test_the_presets_of_deep_networks_compose() -> None:
    for name, model, count in (("nakkiran_cnn5", "cnn5", 51), ("nakkiran_resnet18", "resnet18", 24)):
        runs = compose_runs(f"+experiment={name}")
        assert len(runs) == count
        assert {run.model.name for run in runs} == {model}
        assert {run.batch_size for run in runs} == {128}
    assert {run.epochs for run in runs} == {4000}
    assert {run.augment for run in runs} == {"crop_flip"}


def test_the_tuned_presets_try_every_rate_with_every_decay_on_the_same_samples_held_out() -> None:
    for name, model, trained, runs_in_all in (
        ("tuned_nets", "two_layer", 800, 7 * 5 * 4 * 4),
        ("tuned_random_features", "random_features", 200, 2 * 9 * 5 * 4 * 4),
    ):
        runs = compose_runs(f"+experiment={name}")
        assert len(runs) == runs_in_all
        assert {(run.model.name, run.n_train, run.n_validation) for run in runs} == {(model, trained, trained // 4)}
        assert all(run.data_seed == run.seed for run in runs)
        tried: dict[tuple[float, ...], set[tuple[float, float]]] = {}
        for run in runs:
            pair = (run.lr, run.optimizer.values()["weight_decay"])
            tried.setdefault((run.label_noise, run.width, run.seed), set()).add(pair)
        rates, decays = ({pair[i] for pairs in tried.values() for pair in pairs} for i in (0, 1))
        assert all(pairs == set(itertools.product(rates, decays)) for pairs in tried.values())
        assert 0 in decays
