"""Every random choice of the demo: one independent stream a purpose, named by plain values.

    chance(7, 3, "transport", "s-3-12", 0)   the same stream on every run and every machine

A stream a purpose, and not one long stream, so that one more draw in one place moves nothing elsewhere: two models
that answer the same week meet the same customers with the same tempers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def chance(seed: int, *purpose: int | str) -> np.random.Generator:
    """The generator that belongs to `purpose`. Python's hash() is salted per process, hence SHA-256."""
    return np.random.Generator(np.random.PCG64(int(digest(seed, *purpose)[:32], 16)))


def digest(seed: int, *purpose: int | str) -> str:
    """64 hex digits that name `purpose`: the source of every id in the demo."""
    named = "\x1f".join(str(part) for part in (seed, *purpose))
    return hashlib.sha256(named.encode()).hexdigest()
