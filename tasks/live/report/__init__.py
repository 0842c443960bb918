"""The turn report of a workspace: a page a snapshot, an index over them, and the same as JSON.

    write(workspace)                     ->  .flywheel/report/index.html, and the pages that were missing
    read(workspace, "snapshot-3f9c2a1b") ->  {"report": "flywheel-report/1", "tag": "snapshot-3f9c2a1b", …}

Nothing is kept but the pages: all follows from git, DVC's cache, the lake, the journal and what serving noted. A page is written
once and then left as it is; its document lies beside it as JSON, from which the index is made. Both hold what users wrote, so they
are noted as an export is, before they are written, and an erasure reaches them (tasks/live/dossier.py does the same).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from tasks.errors import Refused
from tasks.live import export, kept
from tasks.live.dossier import FOLDER as DOSSIERS
from tasks.live.kept import Tagged
from tasks.live.workspace import Workspace, write_durably
from tasks.report.index import index, line
from tasks.report.page import file_name, page

FOLDER, INDEX = "report", "index.html"


def write(workspace: Workspace, name: str = "", out: Path | None = None) -> Path:
    """Write the pages that are missing (the one named in any case) and the index; returns where the index is. Raises Refused where
    there is no such snapshot, or `out` is a file."""
    folder = (out or workspace.state / FOLDER).absolute()
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is a file", "name a folder, as in --out report")
    known = kept.snapshots(workspace)
    again = kept.tagged(workspace, name).tag if name else ""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines, newest = [], {}
    for number, of in enumerate(known, 1):
        place = folder / file_name(of.tag)
        found = _kept(place) if of.tag != again else None
        if found is None:
            dossier = _dossier(workspace, of, folder)
            found = _document(workspace, known, number) | {"dossier": dossier}
            _note(workspace, of, found, place.with_suffix(".json"), place)
            _put(place.with_suffix(".json"), orjson.dumps(found, option=orjson.OPT_INDENT_2))
            _put(place, page(found).encode())
        lines.append(line(found, place.name, _dossier(workspace, of, folder)))
        newest = found
    place = folder / INDEX
    if known:
        _note(workspace, known[-1], newest, place)
    _put(place, index(_now(workspace, known, lines, newest)).encode())
    return place


def read(workspace: Workspace, name: str = "") -> dict[str, Any]:
    """The document of the newest turn, or of the snapshot named: as its page shows it where there is one. Raises Refused."""
    known = kept.snapshots(workspace)
    if not known:
        raise Refused("there is no snapshot yet, and so no turn to report", "flywheel turn")
    of = kept.tagged(workspace, name) if name else known[-1]
    found = _kept(workspace.state / FOLDER / file_name(of.tag))
    return found or _document(workspace, known, [s.tag for s in known].index(of.tag) + 1)


def _document(workspace: Workspace, known: list[Tagged], number: int) -> dict[str, Any]:
    from tasks.live.report.turn import turn  # SciPy and what learns, for an index that has all its pages already
    from tasks.report import document

    before = known[number - 2] if number > 1 else None
    with kept.opened(workspace) as objects:
        return document(turn(workspace, objects, known[number - 1], before, number))


def _now(workspace: Workspace, known: list[Tagged], lines: list[dict[str, Any]], newest: Mapping[str, Any]) -> dict[str, Any]:
    from tasks.live.report.now import now

    return now(workspace, known[-1] if known else None, lines, newest)


def _kept(place: Path) -> dict[str, Any] | None:
    """The document of a page that is there; None where one of the two is missing or was cut by an erasure."""
    path = place.with_suffix(".json")
    if not (place.is_file() and path.is_file()):
        return None
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return None


def _dossier(workspace: Workspace, of: Tagged, folder: Path) -> str:
    """Where the dossier is, as seen from the report; '' where nobody has written one."""
    path = workspace.state / DOSSIERS / f"{of.tag}.html"
    return os.path.relpath(path, folder) if path.is_file() else ""


def _note(workspace: Workspace, of: Tagged, found: Mapping[str, Any], *places: Path) -> None:
    noted = {(n["out"], n["snapshot"]) for n in export.noted(workspace)}
    for place in places:
        if (str(place), of.tag) not in noted:
            export.note(workspace, "report", of.tag, str(found["digest"]), place)


def _put(path: Path, data: bytes) -> None:
    write_durably(path, data)
    path.chmod(0o600)
