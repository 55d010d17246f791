"""What a result was computed with, recorded in the footer of every part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

Described = str | int | None | dict[str, str]

PACKAGES = ("dd-lab", "torch", "numpy", "scikit-learn", "hydra-core", "omegaconf", "pyarrow", "pandas")


@cache
def git_commit() -> str | None:
    """Commit of the checkout that dd runs from, with ``-dirty`` where files differ; None outside one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        sha = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return sha.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


@cache
def environment() -> dict[str, Described]:
    """Packages, Python, platform, processor, threads and accelerator."""
    import torch

    from dd.kernels.library import variant

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return {
        "packages": versions,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "engine": variant(),
        "cpu_count": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def described() -> str:
    """What numbers may hang on, in one line: versions, instruction set, build of the engine."""
    found = environment()
    packages = found["packages"]
    assert isinstance(packages, dict)
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "numpy"))
    return f"Python {found['python']}, {versions}, {found['cpu_capability']}, engine {found['engine'] or 'none'}"
