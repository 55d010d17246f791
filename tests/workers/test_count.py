"""Several GPUs on one machine, as far as a machine without any can tell: names, memory, plans, and who takes which.

Covers: dd/workers/count.py, dd/executors/processes.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dd.executors import processes
from dd.executors.processes import Processes
from dd.packs.place import limits_of, place_of
from dd.packs.plan import Pack, plan
from dd.results import Store
from dd.runs.settings import Settings
from dd.workers.count import gpus, worker_count
from dd.workers.server import VISIBLE
from tests.emulated_cuda import emulated_cuda
from tests.helpers import runs_of

CUDA = Settings(device="cuda")
FREE = (12 << 30, 8 << 30, 10 << 30)
"""Bytes free on each GPU."""

UUIDS = ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-f1b1d0a1", "MIG-3")

TELLING = """
import os
import torch

def make(width, inputs, outputs):
    with open({path!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{os.environ.get('CUDA_VISIBLE_DEVICES')}}\\n")
    return torch.nn.Sequential(torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, outputs))
"""
"""A module that tells in which process it is made, and which GPUs that sees."""


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three emulated GPUs, of which the second is the fullest."""
    with emulated_cuda():
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (FREE[device], 16 << 30))
        monkeypatch.delenv(VISIBLE, raising=False)
        yield


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ("0", "1", "2")),
        ("2,3,5", ("2", "3", "5")),
        (" 7 , 6 ,1, ", ("7", "6", "1")),
        ("4,5,6,-1,7", ("4", "5", "6")),  # CUDA counts up to the first that is none
        (",".join(UUIDS), UUIDS),
    ],
)
def test_gpus_have_the_names_that_the_caller_gave_them(
    three: None, visible: str | None, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    assert gpus(CUDA) == names


def test_one_gpu_and_a_cpu_need_no_name(three: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus(Settings(device="cpu")) == ()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus(CUDA) == ()


def test_one_process_a_gpu_unless_n_jobs_says_otherwise(three: None) -> None:
    assert [worker_count(CUDA, packs) for packs in (0, 2, 100)] == [1, 2, 3]
    assert worker_count(Settings(device="cuda", n_jobs=6), 100) == 6


@pytest.mark.parametrize(("n_jobs", "sharing"), [("auto", 1), (1, 1), (3, 1), (4, 2), (9, 3)])
def test_packs_fit_the_fullest_gpu(three: None, n_jobs: int | str, sharing: int) -> None:
    """Half of what is free there, a share for each process on it."""
    assert limits_of(Settings(device="cuda", n_jobs=n_jobs)).bytes == (8 << 30) // (2 * sharing)


def test_memory_that_torch_keeps_counts_as_free(three: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: (0, 3 << 30, 0)[gpu])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: (0, 2 << 30, 0)[gpu])
    assert limits_of(CUDA).bytes == (9 << 30) // 2


def test_each_gpu_gets_several_packs(three: None, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = runs_of("width=range(10,40)", "seed=0,1,2,3")
    assert len(plan(runs, place_of(CUDA))) < 3, "one GPU wants few packs"
    packs = Processes().plan(runs, CUDA)
    assert len(packs) >= 12
    assert sorted(run.run_id for pack in packs for run in pack.runs) == sorted(run.run_id for run in runs)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert len(Processes().plan(runs, CUDA)) < 3


def test_a_pack_goes_to_the_gpu_that_the_fewest_are_busy_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle worker there comes before a new one, and a new one there before an idle one elsewhere."""
    started: list[str] = []
    there = SimpleNamespace(start=lambda settings, gpu: started.append(gpu) or SimpleNamespace(gpu=gpu))
    monkeypatch.setattr(processes, "server", lambda: there)
    monkeypatch.setattr(processes, "gpus", lambda settings: ("2", "3"))
    farm = processes._Farm(Settings(device="cpu"), 4, [])
    a, b, c = (SimpleNamespace(gpu=gpu) for gpu in ("2", "2", "3"))

    def taken(busy: list[SimpleNamespace], idle: list[SimpleNamespace]) -> object:
        farm.busy, farm.idle = [SimpleNamespace(worker=worker) for worker in busy], idle  # type: ignore[assignment,misc]
        return farm._free_worker()

    assert taken([a], [b, c]) is c
    assert farm.idle == [b]
    assert taken([c], [a, b]) is a
    assert started == []
    assert taken([a], [b]).gpu == "3"  # type: ignore[attr-defined]
    assert taken([a, c], []).gpu == "2"  # type: ignore[attr-defined]
    assert started == ["3", "2"]


def test_a_worker_sees_its_gpu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real worker processes; they compute on the CPU."""
    names = ("3", UUIDS[0])
    (tmp_path / "net.py").write_text(TELLING.format(path=str(tmp_path / "made")))
    runs = runs_of("model=module", f"model.path={tmp_path / 'net.py'}:make", "width=range(2,10)", "steps=20")
    (tmp_path / "made").unlink()
    settings = Settings(device="cpu", n_jobs=4, results_dir=str(tmp_path / "results"))
    Store(settings.results_dir, settings.name).open()
    monkeypatch.setattr(processes, "gpus", lambda settings: names)
    monkeypatch.setenv(VISIBLE, ",".join(names))
    events = list(Processes().execute([Pack((run,)) for run in runs], settings))
    assert {row["status"] for _, row in events if isinstance(row, dict)} == {"ok"}
    seen = {tuple(line.split()) for line in (tmp_path / "made").read_text().splitlines()}
    assert len({pid for pid, _ in seen}) == len(seen), "a worker keeps its GPU"
    assert Counter(gpu for _, gpu in seen) == dict.fromkeys(names, 2)


def test_what_workers_are_forked_from_has_not_asked_for_gpus() -> None:
    """Once CUDA has counted, ``CUDA_VISIBLE_DEVICES`` says nothing more, and a fork has no use of it."""
    code = """
import torch
def asked(*_):
    raise SystemExit("asked")
for name in ("is_available", "device_count", "_lazy_init", "get_device_properties", "current_device"):
    setattr(torch.cuda, name, asked)
import dd.workers.worker, dd.workers.solving
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
