"""Who may answer: names, roles, and the SHA-256 of each one's token.

    data/annotators.jsonl   {"annotator": "ana", "role": "expert", "token_sha256": "9f86d0…"}

A token is shown once, to whoever invites. Without a roster a name is enough, but then only on this machine itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from tasks.errors import Refused
from tasks.live.workspace import Workspace, new_key, write_durably
from tasks.records import read_jsonl

ANNOTATOR, EXPERT = "annotator", "expert"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SESSION_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Person:
    annotator: str
    role: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the roster."""

    annotator: str
    role: str
    token_sha256: str


def place(workspace: Workspace) -> Path:
    return workspace.data / "annotators.jsonl"


def invite(workspace: Workspace, annotator: str, expert: bool) -> str:
    """A new token for this person; the one before, and every session that it began, end. Only its hash is kept."""
    if not NAME.fullmatch(annotator):
        raise Refused(f"{annotator!r} is no name for an annotator", "1 to 64 letters, digits, '_', '.' or '-'")
    token = secrets.token_urlsafe(32)
    others = [e for e in entries(place(workspace)).values() if e.annotator != annotator]
    entry = Entry(annotator, EXPERT if expert else ANNOTATOR, hashlib.sha256(token.encode()).hexdigest())
    write_durably(place(workspace), b"".join(orjson.dumps(asdict(e)) + b"\n" for e in [*others, entry]))
    place(workspace).chmod(0o600)
    return token


def entries(path: Path) -> dict[str, Entry]:
    """The roster by name. Raises Refused for a line that is none: a broken roster must let nobody in unseen."""
    try:
        return {row["annotator"]: Entry(**row) for row in read_jsonl(path)} if path.is_file() else {}
    except (ValueError, KeyError, TypeError, Refused) as e:
        raise Refused(f"{path} can't be read: {e}", "mend the line, or remove it and invite that person again") from None


class Roster:
    """Lets people in. It looks at the file every time, so that who was taken out of it is out at once.

    `required`: whether a token is needed even where there is no roster (the page can be reached from elsewhere).
    """

    def __init__(self, workspace: Workspace, required: bool):
        self.path = place(workspace)
        self.required = required
        key = workspace.state / "review.key"
        new_key(key)
        self._key = key.read_bytes()

    @property
    def closed(self) -> bool:
        """Whether a name alone does not do."""
        return self.required or self.path.is_file()

    def enter(self, annotator: str, token: str, expert: bool) -> Person | None:
        """Who this is. Without a roster people say themselves who they are, and whether they decide."""
        if not NAME.fullmatch(annotator):
            return None
        if not self.closed:
            return Person(annotator, EXPERT if expert else ANNOTATOR)
        entry = entries(self.path).get(annotator)
        given = hashlib.sha256(token.encode()).hexdigest()
        if not hmac.compare_digest(given, entry.token_sha256 if entry else "") or entry is None:
            return None
        return Person(annotator, entry.role)

    def session(self, person: Person, now: float) -> str:
        """What the person's browser keeps in a cookie; nothing is kept here."""
        said = f"{person.annotator}|{person.role}|{int(now) + SESSION_SECONDS}"
        return f"{said}|{self._signed(said)}"

    def person(self, session: str, now: float) -> Person | None:
        """Whose session this is, if it still is one."""
        said, _, signature = session.rpartition("|")
        try:
            good = hmac.compare_digest(signature.encode(), self._signed(said).encode())
        except UnicodeEncodeError:
            return None
        if not good:
            return None
        annotator, role, until = said.split("|")
        return Person(annotator, role) if now < int(until) else None

    def _signed(self, said: str) -> str:
        """Signed with the person's place in the roster: another token or role, and the session is none any more."""
        entry = entries(self.path).get(said.partition("|")[0]) if self.closed else None
        stands = f"{entry.role}|{entry.token_sha256}" if entry else f"nobody|{self.closed}"
        if self.closed and entry is None:
            return secrets.token_hex(32)
        return hmac.new(self._key, f"{said}|{stands}".encode(), hashlib.sha256).hexdigest()
