"""The dossier of a snapshot: what was decided, on what evidence, about which model, from which data, by whom. Values in, page out.

    page(Evidence(tag="snapshot-3f9c2a1b", reports={"verdict": {"decision": "promote", …}, …}, …))   ->   "<!doctype html>…"

Reports are read as they were committed, by whatever version wrote them: what an older one does not say is not shown, or said to be
missing. Texts of users are shown only where they were handed in (`Case.question`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Pinned:
    """A file or folder that the snapshot pins, and the MD5 under which DVC keeps it."""

    stage: str
    path: str
    md5: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A prompt of which one model was right and the other not. The texts are '' where they are not to be shown."""

    example_id: str
    part: str
    kind: str
    topic: str
    language: str
    fixed: bool
    question: str = ""
    right: str = ""
    champion: str = ""
    challenger: str = ""


@dataclass(frozen=True, slots=True)
class Reviewer:
    """One annotator, by a pseudonym: their answers, those that have an agreed label, and of these the ones that say the same."""

    name: str
    expert: bool
    answers: int
    labelled: int
    agreeing: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was decided about this model: promoted, approved, declined, rolled back."""

    at: str
    action: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Version:
    """A snapshot of the history, as its own reports tell it; None where they don't."""

    tag: str
    made: str
    decision: str
    rows: int | None
    champion: float | None
    challenger: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that the page says. `reports` are documents by name (verdict, evaluation, training, build, dataset, curate, validation,
    attribution), `params` the snapshot's params.yaml, `curves` (step, metric, value); `with_texts`: whether cases have texts."""

    tag: str
    digest: str
    commit: str
    made: str
    reports: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[tuple[int, str, float]] = ()
    pinned: Sequence[Pinned] = ()
    cases: Sequence[Case] = ()
    reviewers: Sequence[Reviewer] = ()
    events: Sequence[Event] = ()
    history: Sequence[Version] = ()
    with_texts: bool = False
