"""Whose a record is, by facts: a user's pseudonym, a session, the ids under which their records can be named.

    ("user", "", "u_5c0e…")  ("session", "acme", "s-1")  ("record", "acme", "r-17")  ("interaction", "", "ix_9f1…")
    ("part", "", "trace-3")  ("candidate", "", "cd_1a…")

While something is erased the facts are plain. What stays for ever, so that it can't come back, are tombstones: keyed hashes of the
same facts in .flywheel/erased.jsonl, which tell nothing to who does not know the fact (and the key) already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from tasks.formats.fields import Parsed, RawFeedback, RawInteraction, RawPart
from tasks.live import rows
from tasks.live.workspace import Workspace, write_durably
from tasks.records import canonical

USER, SESSION, RECORD, INTERACTION, PART, CANDIDATE = "user", "session", "record", "interaction", "part", "candidate"
Fact = tuple[str, str, str]  # kind, tenant ('' for ids that are the same in every tenant), value
PSEUDONYM = re.compile(rb"u_[0-9a-f]{16}(?![0-9a-f])")


class Theirs:
    """Tells whose a record is. `has` is the one thing that facts and tombstones do differently."""

    def has(self, kind: str, tenant: str, value: str) -> bool:
        raise NotImplementedError

    def __bool__(self) -> bool:
        raise NotImplementedError

    def any(self, parsed: Parsed) -> bool:
        return (
            any(map(self.interaction, parsed.interactions)) or any(map(self.feedback, parsed.feedback))
            or any(map(self.part, parsed.parts))
        )  # fmt: skip

    def all(self, parsed: Parsed) -> bool:
        return (
            all(map(self.interaction, parsed.interactions)) and all(map(self.feedback, parsed.feedback))
            and all(map(self.part, parsed.parts))
        )  # fmt: skip

    def interaction(self, raw: RawInteraction) -> bool:
        session = raw.session_id or raw.trace_id or raw.native_id
        return self.stands(raw.tenant, raw.user_id, session) or self.has(INTERACTION, "", rows.interaction_id(raw))

    def stands(self, tenant: str, user: str, session: str) -> bool:
        return bool(user and self.has(USER, "", user)) or self.has(SESSION, tenant, session)

    def feedback(self, raw: RawFeedback) -> bool:
        return self.said(raw.tenant, raw.user_id, raw.target_type, raw.target)

    def said(self, tenant: str, user: str, target_type: str, target: str) -> bool:
        """Of an event: theirs if they said it, or if it is about something of theirs."""
        if user and self.has(USER, "", user):
            return True
        if target_type == "session":
            return self.has(SESSION, tenant, target)
        return any(self.has(RECORD, tenant, t) for t in target.split("|"))

    def part(self, raw: RawPart) -> bool:
        return self.has(PART, "", raw.key) or self.in_text(canonical(raw.data))

    def in_text(self, text: bytes) -> bool:
        """Whether a text that can't be read as a record has their pseudonym in it."""
        return any(self.has(USER, "", token.decode()) for token in set(PSEUDONYM.findall(text)))


class Facts(Theirs):
    """Plain facts, while something is erased."""

    def __init__(self, facts: Iterable[Fact]):
        self.facts = set(facts)

    def has(self, kind: str, tenant: str, value: str) -> bool:
        return (kind, tenant, value) in self.facts

    def __bool__(self) -> bool:
        return bool(self.facts)

    def values(self, *kinds: str) -> list[str]:
        return sorted({value for kind, _, value in self.facts if kind in kinds})


class Tombstones(Theirs):
    """What was erased, by keyed hashes. Read once; `add` writes them before anything else is done."""

    def __init__(self, path: Path, key: bytes):
        self.path = path
        self.rows = [orjson.loads(line) for line in path.read_bytes().splitlines() if line] if path.is_file() else []
        self.hashes = {row["hash"] for row in self.rows}
        self.kinds = {row["kind"] for row in self.rows}
        salt = hashlib.blake2b(key, person=b"erased").digest()
        self.hash = lru_cache(200_000)(lambda *fact: hashlib.blake2b(canonical(fact), key=salt, digest_size=16).hexdigest())

    @classmethod
    def of(cls, workspace: Workspace) -> Tombstones:
        path = workspace.state / "erased.jsonl"
        # Without a tombstone the key is not asked for: a rebuild needs none.
        return cls(path, workspace.pseudonym_key() if path.is_file() else b"")

    def has(self, kind: str, tenant: str, value: str) -> bool:
        return kind in self.kinds and self.hash(kind, tenant, value) in self.hashes

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def add(self, facts: Iterable[Fact], erasure: str, at: str) -> int:
        """Write down what is not yet there, durably; returns how many."""
        new = {self.hash(*fact): fact[0] for fact in sorted(facts)}
        new = {h: kind for h, kind in new.items() if h not in self.hashes}
        if new:
            self.rows += [{"kind": kind, "hash": h, "erasure": erasure, "at": at} for h, kind in new.items()]
            write_durably(self.path, b"".join(canonical(row) + b"\n" for row in self.rows))
            self.hashes |= new.keys()
            self.kinds |= set(new.values())
        return len(new)


def tombstones(workspace: Workspace) -> Tombstones:
    """The tombstones with the key at hand, to add some."""
    return Tombstones(workspace.state / "erased.jsonl", workspace.pseudonym_key())


def erasure_id(key: bytes, *wish: Any) -> str:
    """The same wish is the same erasure, and its name tells nobody whose."""
    return "er_" + hashlib.blake2b(canonical(wish), key=hashlib.blake2b(key, person=b"wish").digest(), digest_size=8).hexdigest()
