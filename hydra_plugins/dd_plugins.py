"""Hydra plugins of dd: the launcher and sweeper behind ``python -m dd.run -m``.

Hydra 1.3 accepts plugins only if they are defined in this package; what they do is in :mod:`dd.cli.launcher`. Every
Hydra command of the environment imports this module, so it imports nothing heavy.
"""

# no postponed annotations: Hydra executes this module unregistered, where dataclasses cannot look them up
from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore

from dd.cli.launcher import PackedLauncher, PackedSweeper


class DDLauncher(PackedLauncher):
    """``hydra/launcher=dd``."""


class DDSweeper(PackedSweeper):
    """``hydra/sweeper=dd``."""


@dataclass
class LauncherConf:
    """Settings of ``hydra/launcher=dd``: none."""

    _target_: str = "hydra_plugins.dd_plugins.DDLauncher"


@dataclass
class SweeperConf:
    """Settings of ``hydra/sweeper=dd``: those of Hydra's basic sweeper, and ``grids``: a preset's further sweeps."""

    _target_: str = "hydra_plugins.dd_plugins.DDSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = field(default_factory=dict)
    grids: list[dict[str, str]] | None = None


ConfigStore.instance().store(group="hydra/launcher", name="dd", node=LauncherConf, provider="dd")
ConfigStore.instance().store(group="hydra/sweeper", name="dd", node=SweeperConf, provider="dd")
