"""Hydra's ``-m``, the whole sweep at once: compose cheaply, validate all, then hand the runs to :mod:`dd.cli.sweeps`.

Stock Hydra composes every job twice; :mod:`dd.cli.jobs` hardly ever does. Tasks other than dd's are run the stock way,
one job after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dd.cli.grid import Grid, Reader, preset_overrides
from dd.cli.jobs import Composer
from dd.cli.loading import told
from dd.cli.task import command_line, overrides_of, task
from dd.cli.terminal import command_of
from dd.errors import RunsFailed, say


class PackedSweeper(Sweeper):
    """Like Hydra's basic sweeper, without composing every job for validation, and with ranges that mean what they say.

    Args:
        max_batch_size: jobs that the launcher gets at once; null: all.
        params: sweeps of a preset.
        grids: further sweeps of a preset, one grid each; ``params`` belong to every one.
    """

    # not derived from BasicSweeper: Hydra's scan for plugins makes another class of that name

    def __init__(
        self,
        max_batch_size: int | None,
        params: Mapping[str, str] | None = None,
        grids: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        self.max_batch_size, self.presets = max_batch_size, preset_overrides(params, grids)
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives, and make the launcher."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Expand, launch and answer; the sweep's directory is made only if ``hydra.output_subdir`` asks for it."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        with told(arguments):
            reader = Reader(self.hydra_context.config_loader)
            grid = Grid.of(reader, *(reader.overrides([*preset, *arguments]) for preset in self.presets))
        if not isinstance(self.launcher, PackedLauncher):
            _tell_of(str(self.config.hydra.runtime.choices["hydra/launcher"]))
        if self.config.hydra.output_subdir is not None:
            folder = Path(str(self.config.hydra.sweep.dir))
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
        returns, number = [], 0
        for batch in grid.batches(self.max_batch_size):
            results = self.launcher.launch(batch, initial_job_idx=number)
            for result in results:
                if result.status is JobStatus.FAILED:
                    # what Hydra raises, without its line about the job: dd has told which runs failed
                    raise result._return_value
            number += len(batch)
            returns.append(results)
        return returns


def _tell_of(launcher: str) -> None:
    """Say that another launcher than dd's starts every run by itself, and what does not."""
    packs = next(
        (f"executor={name}" for name in ("slurm", "ray") if name in launcher), "hydra/launcher=dd, the default,"
    )
    say(f"hydra/launcher={launcher} starts each run by itself: no packs, no summary; {packs} packs them")


class Answers(Sequence[JobReturn]):
    """What a sweep's jobs returned, one JobReturn a job, made when it is asked for.

    Args:
        jobs: override texts of each job.
        values: test loss, or the error of a failed run.
    """

    def __init__(self, jobs: Sequence[Sequence[str]], values: Sequence[float | Exception | None]) -> None:
        self.jobs, self.values = jobs, values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> JobReturn: ...

    @overload
    def __getitem__(self, index: slice) -> Answers: ...

    def __getitem__(self, index: int | slice) -> JobReturn | Answers:
        """One job's return, or those of a part."""
        if isinstance(index, slice):
            return Answers(self.jobs[index], self.values[index])
        value = self.values[index]
        status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
        result = JobReturn(overrides=list(self.jobs[index]), status=status, task_name="dd")
        result.return_value = value
        return result


class PackedLauncher(Launcher):
    """Receives every job of the sweep at once. A failed run is a FAILED JobReturn, as with Hydra's own launcher."""

    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.composer: Composer | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self.composer = Composer(config, hydra_context.config_loader)  # a sweeper that searches launches many times

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
        from dd.cli.sweeps import run_sweep

        assert self.config is not None
        assert self.composer is not None
        runs, settings = self.composer.runs(job_overrides, overrides_of(self.config.hydra))
        if settings is None:
            return []
        result = run_sweep(runs, settings, command_of(command_line()))
        if settings.plan_only:
            return []
        by_id = {answer.run_id: answer for answer in result.answers}
        mine = [i for i, run in enumerate(result.runs) if run.run_id in by_id]  # all, but for a shard
        found = (by_id[result.runs[i].run_id] for i in mine)
        job_overrides = [job_overrides[i] for i in mine]
        answers = [RunsFailed(one.error) if one.status == "failed" else one.test_loss for one in found]
        if self.config.hydra.output_subdir is not None:
            pending = iter(answers)

            def answer(_: DictConfig) -> float | None:
                value = next(pending)
                if isinstance(value, Exception):
                    raise value
                return value

            return self._one_by_one(job_overrides, initial_job_idx, answer)
        return Answers(job_overrides, answers)

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
