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
from omegaconf import open_dict

from dd.cli.conf import container_of
from dd.cli.grammar import as_typed
from dd.cli.grid import Assignment, Grid, Job
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


Place = tuple[str, ...]
Flat = dict[Place, object]
"""A configuration as values by their paths."""


class Assembler(Composer):
    """Assembles what several choices of groups give from what each gives alone, which Hydra composes once.

    Hydra takes 0.1 s for every combination, and the tests ask for a thousand. It composes by itself whatever is more
    than choices of dd's groups, and choices that change the same key. A choice that makes others too, as ``model=rmt``
    does, is beneath all that is chosen with it. ``tests/cli/test_jobs.py`` compares with Hydra.
    """

    def compose(self, job: Job) -> Composed:
        """As :meth:`Composer.compose`."""
        chosen = [assignment for assignment in job if not assignment.plain]
        key = tuple(assignment.text for assignment in chosen)
        groups = {assignment.key for assignment in chosen if assignment.text == f"{assignment.key}={assignment.value}"}
        if key not in self._bases and len(groups & set(registry.ROOMS)) == len(chosen) > 1:
            assembled = self._assembled(chosen)
            if assembled:
                self._bases[key] = assembled
        return super().compose(job)

    def _alone(self, *chosen: Assignment) -> tuple[Flat, dict[str, str], list[Place]]:
        """Every value by its path, the choices, and the paths that refer to others."""
        super().compose(chosen)
        config, choices, references = self._bases[tuple(assignment.text for assignment in chosen)]
        return flat(config), choices, references

    def _assembled(self, chosen: list[Assignment]) -> tuple[Config, dict[str, str], list[Place]] | None:
        """What Hydra would compose; None: only Hydra knows."""
        none = self._alone()
        wide = [one for one in chosen if sum(none[1][k] != v for k, v in self._alone(one)[1].items()) > 1]
        if len(wide) > 1 or (wide and len(chosen) == 2):
            return None
        ground, choices, references = self._alone(*wide)
        found, chosen_files, touched = dict(ground), dict(choices), set[Place]()
        for one in chosen:
            if one in wide:
                continue
            values, own_choices, own_references = self._alone(*sorted([*wide, one], key=chosen.index))
            changed = {path for path in values.keys() | ground.keys() if values.get(path) != ground.get(path)}
            changed |= values.keys() ^ ground.keys()
            if changed & touched or own_references != references:
                return None
            touched |= changed
            for path in changed:
                if path in values:
                    found[path] = values[path]
                else:
                    del found[path]
            chosen_files[one.key] = own_choices[one.key]
        config: Config = {}
        for path, value in found.items():
            node = config
            for part in path[:-1]:
                node = node.setdefault(part, {})  # type: ignore[assignment]
            node[path[-1]] = value
        return config, chosen_files, references


def flat(node: Config, path: Place = ()) -> Flat:
    """Values of a nested dict by their paths; an empty dict is a value."""
    found: Flat = {}
    for key, value in node.items():
        found |= flat(value, (*path, key)) if isinstance(value, dict) and value else {(*path, key): value}
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
import json, os, runpy, sys
import dd.cli.sweeps, dd.cli.task, dd.packs.solve, dd.trainers.table
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if not pid:
        os.chdir(job["cwd"])
        for number, path in enumerate([os.devnull, job["out"], job["err"]]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        sys.path[0], sys.argv[1:] = job["cwd"], job["arguments"]
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Imports what a command needs once, and forks for each command."""


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
