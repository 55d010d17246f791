"""The part of a sweep that one command computes: ``shard=3/10``, or as a scheduler says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dd.errors import ConfigError
from dd.runs.run import OriginOf

ALLOWED = "must be k/n with 1 <= k <= n, as in 3/10; or env, or env/n, which read k where a scheduler tells it"


@dataclass(frozen=True)
class Shard:
    """One of several parts of a sweep.

    Attributes:
        number: which one, from 1.
        count: of how many.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def shard_of(text: str, origin: OriginOf, environ: Mapping[str, str] = os.environ) -> Shard:
    """The shard that ``shard=text`` names.

    ``env`` reads ``SLURM_ARRAY_TASK_ID`` (with ``_MIN``, ``_STEP`` and ``_COUNT``) of a Slurm job array, or
    ``JOB_COMPLETION_INDEX`` of a Kubernetes indexed job, which does not tell the number of its pods: ``env/10`` does.

    Raises:
        ConfigError: it names none.
    """
    if known := re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text):
        shard = Shard(int(known[1]), int(known[2]))
    elif scheduled := re.fullmatch(r"\s*env\s*(?:/\s*([0-9]{1,9}))?\s*", text):
        shard = _scheduled(text, scheduled[1], origin, environ)
    else:
        raise ConfigError("shard", text, ALLOWED, origin("shard"))
    if not 1 <= shard.number <= shard.count:
        raise ConfigError("shard", text, f"{ALLOWED}; it is {shard}", origin("shard"))
    return shard


def _scheduled(text: str, count: str | None, origin: OriginOf, environ: Mapping[str, str]) -> Shard:
    """The shard of this element of a job array."""

    def fault(allowed: str) -> ConfigError:
        return ConfigError("shard", text, allowed, origin("shard"))

    def number(name: str, default: str | None = None) -> int:
        value = environ.get(name, default)
        if value is None:
            raise fault(f"needs {name}, which is not set; env/n gives the number of shards")
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise fault(f"needs a whole number in {name}, not {value!r}")
        return int(value)

    if "SLURM_ARRAY_TASK_ID" in environ:
        first, step = number("SLURM_ARRAY_TASK_MIN", "1"), max(number("SLURM_ARRAY_TASK_STEP", "1"), 1)
        place = (number("SLURM_ARRAY_TASK_ID") - first) // step
        return Shard(place + 1, int(count) if count else number("SLURM_ARRAY_TASK_COUNT"))
    if "JOB_COMPLETION_INDEX" in environ:
        return Shard(number("JOB_COMPLETION_INDEX") + 1, int(count) if count else number("JOB_COMPLETIONS"))
    raise fault("needs SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX, and neither is set")
