"""What lies with people: the batches in the outbox, their answers, the tasks in Label Studio and the reviews in MLflow.

Servers are asked where their address is set; one that does not answer is told of, and the erasure goes on.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

import orjson

from tasks.errors import Refused
from tasks.live.erasure.raw import is_answer_about
from tasks.live.erasure.subject import Subject
from tasks.live.handoff.files import LINES, SHEETS
from tasks.live.workspace import Workspace, write_durably
from tasks.records import digest

DELIMITERS = ",;\t"


def outbox(workspace: Workspace, found: Subject) -> int:
    """The questions about them, from every batch's files."""
    candidates, done = set(found.candidates), 0
    for path in sorted(p for p in workspace.outbox.rglob("*") if p.is_file()):
        if path.suffix == ".jsonl":
            done += _lines(path, lambda line: is_answer_about(line, candidates) or _is_ask(line, found.ids))
        elif path.suffix == SHEETS:
            done += _sheet(path, candidates)
    return done


def answers(workspace: Workspace, found: Subject) -> int:
    """What people answered, as it came: lines are overwritten in place, because the file may still grow."""
    candidates, done = set(found.candidates), 0
    for path in sorted(p for p in workspace.answers.glob("*") if p.is_file()):
        if path.suffix.lower() == SHEETS:
            before = _sheet(path, candidates)
            done += before
            if before:
                _is_read(workspace, path)
        elif path.suffix.lower() == LINES:
            done += _blank(path, lambda line: is_answer_about(line, candidates))
    return done


def label_studio(workspace: Workspace, found: Subject) -> tuple[int, list[str]]:
    """Tasks deleted, with the answers on them; and what is left to people."""
    if not os.environ.get("FLYWHEEL_LABELSTUDIO_URL"):
        left = "if batches were sent to Label Studio: set FLYWHEEL_LABELSTUDIO_URL and FLYWHEEL_LABELSTUDIO_TOKEN and erase again"
        used = any(workspace.state.glob("labelstudio-*.json"))
        return 0, [left] if used else []
    from tasks.live.handoff.labelstudio import MARK
    from tasks.live.handoff.labelstudio.server import connect

    done = 0
    try:
        server = connect()
        for project in server.projects(f"{MARK} "):
            for task in server.tasks(project["id"], "id,data"):
                asks = (task["data"].get(MARK) or {}).get("asks") or [] if isinstance(task["data"], dict) else []
                if any(a.get("candidate_id") in set(found.candidates) for a in asks):
                    server.delete(f"/api/tasks/{task['id']}/")
                    done += 1
    except Refused as e:
        return done, [f"Label Studio: {e.why}; delete the tasks of these candidates there: {_named(found.candidates)}"]
    return done, ["Label Studio: backups and exports of its database hold what was deleted now"] if done else []


def mlflow_reviews(workspace: Workspace, found: Subject) -> tuple[int, list[str]]:
    """Traces deleted from the server of the review queues, and what is left to people."""
    if not found.traces:
        return 0, []
    uri, name = os.environ.get("FLYWHEEL_MLFLOW_REVIEW_URL", ""), os.environ.get("FLYWHEEL_MLFLOW_REVIEW_EXPERIMENT", "")
    if not uri or not name:
        return 0, [f"MLflow: delete these traces where they were logged: {_named(found.traces)}"]
    from tasks.live.handoff.mlflow_queues import Queues

    try:
        done = Queues(uri, name).forget(found.traces)
    except Refused as e:
        return 0, [f"MLflow: {e.why}; delete these traces there: {_named(found.traces)}"]
    return done, []


def states(workspace: Workspace, found: Subject) -> int:
    """What the tools' adapters remember of what they sent and took, and pulls of what they saw: by ids only."""
    needles, done = found.needles, 0
    for path in sorted(workspace.state.glob("*.json")):
        try:
            value = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError:
            continue
        left, gone = pruned(value, lambda text: needles.any(text.encode("utf-8", "surrogatepass")))
        if gone:
            write_durably(path, orjson.dumps(left))
            done += gone
    return done


def pruned(value: object, theirs: Callable[[str], bool]) -> tuple[object, int]:
    """JSON without what names them: an entry under such a key, and every object in which such a text stands."""
    if isinstance(value, dict):
        left, gone = {}, 0
        for k, v in value.items():
            if theirs(k) or _names(v, theirs):
                gone += 1
            else:
                left[k], more = pruned(v, theirs)
                gone += more
        return left, gone
    if isinstance(value, list):
        kept, gone = [], 0
        for v in value:
            if _names(v, theirs):
                gone += 1
            else:
                one, more = pruned(v, theirs)
                kept.append(one)
                gone += more
        return kept, gone
    return value, 0


def _names(value: object, theirs: Callable[[str], bool]) -> bool:
    if isinstance(value, str):
        return theirs(value)
    if isinstance(value, dict):
        return any(isinstance(v, str) and theirs(v) for v in value.values())
    return False


def _is_ask(line: bytes, ids: set[str]) -> bool:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(row, dict) and row.get("ask_id") in ids


def _lines(path: Path, gone: Callable[[bytes], bool]) -> int:
    lines = path.read_bytes().splitlines(keepends=True)
    left = [line for line in lines if not gone(line)]
    if len(left) < len(lines):
        write_durably(path, b"".join(left))
    return len(lines) - len(left)


def _blank(path: Path, gone: Callable[[bytes], bool]) -> int:
    done, start = 0, 0
    with path.open("r+b") as f:
        for line in f:
            text = line.rstrip(b"\r\n")
            if text.strip() and gone(text):
                os.pwrite(f.fileno(), b" " * len(text), start)
                done += 1
            start += len(line)
        if done:
            os.fsync(f.fileno())
    return done


def _sheet(path: Path, candidates: set[str]) -> int:
    """A spreadsheet without the rows that name a candidate of theirs."""
    data = path.read_bytes()
    if not any(c.encode() in data.replace(b"\0", b"") for c in candidates):
        return 0
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = data.decode(encoding, "replace")
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    csv.field_size_limit(2**31 - 1)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    left = [row for row in rows if candidates.isdisjoint(row)]
    made = io.StringIO(newline="")
    csv.writer(made, delimiter=delimiter, lineterminator="\r\n").writerows(left)
    write_durably(path, made.getvalue().encode(encoding))
    return len(rows) - len(left)


def _is_read(workspace: Workspace, path: Path) -> None:
    """A sheet of which rows were taken out has nothing new."""
    state = workspace.state / "sheets-answers.json"
    if state.is_file():
        known = orjson.loads(state.read_bytes())
        if path.name in known:
            known[path.name]["sha256"] = digest(path.read_bytes())
            write_durably(state, orjson.dumps(known))


def _named(ids: list[str]) -> str:
    return ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")


