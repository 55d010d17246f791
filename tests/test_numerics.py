"""What a caller has switched on for its own computations changes no number; dd.numerics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import dd
from dd.numerics import neutral, reproducible

SWEEP = ("width=20,90", "optimizer=sgd,adam,min_norm", "epochs=3", "n_jobs=1", "device=cpu")
NETS = ("model=two_layer", "width=4", "normalization=none,layer_norm", "optimizer=momentum", "epochs=3", "n_jobs=1")
SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "NumPy raises": lambda: np.errstate(all="raise"),
}


def table(folder: Path, *overrides: str) -> pd.DataFrame:
    rows = dd.sweep(*overrides, f"results_dir={folder}")
    assert (rows.status == "ok").all()
    return rows.drop(columns=["seconds", "finished_at"]).sort_values("run_id", ignore_index=True)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[pd.DataFrame]:
    return [table(tmp_path_factory.mktemp("plain"), *sweep) for sweep in (SWEEP, NETS)]


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_rows_are_the_same_within(name: str, tmp_path: Path, expected: list[pd.DataFrame]) -> None:
    for i, sweep in enumerate((SWEEP, NETS)):
        with SURROUNDINGS[name]():
            rows = table(tmp_path / str(i), *sweep)
        pd.testing.assert_frame_equal(rows, expected[i], check_exact=True)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_rows_are_the_same_with_another_default_type(
    kind: torch.dtype, tmp_path: Path, expected: list[pd.DataFrame]
) -> None:
    torch.set_default_dtype(kind)
    try:
        rows = table(tmp_path, *SWEEP)
        assert torch.get_default_dtype() is kind
    finally:
        torch.set_default_dtype(torch.float32)
    pd.testing.assert_frame_equal(rows, expected[0], check_exact=True)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_an_ensemble_is_the_same_within(name: str) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((40, 5)), generator.integers(0, 3, 40)
    line = ("model=two_layer", "width=4,8", "optimizer=sgd,adam", "epochs=3", "batch_size=10")
    plain = dd.train(x, y, *line)
    with SURROUNDINGS[name]():
        nets = dd.train(x, y, *line)
    for net, other in zip(nets, plain, strict=True):
        assert net.curve == other.curve
        assert all(torch.equal(net.weights[key], other.weights[key]) for key in other.weights)


def test_switches_are_as_before_afterwards() -> None:
    def switches() -> tuple[Any, ...]:
        return (
            torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(),
        )  # fmt: skip

    for context in (*SURROUNDINGS.values(), nullcontext):
        with context():
            before = switches()
            with pytest.raises(ZeroDivisionError), reproducible(torch.device("cpu")):
                raise ZeroDivisionError
            assert switches() == before


def test_two_threads_do_not_turn_switches_against_each_other() -> None:
    torch.set_num_threads(2)
    seen: list[int] = []
    first, second = threading.Event(), threading.Event()

    def short() -> None:
        with reproducible(torch.device("cpu")):
            first.set()
            second.wait(0.3)

    def other() -> None:
        first.wait(5)
        with reproducible(torch.device("cpu")):
            seen.append(torch.get_num_threads())
            second.set()

    try:
        threads = [threading.Thread(target=target) for target in (short, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1]
        assert torch.get_num_threads() == 2, "what the first found, not what the second did"
    finally:
        torch.set_num_threads(1)


def test_neutral_undoes_each_switch() -> None:
    for context in SURROUNDINGS.values():
        with context(), neutral():
            leaf = torch.ones(2, 2, requires_grad=True)
            product = leaf @ leaf
            assert product.dtype is torch.float32
            assert product.requires_grad
            assert product.device.type == "cpu"
            assert np.geterr()["divide"] == "warn"
