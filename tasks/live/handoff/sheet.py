"""A round of asks as a spreadsheet (CSV), and the sheets that people send back as neutral answer lines.

    batch_id,candidate_id,kind,content_hash,round,question,history,contexts,response,answers,howto,verdict,…,annotator,note,time,status
    bt_5c0…,cd_1a…,answer,ch_9…,1,when do I …,,,"Refunds take …",,"verdict: one of right; wrong · …",wrong,…,ana,,,

One row an ask; somebody else's answer to it is a copy of the row. The first five columns say which ask it is and are not to be
changed; what people read is never read back. UTF-8 with its mark and CRLF, because spreadsheets guess wrongly otherwise.

A cell that a spreadsheet would run as a formula is led by an apostrophe, and so is one that begins with an apostrophe, because
some programs swallow the first; exactly that apostrophe is taken away again. (OWASP, CSV Injection.)
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.formats import MAX_LINE_BYTES
from tasks.kinds import Ask, Kind
from tasks.live.handoff.notation import allowed, letter, read

LOCKED = ("batch_id", "candidate_id", "kind", "content_hash", "round")
SHOWN = ("question", "history", "contexts", "response", "answers", "howto")
ABOUT = ("annotator", "note", "time", "status")
NEEDED = (*LOCKED[:4], "annotator")
STATUSES = ("submitted", "skipped", "withdrawn")
MAX_CELL = 32_000  # a spreadsheet's cell holds 32,767; what is beyond would run into the rows below
FORMULA = re.compile(r"""[\s"'\ufeff\u200b]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]""")
DELIMITERS = (",", ";", "\t")

Lookup = Callable[[str, str, str, str], tuple[Ask, Kind] | None]


@dataclass(frozen=True, slots=True)
class Row:
    """An answered row: the line of the file that it begins on, and the neutral answer ("" as its time where none is given)."""

    line: int
    answer: dict[str, Any]


def guarded(cell: str) -> str:
    return f"'{cell}" if _is_guarded(cell) else cell


def unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _is_guarded(cell[1:]) else cell


def _is_guarded(cell: str) -> bool:
    return cell.startswith("'") or FORMULA.match(cell) is not None


def sheet(asks: Sequence[Ask], kinds: Mapping[str, Kind], filled: Mapping[str, Mapping[str, str]] | None = None) -> bytes:
    """The rows of a round, in the order of the asks. `filled`: ask id -> column -> cell, for a sheet filled in by program."""
    fields = columns(kinds[name] for name in dict.fromkeys(a.kind for a in asks))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    names = (*LOCKED, *SHOWN, *fields, *ABOUT)
    writer.writerow([guarded(n) for n in names])
    for ask in asks:
        row = _shown(ask, kinds[ask.kind]) | dict((filled or {}).get(ask.ask_id, {}))
        writer.writerow([guarded(row.get(name, "").replace("\0", "\ufffd")) for name in names])
    return codecs.BOM_UTF8 + text.getvalue().encode("utf-8", "replace")


def columns(kinds: Any) -> tuple[str, ...]:
    """The columns to fill in: the fields of all kinds, each once."""
    return tuple(dict.fromkeys(column(f.name) for kind in kinds for f in kind.fields))


def column(field: str) -> str:
    """A field's column: its name, unless the sheet has such a column already (the kind `note` has a field `note`)."""
    return f"value.{field}" if field in LOCKED + SHOWN + ABOUT or field.startswith("value.") else field


def _shown(ask: Ask, kind: Kind) -> dict[str, str]:
    row = {
        "batch_id": ask.batch_id,
        "candidate_id": ask.candidate_id,
        "kind": ask.kind,
        "content_hash": ask.content_hash,
        "round": str(ask.round),
        "question": ask.question,
        "history": "\n\n".join(f"{m.get('role', '')}: {_text(m.get('content'))}" for m in ask.history),
        "contexts": "\n\n".join(f"[{n}] {_text(c.get('text'))}" for n, c in enumerate(ask.contexts, 1)),
        "response": ask.response,
        "answers": "\n\n".join(f"{letter(n)}) {_text(a.get('text'))}" for n, a in enumerate(ask.answers)),
        "howto": allowed(kind, ask),
    }
    return {name: t if len(t) <= MAX_CELL else f"{t[:MAX_CELL]} … (whole in batch.jsonl)" for name, t in row.items()}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


def answers(data: bytes, lookup: Lookup) -> Iterator[Row | BadRecord]:
    """The answered rows of a sheet, and what is wrong with the others. `lookup`: (batch, candidate, kind, round) -> the ask.

    A row without an annotator, a value and a status was not answered, and is passed over.
    """
    try:
        text = _decoded(data)
        reader, header = _opened(text)
    except BadRecord as e:
        yield e
        return
    line = reader.line_num + 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            try:
                answer = _answer(header, cells, lookup)
            except BadRecord as e:
                yield BadRecord(e.code, f"line {begins}: {e.message}")
                continue
            if answer is not None:
                yield Row(begins, answer)
    except csv.Error as e:
        yield BadRecord("bad_csv", f"line {line}: {e}; nothing after it was read")


def _decoded(data: bytes) -> str:
    """UTF-8, or UTF-16 with its mark, as "Unicode text" is saved. Any other encoding would be a guess at people's words."""
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\0", "")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise BadRecord("bad_encoding", f"line {line}: the file is not UTF-8; save it as CSV UTF-8") from None


def _opened(text: str) -> tuple[Any, list[str]]:
    """A reader behind the header, by the delimiter that makes it a header: where , is for decimals, CSV has ; between."""
    csv.field_size_limit(MAX_LINE_BYTES)
    missing = list(NEEDED)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = [unguarded(name).strip() for name in next(reader, [])]
        except csv.Error:
            continue
        lacks = [name for name in NEEDED if name not in header]
        if not lacks:
            return reader, header
        missing = min(missing, lacks, key=len)
    raise BadRecord("bad_csv", f"line 1: the header lacks {', '.join(missing)}")


def _answer(header: Sequence[str], cells: Sequence[str], lookup: Lookup) -> dict[str, Any] | None:
    if len(cells) > len(header) and any(c.strip() for c in cells[len(header) :]):
        raise BadRecord("bad_csv", f"{len(cells)} cells under {len(header)} columns")
    row = {name: unguarded(cell) for name, cell in zip(header, cells, strict=False)}
    about = {name: row.get(name, "").strip() for name in LOCKED + ABOUT}
    if not about["annotator"] and not about["status"] and not _has_value(row):
        return None
    asked = lookup(about["batch_id"], about["candidate_id"], about["kind"], about["round"])
    if asked is None:
        raise BadRecord(
            "unknown_candidate",
            f"{about['kind'][:40]!r} of candidate {about['candidate_id'][:80]} in batch {about['batch_id'][:80]} was never sent",
        )
    ask, kind = asked
    if about["content_hash"] != ask.content_hash:
        raise BadRecord("changed_content", f"content_hash of {ask.candidate_id} is not that of the candidate")
    if not about["annotator"]:
        raise BadRecord("missing_field", f"{ask.candidate_id} has an answer, but no annotator")
    status = about["status"].lower() or STATUSES[0]
    if status not in STATUSES:
        raise BadRecord("bad_value", f"status is {about['status'][:40]!r}, not one of {', '.join(STATUSES)}")
    filled = {f.name: row.get(column(f.name), "") for f in kind.fields}
    if status == STATUSES[0] and not any(cell.strip() for cell in filled.values()):
        return None  # the name was filled in for the whole sheet, the answer not yet
    return {
        "batch_id": ask.batch_id,
        "candidate_id": ask.candidate_id,
        "kind": ask.kind,
        "content_hash": ask.content_hash,
        "annotator": about["annotator"],
        "value": read(kind, filled, ask) if status == STATUSES[0] else {},
        "time": about["time"],
        "status": status,
        "shown": [a["id"] for a in ask.answers],
        "note": row.get("note", "").strip(),
        "guideline": ask.guideline,
    }


def _has_value(row: Mapping[str, str]) -> bool:
    return any(cell.strip() for name, cell in row.items() if name not in LOCKED + SHOWN + ABOUT)
