"""Files as the outside world hands them over: whole or not at all, because the loop may look at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def drop(path: Path, lines: Iterable[str]) -> None:
    """Write `lines` to a hidden temporary name beside `path`, then move it into place (os.replace)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
    unfinished.replace(path)


def compact(value: object) -> str:
    """One line of JSON; NaN and infinity are a bug, not a number."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
