"""Who becomes champion, and who is brought back: compare and swap in the journal, and a person where one is asked for.

    promote(place)  ->  Promoted(version="5", replaced="4", changed=True)     or  Asked(version="5", …): a person has to approve
    rollback(place, "kim", "answers in the wrong language")  ->  Promoted(version="4", replaced="5", changed=True)
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass, replace

from tasks.errors import GATE_REFUSED, Refused
from tasks.live.registry import files, journal, mirror
from tasks.live.registry.journal import ASKED, CHANGES, DECLINED, GATE, PROMOTED, ROLLED_BACK, Entry, Journal
from tasks.live.registry.models import champion, is_recorded, name, registered
from tasks.live.snapshot import last, report_at
from tasks.live.workspace import Workspace

PROMOTE = "promote"  # of tasks/verdict.py, which brings SciPy: half a second of every `flywheel status` and rollback
ALWAYS, NEVER = "always", "never"
APPROVALS = ("first", ALWAYS, NEVER)


@dataclass(frozen=True, slots=True)
class PromoteParams:
    """`approval`: whether a person approves a promotion: the workspace's first one, every one, or none."""

    approval: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """Who is champion now, who was before, and whether this call changed it; `pending` why MLflow's alias is not there yet."""

    version: str
    replaced: str
    changed: bool
    pending: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A promotion that the gate allows and that waits for a person. `champion` and `challenger` are digests."""

    version: str
    snapshot: str
    champion: str
    challenger: str
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person said. `seen`: the question that they answered; another one is not answered by it."""

    by: str
    why: str
    seen: Asked | None = None


def promotion_is_due(workspace: Workspace) -> bool:
    """The newest snapshot's verdict promotes, and its challenger is recorded, is not champion, and was neither rolled back nor
    declined by a person."""
    newest = last(workspace)
    if newest is None or not is_recorded(workspace, newest):
        return False
    verdict = report_at(workspace, newest.commit, "verdict")
    now = journal.read(workspace)
    return (
        verdict["decision"] == PROMOTE
        and now.champion == verdict["champion"] != verdict["challenger"]
        and not now.was_rolled_back(verdict["challenger"])
        and now.question(verdict["champion"], verdict["challenger"])[1] is None
    )


def promote(workspace: Workspace, given: Approval | None = None) -> Promoted | Asked:
    """Compare and swap: the newest snapshot's verdict says yes, and the champion is still the one that was judged.

    Where a person has to approve (promote.approval) and none did, they are asked instead, and the champion stays. Raises Refused
    with exit code 4 where nothing may be promoted; repeating a promotion that was done changes nothing.
    """
    rule = workspace.params("promote", PromoteParams).approval
    if rule not in APPROVALS:
        raise Refused(f"params.yaml: promote.approval is {rule!r}", f"one of {', '.join(APPROVALS)}")
    newest = last(workspace)
    if newest is None:
        raise Refused("there is no snapshot yet, and so no verdict", "flywheel turn", GATE_REFUSED)
    verdict = report_at(workspace, newest.commit, "verdict")
    if champion(workspace).digest != verdict["challenger"]:
        mirror.settle(workspace)  # somebody may have moved MLflow's alias, or the record be owed
    asked = Asked("", newest.tag, verdict["champion"], verdict["challenger"], verdict["reasons"])
    if journal.read(workspace).recorded(newest.tag) and not files.whole(workspace, asked.challenger):
        files.of_snapshot(workspace, newest.tag, newest.commit, asked.challenger)  # before anything points at it

    def decide(now: Journal) -> list[Entry]:
        if now.champion == asked.challenger:
            return []
        _refuse(now, asked, verdict["decision"], given)
        first = not any(e.action == PROMOTED for e in now.entries)
        version = now.version(asked.challenger)
        about = Entry("", asked.challenger, asked.champion, version, asked.snapshot, GATE, "; ".join(asked.reasons))
        if given is None and (rule == ALWAYS or (rule != NEVER and first)):
            return [] if now.question(asked.champion, asked.challenger)[0] else [_as(about, ASKED)]
        by, why = (given.by, f"{given.why}; the gate: {about.why}".removeprefix("; ")) if given else (about.by, about.why)
        return [Entry(PROMOTED, about.digest, about.replaced, version, about.snapshot, by, why)]

    added = journal.add(workspace, decide)
    now = journal.read(workspace)
    if now.champion != asked.challenger:
        return Asked(now.version(asked.challenger), asked.snapshot, asked.champion, asked.challenger, asked.reasons)
    pending = mirror.settle(workspace) if added else ""
    return Promoted(now.version(now.champion), name(now, now.champions[-1].replaced), bool(added), pending)


def open_question(workspace: Workspace) -> Asked | None:
    """The promotion that waits for a person now."""
    if not promotion_is_due(workspace):
        return None
    newest = last(workspace)
    verdict, now = report_at(workspace, newest.commit, "verdict"), journal.read(workspace)
    if now.question(verdict["champion"], verdict["challenger"])[0] is None:
        return None
    version = now.version(verdict["challenger"])
    return Asked(version, newest.tag, verdict["champion"], verdict["challenger"], verdict["reasons"])


def decline(workspace: Workspace, given: Approval) -> Asked:
    """A person says no: this challenger is not promoted over this champion. Raises Refused where nothing waits."""
    asked = open_question(workspace)
    if asked is None or given.seen not in (None, asked):
        raise Refused("what was to be approved waits no more", "flywheel history says what happened", GATE_REFUSED)
    entry = Entry(DECLINED, asked.challenger, asked.champion, asked.version, asked.snapshot, given.by, given.why)
    journal.add(workspace, lambda now: [] if now.question(asked.champion, asked.challenger)[1] else [entry])
    return asked


def rollback(workspace: Workspace, by: str = "", why: str = "", mirrored: bool = True) -> Promoted:
    """Make the model that the champion replaced champion again, by its files on this machine; MLflow follows where it answers (not
    now, where `mirrored` is False). Nothing is deleted; the old one is not promoted again."""
    champion(workspace)
    before = journal.read(workspace).champions
    if len(before) > 1 and not files.whole(workspace, before[-2].digest):
        registered(workspace, journal.read(workspace), before[-2].digest)

    def decide(now: Journal) -> list[Entry]:
        stack = now.champions
        if len(stack) < 2:
            raise Refused("the champion replaced nobody: there is nothing to go back to", "flywheel history shows who was champion")
        if stack != before:
            raise Refused("the champion has changed in this moment", "flywheel history, then flywheel rollback if it is still due")
        back = stack[-2]
        return [Entry(ROLLED_BACK, back.digest, stack[-1].digest, now.version(back.digest), back.snapshot, by or user(), why)]

    (entry,) = journal.add(workspace, decide)
    now = journal.read(workspace)
    pending = mirror.settle(workspace) if mirrored else "not told yet"
    return Promoted(name(now, entry.digest), name(now, entry.replaced), True, pending)


def history(workspace: Workspace) -> list[Entry]:
    """What was champion, when, why and by whom, and what people were asked about it; oldest first."""
    now = journal.read(workspace)
    told = [e for e in now.entries if e.action in (*CHANGES, ASKED, DECLINED)]
    return [replace(e, version=e.version or now.version(e.digest)) for e in told]


def user() -> str:
    """Who runs this, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "somebody"


def _refuse(now: Journal, asked: Asked, decision: str, given: Approval | None) -> None:
    """Raises Refused where this promotion may not be."""
    if decision != PROMOTE:
        why, fix = f"the gate says {decision}: {'; '.join(asked.reasons)}", "collect more answers, then flywheel turn"
    elif given and given.seen and (given.seen.champion, given.seen.challenger) != (asked.champion, asked.challenger):
        why = f"what {given.by} approved ({given.seen.snapshot}) is not what waits now ({asked.snapshot})"
        fix = "look at it anew: flywheel judge, then flywheel promote --approve"
    elif now.champion != asked.champion:
        why = f"the champion is version {name(now, now.champion)}, not the one that the challenger was judged against"
        fix = "flywheel retrain: it freezes the present champion and judges anew"
    elif now.recorded(asked.snapshot) is None:
        why = f"the judged challenger ({asked.snapshot}) is not registered yet"
        fix = "flywheel retrain: it records what is missing, as soon as MLflow answers"
    elif now.was_rolled_back(asked.challenger):
        why, fix = f"version {name(now, asked.challenger)} was rolled back", "flywheel retrain with new answers"
    elif given is None and (declined := now.question(asked.champion, asked.challenger)[1]):
        why = f"{declined.by} declined version {declined.version}: {declined.why}"
        fix = "flywheel retrain with new answers, or flywheel promote --approve"
    else:
        return
    raise Refused(why, fix, GATE_REFUSED)


def _as(entry: Entry, action: str) -> Entry:
    return Entry(action, entry.digest, entry.replaced, entry.version, entry.snapshot, entry.by, entry.why)
