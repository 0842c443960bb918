"""Whoever was erased and is back all the same, because a backup of the lake or of the raw segments was restored.

    refuse_erased(workspace)   before a snapshot is made: Refused where the lake holds somebody who was erased
    again(workspace)           erase all of them anew; nobody needs to say who they were, the tombstones know them
"""

from __future__ import annotations

import orjson

from tasks.errors import Refused
from tasks.live.erasure import objects
from tasks.live.erasure.erase import Erased, erase
from tasks.live.erasure.proof import JOURNALS
from tasks.live.erasure.subject import Wish
from tasks.live.erasure.theirs import INTERACTION, PSEUDONYM, SESSION, USER, Tombstones
from tasks.live.lake import Lake
from tasks.live.segments import Segments
from tasks.live.workspace import Workspace

BATCH = 65_536
WHO = 'SELECT DISTINCT tenant, "user", session_id, interaction_id FROM interactions'
RATED = """SELECT DISTINCT "user" FROM feedback WHERE "user" <> '' """


def refuse_erased(workspace: Workspace) -> None:
    """Raises Refused where rows of somebody who was erased are in the lake. Without a tombstone nothing is looked at."""
    erased = Tombstones.of(workspace)
    back = _in_lake(workspace, erased) if erased else []
    if back:
        raise Refused(
            f"the lake holds rows of {len(back)} who were erased: was a backup restored?", "flywheel erase --again"
        )


def again(workspace: Workspace) -> list[Erased]:
    """Erase them anew, and the objects of snapshots that were to go. [] where nobody is back."""
    erased = Tombstones.of(workspace)
    if not erased:
        return []
    reports = [orjson.loads(p.read_bytes()) for p in sorted((workspace.state / JOURNALS).glob("*.json"))]
    gone = {md5 for report in reports for md5 in report.get("objects", [])}
    if gone and (workspace.root / ".git").exists():
        with workspace.lock("snapshot"):
            objects.delete(workspace, gone)
    wishes = [*_in_lake(workspace, erased), *_in_raw(workspace, erased)]
    return [erase(workspace, wish) for wish in dict.fromkeys(wishes)]


def _in_lake(workspace: Workspace, erased: Tombstones) -> list[Wish]:
    lake, found = Lake(workspace.lake), {}
    for batch in lake.stream(WHO, BATCH):
        for tenant, user, session, interaction in zip(*batch.to_pydict().values(), strict=True):
            if user and erased.has(USER, "", user):
                found[Wish(user=user)] = None
            elif erased.has(SESSION, tenant, session):
                found[Wish(session=session, tenant=tenant)] = None
            elif erased.has(INTERACTION, "", interaction):
                found[Wish(interaction=interaction)] = None
    for batch in lake.stream(RATED, BATCH):
        found |= {Wish(user=u): None for u in batch["user"].to_pylist() if erased.has(USER, "", u)}
    return list(found)


def _in_raw(workspace: Workspace, erased: Tombstones) -> list[Wish]:
    named: set[bytes] = set()
    for _, body in Segments(workspace.raw).all():
        named |= set(PSEUDONYM.findall(body))
    return [Wish(user=u) for u in sorted(n.decode() for n in named) if erased.has(USER, "", u)]
