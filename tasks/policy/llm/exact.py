"""The machine's share in the bytes of a model: threads, algorithms, a GPU. And quiet libraries."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import torch
import transformers

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's mallopt


def accelerated() -> bool:
    return torch.cuda.is_available()


@contextmanager
def fixed(threads: int) -> Iterator[None]:
    """Equal bytes on every run: sums in a fixed order, so a fixed number of threads and no algorithm that chooses at run time."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=accelerated())  # not every kernel of a GPU can
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict, warn_only=warned)


def keep_memory() -> None:
    """Let the allocator of this process keep what it was given: it gives the large arrays of each step back to the system else, and
    half of the time goes into clearing their pages again (docs/measurements.md)."""
    if sys.platform == "linux" and not accelerated():
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(MMAP_MAX, 0)
            libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def quiet() -> None:
    """No bars and no advice of libraries between the lines of a stage."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")  # what one tells another
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
