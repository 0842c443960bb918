"""Choice without chance: lots that only a key foretells, codes and ranks that do not depend on the order of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def lot(ids: Sequence[str], key: str) -> np.ndarray:
    """A number for each id that only the key knows beforehand: equal ids draw equal lots, in any order and on any machine."""
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    return np.frombuffer(
        b"".join(hashlib.blake2b(i.encode(), digest_size=8, key=secret).digest() for i in ids), "<u8"
    ).astype(np.uint64)


def coded(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A number for each distinct value, in the order of the values: the same whatever the order of rows."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    made = values.dictionary_encode()
    rank = np.empty(len(made.dictionary), np.int64)
    rank[pc.sort_indices(made.dictionary).to_numpy()] = np.arange(len(made.dictionary))
    return rank[made.indices.to_numpy(zero_copy_only=False)]


def place(code: np.ndarray) -> np.ndarray:
    """Of codes that are sorted, the place of each among its equals."""
    starts = np.flatnonzero(np.diff(code, prepend=-1) != 0)
    return np.arange(len(code)) - np.repeat(starts, np.diff(starts, append=len(code)))
