"""Hydra's ``-m``, the whole sweep at once: compose cheaply, validate all, then hand the runs to :mod:`dd.sweeps`.

Stock Hydra composes every job twice; :mod:`dd.jobs` hardly ever does. Tasks other than dd's are run the stock way, one
job after the other.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import shuffle
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from dd.errors import ConfigError, RunsFailed
from dd.jobs import Composer
from dd.task import command_of, task


def decimal_range(sweep: RangeSweep) -> list[str]:
    """Values of a range with float bounds, in decimal: start + i·step, the stop excluded.

    >>> decimal_range(RangeSweep(start=0.1, stop=0.4, step=0.1))
    ['0.1', '0.2', '0.3']
    """
    start, stop, step = (Decimal(str(v)) for v in (sweep.start, sweep.stop, sweep.step))
    values = []
    value = start
    while (value < stop) if step > 0 else (value > stop):
        values.append(repr(float(value)))
        value += step
    if sweep.shuffle:
        shuffle(values)
    return values


def _any_value(override: Override) -> bool:
    """Whether a sweep holds at least one value (a range whose step is 0 or leads away from its stop does not)."""
    sweep = override.value()
    if isinstance(sweep, RangeSweep):
        if not sweep.step or sweep.start is None or sweep.stop is None:
            return False
        return sweep.start < sweep.stop if sweep.step > 0 else sweep.start > sweep.stop
    return not override.is_discrete_sweep() or any(True for _ in override.sweep_string_iterator())


class PackedSweeper(BasicSweeper):
    """The basic sweeper, without composing every job for validation, and with float ranges that mean what they say."""

    def __init__(self, max_batch_size: int | None, params: Any = None) -> None:
        super().__init__(max_batch_size, dict(params or {}))

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Expand sweeps into one list of override strings a job, float ranges in decimal."""
        expanded = []
        for override in overrides:
            sweep = override.value()
            if override.is_sweep_override() and not _any_value(override):
                text = (override.input_line or "").partition("=")[2]
                raise ConfigError(override.key_or_group, text, "holds no value to run", "the command line")
            if isinstance(sweep, RangeSweep) and not isinstance(sweep.range(), range):
                override = copy.copy(override)
                override._value = [float(v) for v in decimal_range(sweep)]
            expanded.append(override)
        return BasicSweeper.split_arguments(expanded, max_batch_size)

    def sweep(self, arguments: list[str]) -> Any:
        """Expand, launch and answer; the sweep's directory is made only if ``hydra.output_subdir`` asks for it."""
        assert self.config is not None
        if self.config.hydra.output_subdir is not None:
            return super().sweep(arguments)
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        returns, number = [], 0
        for batch in self.split_arguments(overrides, self.max_batch_size):
            results = self.launcher.launch(batch, initial_job_idx=number)
            for result in results:
                if result.status is JobStatus.FAILED:
                    # what Hydra raises, without its line about the job: dd has told which runs failed
                    raise result._return_value
            number += len(batch)
            returns.append(results)
        return returns

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing: the launcher validates all runs before any starts, without composing each."""


class PackedLauncher(Launcher):
    """Receives every job of the sweep at once. A failed run is a FAILED JobReturn, as with Hydra's own launcher."""

    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs.

        Args:
            job_overrides: one list of ``key=value`` a job.
            initial_job_idx: number of the first job.

        Returns:
            One JobReturn a job, in order.
        """
        assert self.config is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if self.task_function is not task:
            return self._one_by_one(job_overrides, initial_job_idx, self.task_function)
        return self._packed(job_overrides, initial_job_idx)

    def _packed(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Validate all runs, sweep, and answer for each job."""
        from dd.sweeps import run_sweep

        assert self.config is not None
        assert self.hydra_context is not None
        composer = Composer(self.config, self.hydra_context.config_loader)
        runs, settings = composer.runs(job_overrides, list(self.config.hydra.overrides.task))
        if settings is None:
            return []
        outcome = run_sweep(runs, settings, command_of(sys.argv[1:]))
        if settings.plan_only:
            return []
        rows = {row["run_id"]: row for row in outcome.rows}
        results: list[JobReturn] = []
        answers: list[Any] = []
        for run in outcome.runs:
            row = rows[run.run_id]
            failed = row["status"] == "failed"
            answers.append(RunsFailed(row["error"]) if failed else row["test_loss"])
        if self.config.hydra.output_subdir is not None:
            pending = iter(answers)

            def answer(_: DictConfig) -> Any:
                value = next(pending)
                if isinstance(value, Exception):
                    raise value
                return value

            return self._one_by_one(job_overrides, initial_job_idx, answer)
        for overrides, value in zip(job_overrides, answers, strict=True):
            status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
            result = JobReturn(overrides=list(overrides), status=status, task_name="dd")
            result.return_value = value
            results.append(result)
        return results

    def _one_by_one(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int, function: TaskFunction | None
    ) -> Sequence[JobReturn]:
        """Hydra's own way: compose, make the job's directory, call, for each job."""
        assert self.config is not None
        assert self.hydra_context is not None
        assert function is not None
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        results = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = str(number)
                config.hydra.job.num = number
            results.append(
                run_job(
                    hydra_context=self.hydra_context,
                    task_function=function,
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                )
            )
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return results
