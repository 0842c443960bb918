"""Whether the registry is sound: one champion, who got there as champions do, and whom MLflow names as well. Changes nothing.

champion(place)  ->  [Finding("ok", "champion", "snapshot-3f9c2a1b (9f1c27ab03de4f55), promoted at 2026-11-28T21:11:34Z")]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson

from tasks.errors import Refused
from tasks.live import kept
from tasks.live.finding import Finding, fault, warning, well
from tasks.live.registry import files, journal, mirror, tracking
from tasks.live.registry.journal import BASE, CHANGES, FIRST, PROMOTED, RECORDED, ROLLED_BACK
from tasks.live.registry.promotion import PROMOTE
from tasks.live.snapshot import report_at
from tasks.live.workspace import Workspace
from tasks.policy import folder_digest


def champion(workspace: Workspace) -> Iterator[Finding]:
    """Exactly one champion, who got there by a verdict that promotes, by a rollback, or by a hand in MLflow."""
    fix = "flywheel history; restore .flywheel/registry/journal.jsonl from a backup, or delete it: MLflow's tags make it anew"
    path = workspace.state / "registry" / "journal.jsonl"
    try:
        now = journal.read(workspace)
    except (orjson.JSONDecodeError, TypeError) as e:
        yield fault("champion", f"{path.relative_to(workspace.root)} can't be read: {e}", fix)
        return
    made, stack = {s.tag: s for s in kept.snapshots(workspace)}, []
    for e in now.entries:
        if e.action == RECORDED and e.snapshot != BASE and e.snapshot not in made:
            yield fault("champion", f"version {e.version} was recorded of {e.snapshot}, which is no snapshot", fix)
        if e.action not in CHANGES:
            continue
        before = stack[-1].digest if stack else ""
        if e.replaced != before or (e.action == FIRST and stack):
            yield fault("champion", f"{e.action} at {e.at}: it replaced {e.replaced[:16] or 'nobody'}, and champion was"
                f" {before[:16] or 'nobody'}", fix)  # fmt: skip
        if e.action == ROLLED_BACK:
            if len(stack) < 2 or stack[-2].digest != e.digest:
                yield fault(
                    "champion", f"rolled back at {e.at} to {e.digest[:16]}, whom the champion had not replaced", fix
                )
                return
            stack.pop()
            continue
        stack.append(e)
        if e.action == PROMOTED:
            yield from _deserved(workspace, made.get(e.snapshot), e)
    if len({e.snapshot for e in now.entries if e.action == RECORDED}) < sum(e.action == RECORDED for e in now.entries):
        yield fault("doubled", "a snapshot was recorded twice in the journal", fix)
    if not stack:
        yield well("champion", "nobody yet: the first turn makes the base model champion")
        return
    for e in stack:
        here = files.folder(workspace, e.digest)
        if here.is_dir() and folder_digest(here) != e.digest:
            again = f"rm -r {here.relative_to(workspace.root)}; the next turn brings it back from DVC or MLflow"
            yield fault("champion", f"{here.relative_to(workspace.root)} is not the model that its name says", again)
    yield from _mirrored(workspace, now)
    yield well(
        "champion", f"{stack[-1].snapshot or BASE} ({stack[-1].digest[:16]}), {stack[-1].action} at {stack[-1].at}"
    )


def _deserved(workspace: Workspace, of: kept.Tagged | None, e: journal.Entry) -> Iterator[Finding]:
    fix = "flywheel rollback"
    if of is None:
        if e.by != mirror.MLFLOW and not e.why.startswith("as MLflow"):
            yield fault("promotion", f"{e.digest[:16]} was promoted at {e.at} without a snapshot", fix)
        return
    verdict = _verdict(workspace, of.commit)
    if verdict.get("decision") != PROMOTE:
        yield fault("promotion", f"{of.tag} was promoted at {e.at}, and its verdict is {verdict.get('decision')}", fix)
    elif (verdict["challenger"], verdict["champion"]) != (e.digest, e.replaced):
        yield fault("promotion", f"{of.tag} was promoted at {e.at}, and its verdict is about two other models", fix)


def _mirrored(workspace: Workspace, now: journal.Journal) -> Iterator[Finding]:
    """MLflow's alias, where MLflow has been told of anything and answers."""
    if not any(e.action == RECORDED for e in now.entries):
        return
    if now.unmirrored() or mirror.owed(workspace):
        yield warning(
            "champion",
            f"MLflow was not told everything yet {mirror.trouble(workspace)}".strip(),
            "flywheel turn tells it",
        )
        return
    try:
        with tracking.asking(workspace) as client:
            version = tracking.aliases(client).get(tracking.CHAMPION, "")
            count = Counter(
                v.tags.get("digest", "") + v.tags.get("snapshot", "") for v in tracking.model_versions(client)
            )
    except tracking.Unreachable as e:
        yield warning("champion", f"MLflow does not answer: {e}", "start it; the journal decides meanwhile")
        return
    if version != now.version(now.champion):
        yield fault("champion", f"MLflow's alias names version {version or 'nobody'}, the journal"
            f" {now.version(now.champion)}", "flywheel turn brings both together")  # fmt: skip
    if twice := [n for n in count.values() if n > 1]:
        yield fault("doubled", f"MLflow has {len(twice)} models twice", "mlflow ui; delete the later version of each")


def _verdict(workspace: Workspace, commit: str) -> dict:
    try:
        return report_at(workspace, commit, "verdict")
    except Refused:
        return {}
