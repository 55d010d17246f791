"""Shared by the tests: runs from command-line overrides, and dd as a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dd.config import RunConfig, Settings
from dd.content import identified
from dd.data._problem import Problem, load
from dd.grammar import as_typed
from dd.jobs import Composer
from dd.loading import load as load_config
from dd.loading import own_loader
from dd.network import Inputs, Network, common_inputs
from dd.pack import Pack
from dd.solve import Row, Solved, solve
from dd.solvers._solution import Solution
from dd.solvers.train import Stack, train, trainer_of
from dd.task import conf_dir


def config(*overrides: str) -> dict[str, Any]:
    """Compose conf/config.yaml with overrides, as Hydra does for one run."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


@cache
def _composer() -> Composer:
    """One for all tests: what Hydra composes is composed once for each choice of groups."""
    loader = own_loader()
    return Composer(load_config(loader, []), loader)


def run_of(*overrides: str) -> RunConfig:
    """The validated run of a command line."""
    typed = [as_typed(override) for override in overrides]
    return _composer().runs([typed], typed)[0][0]


def problem_of(*overrides: str, settings: Settings | None = None) -> Problem:
    """The problem of a command line, whatever the content of its files."""
    (run,) = identified([run_of(*overrides)], settings or Settings())
    return load(run, settings or Settings())


def solve_rows(*runs: RunConfig, settings: Settings | None = None) -> list[Row]:
    """Solve runs in this process, as one pack."""
    solved = Solved()
    solve(Pack(runs), settings or Settings(device="cpu"), solved)
    return solved.rows


def row_of(*overrides: str) -> Row:
    """The row of one run; it must not have failed."""
    row = solve_rows(run_of(*overrides))[0]
    assert row["status"] != "failed", row["error"]
    return row


def network_of(*runs: RunConfig, dtype: torch.dtype = torch.float64) -> Network:
    """The stack of some runs on a CPU."""
    return Network(runs, load(runs[0], Settings()), torch.device("cpu"), dtype)


def networks_of(runs: list[RunConfig]) -> list[Network]:
    """Networks that share the inputs of the widest run, as in a pack."""
    problem = load(runs[0], Settings())
    shared: dict[object, Inputs] = {}
    for run in sorted(runs, key=lambda run: -run.width):
        if run.inputs_key not in shared:
            shared[run.inputs_key] = common_inputs(run, problem, torch.device("cpu"))
    return [
        Network([run], problem, torch.device("cpu"), getattr(torch, run.dtype), shared[run.inputs_key]) for run in runs
    ]


def trained(network: Network, lr: float, *, eager: bool = False) -> Solution:
    """Train one run alone, by the engine where it can unless ``eager``."""
    stack = Stack(network, torch.tensor([lr], dtype=torch.float64)) if eager else trainer_of([network], [lr])
    return train(stack)[0]


def dd_run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m dd.run`` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "dd.run", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
