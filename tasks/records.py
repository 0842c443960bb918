"""The nouns: their fields, their ids, and how they look as JSON lines and as Arrow tables.

A row of `interactions` (one model generation, in production):
    {"interaction_id": "ix_5c0…", "session_id": "s-1-7", "ts": 1767600000000000, "question": "when do I see my money?",
     "messages": "[{\\"role\\": \\"user\\", …}]", "response": "Refunds take …", "contexts": "[…]", "confidence": 0.81, …}

Times are integers, microseconds since 1970 UTC. Nested values are canonical JSON text, because Arrow merges the
shapes of structs across rows and would invent keys that no record had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tasks.errors import Refused


@dataclass(frozen=True, slots=True)
class Interaction:
    """One model generation.

    `messages` is the conversation up to and with the last message before the answer, the system prompt first;
    `response` the text that the user saw; `outputs` every candidate where there is more than that text (several
    candidates, tool calls, reasoning), '[]' otherwise. All four nested columns hold canonical chat messages or JSON.
    """

    interaction_id: str
    dialect: str
    native_id: str
    response_id: str
    trace_id: str
    session_id: str
    user: str
    ts: int
    messages: str
    question: str
    response: str
    contexts: str
    finish_reason: str
    model_version: str
    confidence: float | None
    latency_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    content_hash: str
    raw_segment: str
    raw_line: int
    tenant: str = ""
    kind: str = "chat"
    status: str = "ok"
    error: str = ""
    parent_id: str = ""
    outputs: str = "[]"
    tools: str = "[]"
    params: str = "{}"
    provider: str = ""
    model_requested: str = ""
    model_served: str = ""
    prompt_name: str = ""
    prompt_version: str = ""
    prompt_variables: str = "{}"
    app_version: str = ""
    environment: str = ""
    language: str = ""
    tags: str = "[]"
    ttft_ms: float | None = None
    cost_usd: float | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    attributes: str = "{}"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One event about an interaction; events are only ever added. `received` is when its log was captured."""

    feedback_id: str
    dialect: str
    native_id: str
    target_type: str
    target: str
    name: str
    value_type: str
    value: str
    comment: str
    source_kind: str
    user: str
    tenant: str
    ts: int
    received: int
    raw_segment: str
    raw_line: int


@dataclass(frozen=True, slots=True)
class Part:
    """A record that completes an interaction logged elsewhere: a trace's session, a prompt, retrieved documents."""

    part_id: str
    kind: str
    key: str
    data: str
    raw_segment: str
    raw_line: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A raw line with an interaction that waits for a part. Over once the interaction is stored or rejected."""

    waiting_id: str
    interaction_id: str
    required: bool
    received: int
    raw_segment: str
    raw_line: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not be taken, with its reason. The bytes themselves stay in the raw segment."""

    reject_id: str
    source: str
    code: str
    message: str
    raw_segment: str
    raw_line: int


@dataclass(frozen=True, slots=True)
class Release:
    """A reject that left the quarantine: read again and taken (`outcome` 'replayed'), or dismissed with a reason."""

    reject_id: str
    outcome: str
    reason: str
    ts: int


@dataclass(frozen=True, slots=True)
class Member:
    """An interaction's place at the wall: its group for ever, and 'train', 'holdout' or 'straddles'."""

    interaction_id: str
    group_id: str
    side: str
    question_key: str


@dataclass(frozen=True, slots=True)
class Signal:
    """One detector's evidence, score in [0, 1], that an interaction may be wrong."""

    signal_id: str
    interaction_id: str
    detector: str
    score: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An interaction that was in a batch's window, with what the selection decided about it.

    `part` is 'audit_holdout', 'audit_open', 'mined', or '' for one that was not sent; `propensity` is the probability
    with which the design would have sent it in that part (of one that was not sent: in the audit); `window` counts the
    interactions of its stratum. `mined_propensity` is the probability to be mined, given what the audit drew before;
    `cluster` the cell of alike interactions of which one was mined (-1: it could not be mined).
    """

    candidate_id: str
    batch_id: str
    interaction_id: str
    part: str
    side: str
    propensity: float
    window: int
    score: float
    cluster: int
    reason: str
    mined_propensity: float = 0.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Failures that look alike, as of one turn. `cluster_id` is for ever; `turn` the number of its batch, not a time.

    `state` is 'born', 'growing', 'shrinking', 'steady', 'fixed' or 'regressed' (fixed before, and back). `count` of the
    turn's `window` interactions are in it; `trend` is their share less that of `base_count` of `base_window`, all turns
    since the share last changed, and `p_value` that of the difference. Since it was last seen, `gap_count` of `gap_window`.
    `example` is the interaction in the middle; `exemplars` a JSON list of those by which it is known again.
    """

    cluster_turn_id: str
    cluster_id: str
    turn: int
    batch_id: str
    name: str
    state: str
    count: int
    window: int
    share: float
    trend: float
    p_value: float
    first_seen: int
    last_seen: int
    example: str
    exemplars: str
    base_count: int
    base_window: int
    gap_count: int
    gap_window: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One question about one candidate that went out, or goes out now: the ledger of the hand-off.

    `wanted` people are asked in this `round` of the batch, of `role` 'annotator' or 'expert'. `answers` is JSON: what a ranking
    ranks, fixed here, as the same prompt may be answered again. `gold`: the right answer is known, and people can't tell.
    """

    ask_id: str
    batch_id: str
    candidate_id: str
    interaction_id: str
    kind: str
    content_hash: str
    round: int
    role: str
    wanted: int
    guideline: str
    answers: str
    gold: bool
    tool: str
    due: int
    ts: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to a candidate on its way to people and back, and that no other row tells: the audit trail.

    `what` is 'asked' (the ledger has all of this batch), 'out' (the tool has this round), 'withheld' (personal data in it),
    'expired' or 'guideline' (the text of a version that was used, by its hash); `detail` says why.
    """

    event_id: str
    ts: int
    batch_id: str
    candidate_id: str
    kind: str
    what: str
    who: str
    guideline: str
    detail: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """One person's answer to one ask. `value` is canonical JSON, of the shape of its `kind` (tasks/kinds.py).

    `status` is 'submitted', 'skipped' or 'withdrawn'; of several by one person the last one (`ts`) counts. `seconds` are what
    it took, where the tool says so; `shown` the order in which answers were shown, as JSON; `native_id` the tool's own id.
    """

    annotation_id: str
    batch_id: str
    candidate_id: str
    interaction_id: str
    kind: str
    annotator: str
    role: str
    value: str
    status: str
    note: str
    guideline: str
    ts: int
    received: int
    seconds: float | None
    shown: str
    source: str
    native_id: str

    @property
    def parsed(self) -> dict[str, Any]:
        return orjson.loads(self.value)


@dataclass(frozen=True, slots=True)
class Approved:
    """One approved answer of the catalogue. `kind` is 'answer', 'escalate' or 'refuse'."""

    id: str
    kind: str
    topic: str
    title: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Label:
    """What the annotations of an interaction agree on.

    `target` is the approved answer that should have been given ('' where people gave a verdict only); `p_wrong` the
    posterior probability that the served answer was wrong; `p_target` that of the target; `state` is 'agreed' or 'open'.
    """

    interaction_id: str
    verdict: str
    target: str
    p_wrong: float
    p_target: float
    votes: int
    state: str


Record = (
    Interaction
    | Feedback
    | Part
    | Waiting
    | Reject
    | Release
    | Member
    | Signal
    | Candidate
    | Cluster
    | Asked
    | Event
    | Annotation
    | Label
    | Approved
)

Json = str  # a column of canonical JSON text
_ARROW = {"str": pa.string(), "Json": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


def arrow_schema(cls: type) -> pa.Schema:
    """The Arrow schema that a dataclass declares: `X | None` is a nullable column."""
    columns = []
    for f in fields(cls):
        name, _, optional = str(f.type).partition(" | ")
        columns.append(pa.field(f.name, _ARROW[name], nullable=bool(optional)))
    return pa.schema(columns)


def to_arrow(cls: type, rows: Iterable[Any]) -> pa.Table:
    """Dataclass rows -> one Arrow table with the declared schema (also when there are no rows)."""
    return pa.Table.from_pylist([asdict(r) for r in rows], schema=arrow_schema(cls))


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def content_id(prefix: str, *parts: Any) -> str:
    """An id from content, so that the same thing met twice is one row: prefix + 24 hex digits of SHA-256."""
    return f"{prefix}_{hashlib.sha256(canonical(list(parts))).hexdigest()[:24]}"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write rows (dataclasses or dicts) as canonical JSON lines; returns how many."""
    lines = [canonical(r if isinstance(r, dict) else asdict(r)) for r in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON lines file that the loop itself wrote. Raises Refused where the file is missing or damaged."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as e:
                    raise Refused(f"{path}:{number} is not JSON ({e})", "dvc checkout, or freeze again") from None
    except FileNotFoundError:
        raise Refused(f"{path} does not exist", "dvc pull (a snapshot's data), or flywheel freeze") from None


def read_records(path: Path, cls: type) -> list[Any]:
    """The rows of a JSON lines file as dataclasses of one noun."""
    return [cls(**row) for row in read_jsonl(path)]
