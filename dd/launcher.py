"""Hydra's ``-m``, the whole sweep at once: compose cheaply, validate all, then hand the runs to :mod:`dd.sweep`.

Stock Hydra composes every job twice, about 0.1 s each time. Here a configuration is composed once for each combination
of group choices (and of anything else that is not a plain value of a known key); plain values are set on a copy. Tasks
other than dd's are run the stock way, one job after the other.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from random import shuffle
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dd.config import Settings
from dd.errors import ConfigError, RunsFailed
from dd.task import command_of, origin_of, task, validated


def decimal_range(sweep: RangeSweep) -> list[str]:
    """Values of a range with float bounds, in decimal: start + i·step, the stop excluded.

    >>> decimal_range(RangeSweep(start=0.1, stop=0.4, step=0.1))
    ['0.1', '0.2', '0.3']
    """
    start, stop, step = (Decimal(str(v)) for v in (sweep.start, sweep.stop, sweep.step))
    if step == 0:
        raise ValueError("the step of a range cannot be 0")
    values = []
    value = start
    while (value < stop) if step > 0 else (value > stop):
        values.append(repr(float(value)))
        value += step
    if sweep.shuffle:
        shuffle(values)
    return values


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
            if override.is_range_sweep() and isinstance(sweep, RangeSweep) and not isinstance(sweep.range(), range):
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
                result.return_value  # noqa: B018 - raises what a failed job raised
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
        from dd.sweep import run_sweep

        assert self.config is not None
        composer = _Composer(self.config, self.hydra_context)
        typed = list(self.config.hydra.overrides.task)
        runs = []
        settings: Settings | None = None
        for overrides in job_overrides:
            config, choices = composer.compose(overrides)
            origin = origin_of(overrides, typed, choices)
            run, own = validated(config, origin)
            settings = settings or own
            for key, value in vars(own).items():
                if value != getattr(settings, key):
                    raise ConfigError(
                        key, value, f"one sweep has one {key}; an earlier run has {getattr(settings, key)}", origin(key)
                    )
            runs.append(run)
        if settings is None:
            return []
        outcome = run_sweep(runs, settings, command_of(sys.argv[1:]))
        rows = {row["run_id"]: row for row in outcome.rows}
        results: list[JobReturn] = []
        answers: list[Any] = []
        for run in runs:
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


class _Composer:
    """Composes jobs, once for each distinct set of overrides that are not plain values."""

    def __init__(self, config: DictConfig, context: HydraContext | None) -> None:
        assert context is not None
        self.config = config
        self.loader = context.config_loader
        self.parser = OverridesParser.create(config_loader=self.loader)
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._live: set[tuple[str, ...]] = set()
        self._bases: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str]]] = {}

    def _parse(self, text: str) -> tuple[Override, bool]:
        """Override, and whether it is a plain value of a key (no group, no addition, no interpolation)."""
        if text not in self._parsed:
            override = self.parser.parse_override(text)
            plain = (
                override.type is OverrideType.CHANGE
                and override.package is None
                and "${" not in text
                and not override.key_or_group.startswith("hydra.")
                and not self.loader.get_group_options(override.key_or_group)
            )
            self._parsed[text] = (override, plain)
        return self._parsed[text]

    def compose(self, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a job's configuration as a nested dict, and the chosen file of each group."""
        parsed = [(text, *self._parse(text)) for text in overrides]
        plain = [(text, override) for text, override, is_plain in parsed if is_plain]
        other = [text for text, _, is_plain in parsed if not is_plain]
        if tuple(other) in self._live or any("${" in text for text in other):
            plain, other = [], list(overrides)
        key = tuple(other)
        if key not in self._bases:
            composed = self.loader.load_sweep_config(self.config, other)
            choices = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items() if v is not None}
            with open_dict(composed):
                del composed["hydra"]
            if plain and "${" in str(OmegaConf.to_container(composed)):
                # a value that may follow a swept one: every job is composed in full
                self._live.add(key)
                return self.compose(overrides)
            container = OmegaConf.to_container(composed, resolve=True)
            assert isinstance(container, dict)
            self._bases[key] = ({str(k): v for k, v in container.items()}, choices)
        base, choices = self._bases[key]
        config = copy.deepcopy(base)
        for text, override in plain:
            if not _set(config, override.key_or_group, override.value()):
                # a key that the base lacks: Hydra itself tells what is wrong with it
                self.loader.load_sweep_config(self.config, [*other, text])
        return config, choices


def _set(config: dict[str, Any], key: str, value: Any) -> bool:
    """Set a dotted key that exists; tell whether it does."""
    *parents, leaf = key.split(".")
    node: Any = config
    for part in parents:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    if not isinstance(node, dict) or leaf not in node or isinstance(node[leaf], Mapping):
        return False
    node[leaf] = value
    return True
