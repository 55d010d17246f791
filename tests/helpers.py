"""Shared by the tests: runs from command-line overrides, and dd as a subprocess."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf, open_dict

from dd.cli.conf import conf_dir, container_of
from dd.cli.grammar import as_typed
from dd.cli.grid import Grid, Job
from dd.cli.jobs import Composed, Composer, Config
from dd.cli.loading import load as load_config
from dd.cli.loading import own_loader
from dd.closed.design import Design
from dd.measure.solution import Solution
from dd.network import Inputs, Network, common_inputs
from dd.packs.content import identified
from dd.packs.plan import Pack
from dd.packs.rows import Row
from dd.packs.solve import Solved, solve
from dd.problems.problem import Problem, load
from dd.runs import registry
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.base import Task
from dd.trainers.table import trainer_for

NEEDS_HYDRA = pytest.mark.skipif(
    sys.version_info >= (3, 14) and hydra.__version__ < "1.4",
    reason="Hydra 1.3 starts no application on Python 3.14 (dd mends that for itself)",
)
"""A test of another application of Hydra."""


def composed(*overrides: str) -> dict[str, object]:
    """conf/config.yaml with overrides, as Hydra composes it for one run."""
    found = load_config(own_loader(), overrides)
    with open_dict(found):
        del found["hydra"]
    return container_of(found)


class Assembler(Composer):
    """Assembles choices of dd's groups from the groups' files, by Hydra's rules, in a hundredth of Hydra's 0.1 s.

    The tests ask for a thousand combinations. Hydra composes whatever is more than such choices.
    ``tests/cli/test_jobs.py`` compares every file with Hydra.
    """

    def compose(self, job: Job) -> Composed:
        """As :meth:`Composer.compose`; of a key that is set twice the last value counts, as with Hydra."""
        last = {assignment.key: assignment for assignment in job if assignment.plain}
        job = tuple(assignment for assignment in job if not assignment.plain or last[assignment.key] is assignment)
        chosen = [assignment for assignment in job if not assignment.plain]
        key = tuple(assignment.text for assignment in chosen)
        groups = {one.key: str(one.value) for one in chosen if one.text == f"{one.key}={one.value}"}
        if key not in self._bases and 0 < len(groups.keys() & set(registry.ROOMS)) == len(chosen):
            assembled = self._assembled(groups)
            if assembled:
                self._bases[key] = assembled
        return super().compose(job)

    def _assembled(self, groups: dict[str, str]) -> tuple[Config, dict[str, str], list[tuple[str, ...]]] | None:
        """What Hydra would compose; None: only Hydra knows, or knows what is wrong."""
        if not all((conf_dir() / group / f"{name}.yaml").is_file() for group, name in groups.items()):
            return None
        ground = defaults_of("config.yaml")
        chosen = {key: str(name) for key, name in ground if "/" not in key} | groups
        for group, name in groups.items():
            for key, value in defaults_of(f"{group}/{name}.yaml"):
                own = key.removeprefix("override /")
                chosen[own] = groups.get(own, str(value))
        found = body_of("config.yaml")
        for group in (key for key, _ in ground if "/" not in key):
            found = merged(found, body_of(f"{group}/{chosen[group]}.yaml"))
        references = "${" in json.dumps(found)
        return None if references else (found, chosen, [])


@cache
def conf_file(name: str) -> tuple[Config, bool]:
    """What a file of ``conf/`` holds, and whether it sets keys of the whole configuration."""
    path = conf_dir() / name
    held = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(held, dict)
    whole = name == "config.yaml" or path.read_text().startswith("# @package _global_")
    return {str(key): value for key, value in held.items()}, whole


def defaults_of(name: str) -> list[tuple[str, object]]:
    """The choices of a file of ``conf/``, in order."""
    listed = conf_file(name)[0].get("defaults", [])
    assert isinstance(listed, list)
    return [next(iter(one.items())) for one in listed if isinstance(one, dict)]


def body_of(name: str) -> Config:
    """What a file of ``conf/`` sets, by keys of the whole configuration."""
    held, whole = conf_file(name)
    own = {key: value for key, value in held.items() if key not in ("defaults", "hydra")}
    return own if whole else {name.partition("/")[0]: own}


def merged(under: Config, over: Config) -> Config:
    """Nested dicts, where the second has the last word."""
    found = dict(under)
    for key, value in over.items():
        below = under.get(key)
        found[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found


@cache
def composer() -> Composer:
    """One for all tests: what Hydra composes is composed once."""
    loader = own_loader()
    return Assembler(load_config(loader, []), loader)


def run_of(*overrides: str) -> Run:
    """The validated run of a command line."""
    typed = [as_typed(override) for override in overrides]
    return composer().runs([typed], typed)[0][0]


def runs_of(*overrides: str) -> list[Run]:
    """The validated runs of a sweep, as :func:`dd.api.compose_runs` gives them."""
    typed = [as_typed(override) for override in overrides]
    reader = composer().reader
    return composer().runs(Grid.of(reader, reader.overrides(typed)), typed)[0]


def problem_of(*overrides: str, settings: Settings | None = None) -> Problem:
    """The problem of a command line, whatever the content of its files."""
    (run,) = identified([run_of(*overrides)], settings or Settings())
    return load(run, settings or Settings())


def solve_rows(*runs: Run, settings: Settings | None = None) -> list[Row]:
    """Solve runs in this process, as one pack."""
    solved = Solved()
    solve(Pack(runs), settings or Settings(device="cpu"), solved)
    return solved.rows


def row_of(*overrides: str) -> Row:
    """The row of one run; it must not have failed."""
    row = solve_rows(run_of(*overrides))[0]
    assert row["status"] != "failed", row["error"]
    return row


def network_of(*runs: Run, dtype: torch.dtype = torch.float64) -> Network:
    """The stack of some runs on a CPU."""
    return Network(runs, load(runs[0], Settings()), torch.device("cpu"), dtype)


def networks_of(runs: list[Run]) -> list[Network]:
    """Networks that share the inputs of the widest run, as in a pack."""
    problem = load(runs[0], Settings())
    shared: dict[object, Inputs] = {}
    for run in sorted(runs, key=lambda run: -run.width):
        if run.inputs_key not in shared:
            shared[run.inputs_key] = common_inputs(run, problem, torch.device("cpu"))
    return [
        Network([run], problem, torch.device("cpu"), getattr(torch, run.dtype), shared[run.inputs_key]) for run in runs
    ]


def trained(network: Network, lr: float, *, trainer: str = "auto") -> Solution:
    """Train one run alone; ``lr`` is absolute."""
    chosen = trainer_for(network.run, network.theta.device, trainer)
    design = Design(network) if chosen.decomposes and network.linear else None
    return chosen.train([Task(network.run, network, lr, design)])[0][0]


WARM = """
import json, os, runpy, subprocess, sys, types
import dd.cli.sweeps, dd.cli.task, dd.packs.solve, dd.trainers.table, dd.workers.server, dd.workers.solving, torch

class Fork:
    code = None

    def __init__(self, command, env, stdin, pass_fds):
        self.pid = os.fork()
        if not self.pid:
            os.environ.update(env)
            torch.set_num_threads(1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for descriptor in map(int, os.listdir("/proc/self/fd")):
                if descriptor > 2 and descriptor not in pass_fds:
                    try:
                        os.close(descriptor)
                    except OSError:  # that of the list itself
                        pass
            exec(command[-1])

    def poll(self, options=os.WNOHANG):
        if self.code is None and os.waitpid(self.pid, options)[0]:
            self.code = -9
        return self.code

    def wait(self):
        return self.poll(0)

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, 9)

flags = subprocess._args_from_interpreter_flags
stand_in = types.SimpleNamespace(Popen=Fork, DEVNULL=subprocess.DEVNULL, _args_from_interpreter_flags=flags)
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if not pid:
        os.chdir(job["cwd"])
        for number, path in enumerate([os.devnull, job["out"], job["err"]]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        sys.path[0], sys.argv[1:] = job["cwd"], job["arguments"]
        dd.workers.server.subprocess = stand_in
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Imports what a command needs once, and forks for each command, and for the server of its worker processes.

A command that is started for itself, as :func:`tests.faults.surroundings.start` does, has a server of its own.
"""


@cache
def _warm() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WARM], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.kill)
    return process


def dd_run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m dd.run`` in a folder; in a process of its own, with the imports done before."""
    if environment:
        return subprocess.run(
            [sys.executable, "-m", "dd.run", *arguments], cwd=cwd, env=os.environ | environment, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
    return started("dd.run", *arguments, cwd=cwd)


def started(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m <module>`` in a folder; in a process of its own, with the imports of a sweep done before."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder) / name for name in ("out", "err"))
        job = {"module": module, "cwd": str(cwd), "arguments": arguments, "out": str(out), "err": str(err)}
        process = _warm()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())
