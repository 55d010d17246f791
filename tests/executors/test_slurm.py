"""The traps of Slurm, with commands that stand in for its own; ``make test-cluster`` runs a real one.

Covers: dd/executors/slurm.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dd.cli.compose import compose_jobs
from dd.errors import ConfigError, DDError
from dd.executors import executor_of
from dd.executors.slurm import queue
from dd.executors.slurm.element import Element, solve
from dd.executors.slurm.executor import MARGIN, START, Slurm
from dd.executors.slurm.submission import FOLDER, Output, of_table
from dd.packs.plan import Pack
from dd.results import Store
from dd.runs.settings import Settings
from tests.faults.surroundings import alive, descendants, wait_for
from tests.helpers import run_of, runs_of

SWEEP = ("width=20,40,60,80", "optimizer=adam", "steps=200")

SBATCH = """#!{python}
import json, os, sys
text = open(sys.argv[1]).read()
json.dump({{"env": dict(os.environ), "script": text}}, open({folder!r} + "/submitted.json", "w"))
print("Submitted batch job 7")
"""


class Commands:
    """Stand-ins for Slurm's commands, first on the path.

    Args:
        folder: of the stand-ins and of what they write.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        self.set("sbatch", SBATCH.format(python=sys.executable, folder=str(folder)))
        for name in ("srun", "squeue", "scancel", "scontrol", "sacct"):
            self.prints(name)

    def set(self, name: str, text: str) -> None:
        """What a command is."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def prints(self, name: str, out: str = "", code: int = 0) -> None:
        """What a command prints; it notes how it was called."""
        note = self.folder / f"{name}.called"
        (self.folder / f"{name}.out").write_text(out)
        self.set(name, f'#!/bin/sh\necho "$@" >> {note}\ncat {self.folder / name}.out\nexit {code}\n')

    def called(self, name: str) -> str:
        """How a command was called, a line a call."""
        note = self.folder / f"{name}.called"
        return note.read_text() if note.exists() else ""

    @property
    def submitted(self) -> dict[str, str]:
        """The script that sbatch was given, its options apart."""
        script = json.loads((self.folder / "submitted.json").read_text())["script"]
        return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE)) | {"script": script}

    @property
    def environment(self) -> dict[str, str]:
        """That of sbatch."""
        found: dict[str, str] = json.loads((self.folder / "submitted.json").read_text())["env"]
        return found


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(tmp_path / "bin", monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", "default")
    made.open()
    return made


def settings_of(store: Store, executor: Slurm) -> Settings:
    return Settings(executor, results_dir=str(store.folder.parent), device="cpu")


def submitted(store: Store, executor: Slurm, *overrides: str, apart: bool = True) -> Settings:
    """Submit a sweep's packs, and stop waiting at once."""
    settings, runs = settings_of(store, executor), runs_of(*(overrides or SWEEP))
    packs = [Pack((run,)) for run in runs] if apart else executor.plan(runs, settings)
    events = executor.execute(packs, settings)
    with pytest.raises(Waiting):
        next(events)
    return settings


class Waiting(Exception):
    pass


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise Waiting

    monkeypatch.setattr("dd.executors.slurm.executor._wait", stop)


def test_the_group_chooses_it(commands: Commands) -> None:
    _, settings = compose_jobs([*SWEEP, "executor=slurm", "executor.jobs=3", "executor.partition=gpu"])
    assert executor_of(settings) == Slurm(jobs=3, partition="gpu")


def test_one_job_array_of_balanced_elements(commands: Commands, store: Store) -> None:
    submitted(store, Slurm(jobs=3, partition="main", memory=2.5, sbatch="--qos=high exclusive"))
    options = commands.submitted
    assert options["array"] == "0-2%3"
    assert (options["partition"], options["mem"], options["qos"]) == ("main", "2500M", "high")
    assert "#SBATCH --exclusive\n" in options["script"]
    (one,) = of_table(store, settings_of(store, Slurm()))
    assert sorted(map(len, one.waiting.values())) == [1, 1, 2]
    assert set(one.waiting) == {"7_0", "7_1", "7_2"}


def test_the_largest_index_bounds_the_array(
    commands: Commands, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.prints("scontrol", "MaxArraySize            = 2\n")
    submitted(store, Slurm(jobs=4))
    assert commands.submitted["array"] == "0-1%2"
    assert "executor.jobs=4: this cluster's job arrays have at most 2 elements" in capsys.readouterr().err


def test_srun_gets_the_cores_itself(commands: Commands, store: Store) -> None:
    """Slurm 22.05 and later do not take them from sbatch."""
    submitted(store, Slurm(cpus=3))
    assert re.search(r"^srun .* --cpus-per-task=3 ", commands.submitted["script"], re.MULTILINE)
    assert commands.submitted["cpus-per-task"] == "3"


def test_a_submission_from_within_a_job_inherits_nothing_of_it(
    commands: Commands, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet,mask_cpu:0x1")
    monkeypatch.setenv("SLURM_CONF", "/etc/elsewhere/slurm.conf")
    submitted(store, Slurm())
    assert "SLURM_CPU_BIND" not in commands.environment
    assert commands.environment["SLURM_CONF"] == "/etc/elsewhere/slurm.conf", "that is the cluster's, not the job's"
    assert os.environ["SLURM_CPU_BIND"], "the caller keeps its own"


def test_the_time_limit_follows_the_estimate(commands: Commands, store: Store) -> None:
    pack = Pack((run_of("width=2000", "optimizer=adam", "steps=1000000"),))
    assert Slurm(time=7.5).minutes([pack]) == 8
    assert Slurm().minutes([pack]) == pytest.approx((START + 90 + MARGIN * pack.seconds) / 60, abs=1)
    assert Slurm(cpus=4).minutes([pack]) == Slurm().minutes([pack]), "one pack does not get faster"
    assert Slurm(cpus=4).minutes([pack] * 4) == Slurm().minutes([pack])


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("sbatch: error: invalid partition specified: gpu\n"
         "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
         "invalid partition specified: gpu; Batch job submission failed: Invalid partition"),
        ("", "sbatch fails without a word"),
    ],
)  # fmt: skip
def test_a_refused_submission_is_one_line(
    commands: Commands, store: Store, capsys: pytest.CaptureFixture[str], said: str, line: str
) -> None:
    commands.set("sbatch", f"#!/bin/sh\nprintf '{said}' >&2\nexit 1\n")
    settings = settings_of(store, Slurm(partition="gpu"))
    with pytest.raises(DDError, match=f"^executor=slurm: {line}"):
        next(Slurm(partition="gpu").execute([Pack((run_of(*SWEEP[1:]),))], settings))
    assert capsys.readouterr().err == ""
    assert not any((store.folder / FOLDER).iterdir())


@pytest.mark.parametrize(
    ("executor", "settings", "line"),
    [
        (Slurm(sbatch="qos="), Settings(), "executor.sbatch=qos=: takes key=value"),
        (Slurm(), Settings(device="cuda"), "executor.gpus=0: must be >= 1 for device=cuda"),
    ],
)
def test_bad_options_are_one_line(commands: Commands, executor: Slurm, settings: Settings, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}"):
        executor.ensure(settings)


def test_what_is_not_installed_is_named(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    (commands.folder / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(commands.folder))
    with pytest.raises(ConfigError, match="no sbatch here; start it on a login node"):
        Slurm().ensure(Settings())
    monkeypatch.setattr("dd.executors.slurm.executor.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape("needs submitit: pip install 'dd-lab[slurm]'")):
        Slurm().ensure(Settings())


def test_jobs_under_way_are_found_again(commands: Commands, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    executor = Slurm(jobs=2)
    settings = submitted(store, executor)
    (commands.folder / "submitted.json").unlink()
    commands.prints("squeue", "7_0|PENDING\n7_1|RUNNING\n9|RUNNING\n")
    submitted(store, executor)
    assert "found Slurm job 7 with 4 runs to come" in capsys.readouterr().err
    assert not (commands.folder / "submitted.json").exists(), "nothing is submitted twice"
    commands.prints("squeue", "7_1|RUNNING\n")  # the other one has ended without its rows
    submitted(store, replace(executor, jobs=1))
    assert "array" not in commands.submitted, "one element is no array"
    assert len(list(of_table(store, settings))) == 2
    assert not list(of_table(store, replace(settings, measure_name="full"))), "those bring other rows"


def test_a_submission_that_was_cut_short_is_cancelled_and_made_again(commands: Commands, store: Store) -> None:
    submitted(store, Slurm(jobs=2))
    (record,) = (store.folder / FOLDER).glob("*/submission.json")
    ended = subprocess.Popen(["true"])
    ended.wait()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"job": None, "process": ended.pid}))
    commands.prints("squeue", "7\n")
    assert list(of_table(store, settings_of(store, Slurm()))) == []
    assert f"--name={record.parent.name}" in commands.called("squeue")
    assert commands.called("scancel") == "7\n"
    assert not record.parent.exists()


def test_a_submission_that_another_process_makes_now_is_left_alone(commands: Commands, store: Store) -> None:
    submitted(store, Slurm(jobs=2))
    (record,) = (store.folder / FOLDER).glob("*/submission.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"job": None}))
    assert list(of_table(store, settings_of(store, Slurm()))) == []
    assert commands.called("scancel") == ""
    assert record.exists()


def test_the_end_of_a_job_is_told_with_and_without_accounting(commands: Commands) -> None:
    commands.prints("sacct", "OUT_OF_MEMORY|0:125\n")
    assert queue.ending("7_3") == "OUT_OF_MEMORY, signal 125"
    commands.prints("sacct", code=1)
    commands.prints("scontrol", "JobId=8 ArrayJobId=7\n   JobState=FAILED Reason=None\n   ExitCode=1:0\n")
    assert queue.ending("7_3") == "FAILED, exit code 1"
    commands.prints("scontrol", code=1)
    assert queue.ending("7_3").startswith("Slurm has forgotten it")


def test_a_queue_that_does_not_answer_is_no_empty_queue(commands: Commands) -> None:
    commands.prints("squeue", "7_0|RUNNING\n")
    assert queue.states(["7_0", "7_1"]) == {"7_0": "RUNNING"}
    commands.prints("squeue", code=1)
    assert queue.states(["7_0"]) is None


def test_the_end_of_an_output_is_shown_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"first\n" * 5000 + b"\x1b[31mlast \xff\n")
    lines = Output(tmp_path / "log").last_lines()
    assert len(lines) == 20
    assert lines[-1] == "\\x1b[31mlast �"
    assert "its node does not see this folder" in Output(tmp_path / "none").last_lines()[0]


ELEMENT = """
import pickle, sys
from dd.executors.slurm.element import solve
solve(pickle.load(open(sys.argv[1], "rb")))
"""


@contextmanager
def started(tmp_path: Path, element: Element, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """An element in a process of its own, as on a node."""
    (tmp_path / "element.pkl").write_bytes(pickle.dumps(element))
    with subprocess.Popen(
        [sys.executable, "-c", ELEMENT, str(tmp_path / "element.pkl")], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"SLURM_JOB_ID": "12"} | environment,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            for pid in descendants(process.pid, 0):
                os.kill(pid, signal.SIGKILL)


def computing(process: subprocess.Popen[str]) -> None:
    """Wait until a worker of an element has computed for a while."""
    wait_for(lambda: any(seconds > 0.3 for seconds in descendants(process.pid, 2).values()), 120)


def element_of(store: Store, *overrides: str) -> Element:
    runs = runs_of(*overrides)
    return Element(
        tuple(runs), replace(settings_of(store, Slurm()), executor=None, n_jobs=1), store.stamps(r.run_id for r in runs)
    )


@pytest.mark.parametrize(("restarts", "again"), [("0", True), ("1", False)])
def test_before_a_time_limit_an_element_gives_way(
    commands: Commands, store: Store, tmp_path: Path, restarts: str, again: bool
) -> None:
    """Within a minute of its start: a job that is short is queued again like a long one. No run, twice: it is not."""
    endless = ("width=20", "optimizer=sgd", "solver=iterative", "steps=2000000000")
    with started(tmp_path, element_of(store, *endless), SLURM_RESTART_COUNT=restarts) as process:
        computing(process)
        below = descendants(process.pid)
        for pid in [*below, process.pid]:  # as Slurm does: all processes of a step get it
            os.kill(pid, signal.SIGUSR2)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGUSR2
    assert "SIGUSR2: 0 of 1 runs are written" in told
    assert ("queued again" in told) is again
    assert ("executor.time=... sets a longer one" in told) is not again
    assert ("requeue 12" in commands.called("scontrol")) is again
    assert "Traceback" not in told
    wait_for(lambda: not any(map(alive, below)), 10)


def test_a_terminated_element_writes_what_is_finished_and_goes_on_from_there(
    commands: Commands, store: Store, tmp_path: Path
) -> None:
    sweep = ("width=20,40", "optimizer=adam", "steps=200,300000")
    element = element_of(store, *sweep)
    quick = [run for run in element.runs if run.steps == 200]
    element = replace(element, runs=tuple(quick + [run for run in element.runs if run.steps != 200]))
    with started(tmp_path, replace(element, runs=element.runs[:2])) as process:
        process.communicate(timeout=120)
    assert process.returncode == 0
    with started(tmp_path, element) as process:
        computing(process)
        for pid in [*descendants(process.pid), process.pid]:
            os.kill(pid, signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM: 0 of 2 runs are written" in told
    assert {row["status"] for row in store.read(["status"]).to_pylist()} == {"ok"}, "what was given up is no failed run"
    assert len(element.missing(store)) == 2


def test_a_node_that_does_not_see_the_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(DDError, match=r"results_dir=.*/elsewhere: this node \(.*\) does not see it"):
        solve(Element((), Settings(results_dir=str(tmp_path / "elsewhere")), {}))
