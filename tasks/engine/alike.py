"""Alike: whether another process would compute the same, by the digest of our code and the versions of what computes for it."""

from __future__ import annotations

import functools
import hashlib
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import tasks

PACKAGES = ("duckdb", "numpy", "pyarrow", "scipy")


@dataclass(frozen=True, slots=True)
class Likeness:
    """`code` is of all files of tasks/, as they were when this process first looked, and as they are now: a worker that has run on
    since before an update has old code in memory and new files beside it."""

    code: str
    python: str
    packages: tuple[str, ...]

    def differs(self, other: Likeness) -> str:
        """What is different there, in words; '' nothing."""
        ours, theirs = asdict(self), asdict(other)
        packages = [f"{b}, not {a}" for a, b in zip(self.packages, other.packages, strict=True) if a != b]
        named = [f"{k} {theirs[k]}, not {ours[k]}" for k in ("python", "code") if ours[k] != theirs[k]]
        return "; ".join([*packages, *named])


def likeness() -> Likeness:
    now, first = _digest(), _first()
    code = now if now == first else f"{first} (its files are {now} by now)"
    return Likeness(code, platform.python_version(), _packages())


@functools.cache
def _first() -> str:
    return _digest()


@functools.cache
def _packages() -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in PACKAGES)


def _digest() -> str:
    root = Path(next(iter(tasks.__path__)))
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(root).as_posix()} {len(content)} ".encode() + content)
    return found.hexdigest()[:12]


_first()  # what this process is about to load
