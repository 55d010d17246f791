"""Samples given from Python to a sweep: written once beside the table, where workers and later sweeps find them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dd.cli.compose import compose_settings
from dd.data.file import pool_from
from dd.errors import ConfigError, StoreError
from dd.samples.arrays import Array, Samples, parts_of, samples_of

FOLDER = "data"
"""Folder of a table that holds samples; no part of the table."""


def overrides_for(data: object, overrides: Sequence[str]) -> list[str]:
    """Write samples to ``<results_dir>/<name>/data/`` unless they are there, and say where.

    Args:
        data: see :func:`dd.samples.arrays.parts_of`.
        overrides: of the sweep.

    Returns:
        The overrides of the sweep, and before them those that name the file.

    Raises:
        ConfigError: the samples cannot be taken, or an override names others.
        StoreError: the file cannot be written.
    """
    for override in overrides:
        key, _, value = str(override).partition("=")
        if key.lstrip("+~") in ("data", "data.path", "data.labels", "data.target", "data.task"):
            raise ConfigError(key, value, "dd.sweep has its samples from data=; leave the override out")
    held = samples_of(*parts_of("data", data))
    settings = compose_settings(["data=file", *overrides])
    path = _written(held, Path(settings.results_dir) / settings.name / FOLDER)
    task = "classification" if held.classification else "regression"
    quoted = str(path).replace("'", "\\'")
    return ["data=file", f"data.path='{quoted}'", f"data.task={task}", *overrides]


def _written(held: Samples, folder: Path) -> Path:
    """The file of some samples, named by their digest; it appears whole or not at all."""
    path = folder / f"samples_{pool_from(held, '').sha256[:16]}.npz"
    if path.exists():
        return path
    parts = {"x": held.x, "y": _labels(held, held.y)}
    if held.test_x is not None and held.test_y is not None:
        parts |= {"x_test": held.test_x, "y_test": _labels(held, held.test_y)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="_", suffix=".tmp", delete=False) as file:
            try:
                np.savez(file, allow_pickle=False, **parts)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise StoreError(f"results_dir: cannot write the samples to {folder} ({error.strerror or error})") from error
    return path


def _labels(held: Samples, y: Array) -> Array:
    """Targets as they were called: text, or whole numbers."""
    if not held.names:
        return y
    try:
        return np.array([int(name) for name in held.names], np.int64)[y]
    except ValueError:
        return np.array(held.names)[y]
