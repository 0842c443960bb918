"""The turn report: what a turn of the wheel did, what it cost, and what it needs from a person. Values in, document and page out.

    document(Turn(tag="snapshot-3f9c2a1b", …))   ->   {"report": "flywheel-report/1", "tag": …, "next": [{"what": …, …}], …}
    page(document)                               ->   "<!doctype html>…"

The page shows the document and nothing else, so what `--json` prints is what a reader sees. A number that is not known is null in
the document and *unknown* on the page. Everything that a turn's document says is as of its snapshot: a page is written once, and a
new turn changes none before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = "flywheel-report/1"
TEXT = 240  # characters of somebody's text that are shown: enough to know it again, also for an erasure (live/erasure/needles.py)


@dataclass(frozen=True, slots=True)
class Rate:
    """The error rate of one batch's window, from its random part; NaN while it is not answered. `until`: the day of its newest
    traffic; `champion`: the version that became champion before it, '' none."""

    batch: str
    until: str
    value: float
    low: float
    high: float
    n: int
    champion: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A cluster of failures as the newest window of this turn found it. `answered` of the `known` interactions by which it is known
    have been answered by people; `fresh`: what it is called changed in this turn."""

    id: str
    name: str
    state: str
    fresh: bool
    count: int
    window: int
    share: float
    trend: float
    example_id: str
    example: str
    known: int
    answered: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What people gave up to a snapshot. `errors` are those that they agree on; costs follow from the prices in params.yaml:
    `answer_cost` of the questions whether an answer is right, by which errors are found, `cost` of all questions."""

    answers: int
    labels: int
    errors: int
    cost: float
    answer_cost: float
    cost_per_error: float


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of question: asked, answered, agreed on, disputed; `agreement` by field, as text with its interval."""

    kind: str
    out: int
    back: int
    settled: int
    disputed: int
    cost: float
    agreement: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Person:
    """An annotator of whom the answers themselves raise a doubt."""

    name: str
    verdict: str
    why: str
    answers: int


@dataclass(frozen=True, slots=True)
class Clause:
    guideline: str
    clause: str
    questions: int
    disagreed: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class People:
    """`before` is None where the snapshot before is not to be had; `looked_at` labels an expert saw by lot, `wrong` of them."""

    total: Spent
    before: Spent | None
    kinds: Sequence[Kind]
    doubted: Sequence[Person]
    clauses: Sequence[Clause]
    looked_at: int
    wrong: int
    wrong_low: float
    wrong_high: float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a table on a side of the wall; None where a version does not say it."""

    table: str
    side: str
    before: int | None
    now: int | None
    added: int | None
    removed: int | None
    changed: int | None


@dataclass(frozen=True, slots=True)
class Left:
    """Rows that do not train, by the stage that left them out and its reason; `before` in the snapshot before."""

    stage: str
    reason: str
    rows: int
    before: int | None


@dataclass(frozen=True, slots=True)
class Data:
    """`summary` in one line; `unknown` why the data could not be compared; `flips` labels that say something else now; `settings`
    of params.yaml that changed; `failed` expectations of the validation."""

    summary: str
    unknown: str
    tables: Sequence[Table]
    left: Sequence[Left]
    flips: Sequence[str]
    settings: Sequence[tuple[str, str, str]]
    failed: Sequence[str]
    alerts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened between two snapshots: who became champion or was brought back, what serving decided on its users."""

    at: str
    what: str
    version: str
    snapshot: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Detector:
    """One that no longer earns its place, with its lift."""

    name: str
    verdict: str
    lift: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Step:
    """Something for a person to do: what, why, and the command that does it or shows more."""

    what: str
    why: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn. `number` counts snapshots from 1; `verdict` and `attribution` are the snapshot's own reports; `missing` training
    methods and what the data lacks for them; `gone` what of it could not be read any more, and why."""

    tag: str
    number: int
    before: str
    made: str
    commit: str
    digest: str
    verdict: Mapping[str, Any]
    rates: Sequence[Rate] = ()
    trend: str = ""
    failures: Sequence[Failure] = ()
    people: People | None = None
    data: Data | None = None
    attribution: Mapping[str, Any] = field(default_factory=dict)
    detectors: Sequence[Detector] = ()
    missing: Sequence[tuple[str, str]] = ()
    events: Sequence[Event] = ()
    gone: Sequence[str] = ()
    dossier: str = ""


def document(turn: Turn) -> dict[str, Any]:
    """All that the page says, as one JSON document."""
    from tasks.report.steps import steps  # which reads the values above

    return {"report": FORMAT} | plain(asdict(turn) | {"next": [asdict(s) for s in steps(turn)]})


def plain(value: Any) -> Any:
    """The same as JSON has it: a number that is not finite is null, unknown and not zero."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def shortened(text: str) -> str:
    """A text of somebody's on one line, cut where it is long. Spaces stay as they are: an erasure knows the text again by them."""
    line = "".join(c if c >= " " else " " for c in text)
    return line if len(line) <= TEXT else line[: TEXT - 1] + "…"
