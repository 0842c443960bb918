"""Known: which ids a table has, eight bytes each, so that no chunk of records has to look through the disk for its duplicates.

Two ids with the same first 64 bits of their hash count as one: among ten million records that is a chance of 3 in a million.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pyarrow as pa

from tasks.live.lake import TABLES, Lake

PREFIX = 3  # "ix_"
DIGITS = 16  # of hexadecimal: 64 bits


class Known:
    """The ids of a table of the lake, read when they are first asked for."""

    def __init__(self, lake: Lake, table: str):
        self.lake, self.table = lake, table
        self._sorted: np.ndarray | None = None
        self._recent: list[np.ndarray] = []  # sorted each; merged now and then, because merging copies everything

    def remember(self, ids: pa.ChunkedArray) -> np.ndarray:
        """True for each id that is new, the first time that it stands in `ids`; all of them are known from now on."""
        keys = _keys(ids)
        unique, first = np.unique(keys, return_index=True)
        seen = np.zeros(len(unique), bool)
        for known in (self._all(), *self._recent):
            at = np.minimum(np.searchsorted(known, unique), max(len(known) - 1, 0))
            seen |= known[at] == unique if len(known) else False
        self._recent.append(unique[~seen])
        if len(self._recent) >= 16:
            merged = np.concatenate([self._all(), *self._recent])
            self._sorted, self._recent = merged, []
            merged.sort(kind="stable")  # in place: at ten million ids each copy is 80 MB
        new = np.zeros(len(keys), bool)
        new[first[~seen]] = True
        return new

    def _all(self) -> np.ndarray:
        if self._sorted is None:
            # As numbers from the engine: ten million ids as text would be half a gigabyte.
            id = fields(TABLES[self.table])[0].name
            sql = f"SELECT ('0x' || substr({id}, {PREFIX + 1}, {DIGITS}))::UBIGINT AS key FROM {self.table}"
            self._sorted = np.sort(self.lake.query(sql)["key"].to_numpy())
        return self._sorted


def _keys(ids: pa.ChunkedArray) -> np.ndarray:
    """The first 64 bits of ids such as ix_9f16c0…, straight from the memory in which their characters lie side by side."""
    found = [np.empty(0, np.uint64)]
    for chunk in ids.chunks:
        if len(chunk):
            width = len(chunk[0].as_py())
            _, _, characters = chunk.cast(pa.string()).buffers()
            text = np.frombuffer(characters, np.uint8, len(chunk) * width, chunk.offset * width).reshape(-1, width)
            digits = bytes.fromhex(text[:, PREFIX : PREFIX + DIGITS].tobytes().decode("ascii"))
            found.append(np.frombuffer(digits, ">u8").astype(np.uint64))
    return np.concatenate(found)
