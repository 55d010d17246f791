"""Workers that die, hang, fill the memory or cannot write.

Covers: dd/workers/server.py, dd/workers/solving.py, dd/workers/worker.py.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import dd
from dd.executors import processes
from dd.executors.processes import Processes
from dd.packs.plan import Pack
from dd.runs.settings import Settings
from dd.workers import machine
from dd.workers import server as server_module
from dd.workers.server import server
from dd.workers.solving import Lost, OutOfMemory
from tests.faults.surroundings import alive, descendants, rows_are_there, start, wait_for, workers
from tests.helpers import dd_run, run_of

SWEEP = ["-m", "width=range(20,200,20)", "optimizer=adam", "steps=60000", "seed=0,1"]
HANGS = ("optimizer=sgd", "solver=iterative", "steps=2000000000")


def rows(cwd: Path) -> pd.DataFrame:
    return pd.read_parquet(cwd / "results/default/runs")


@pytest.mark.parametrize(("name", "n_jobs"), [("SIGTERM", 2), ("SIGHUP", 1)])
def test_signals_end_a_sweep_as_ctrl_c_does(tmp_path: Path, name: str, n_jobs: int) -> None:
    process = start([*SWEEP, f"n_jobs={n_jobs}"], tmp_path)
    rows_are_there(tmp_path)
    below = descendants(process.pid)
    began = time.monotonic()
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 128 + getattr(signal, name)
    finished = len(rows(tmp_path))
    assert 0 < finished < 18
    assert f"interrupted; {finished} of 18 runs are in" in errors
    assert "python -m dd.run -m 'width=range(20,200,20)'" in errors
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(alive, below)), 5)


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    """As under ``nohup``."""
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from dd.run import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *SWEEP[:3], "steps=20000", "n_jobs=2"], cwd=tmp_path, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    rows_are_there(tmp_path)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(rows(tmp_path)) == 9


def test_nothing_computes_on_after_the_main_process_was_killed(tmp_path: Path) -> None:
    sweep = [*SWEEP, "steps=20000"]
    process = start([*sweep, "n_jobs=2"], tmp_path)
    rows_are_there(tmp_path)
    below = descendants(process.pid)
    assert len(below) >= 3, "a server and two workers"
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(alive, below)), 8)
    assert dd_run(*sweep, "n_jobs=1", cwd=tmp_path).returncode == 0
    assert len(rows(tmp_path)) == 18
    assert not rows(tmp_path).duplicated("run_id").any()


def test_a_stopped_worker_does_not_hold_up_ctrl_c(tmp_path: Path) -> None:
    process = start(["-m", "width=300,301", *HANGS, "n_jobs=2"], tmp_path)
    workers(process.pid)
    below = descendants(process.pid)
    for pid in below:
        os.kill(pid, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=15)
    assert process.returncode == 130
    for pid in below:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_pack_beyond_its_time_fails_and_takes_nobody_with_it(tmp_path: Path, n_jobs: int) -> None:
    done = dd_run(
        "-m", "width=20,21", *HANGS[:2], "steps=10,2000000000", "timeout=1.5", f"n_jobs={n_jobs}", cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr
    found = rows(tmp_path).set_index(["width", "steps"])
    assert found.status.unstack().to_numpy().tolist() == [["ok", "failed"], ["ok", "failed"]]
    assert found.error.dropna().str.contains("timeout=1.5 s").sum() == 2


def test_a_time_limit_in_words(tmp_path: Path) -> None:
    done = dd_run("timeout=0", cwd=tmp_path)
    assert done.returncode == 2
    assert "timeout=0 (from the command line): must be a number > 0 [seconds], or null" in done.stderr


def test_an_allocation_that_fails_is_a_row_that_says_out_of_memory(tmp_path: Path) -> None:
    """A limit of the address space, which the kernel enforces at the allocation."""
    done = subprocess.run(
        [sys.executable, "-m", "dd.run", "-m", "width=20,150000", "optimizer=min_norm"], cwd=tmp_path, text=True,
        capture_output=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = rows(tmp_path).set_index("width")
    assert found.status.to_dict() == {20: "ok", 150000: "failed"}
    assert "out of memory" in found.error[150000]


def test_what_no_memory_holds_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed", lambda: 1 << 20)
    pack = Pack((run_of("width=5000", "optimizer=min_norm"),))
    ((_, lost),) = list(Processes().execute([pack], Settings(device="cpu", n_jobs=1)))
    assert isinstance(lost, Lost)
    assert isinstance(lost.error, OutOfMemory)
    assert not lost.again


def test_a_worker_that_the_kernel_killed_for_memory_says_so(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is played: the worker is killed while its counter rises."""
    kills = iter([3, 4])
    monkeypatch.setattr(machine, "out_of_memory_kills", lambda: next(kills))
    monkeypatch.setattr(processes._Busy, "__post_init__", lambda self: None, raising=False)
    settings = Settings(device="cpu", results_dir=str(results))
    pack = Pack((run_of("width=20", *HANGS),))
    farm = processes._Farm(settings, 1, [pack])
    farm.busy.append(processes._Busy(server().start(settings), pack, kills=next(kills)))
    (busy,) = farm.busy
    assert list(farm.listen()) == [], "it is ready"
    busy.worker.connection.send(pack)
    time.sleep(0.3)
    busy.worker.signal(signal.SIGKILL)
    ((_, lost),) = list(farm.listen())
    assert isinstance(lost.error, OutOfMemory)
    assert "out of memory: worker process ended with exit code -9; the run may need" in str(lost.error)


def test_a_pack_waits_until_the_memory_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    packs = [Pack((run_of(f"width={w}", "optimizer=min_norm"),)) for w in (5000, 20)]
    farm = processes._Farm(Settings(device="cpu"), 2, [])
    farm.busy = [processes._Busy(None, packs[0])]  # type: ignore[arg-type]  # the worker is not asked
    for room, fits in ((packs[0].bytes, False), (packs[0].bytes + packs[1].bytes + 2 * processes.BASE, True)):
        farm._room = room
        assert farm._fits(packs[1]) is fits


def test_temporary_folders_of_any_length_will_do(tmp_path: Path) -> None:
    """A Unix socket's path may have 108 bytes; the folders of clusters are often longer."""
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    done = dd_run("-m", "width=20,1500", "epochs=2", "n_jobs=2", cwd=tmp_path, TMPDIR=str(long))
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path)) == 2


def test_workers_see_the_callers_folder_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be older than both."""
    sweep = ("width=20,1500", "optimizer=sgd,adam", "epochs=2", "n_jobs=2")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        assert (dd.sweep(*sweep).status == "ok").all()
        assert len(rows(tmp_path / name)) == 4


@pytest.mark.parametrize(
    ("more", "count"),
    [((), 1), (("executor=processes",), 1), (("executor=inline",), 0), (("executor=ray", "n_jobs=2"), 0)],
)
def test_the_server_is_started_early_where_it_will_be_used(
    more: tuple[str, ...], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[None] = []
    monkeypatch.setattr(server_module, "server", lambda: started.append(None))
    monkeypatch.setattr(server_module, "cores", lambda: 2)
    server_module.warm_up(["-m", "width=20,40", *more])
    assert len(started) == count
