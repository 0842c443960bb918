"""Who or what is meant, and everything in the workspace that is theirs.

    Wish(user="u-17", tenant="acme")  ->  their pseudonym, sessions and ids; interactions, what people said about them, texts

The conversations of a person are theirs, also the answers in them, and what others said about these. A session in which somebody
else is named too belongs to nobody alone: there only their own interactions go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tasks.errors import Refused
from tasks.live.erasure.needles import FORM, Needles, pieces
from tasks.live.erasure.theirs import CANDIDATE, INTERACTION, PART, RECORD, SESSION, USER, Fact, Facts
from tasks.live.lake import Lake
from tasks.live.repository import git_bytes
from tasks.live.workspace import Workspace
from tasks.redact import Edge

DISTINCT = 8  # characters of an id of the application's from which it is looked for in bytes; shorter ones stand everywhere
BATCH = 16_384
# Where others' words may repeat a text: what also stands here is no proof of anything left.
OTHERS = {
    "interactions": ("interaction_id", ("messages", "response", "outputs", "contexts")),
    "feedback": ("feedback_id", ("comment", "value")),
    "asks": ("interaction_id", ("answers",)),
    "annotations": ("interaction_id", ("value", "note")),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """Whose data is to go: a user's, one session's, or one interaction's (by its id or the application's own)."""

    user: str = ""
    tenant: str = ""
    session: str = ""
    interaction: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.user, self.session, self.interaction))) != 1:
            raise Refused("say whose data is to go", "flywheel erase --user U, or --session S, or --interaction I")


@dataclass(slots=True)
class Subject:
    """`ids` are all ids of rows that are theirs, `texts` pieces of what only they said; `shared` and `short` count texts that are
    not looked for, because others said them too, or because they are too short to be known again."""

    facts: set[Fact]
    logged: str
    interactions: list[str] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)  # the texts that these are pieces of
    rows: set[str] = field(default_factory=set)  # of datasets
    shared: int = 0
    short: int = 0
    shared_sessions: int = 0
    traces: list[str] = field(default_factory=list)

    @property
    def needles(self) -> Needles:
        named = {v for kind, _, v in self.facts if FORM.fullmatch(v) or (len(v) >= DISTINCT and kind in (SESSION, RECORD, PART))}
        named |= {self.logged} if len(self.logged) >= DISTINCT - 2 else set()
        return Needles(self.ids | self.rows | named, self.texts, self.whole)

    def join(self, other: Subject) -> None:
        """Add what an earlier attempt knew, before it erased some of it."""
        self.facts |= other.facts
        for name in ("interactions", "feedback", "candidates", "traces"):
            setattr(self, name, sorted({*getattr(self, name), *getattr(other, name)}))
        for name in ("ids", "texts", "whole", "rows"):
            setattr(self, name, getattr(self, name) | getattr(other, name))
        for name in ("shared", "short", "shared_sessions"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))

    def as_json(self) -> dict[str, Any]:
        made = {name: getattr(self, name) for name in self.__slots__}
        return {k: sorted(v) if isinstance(v, set) else v for k, v in made.items()}

    @classmethod
    def of_json(cls, row: dict[str, Any]) -> Subject:
        made = row | {k: set(row[k]) for k in ("ids", "texts", "whole", "rows")}
        return cls(**made | {"facts": {tuple(f) for f in row["facts"]}})


def subject_of(workspace: Workspace, wish: Wish, before: set[Fact]) -> Subject:
    """What the lake knows to be theirs. `before`: facts that are known already (from the raw segments, or an earlier attempt).

    Raises Refused for a user whom only another tenant has.
    """
    lake = Lake(workspace.lake)
    facts, logged = _begun(workspace, lake, wish)
    facts |= before
    rows = _theirs(lake, wish, facts)
    shared = _shared_sessions(lake, rows)
    found = Subject(facts, logged)
    found.shared_sessions = len(shared)
    own = {(r["tenant"], r["session_id"]) for r in rows} - shared
    if wish.interaction:
        own = set()
    facts |= {(SESSION, tenant, session) for tenant, session in own}
    rows = _theirs(lake, wish, facts)
    found.interactions = sorted({r["interaction_id"] for r in rows})
    found.traces = sorted({r["trace_id"] for r in rows if r["trace_id"] and r["dialect"].startswith("mlflow")})
    facts |= {(INTERACTION, "", i) for i in found.interactions}
    facts |= _names(lake, rows, found.interactions)
    found.feedback = _feedback(lake, Facts(facts))
    asked = lake.query(
        """SELECT candidate_id AS id FROM candidates WHERE list_contains($i, interaction_id)
           UNION SELECT candidate_id FROM asks WHERE list_contains($i, interaction_id)""", {"i": found.interactions}
    )["id"].to_pylist()  # fmt: skip
    found.candidates = sorted(asked)
    facts |= {(CANDIDATE, "", c) for c in found.candidates}
    more = """SELECT ask_id AS id FROM asks WHERE list_contains($i, interaction_id)
              UNION ALL SELECT annotation_id FROM annotations WHERE list_contains($i, interaction_id)"""
    found.ids = {*found.interactions, *found.feedback, *found.candidates}
    found.ids |= set(lake.query(more, {"i": found.interactions})["id"].to_pylist())
    return found


def add_texts(workspace: Workspace, found: Subject) -> None:
    """The texts that only they said, as pieces to look for; those that others said too stay, as theirs."""
    lake = Lake(workspace.lake)
    of_text = {text: pieces(text) for text in _said(lake, found)}
    found.short = sum(1 for p in of_text.values() if not p)
    every = {p for several in of_text.values() for p in several}
    others = _found_in_others(lake, Needles(texts=every), found) if every else set()
    others |= _found_in_public(workspace, Needles(texts=every)) if every else set()
    found.shared = sum(1 for p in of_text.values() if p and others.issuperset(p))
    found.texts |= every - others
    found.whole |= {text for text, p in of_text.items() if not others.issuperset(p)}


def _begun(workspace: Workspace, lake: Lake, wish: Wish) -> tuple[set[Fact], str]:
    if not wish.user:
        return set(), ""
    edge = Edge(workspace.pseudonym_key())
    if FORM.fullmatch(wish.user) and wish.user.startswith("u_"):
        return {(USER, "", wish.user)}, ""  # who looks into the lake sees pseudonyms only
    facts = {(USER, "", edge.pseudonym(wish.tenant, wish.user))}
    tenants = [t for t in _tenants(lake) if t != wish.tenant and _knows(lake, edge.pseudonym(t, wish.user))]
    if tenants and not _knows(lake, edge.pseudonym(wish.tenant, wish.user)):
        named = ", ".join(repr(t) for t in tenants)
        where = f"tenant {wish.tenant!r}" if wish.tenant else "no tenant"
        raise Refused(f"the lake has no such user of {where}, but one of {named}", "say which with --tenant")
    if wish.tenant and not _knows(lake, edge.pseudonym("", wish.user)):
        facts.add((USER, "", edge.pseudonym("", wish.user)))  # in a line that could not be read nobody knew the tenant
    return facts, wish.user


def _tenants(lake: Lake) -> list[str]:
    return lake.query("SELECT DISTINCT tenant FROM interactions UNION SELECT DISTINCT tenant FROM feedback ORDER BY 1")[
        "tenant"
    ].to_pylist()


def _knows(lake: Lake, pseudonym: str) -> bool:
    sql = """SELECT 1 FROM interactions WHERE "user" = $u UNION ALL SELECT 1 FROM feedback WHERE "user" = $u LIMIT 1"""
    return lake.query(sql, {"u": pseudonym}).num_rows > 0


def _theirs(lake: Lake, wish: Wish, facts: set[Fact]) -> list[dict[str, Any]]:
    known = Facts(facts)
    sessions = pa.table(
        {
            "tenant": pa.array([t for k, t, _ in facts if k == SESSION], pa.string()),
            "session_id": pa.array([s for k, _, s in facts if k == SESSION], pa.string()),
        }
    )
    return lake.query(
        """SELECT interaction_id, dialect, tenant, session_id, native_id, response_id, trace_id, "user" FROM interactions i
           WHERE list_contains($users, "user") OR list_contains($ids, interaction_id)
              OR (tenant, session_id) IN (SELECT (tenant, session_id) FROM own)
              OR ($session <> '' AND session_id = $session AND tenant = $tenant)
              OR ($one <> '' AND ($one = interaction_id OR (tenant = $tenant AND $one IN (native_id, response_id))))
           ORDER BY interaction_id""",
        {
            "users": known.values(USER), "ids": known.values(INTERACTION), "session": wish.session, "tenant": wish.tenant,
            "one": wish.interaction,
        },
        own=sessions,
    ).to_pylist()  # fmt: skip


def _shared_sessions(lake: Lake, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Those of their sessions in which somebody else is named."""
    users = sorted({r["user"] for r in rows if r["user"]})
    sessions = sorted({(r["tenant"], r["session_id"]) for r in rows})
    given = pa.table(
        {"tenant": pa.array([t for t, _ in sessions], pa.string()), "session_id": pa.array([s for _, s in sessions], pa.string())}
    )
    found = lake.query(
        """SELECT DISTINCT tenant, session_id FROM interactions JOIN given USING (tenant, session_id)
           WHERE "user" <> '' AND NOT list_contains($users, "user")""", {"users": users}, given=given,
    ).to_pylist()  # fmt: skip
    return {(r["tenant"], r["session_id"]) for r in found}


def _names(lake: Lake, rows: list[dict[str, Any]], interactions: list[str]) -> set[Fact]:
    """The ids under which records point at their interactions, but for those under which others' could be meant too."""
    named = {(r["tenant"], r[c]) for r in rows for c in ("native_id", "response_id", "trace_id") if r[c]}
    values = sorted({v for _, v in named})
    others = lake.query(
        """SELECT DISTINCT tenant, v FROM (
               SELECT tenant, unnest([native_id, response_id, trace_id]) AS v, interaction_id FROM interactions
               WHERE list_contains($v, native_id) OR list_contains($v, response_id) OR list_contains($v, trace_id)
           ) WHERE list_contains($v, v) AND NOT list_contains($i, interaction_id)""", {"v": values, "i": interactions},
    ).to_pylist() if values else []  # fmt: skip
    taken, anywhere = {(r["tenant"], r["v"]) for r in others}, {r["v"] for r in others}
    facts = {(RECORD, tenant, v) for tenant, v in named if (tenant, v) not in taken}
    # An event that names no tenant is about whoever has the id.
    facts |= {(RECORD, "", v) for _, v in named if v not in anywhere}
    return facts | {(PART, "", r["trace_id"]) for r in rows if r["trace_id"] and r["trace_id"] not in anywhere}


def _feedback(lake: Lake, theirs: Facts) -> list[str]:
    found: list[str] = []
    sql = 'SELECT feedback_id, tenant, "user", target_type, target FROM feedback ORDER BY feedback_id'
    for batch in lake.stream(sql, BATCH):
        for id, *said in zip(*batch.to_pydict().values(), strict=True):
            if theirs.said(*said):
                found.append(id)
    return found


def _said(lake: Lake, found: Subject) -> Iterator[str]:
    """Every text in their conversations and about them. Documents that were retrieved are nobody's."""
    sql = "SELECT messages, response, outputs FROM interactions WHERE list_contains($i, interaction_id)"
    for row in lake.query(sql, {"i": found.interactions}).to_pylist():
        yield row["response"]
        for message in (*orjson.loads(row["messages"]), *orjson.loads(row["outputs"])):
            yield from _strings(message)
    sql = "SELECT comment, value FROM feedback WHERE list_contains($f, feedback_id)"
    for row in lake.query(sql, {"f": found.feedback}).to_pylist():
        yield row["comment"]
        yield from _strings(orjson.loads(row["value"]))
    sql = "SELECT value, note FROM annotations WHERE list_contains($i, interaction_id)"
    for row in lake.query(sql, {"i": found.interactions}).to_pylist():
        yield row["note"]
        yield from _strings(orjson.loads(row["value"]))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from _strings(v)


def _found_in_others(lake: Lake, needles: Needles, found: Subject) -> set[str]:
    gone = set(found.interactions) | set(found.feedback)
    hits: set[str] = set()
    for table, (id, columns) in OTHERS.items():
        for batch in lake.stream(f"SELECT {id}, {', '.join(columns)} FROM {table}", BATCH):
            ids = batch[id].to_pylist()
            for column in columns:
                texts = (t for i, t in zip(ids, batch[column].to_pylist(), strict=True) if i not in gone)
                hits |= needles.found("\0".join(texts).encode("utf-8", "surrogatepass"))
    return hits


def _found_in_public(workspace: Workspace, needles: Needles) -> set[str]:
    """What stands in the approved answers, the anchors, the guidelines or the program is no secret of theirs."""
    hits: set[str] = set()
    for path in public_files(workspace):
        hits |= needles.found(path.read_bytes())
    return hits


def public_files(workspace: Workspace) -> Iterable[Path]:
    named = [workspace.catalogue, workspace.data / "anchors.jsonl"]
    if (workspace.root / ".git").exists():
        tracked = git_bytes(workspace.root, "ls-files", "-z").decode().split("\0")
        named += [workspace.root / t for t in tracked if t and not t.startswith("data/reports/")]
    return [p for p in dict.fromkeys(named) if p.is_file()]
