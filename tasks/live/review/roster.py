"""Who may answer: names, roles, and the SHA-256 of each one's token.

    data/annotators.jsonl   {"annotator": "ana", "role": "expert", "token_sha256": "9f86d0…"}

A token is shown once, to whoever invites. Without a roster a name is enough, but then only on this machine itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import replace

from tasks.errors import Refused
from tasks.live.people import ANNOTATOR, EXPERT, Person, place, roster, write
from tasks.live.workspace import Workspace, new_key

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SESSION_SECONDS = 30 * 24 * 3600


def invite(workspace: Workspace, annotator: str, expert: bool) -> str:
    """A new token for this person; the one before, and every session that it began, end. Only its hash is kept."""
    if not NAME.fullmatch(annotator):
        raise Refused(f"{annotator!r} is no name for an annotator", "1 to 64 letters, digits, '_', '.' or '-'")
    token = secrets.token_urlsafe(32)
    known = roster(workspace) or {}
    hashed = hashlib.sha256(token.encode()).hexdigest()
    known[annotator] = replace(
        known.get(annotator, Person(annotator)), role=EXPERT if expert else ANNOTATOR, token_sha256=hashed
    )
    write(workspace, list(known.values()))
    return token


class Roster:
    """Lets people in. It looks at the file every time, so that who was taken out of it is out at once.

    `required`: whether a token is needed even where there is no roster (the page can be reached from elsewhere).
    """

    def __init__(self, workspace: Workspace, required: bool):
        self.workspace = workspace
        self.required = required
        key = workspace.state / "review.key"
        new_key(key)
        self._key = key.read_bytes()

    @property
    def closed(self) -> bool:
        """Whether a name alone does not do."""
        return self.required or place(self.workspace).is_file()

    def enter(self, annotator: str, token: str, expert: bool) -> Person | None:
        """Who this is. Without a roster people say themselves who they are, and whether they decide."""
        if not NAME.fullmatch(annotator):
            return None
        if not self.closed:
            return Person(annotator, EXPERT if expert else ANNOTATOR)
        entry = (roster(self.workspace) or {}).get(annotator)
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
        entry = (roster(self.workspace) or {}).get(said.partition("|")[0]) if self.closed else None
        stands = f"{entry.role}|{entry.token_sha256}" if entry else f"nobody|{self.closed}"
        if self.closed and entry is None:
            return secrets.token_hex(32)
        return hmac.new(self._key, f"{said}|{stands}".encode(), hashlib.sha256).hexdigest()
