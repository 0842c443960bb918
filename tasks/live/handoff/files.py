"""The hand-off by files: a batch folder in the outbox, answer files back. No server, and no program but a text editor.

    data/outbox/bt_5c0…/batch.jsonl        one ask a line (tasks/kinds.py), the answers of a ranking in the order to show
                       /batch.csv          the same for a spreadsheet (tasks/live/handoff/sheet.py)
                       /batch-2.jsonl …    what is asked again in a later round
                       /kinds.json  catalogue.jsonl  guidelines/answer-1.md
                       /cancelled.jsonl    {"ask_id": …} that need no more answers
    data/answers/*.jsonl                   neutral answer lines (tasks/live/handoff/tool.py); a file may grow
    data/answers/*.csv                     sheets that were filled in; a file is taken whenever its content changed
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import orjson

from tasks.errors import BadRecord, Refused
from tasks.kinds import Ask, Kind
from tasks.live.handoff.sheet import Row, answers, sheet
from tasks.live.handoff.tool import Delivery, Handout, ToolStatus, shuffled
from tasks.live.sources import MAX_DOCUMENT_BYTES, Offsets, chunks, unfinished
from tasks.live.workspace import Workspace, write_durably
from tasks.records import canonical, digest

SHEETS = ".csv"
LINES = ".jsonl"


class Files:
    """The adapter. It keeps nothing in memory between calls but where the workspace is."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def send(self, handout: Handout) -> str:
        """Write the round into the batch's folder, which appears whole or not at all. Writing it again changes nothing."""
        folder = self._folder(handout.batch_id)
        if folder.is_dir():
            self._write_into(folder, handout)
            return str(folder)
        temporary = folder.with_name(f".{handout.batch_id}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700, parents=True)
        self._write_into(temporary, handout)
        temporary.rename(folder)
        _sync(folder.parent)
        return str(folder)

    def receive(self) -> Iterator[Delivery]:
        """The lines that are new, and the rows of sheets that are new or changed."""
        outbox = _Outbox(self.workspace)
        for path in self._answer_files():
            if path.suffix.lower() == SHEETS:
                yield from self._sheet(path, outbox)
            else:
                yield from self._lines(path)

    @property
    def unfinished(self) -> list[str]:
        """What lies in the folder and is not read yet or ever, as a person may read it."""
        offsets = Offsets(self.workspace, "answers")
        waits = []
        for path in self._candidates():
            if not _is_ours(path, self.workspace.answers):
                waits.append(f"{path.name}: no file of this folder; it is not read")
            elif path.suffix.lower() == LINES and (rest := unfinished(path, offsets.position(path))):
                waits.append(rest)
        return waits

    def cancel(self, ask_ids: Collection[str]) -> None:
        """Note in each batch's folder which of its asks need no more answers, each once."""
        outbox = _Outbox(self.workspace)
        for batch_id in outbox.batches():
            known = outbox.cancelled(batch_id)
            new = [a for a in outbox.asks(batch_id) if a in ask_ids and a not in known]
            if new:
                lines = [canonical({"ask_id": a}) + b"\n" for a in (*known, *new)]
                write_durably(outbox.folder / batch_id / "cancelled.jsonl", b"".join(lines))

    def status(self) -> ToolStatus:
        """Asks in the outbox: answered by as many as were wanted, cancelled, or open."""
        outbox = _Outbox(self.workspace)
        given, unreadable = self._given(outbox)
        open_, answered = 0, 0
        for batch_id in outbox.batches():
            cancelled = set(outbox.cancelled(batch_id))
            for ask in outbox.asks(batch_id).values():
                people = given.get((batch_id, ask.candidate_id, ask.kind), set()) - set(ask.answered_by)
                if len(people) >= ask.wanted:
                    answered += 1
                elif ask.ask_id not in cancelled:
                    open_ += 1
        warnings = [f"{unreadable} lines or rows of the answer files can't be read"] if unreadable else []
        return ToolStatus(str(self.workspace.outbox), open_, answered, warnings=warnings + self.unfinished)

    def _folder(self, name: str) -> Path:
        """A folder in the outbox: nothing that a name could lead to elsewhere."""
        outbox = self.workspace.outbox.resolve()
        folder = outbox / name
        if not name or name.startswith(".") or folder.parent != outbox or folder.resolve() != folder:
            raise Refused(f"{name!r} can't be the name of a batch's folder", f"look at what stands in {outbox}")
        return folder

    def _write_into(self, folder: Path, handout: Handout) -> None:
        ending = "" if handout.round == 1 else f"-{handout.round}"
        shown = [replace(ask, answers=shuffled(ask)) for ask in handout.asks]
        kinds = {**_kinds(folder), **handout.kinds}
        for name, data in {
            "kinds.json": canonical({name: asdict(kind) for name, kind in kinds.items()}) + b"\n",
            "catalogue.jsonl": b"".join(canonical(asdict(a)) + b"\n" for a in handout.catalogue),
            **{f"guidelines/{v.replace('/', '-')}.md": t.encode() for v, t in handout.guidelines.items()},
            f"batch{ending}.csv": sheet(shown, handout.kinds),
            # The lines come last: where they are, the round is whole.
            f"batch{ending}.jsonl": b"".join(canonical(asdict(ask)) + b"\n" for ask in shown),
        }.items():
            path = folder / name
            if not path.is_file() or path.read_bytes() != data:
                write_durably(path, data)

    def _candidates(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(
                p
                for p in self.workspace.answers.iterdir()
                if p.suffix.lower() in (SHEETS, LINES) and not p.name.startswith(".")
            )
        return []

    def _answer_files(self) -> list[Path]:
        return [p for p in self._candidates() if _is_ours(p, self.workspace.answers)]

    def _lines(self, path: Path) -> Iterator[Delivery]:
        offsets = Offsets(self.workspace, "answers")
        start = offsets.start(path)
        if start is None:
            return
        for chunk in chunks(path, start):

            def accepted(position: int = chunk.position) -> None:
                offsets.read(path, position)
                offsets.save()

            yield Delivery(path.name, chunk.data, accepted, chunk.flaws)

    def _sheet(self, path: Path, outbox: _Outbox) -> Iterator[Delivery]:
        """The rows that this sheet did not have when it was last accepted; a row that was changed is such a row."""
        before = _Sheets(self.workspace)
        entry = before.known.get(path.name, {"sha256": "", "rows": []})
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            data, rows = b"", [BadRecord("too_long", f"the sheet has more than {MAX_DOCUMENT_BYTES:,} bytes")]
            mark = f"{path.stat().st_size} bytes"
        else:
            data = path.read_bytes()
            mark, rows = digest(data), []
        if mark == entry["sha256"]:
            return
        rows = rows or list(answers(data, outbox.find))
        known, marks, lines = set(entry["rows"]), [], []
        for row in rows:
            if isinstance(row, Row):
                marks.append(digest(canonical(row.answer))[:16])
                if marks[-1] not in known:
                    lines.append(_line(row, path))

        def accepted() -> None:
            latest = _Sheets(self.workspace)
            latest.known[path.name] = {"sha256": mark, "rows": marks}
            latest.save()

        yield Delivery(path.name, b"".join(lines), accepted, [r for r in rows if isinstance(r, BadRecord)])

    def _given(self, outbox: _Outbox) -> tuple[dict[tuple[str, str, str], set[str]], int]:
        """(batch, candidate, kind) -> who has an answer to it, by what each said last; and how much could not be read."""
        last: dict[tuple[str, ...], tuple[str, str]] = {}
        unreadable = 0
        for path in self._answer_files():
            rows, bad = _rows(path, outbox)
            unreadable += bad
            for row in rows:
                who = tuple(str(row.get(k, "")) for k in ("batch_id", "candidate_id", "kind", "annotator"))
                said = (str(row.get("time", "")), str(row.get("status", "submitted")))
                if said[0] >= last.get(who, said)[0]:
                    last[who] = said
        given: dict[tuple[str, str, str], set[str]] = {}
        for (batch, candidate, kind, annotator), (_, status) in last.items():
            if status == "submitted" and annotator:
                given.setdefault((batch, candidate, kind), set()).add(annotator)
        return given, unreadable


class _Outbox:
    """What lies in the outbox, read once a call."""

    def __init__(self, workspace: Workspace):
        self.folder = workspace.outbox
        self.read: dict[str, list[Ask]] = {}
        self.kinds: dict[str, dict[str, Kind]] = {}

    def batches(self) -> list[str]:
        """The folders of this form; one of an older form has no asks, only questions of the one kind there was."""
        return sorted(p.parent.name for p in self.folder.glob("*/kinds.json") if not p.parent.name.startswith("."))

    def asks(self, batch_id: str) -> dict[str, Ask]:
        """The batch's asks by id; one that is asked again under its old id, as it was asked last."""
        return {a.ask_id: a for a in self.rounds(batch_id)}

    def rounds(self, batch_id: str) -> list[Ask]:
        """The batch's asks as they were shown, round by round."""
        if batch_id not in self.read:
            lines = [n for p in sorted((self.folder / batch_id).glob("batch*.jsonl")) for n in p.read_bytes().splitlines()]
            made = [msgspec.json.decode(line, type=Ask) for line in lines]
            self.read[batch_id] = sorted(made, key=lambda a: a.round)
            self.kinds[batch_id] = _kinds(self.folder / batch_id)
        return self.read[batch_id]

    def cancelled(self, batch_id: str) -> list[str]:
        with suppress(FileNotFoundError):
            data = (self.folder / batch_id / "cancelled.jsonl").read_bytes()
            return [orjson.loads(line)["ask_id"] for line in data.splitlines()]
        return []

    def find(self, batch_id: str, candidate_id: str, kind: str, round_: str) -> tuple[Ask, Kind] | None:
        """The ask that a row answers; where it does not say in which round, the latest."""
        rounds = self._by_place.get((batch_id, candidate_id, kind), {})
        ask = rounds.get(round_) if round_ else next(reversed(rounds.values()), None)
        return None if ask is None else (ask, self.kinds[batch_id][kind])

    @cached_property
    def _by_place(self) -> dict[tuple[str, str, str], dict[str, Ask]]:
        places: dict[tuple[str, str, str], dict[str, Ask]] = {}
        for batch_id in self.batches():
            for ask in self.rounds(batch_id):
                places.setdefault((batch_id, ask.candidate_id, ask.kind), {})[str(ask.round)] = ask
        return places


class _Sheets:
    """Which rows of each sheet were accepted. Only a shortcut: losing it costs a second reading and stores nothing twice."""

    def __init__(self, workspace: Workspace):
        self.path = workspace.state / "sheets-answers.json"
        try:
            self.known: dict[str, Any] = orjson.loads(self.path.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            self.known = {}

    def save(self) -> None:
        write_durably(self.path, orjson.dumps(self.known))


def _kinds(folder: Path) -> dict[str, Kind]:
    with suppress(FileNotFoundError):
        return msgspec.json.decode((folder / "kinds.json").read_bytes(), type=dict[str, Kind])
    return {}


def _line(row: Row, path: Path) -> bytes:
    """A row without a time was answered when its sheet was saved, as far as anybody can know."""
    saved = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = row.answer | {"time": row.answer["time"] or saved, "native_id": f"line {row.line}"}
    return canonical(answer) + b"\n"


def _rows(path: Path, outbox: _Outbox) -> tuple[list[dict[str, Any]], int]:
    """All answers in a file, for counting, and how many lines or rows are none."""
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        return [], 1
    data = path.read_bytes()
    if path.suffix.lower() == SHEETS:
        found = list(answers(data, outbox.find))
        good = [orjson.loads(_line(r, path)) for r in found if isinstance(r, Row)]
        return good, len(found) - len(good)
    rows, bad = [], 0
    for line in data[: data.rfind(b"\n") + 1].split(b"\n"):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad += 1
    return rows, bad


def _is_ours(path: Path, folder: Path) -> bool:
    """A regular file that really lies in the folder; what else has such a name may lead anywhere."""
    return path.is_file() and path.resolve().parent == folder.resolve()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
