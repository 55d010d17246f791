"""Named random streams: everything random of a run follows from (seed, stream name) alone.

Streams never depend on width, learning rate or optimizer, so runs that differ in one axis share all else (common
random numbers). All draws are made on the CPU in float64 by NumPy's PCG64, whose normal and uniform draws are
prefixes of longer ones: a matrix drawn unit by unit is nested in every wider one.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of one purpose.

    Args:
        seed: the run's ``seed``, or ``data.seed`` for what belongs to the data.
        name: the purpose, for example ``"features.weight"``; its SHA-256 digest keys the stream.

    Returns:
        A fresh NumPy generator; two calls with the same arguments give the same draws.

    >>> bool((stream(0, "a").standard_normal(3) == stream(0, "a").standard_normal(9)[:3]).all())
    True
    """
    digest = hashlib.sha256(name.encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
