"""What the system says of memory; dd.workers.machine."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dd.workers import machine

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 GiB, of which 9 are free, and 1 of 2 GiB swap; no control groups."""
    (tmp_path / "self").mkdir()
    lines = {"MemTotal": 16, "MemFree": 2, "MemAvailable": 9, "SwapTotal": 2, "SwapFree": 1}
    text = "".join(f"{key}: {n * GIB // 1024} kB\n" for key, n in lines.items())
    (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "groups")
    return tmp_path


def group(system: Path, line: str, folder: str, files: dict[str, str]) -> None:
    (system / "self/cgroup").write_text(line)
    (system / "groups" / folder).mkdir(parents=True)
    for name, text in files.items():
        (system / "groups" / folder / name).write_text(text)


def test_of_the_machine(system: Path) -> None:
    assert machine.available() == 10 * GIB
    assert machine.installed() == 18 * GIB


def test_of_a_control_group_of_version_2_and_those_above_it(system: Path) -> None:
    group(system, "0::/job/step\n", "job/step", {"memory.max": "max\n", "memory.current": "5\n", "memory.stat": ""})
    above = system / "groups/job"
    (above / "memory.max").write_text(f"{4 * GIB}\n")
    (above / "memory.current").write_text(f"{3 * GIB}\n")
    (above / "memory.stat").write_text(f"anon 7\ninactive_file {2 * GIB}\n")
    assert machine.available() == 3 * GIB, "caches are free memory"
    assert machine.installed() == 4 * GIB


def test_of_a_control_group_of_version_1(system: Path) -> None:
    files = {"memory.limit_in_bytes": f"{2 * GIB}", "memory.usage_in_bytes": f"{GIB}", "memory.stat": ""}
    group(system, "9:cpu:/x\n4:memory:/job\n", "memory/job", files)
    assert machine.available() == GIB
    assert machine.installed() == 2 * GIB


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path)
    assert machine.available() is None
    assert machine.installed() is None
    assert machine.out_of_memory_kills() == 0


def test_a_limit_of_the_address_space_counts() -> None:
    code = "from dd.workers.machine import available; print(available())"
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True, cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (GIB, GIB)),
    )  # fmt: skip
    assert 0 < int(done.stdout) < GIB
