"""What ``shard`` may be, and how it reads a scheduler's variables."""

from __future__ import annotations

import pytest

from dd.errors import ConfigError
from dd.runs.shard import Shard, shard_of


def origin(key: str) -> str:
    return "the command line"


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("3/10", {}, Shard(3, 10)),
        (" 1 / 1 ", {"SLURM_ARRAY_TASK_ID": "7"}, Shard(1, 1)),
        ("env", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "10"}, Shard(3, 10)),
        ("env", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"}, Shard(1, 4)),
        (
            "env",
            {"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10",
             "SLURM_ARRAY_TASK_STEP": "2"},
            Shard(3, 4),
        ),
        ("env/10", {"JOB_COMPLETION_INDEX": "0"}, Shard(1, 10)),
        ("env/10", {"JOB_COMPLETION_INDEX": "9"}, Shard(10, 10)),
    ],
)  # fmt: skip
def test_a_shard_is_read(text: str, environ: dict[str, str], expected: Shard) -> None:
    assert shard_of(text, origin, environ) == expected


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("11/10", {}, "it is 11/10"),
        ("0/10", {}, "1 <= k <= n"),
        ("three", {}, "as in 3/10"),
        ("-1/3", {}, "as in 3/10"),
        ("env", {}, "neither is set"),
        ("env", {"JOB_COMPLETION_INDEX": "2"}, "JOB_COMPLETIONS, which is not set"),
        ("env", {"SLURM_ARRAY_TASK_ID": "2"}, "SLURM_ARRAY_TASK_COUNT, which is not set"),
        ("env", {"SLURM_ARRAY_TASK_ID": "two", "SLURM_ARRAY_TASK_COUNT": "3"}, "not 'two'"),
        ("env/3", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1"}, "it is 7/3"),
    ],
)
def test_what_is_no_shard_is_one_clear_line(text: str, environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match="from the command line") as raised:
        shard_of(text, origin, environ)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
