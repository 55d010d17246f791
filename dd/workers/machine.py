"""What this machine offers to a process: cores, and memory in bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available() -> int | None:
    """Bytes that this process may still take: of the machine, of its control groups, of its address space.

    None where the system does not tell.
    """
    found = [*_free_of_machine(), *_free_of_groups(), *_free_of_address_space()]
    return max(min(found), 0) if found else None


def installed() -> int | None:
    """Bytes that this process could have if it were alone: memory and swap, or the limit of its control group.

    None where the system does not tell.
    """
    fields = _meminfo()
    found = [fields["MemTotal"] + fields.get("SwapTotal", 0)] if "MemTotal" in fields else []
    found += [limit for limit, _ in _groups()]
    return min(found) if found else None


def out_of_memory_kills() -> int:
    """Processes that the kernel has killed for memory since it started; 0 where it does not tell."""
    for line in _lines(PROC / "vmstat"):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none (``max``: no limit)."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _meminfo() -> dict[str, int]:
    pairs = (line.split(":") for line in _lines(PROC / "meminfo"))
    return {key: int(value.split()[0]) * 1024 for key, value in pairs}


def _free_of_machine() -> Iterator[int]:
    fields = _meminfo()
    if "MemAvailable" in fields:
        yield fields["MemAvailable"] + fields.get("SwapFree", 0)


def _groups() -> Iterator[tuple[int, int]]:
    """(limit, in use) of each control group of this process that limits memory; caches do not count as use."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, names = CGROUP, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = CGROUP / "memory"
        else:
            continue
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            limit, used = _number(place / names[0]), _number(place / names[1])
            if limit is not None and used is not None:
                cached = [int(x.split()[1]) for x in _lines(place / "memory.stat") if x.startswith(names[2] + " ")]
                yield limit, used - sum(cached)
            if place == root:
                break


def _free_of_groups() -> Iterator[int]:
    for limit, used in _groups():
        yield limit - used


def _free_of_address_space() -> Iterator[int]:
    try:
        import resource
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = "".join(_lines(PROC / "self" / "statm")).split()
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - int(pages[0]) * resource.getpagesize()
