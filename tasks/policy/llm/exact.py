"""The machine's share in the bytes of a model: threads, algorithms, a GPU. And quiet libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import torch
import transformers


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


def quiet() -> None:
    """No bars and no advice of libraries between the lines of a stage."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
