"""A real Ray of two nodes on this machine, one worker each; workers and nodes are killed in the middle of a sweep."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dd.errors import ConfigError, DDError, StoreError
from dd.executors import Event, recorded
from dd.executors import ray as module
from dd.executors.inline import Inline
from dd.executors.ray import Ray, answers
from dd.packs.plan import Pack
from dd.results import Store
from dd.runs.settings import Settings
from dd.workers.solving import Lost, OutOfMemory
from tests.executors.test_processes import HANGS
from tests.executors.test_processes import SWEEP as LONG
from tests.faults.surroundings import alive, descendants, start, wait_for
from tests.faults.test_random_kills import table
from tests.helpers import run_of, runs_of

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make test-ray installs it")

SWEEP = ("width=range(20,140,10)", "optimizer=adam", "steps=20000")

COUNTING = """
import os
import torch
from dd.problems.pools import _pools

def make(width, inputs, outputs):
    with open({path!r}, "a") as file:
        pools = [id(held.value) for held in _pools._held.values()]
        file.write(f"{{os.getpid()}} {{pools}}\\n")
    return torch.nn.Sequential(torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, outputs))
"""
"""A module that tells in which process it is made, and which pools are in memory there."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core; this process is connected to the first, and a second one can be lost."""
    import ray
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    ray.init(made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    signal.signal(signal.SIGTERM, before)


def busy() -> list[int]:
    """Workers of Ray that solve a pack."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            found += [pid] * (title.startswith(b"ray::") and b"solve" in title)
    return found


def sweep_in(folder: Path, executor: Any, disturb: Callable[[int], None] = lambda number: None) -> list[Event]:
    """Solve the sweep in packs of three; ``disturb`` is called with the number of each event."""
    folder.mkdir(exist_ok=True)
    settings, runs = Settings(device="cpu", results_dir=str(folder / "results")), runs_of(*SWEEP)
    store = Store(settings.results_dir, settings.name)
    store.open()
    packs = [Pack(tuple(runs[i : i + 3])) for i in range(0, len(runs), 3)]
    events = []
    for event in recorded(executor.execute(packs, settings), store):
        events.append(event)
        disturb(len(events))
    return events


def assert_same(first: Path, second: Path) -> None:
    for kind in ("runs", "curves"):
        pd.testing.assert_frame_equal(table(first, kind), table(second, kind), check_exact=True)
    assert len(table(first, "runs")) == 12


@needs_ray
def test_a_worker_killed_in_the_middle_leaves_the_inline_table(cluster: Any, tmp_path: Path) -> None:
    def kill(number: int) -> None:
        if number == 1:
            wait_for(busy)
            os.kill(busy()[0], signal.SIGKILL)

    events = sweep_in(tmp_path / "ray", Ray(), kill)
    (loss,) = [event for _, event in events if isinstance(event, Lost)]
    assert loss.again
    assert "worker process ended: The worker died unexpectedly" in str(loss.error)
    sweep_in(tmp_path / "inline", Inline())
    assert_same(tmp_path / "ray", tmp_path / "inline")


@needs_ray
def test_a_node_lost_in_the_middle_leaves_the_inline_table(cluster: Any, tmp_path: Path) -> None:
    def lose(number: int) -> None:
        if number == 1:
            (node,) = cluster.worker_nodes
            cluster.remove_node(node, allow_graceful=False)

    try:
        events = sweep_in(tmp_path / "ray", Ray(), lose)
    finally:
        cluster.add_node(num_cpus=1)
    assert not any(isinstance(event, Lost) for _, event in events), "the packs are tried again as they are"
    sweep_in(tmp_path / "inline", Inline())
    assert_same(tmp_path / "ray", tmp_path / "inline")


@needs_ray
def test_a_worker_loads_a_data_set_once(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(COUNTING.format(path=str(tmp_path / "made")))
    runs = runs_of("model=module", f"model.path={tmp_path / 'net.py'}:make", "width=range(2,8)", "steps=2")
    settings = Settings(device="cpu", results_dir=str(tmp_path / "results"))
    Store(settings.results_dir, settings.name).open()
    (tmp_path / "made").unlink()
    assert len(list(Ray().execute([Pack((run,)) for run in runs], settings))) == len(runs)
    seen = [line.split(" ", 1) for line in (tmp_path / "made").read_text().splitlines()]
    assert len({pid for pid, _ in seen}) <= 2, "one worker a core, used again"
    loaded = {(pid, pools) for pid, pools in seen if pools != "[]"}
    assert 0 < len(loaded) <= 2, "the same pool for all packs of a process"


@needs_ray
def test_a_pack_beyond_its_time_fails_and_takes_nobody_with_it(cluster: Any, tmp_path: Path) -> None:
    settings = Settings(device="cpu", results_dir=str(tmp_path / "results"), timeout=2.0)
    store = Store(settings.results_dir, settings.name)
    store.open()
    packs = [
        Pack((run_of("width=20", "steps=10"), run_of("width=20", *HANGS))),
        Pack((run_of("width=21", "steps=10"),)),
    ]
    for _ in recorded(Ray().execute(packs, settings), store):
        pass
    found = table(tmp_path, "runs")
    assert sorted(found.status) == ["failed", "ok", "ok"]
    assert found.error.dropna().tolist() == ["PackLost: timeout: not finished after timeout=2 s"]


@needs_ray
def test_closing_writes_the_finished_runs_of_packs_under_way(cluster: Any, tmp_path: Path) -> None:
    settings = Settings(device="cpu", results_dir=str(tmp_path / "results"))
    Store(settings.results_dir, settings.name).open()
    quick = run_of("width=20", "steps=10", "solver=iterative", "seed=1")
    packs = [Pack((quick, run_of("width=21", *HANGS))), Pack((run_of("width=22", "steps=10"),))]
    events = Ray().execute(packs, settings)
    next(events)
    wait_for(busy)
    time.sleep(1)
    before = time.monotonic()
    events.close()
    assert time.monotonic() - before < 3 * module.GRACE
    wait_for(lambda: not busy(), 10)
    assert set(table(tmp_path, "runs").width) == {20, 22}


@needs_ray
def test_ctrl_c_ends_what_the_command_has_started(tmp_path: Path) -> None:
    process = start([*LONG, "executor=ray", "executor.address=local", "n_jobs=2"], tmp_path)
    wait_for(lambda: list(tmp_path.glob("results/default/runs/*.parquet")), 180)
    below = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    finished = len(table(tmp_path, "runs"))
    assert 0 < finished < 18
    assert f"interrupted; {finished} of 18 runs are in" in errors
    assert all(line.startswith("dd: ") or line.startswith("    ") for line in errors.splitlines()), errors
    assert told == ""
    wait_for(lambda: not any(map(alive, below)), 10)


@needs_ray
def test_what_no_node_has_is_refused_in_one_line(cluster: Any, results: Path) -> None:
    settings, pack = Settings(device="cpu", results_dir=str(results)), Pack((run_of("width=20"),))
    with pytest.raises(DDError, match=r"^executor=ray: a pack needs CPU=9 of one node, and the nodes have CPU=1; CPU"):
        list(Ray(cpus=9).execute([pack], settings))
    with pytest.raises(DDError, match=r"needs CPU=1 and GPU=0.5 of one node, and the nodes have CPU=1, GPU=0; CPU"):
        list(Ray(packs_per_gpu=2).execute([pack], replace(settings, device="cuda")))


@needs_ray
def test_a_pack_asks_for_no_more_memory_than_the_largest_node_has(
    cluster: Any, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(device="cpu", results_dir=str(results))
    Store(settings.results_dir, settings.name).open()
    room = module.largest_memory({"CPU": 1})
    packs = [Pack((run_of(f"width={w}", "steps=10"),)) for w in (20, 21)]
    monkeypatch.setattr(Pack, "bytes", property(lambda pack: (2 if pack is packs[0] else 5) * room))
    events = {pack.runs[0].width: event for pack, event in Ray().execute(packs, settings)}
    assert events[20]["status"] == "ok"
    assert isinstance(events[21].error, OutOfMemory)


@needs_ray
def test_packs_for_a_gpu_go_to_the_node_that_has_one(cluster: Any, results: Path) -> None:
    """The node says it has two; this torch finds none, and the line says where."""
    import ray

    settings = Settings(device="cuda", results_dir=str(results))
    Store(settings.results_dir, settings.name).open()
    node = cluster.add_node(num_cpus=1, num_gpus=2)
    try:
        wait_for(lambda: ray.cluster_resources().get("GPU") == 2)
        runs = runs_of("width=range(10,50)", "seed=range(10)")
        packs = Ray().plan(runs, settings)
        assert {pack.place.device.type for pack in packs} == {"cuda"}
        assert len(packs) >= 8, "several for each GPU"
        with pytest.raises(StoreError, match=r"^device=cuda: this torch finds no CUDA device.*\(node "):
            list(Ray().execute(packs, settings))
    finally:
        cluster.remove_node(node)


def test_where_nobody_answers_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray installs it")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    for address, line in {
        free: f"executor.address={free}: no Ray cluster: [Errno 111] Connection refused",
        "ray://a:1": "executor.address=ray://a:1: no Ray cluster: start the command on a node of the cluster; "
        "Ray's client does not do",
        "somewhere": "executor.address=somewhere: no Ray cluster: Invalid address format: somewhere",
    }.items():
        with pytest.raises(ConfigError) as caught:
            Ray(address)._connect(Settings(device="cpu"))
        assert str(caught.value) == line
    monkeypatch.setenv("RAY_ADDRESS", free)
    with pytest.raises(ConfigError, match=f"^RAY_ADDRESS={free}: no Ray cluster"):
        Ray()._connect(Settings(device="cpu"))


def test_a_node_that_does_not_see_the_table_says_so_in_one_line(tmp_path: Path) -> None:
    settings = Settings(device="cpu", results_dir=str(tmp_path / "nowhere"))
    work = pickle.dumps((Pack((run_of("width=20"),)), settings))
    for folder, missing in ((tmp_path, tmp_path / "nowhere/default/runs"), (tmp_path / "gone", tmp_path / "gone")):
        line = f"executor=ray: the node {os.uname().nodename} does not see {missing}"
        assert list(answers(str(folder), work)) == [("started", None), ("refused", line)]


def test_without_ray_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^executor=ray: needs Ray: pip install 'dd-lab\[ray\]'$"):
        Ray().ensure(Settings())
