"""The journal and MLflow brought together, whenever MLflow answers: what is owed is recorded, aliases and tags follow the journal.

    journal: promoted 4 (replaced 3)   MLflow: champion = 3, as last mirrored   ->  the alias moves to 4
    journal: champion 3, mirrored      MLflow: champion = 2                     ->  somebody moved it there: the journal follows

So after a crash between the two, or a rollback while the server was down, there is one winner, and everybody names the same.
"""

from __future__ import annotations

import itertools
from typing import Any

from tasks.errors import BUSY, Refused
from tasks.live import kept
from tasks.live.registry import environment, journal, recording, tracking
from tasks.live.registry.journal import BASE, FIRST, MIRRORED, MOVED, PROMOTED, RECORDED, ROLLED_BACK, Entry, Journal
from tasks.live.registry.tracking import CHAMPION, MODEL, Unreachable
from tasks.live.workspace import Workspace, write_durably

MLFLOW = "MLflow"


def settle(workspace: Workspace, failures: bool = False) -> str:
    """Bring both together. Returns '' or why it could not be finished; a server that is down is no error.

    `failures`: also tell of trainings that failed, which only who holds the lock 'snapshot' can know.
    """
    try:
        with workspace.lock("registry"), tracking.asking(workspace) as client:
            troubles = _settle(workspace, client, failures)
    except Unreachable as e:
        troubles = [str(e)]
    except Refused as e:
        if e.exit_code != BUSY:
            raise
        troubles = [e.why]  # who holds it is doing the same
    why = "; ".join(troubles)
    note = _note(workspace)
    if why:
        write_durably(note, why.encode())
    else:
        note.unlink(missing_ok=True)
    return why


def trouble(workspace: Workspace) -> str:
    """Why MLflow was not told everything when it was last tried; '' where it was."""
    note = _note(workspace)
    return note.read_text(encoding="utf-8") if note.is_file() else ""


def owed(workspace: Workspace) -> list[kept.Tagged]:
    """The snapshots that MLflow has not got yet, oldest first."""
    known = {e.snapshot for e in journal.read(workspace).entries if e.action == RECORDED}
    return [s for s in kept.snapshots(workspace) if s.tag not in known]


def _settle(workspace: Workspace, client: Any, failures: bool) -> list[str]:
    troubles = []
    if not journal.read(workspace).champion:
        _take_over(workspace, client)
    if not journal.read(workspace).champion:
        return []
    _first(workspace, client)
    for snapshot in owed(workspace):
        try:
            digest, version = recording.snapshot(workspace, client, snapshot.tag, snapshot.commit)
        except Refused as e:  # of an old one whose files are gone: the others are recorded all the same
            troubles.append(f"{snapshot.tag}: {e.why}")
            continue
        entry = Entry(RECORDED, digest, version=version, snapshot=snapshot.tag, by=MLFLOW)
        journal.add(workspace, lambda j, entry=entry: [] if j.recorded(entry.snapshot) else [entry])
    try:
        _aliases(workspace, client)
    except Refused as e:
        troubles.append(e.why)
    for note, watch in environment.failures(workspace) if failures else ():
        recording.failure(workspace, client, watch.name, watch.name.rpartition("-")[0], watch.why, watch.params)
        note.unlink()
    return troubles


def _take_over(workspace: Workspace, client: Any) -> None:
    """The journal of a workspace that MLflow knows and this machine does not: from versions, their tags and the champion alias."""
    versions = {str(v.version): v for v in tracking.model_versions(client) if "digest" in v.tags}
    current = tracking.aliases(client).get(CHAMPION)
    if current not in versions:
        return
    chain = [current]
    while (before := versions[chain[-1]].tags.get("replaced")) in versions and before not in chain:
        chain.append(before)
    chain.reverse()
    entries = [_recorded(v) for v in versions.values() if v.tags.get("snapshot", BASE) != BASE]
    first = versions[chain[0]]
    entries.append(_change(FIRST, first, "", ""))
    for v in versions.values():
        if "rolled_back" in v.tags and str(v.version) not in chain:
            entries += [_change(PROMOTED, v, first.tags["digest"], ""), _change(ROLLED_BACK, first, v.tags["digest"], "")]
    for before, version in itertools.pairwise(chain):
        entries.append(_change(PROMOTED, versions[version], versions[before].tags["digest"], "as MLflow's tags say"))
    recording.fetched(workspace, client, versions[current])
    entries.append(Entry(MIRRORED, versions[current].tags["digest"]))
    journal.add(workspace, lambda j: [] if j.champion else entries)


def _aliases(workspace: Workspace, client: Any) -> None:
    """Compare and swap with MLflow: its alias follows, unless somebody else has moved it since it was last mirrored."""
    for _ in range(3):  # a rollback may come in between
        now = journal.read(workspace)
        if not now.champion:
            return
        at = tracking.aliases(client).get(CHAMPION)
        seen = client.get_model_version(MODEL, at) if at else None
        there = seen.tags.get("digest") or recording.fetched(workspace, client, seen) if seen else ""
        if there and there not in (now.champion, now.mirrored):
            recording.fetched(workspace, client, seen)
            moved = _change(MOVED, seen, now.champion, "MLflow's champion alias was moved there")
            both = [moved, Entry(MIRRORED, there)]
            journal.add(workspace, lambda j, there=there, both=both: [] if j.champion == there else both)
            continue
        version = now.version(now.champion)
        if there != now.champion and not version:
            return  # promoted before it was recorded; the next time
        _tell(client, now)
        if there != now.champion:
            client.set_registered_model_alias(MODEL, CHAMPION, version)
        if now.mirrored != now.champion or now.unmirrored():
            journal.add(workspace, lambda j, champion=now.champion: [Entry(MIRRORED, champion)] if j.champion == champion else [])
        if journal.read(workspace).champion == now.champion:
            return


def _first(workspace: Workspace, client: Any) -> None:
    """The base model, which was champion before anybody asked MLflow."""
    now = journal.read(workspace)
    first = next(e for e in now.entries if e.action == FIRST)
    if not now.version(first.digest):
        version = recording.base(workspace, client, BASE, first.digest)
        entry = Entry(RECORDED, first.digest, version=version, snapshot=BASE, by=MLFLOW)
        journal.add(workspace, lambda j: [] if j.version(entry.digest) else [entry])


def _tell(client: Any, now: Journal) -> None:
    """Who promoted or rolled back what and why, as tags of the versions."""
    for e in now.unmirrored():
        about, replaced = now.version(e.digest), now.version(e.replaced)
        if e.action == PROMOTED and about:
            tags = {"promoted_at": e.at, "promoted_by": e.by, "promoted_why": e.why, "replaced": replaced}
            _set(client, about, tags)
        elif e.action == ROLLED_BACK and replaced:
            told = {"rolled_back_at": e.at, "rolled_back_by": e.by, "rolled_back_why": e.why}
            _set(client, replaced, {"rolled_back": "true"} | told)


def _set(client: Any, version: str, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(MODEL, version, key, value[:5000])


def _recorded(version: Any) -> Entry:
    snapshot = version.tags.get("snapshot", BASE)
    return Entry(RECORDED, version.tags["digest"], version=str(version.version), snapshot=snapshot, by=MLFLOW)


def _change(action: str, version: Any, replaced: str, why: str) -> Entry:
    tags = version.tags
    digest = tags.get("digest", "")
    return Entry(action, digest, replaced, str(version.version), tags.get("snapshot", BASE), tags.get("promoted_by", MLFLOW), why)


def _note(workspace: Workspace) -> Any:
    return workspace.state / "registry" / "owed.txt"
