"""The task that Hydra calls."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dd.cli.conf import container_of, origin_of
from dd.cli.loading import COMMAND_LINE, told
from dd.cli.terminal import command_of
from dd.errors import ConfigError, DDError, RunsFailed, Stop
from dd.runs.run import OriginOf, Run
from dd.runs.settings import Settings
from dd.samples.stamps import look_again

TYPED: ContextVar[Sequence[str] | None] = ContextVar("TYPED", default=None)
"""The command line as the user typed it, where Hydra is given another spelling of it."""


def command_line() -> Sequence[str]:
    """What the user typed after ``python -m dd.run``."""
    typed = TYPED.get()
    return sys.argv[1:] if typed is None else typed


def overrides_of(node: DictConfig | HydraConf) -> list[str]:
    """What was typed, from a composed ``hydra`` node; iterating over it would follow the references in it."""
    found = OmegaConf.to_container(node.overrides.task, resolve=False)
    assert isinstance(found, list)
    return [str(text) for text in found]


def task(config: DictConfig) -> float | None:
    """Run one point and return its test loss (for sweepers that search); Hydra calls this.

    Raises:
        ConfigError, StoreError: nothing was computed.
        RunsFailed: the run is a row with status ``failed``.
    """
    overrides = overrides_of(HydraConfig.get())
    choices = {k: str(v) for k, v in HydraConfig.get().runtime.choices.items() if v is not None}
    try:
        if HydraConfig.get().mode is RunMode.RUN and "experiment" in choices:
            line = command_of(["-m", *command_line()])
            raise ConfigError(
                "experiment", choices["experiment"], f"a preset is a sweep and needs -m: {line}", COMMAND_LINE
            )
        with told(overrides):
            plain = container_of(config)
        return run_one(plain, origin_of(overrides, overrides, choices))
    except (DDError, RunsFailed) as error:
        if HydraConfig.get().mode is RunMode.RUN:
            raise Stop(error) from error
        raise


def run_one(config: Mapping[str, object], origin: OriginOf) -> float | None:
    """Validate and run one composed configuration; see :func:`task`."""
    from dd.cli.sweeps import run_sweep

    run, settings = validated(config, origin)
    report = run_sweep([run], settings, command_of(command_line()))
    if report.failed:
        raise RunsFailed("the run failed")
    return report.answers[0].test_loss if report.answers else None


def validated(config: Mapping[str, object], origin: OriginOf) -> tuple[Run, Settings]:
    """Turn a composed configuration into what dd runs."""
    from dd.cli.resolve import resolve  # imports PyTorch, which no other Hydra command shall wait for

    look_again(early=True)
    return resolve(config, origin), Settings.from_dict(config, origin)
