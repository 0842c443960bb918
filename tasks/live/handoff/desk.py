"""The desk between the lake and the annotation tool: what is asked, under which guideline, of whom, and with what tool.

    candidate cd_5c0…  ->  Asked(kind="answer", round=1, wanted=2, …)  in the ledger (`asks`)  ->  Ask, as a tool shows it
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa

from tasks.errors import Refused
from tasks.guidelines import Guideline, newest
from tasks.kinds import KINDS, TEXT, Ask, Kind
from tasks.live.handoff.files import Files
from tasks.live.handoff.tool import Handout, Tool
from tasks.live.labels import catalogue, guidelines
from tasks.live.lake import Lake
from tasks.live.people import by_role
from tasks.live.workspace import Workspace
from tasks.overlap import Limits
from tasks.records import Asked, Event, content_id
from tasks.slices import Rule

FILES = "files"
TOOLS = (FILES, "labelstudio", "mlflow")
AnsweredBy = dict[tuple[str, str, str], list[str]]  # (candidate, kind, guideline) -> people
SEEN = """
    SELECT interaction_id, content_hash, question, messages, contexts, response, trace_id, dialect
    FROM interactions SEMI JOIN wanted USING (interaction_id)
"""
# Every answer that the very same prompt got: what a ranking can be about.
ALIKE = """
    SELECT i.interaction_id, i.outputs, list(DISTINCT o.response) AS responses
    FROM interactions i SEMI JOIN wanted USING (interaction_id)
    JOIN interactions o ON o.question = i.question AND o.messages = i.messages AND o.contexts = i.contexts
    GROUP BY ALL
"""
LEFT = """
    SELECT * FROM asks
    WHERE (batch_id, tool, 'round ' || "round") NOT IN (SELECT (batch_id, who, detail) FROM events WHERE what = 'out')
    ORDER BY ask_id
"""


@dataclass(frozen=True, slots=True)
class AnnotateParams:
    """`kinds` and `prices` are "kind: number" (share of the candidates, cost of an answer); times in days."""

    tool: str
    kinds: list[str]
    first: int
    most: int
    sure: float
    budget_share: float
    audit_share: float
    gold_share: float
    cap: int
    due_days: float
    prices: list[str]
    expert_price: float

    def __post_init__(self) -> None:
        if self.tool not in TOOLS:
            raise Refused(f"params.yaml: annotate.tool is {self.tool!r}", f"use one of {', '.join(TOOLS)}")
        if not 1 <= self.first <= self.most:
            raise Refused(f"params.yaml: annotate.first {self.first}, annotate.most {self.most}", "1 <= first <= most")

    @property
    def limits(self) -> Limits:
        return Limits(self.first, self.most, self.sure, self.budget_share)

    def people(self, kind: str) -> int:
        """How many answer a question at first: a text is written once, and reviewed by an expert."""
        return 1 if KINDS[kind].main.type == TEXT else self.first

    @property
    def shares(self) -> dict[str, float]:
        return {r.pattern: r.number for r in _numbers(self.kinds, "annotate.kinds")}

    @property
    def price(self) -> dict[str, float]:
        return {r.pattern: r.number for r in _numbers(self.prices, "annotate.prices")}


@dataclass(frozen=True, slots=True)
class Seen:
    """What people see of one interaction; `trace_id` is '' where it is in no MLflow."""

    interaction_id: str
    content_hash: str
    question: str
    history: list
    contexts: list
    response: str
    trace_id: str


def in_force(workspace: Workspace, kinds: Sequence[str]) -> dict[str, Guideline]:
    """Kind -> its newest guideline. Raises Refused where a kind has none."""
    found = newest(guidelines(workspace).values())
    for kind in kinds:
        if kind not in found:
            raise Refused(f"there is no guideline for {kind!r}", f"write {workspace.data / 'guidelines' / f'{kind}-1.md'}")
    return found


def unchanged(workspace: Workspace, lake: Lake, versions: Sequence[str]) -> list[Event]:
    """The event of each version's first use, to be recorded. Raises Refused where a version that was used has another text now:
    answers made under it could not be understood any more.
    """
    texts = guidelines(workspace)
    used = {r["guideline"]: r["detail"] for r in
            lake.query("SELECT guideline, detail FROM events WHERE what = 'guideline'").to_pylist()}  # fmt: skip
    events = []
    for version in dict.fromkeys(versions):
        kind, _, number = version.partition("/")
        if used.get(version, texts[version].hash) != texts[version].hash:
            raise Refused(
                f"guideline {version} was changed after people answered under it",
                f"git checkout data/guidelines/{kind}-{number}.md, and save the new text as {kind}-{int(number) + 1}.md",
            )
        events.append(event("guideline", guideline=version, kind=kind, detail=texts[version].hash))
    return events


def drawn(candidate_id: str, purpose: str) -> float:
    """A number in [0, 1) by which candidates are drawn for a purpose: at random, and the same every time."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{candidate_id}".encode()).digest()[:8]) / 2**64


def audited(candidate_id: str, kind: str, params: AnnotateParams) -> bool:
    """Whether an expert answers this question whatever others say: a random sample, so that what it tells is unbiased."""
    return drawn(candidate_id, f"audit/{kind}") < params.audit_share


def event(what: str, who: str = "flywheel", batch_id: str = "", candidate_id: str = "", kind: str = "",
          guideline: str = "", detail: str = "") -> Event:  # fmt: skip
    """An event of now; its id is its content without the time, so that it is recorded once."""
    id = content_id("ev", what, who, batch_id, candidate_id, kind, guideline, detail)
    return Event(id, time.time_ns() // 1000, batch_id, candidate_id, kind, what, who, guideline, detail)


def seen(lake: Lake, interaction_ids: Sequence[str]) -> dict[str, Seen]:
    """What people see of these interactions."""
    return {r["interaction_id"]: _seen(r) for r in lake.query(SEEN, wanted=_wanted(interaction_ids)).to_pylist()}


def rankable(lake: Lake, interaction_ids: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Every answer that the prompt of each interaction got by now: {"id", "text"}, by text."""
    found = {}
    for row in lake.query(ALIKE, wanted=_wanted(interaction_ids)).to_pylist():
        texts = sorted({t for t in [*row["responses"], *_candidates(row["outputs"])] if t.strip()})
        found[row["interaction_id"]] = [{"id": content_id("as", t)[:15], "text": t} for t in texts]
    return found


def _wanted(interaction_ids: Sequence[str]) -> pa.Table:
    return pa.table({"interaction_id": pa.array(list(interaction_ids), pa.string())})


def asks_of(asked: Sequence[Asked], shown: dict[str, Seen], answered_by: AnsweredBy) -> list[Ask]:
    """The ledger's rows as tools show them. `answered_by` says who need not be asked again."""
    return [
        Ask(
            ask_id=a.ask_id,
            batch_id=a.batch_id,
            candidate_id=a.candidate_id,
            kind=a.kind,
            content_hash=a.content_hash,
            question=(s := shown[a.interaction_id]).question,
            history=s.history,
            contexts=s.contexts,
            response=s.response,
            answers=orjson.loads(a.answers),
            wanted=a.wanted,
            answered_by=sorted(answered_by.get((a.candidate_id, a.kind, a.guideline), [])),
            role=a.role,
            round=a.round,
            guideline=a.guideline,
            due=_rfc3339(a.due),
        )
        for a in asked
    ]


def hand_out(workspace: Workspace, lake: Lake, asked: Sequence[Asked]) -> str:
    """Give asks to their tools, a batch's round at once, and record that a tool has it. Returns where the last went."""
    versions = guidelines(workspace)
    approved = catalogue(workspace)
    shown = seen(lake, sorted({a.interaction_id for a in asked}))
    answered_by = _answered_by(lake)
    rounds: dict[tuple[str, int, str], list[Asked]] = {}
    for a in sorted(asked, key=lambda a: a.ask_id):
        rounds.setdefault((a.batch_id, a.round, a.tool), []).append(a)
    where = ""
    for (batch_id, number, name), members in sorted(rounds.items()):
        used = sorted({a.guideline for a in members})
        lake.append("events", unchanged(workspace, lake, used))
        handout = Handout(
            batch_id,
            number,
            asks_of(members, shown, answered_by),
            {versions[v].kind.name: versions[v].kind for v in used},
            {v: versions[v].text for v in used},
            approved,
        )
        where = tool(workspace, name).send(handout)
        lake.append("events", [event("out", name, batch_id, detail=f"round {number}")])
    return where


def hand_out_left(workspace: Workspace, lake: Lake) -> None:
    """Rounds that are in the ledger and that no tool has, because the process died in between, go out now."""
    left = lake.rows(Asked, LEFT)
    if left:
        hand_out(workspace, lake, left)


def _answered_by(lake: Lake) -> AnsweredBy:
    """Who has answered a question, or passed."""
    rows = lake.query(
        "SELECT candidate_id, kind, guideline, list(DISTINCT annotator ORDER BY annotator) AS people FROM annotations GROUP BY ALL"
    ).to_pylist()
    return {(r["candidate_id"], r["kind"], r["guideline"]): r["people"] for r in rows}


def tool(workspace: Workspace, name: str) -> Tool:
    """The adapter of that name. Raises Refused where its address is not set."""
    if name == "labelstudio":
        from tasks.live.handoff.labelstudio import LabelStudio

        return LabelStudio(workspace, by_role(workspace))
    if name == "mlflow":
        from tasks.live.handoff.mlflow_review import MlflowReview

        uri, experiment = _setting("FLYWHEEL_MLFLOW_REVIEW_URL"), _setting("FLYWHEEL_MLFLOW_REVIEW_EXPERIMENT")
        return MlflowReview(workspace, uri, experiment, by_role(workspace), lambda candidate_id: _trace(workspace, candidate_id))
    return Files(workspace)


def route(name: str, kind: Kind, shown: Seen) -> str:
    """The tool for a question: MLflow asks about traces only, and not every kind; what it cannot ask goes by files."""
    if name == "mlflow":
        from tasks.live.handoff.mlflow_queues import lacks

        return FILES if lacks(kind) or not shown.trace_id else name
    return name


def _setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise Refused(f"annotate.tool needs {name}, which is not set", f"export {name}=..., or use annotate.tool: files")
    return value


def _trace(workspace: Workspace, candidate_id: str) -> str:
    found = Lake(workspace.lake).query(
        "SELECT trace_id FROM asks JOIN interactions USING (interaction_id) WHERE candidate_id = $id LIMIT 1", {"id": candidate_id}
    )["trace_id"].to_pylist()
    return found[0] if found else ""


def _seen(row: dict) -> Seen:
    return Seen(
        row["interaction_id"],
        row["content_hash"],
        row["question"],
        orjson.loads(row["messages"])[:-1],
        orjson.loads(row["contexts"]),
        row["response"],
        row["trace_id"] if row["dialect"].startswith("mlflow") else "",
    )


def _candidates(outputs: str) -> list[str]:
    """The texts of several candidate answers, where the application kept more than one."""
    parsed = orjson.loads(outputs)
    return [m["content"] for m in parsed if isinstance(m, dict) and isinstance(m.get("content"), str)] if len(parsed) > 1 else []


def _numbers(texts: Sequence[str], key: str) -> list[Rule]:
    rules = []
    for text in texts:
        kind, _, number = text.partition(":")
        try:
            rules.append(Rule(kind.strip(), float(number)))
        except ValueError:
            raise Refused(f"params.yaml: {key} has {text!r}", 'write "kind: number", such as "answer: 1"') from None
        if kind.strip() not in KINDS:
            raise Refused(f"params.yaml: {key} names {kind.strip()!r}, which is no kind", f"kinds: {', '.join(KINDS)}")
    return rules


def _rfc3339(us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(us // 1_000_000, UTC).isoformat().replace("+00:00", "Z")


