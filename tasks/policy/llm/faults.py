"""What can go wrong in a training, said with what to do: memory, the disk, a loss that is no number."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import Refused
from tasks.policy.llm import LlmParams

# What allocators say; torch raises RuntimeError for a processor's memory, and its own class for a GPU's.
MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "defaultcpuallocator")
# What writers say: safetensors and torch wrap the system's error in their own.
DISK = ("no space left on device", "disk quota exceeded", "pytorchstreamwriter failed", "unexpected pos")


@contextmanager
def told(what: str, params: LlmParams, checkpoints: Path) -> Iterator[None]:
    """Turns exhausted memory and full disks into Refused; checkpoints stay, and the same command goes on from the last one."""
    try:
        yield
    except Refused:
        raise
    except Exception as e:
        words = f"{type(e).__name__}: {e}".casefold()
        if isinstance(e, MemoryError) or type(e).__name__ == "OutOfMemoryError" or any(m in words for m in MEMORY):
            raise Refused(
                f"{what}: out of memory ({_first(e)}); checkpoints are kept in {checkpoints}",
                f"a smaller llm.batch (it is {params.batch}; raise llm.accumulation as much), llm.max_length, or llm.tuning: lora",
            ) from e
        if (isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT)) or any(d in words for d in DISK):
            raise Refused(
                f"{what}: the disk is full ({_first(e)}); the model before is untouched",
                f"free space for a model and two checkpoints (of {checkpoints}), then the same command goes on from the last one",
            ) from e
        raise


def _first(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0][:200]
