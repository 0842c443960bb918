"""Follow up: of what came back, whoever is not sure is asked again, then an expert; what nobody answers in time is let go.

    2 people agree  -> enough      2 disagree -> a third, fourth, fifth      still apart -> an expert, who decides
    past due        -> an expert is asked as well      past twice the time -> expired, with its reason, and called back
A changed guideline asks anew what its changed clauses touch, and nothing else.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from tasks.agreement import ANSWER, AgreementParams
from tasks.judgements import AGREED
from tasks.live.handoff.desk import (
    AnnotateParams,
    audited,
    event,
    hand_out,
    hand_out_left,
    in_force,
    tool,
)
from tasks.live.handoff.send import DAY_US
from tasks.live.labels import LATEST, agreement, guidelines, judged
from tasks.live.labels import in_force as still_standing
from tasks.live.lake import Lake, writing
from tasks.live.people import ANNOTATOR, EXPERT, roster
from tasks.live.workspace import Workspace
from tasks.overlap import Decision, next_round
from tasks.records import Annotation, Asked, Label, content_id

# Of each question that is not over: how many people were wanted under its newest guideline, who answered or passed, and when.
STATE = """
    WITH newest AS (
        SELECT candidate_id, kind, arg_max(guideline, ("round", ts)) AS guideline FROM asks WHERE NOT gold GROUP BY ALL),
    people AS (
        SELECT candidate_id, kind, guideline, count(DISTINCT annotator) FILTER (role = 'annotator') AS answered,
               count(*) FILTER (role = 'expert') AS decided
        FROM annotations GROUP BY ALL),
    asked AS (
        SELECT candidate_id, kind, guideline, sum(wanted) FILTER (role = 'annotator') AS wanted, bool_or(role = 'expert') AS expert,
               max("round") AS "round", min(due) AS due, arg_max(ask_id, "round") AS ask_id
        FROM asks SEMI JOIN newest USING (candidate_id, kind, guideline) GROUP BY ALL)
    SELECT asked.*, coalesce(answered, 0) AS answered, coalesce(decided, 0) AS decided
    FROM asked LEFT JOIN people USING (candidate_id, kind, guideline)
    WHERE (candidate_id, kind) NOT IN (SELECT (candidate_id, kind) FROM events WHERE what = 'expired')
    ORDER BY candidate_id, kind
"""
PASSES = 2  # times as many people as answers are wanted may pass on a question before an expert sees it


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What was asked again, of experts, or anew under a changed guideline (each by kind), what was let go as nobody answered
    it, how many questions are open by now, and how many of those are late.
    """

    again: dict[str, int]
    experts: dict[str, int]
    reworded: dict[str, int]
    expired: int
    open: int
    late: int


def follow_up(workspace: Workspace) -> FollowUp:
    """Decide about every question that has its answers or is late, and hand out what is asked again. Safe to repeat."""
    with writing(workspace):
        lake = Lake(workspace.lake)
        params = workspace.params("annotate", AnnotateParams)
        hand_out_left(workspace, lake)
        now = time.time_ns() // 1000
        people = roster(workspace)
        has_experts = people is not None and any(p.role == EXPERT for p in people.values())
        ledger = {a.ask_id: a for a in lake.rows(Asked, "SELECT * FROM asks ORDER BY ask_id")}
        # What is asked now is the batch's next round, whatever round a candidate was in: a round goes out once, and whole.
        rounds: dict[str, int] = {}
        for a in ledger.values():
            rounds[a.batch_id] = max(rounds.get(a.batch_id, 0), a.round + 1)
        state = lake.query(STATE).to_pylist()
        decisions = _decisions(workspace, ledger, state, params)
        asks, expired, open_, late = _reworded(workspace, lake, ledger, rounds, params, now), [], 0, 0
        anew = {(a.candidate_id, a.kind) for a in asks}
        reworded = Counter(a.kind for a in asks)
        for row in state:
            last = ledger[row["ask_id"]]
            decision = decisions.get((last.interaction_id, last.kind))
            settled = decision is Decision.ENOUGH and row["answered"] >= min(row["wanted"] or 0, params.first)
            if settled and has_experts and not row["expert"] and audited(last.candidate_id, last.kind, params):
                asks.append(_next(last, EXPERT, rounds[last.batch_id], params, now))
            if row["decided"] or settled:
                continue
            open_ += 1
            if (last.candidate_id, last.kind) in anew:
                continue
            overdue = now > row["due"]
            late += overdue
            if now > row["due"] + params.due_days * DAY_US:
                expired.append(event("expired", "flywheel", last.batch_id, last.candidate_id, last.kind, last.guideline,
                                     f"{row['answered']} of {row['wanted']} people answered in twice the time"))  # fmt: skip
            elif row["answered"] < row["wanted"] and not overdue:
                continue
            elif decision is Decision.ASK_AGAIN and not overdue and row["answered"] < PASSES * params.most:
                asks.append(_next(last, ANNOTATOR, rounds[last.batch_id], params, now))
            elif has_experts and not row["expert"] and (decision is not None or overdue):
                asks.append(_next(last, EXPERT, rounds[last.batch_id], params, now))
        lake.append("events", expired)
        lake.append("asks", asks)
        if asks:
            hand_out(workspace, lake, asks)
        if expired:
            over = {(e.candidate_id, e.kind) for e in expired}
            gone = [a for a in ledger.values() if (a.candidate_id, a.kind) in over]
            for name in sorted({a.tool for a in gone}):
                tool(workspace, name).cancel([a.ask_id for a in gone if a.tool == name])
        again = Counter(a.kind for a in asks if a.role == ANNOTATOR) - reworded
        experts = Counter(a.kind for a in asks if a.role == EXPERT)
        return FollowUp(dict(again), dict(experts), dict(reworded), len(expired), open_, late)


def _decisions(
    workspace: Workspace, ledger: dict[str, Asked], state: list[dict[str, Any]], params: AnnotateParams
) -> dict[tuple[str, str], Decision | None]:
    """(interaction, kind) -> what its answers so far call for; None is to wait until others have had their next answer."""
    wanted = {(ledger[r["ask_id"]].interaction_id, r["kind"]): r["wanted"] or 0 for r in state}
    found: dict[tuple[str, str], Decision | None] = dict.fromkeys(wanted, Decision.ASK_AGAIN)  # those whom everybody passed
    for kind, rows in judged(workspace, params.limits).items():
        found |= {(j.interaction_id, kind): j.decision for j in rows}
    # The answers of one batch share one budget, so that the least sure ones get it. What is out counts as given.
    votes = workspace.params("curate", AgreementParams).min_votes
    batch = {a.interaction_id: a.batch_id for a in ledger.values() if a.kind == ANSWER and not a.gold}
    by_batch: dict[str, list[Label]] = {}
    for x in agreement(workspace, AgreementParams(votes, params.sure)).labels:
        by_batch.setdefault(batch.get(x.interaction_id, ""), []).append(x)
    for rows in by_batch.values():
        shares = {x.interaction_id: {"": 1.0 if x.state == AGREED else min(x.p_target, params.sure - 1e-6)} for x in rows}
        given = {x.interaction_id: max(x.votes, wanted.get((x.interaction_id, ANSWER), 0)) for x in rows}
        due = next_round(shares, given, params.limits)
        for ids, decision in (
            (due.enough, Decision.ENOUGH),
            (due.ask, Decision.ASK_AGAIN),
            (due.wait, None),
            (due.adjudicate, Decision.ADJUDICATE),
        ):
            found |= {(i, ANSWER): decision for i in ids}
    return found


def _next(last: Asked, role: str, number: int, params: AnnotateParams, now: int) -> Asked:
    return replace(
        last,
        ask_id=content_id("ak", last.candidate_id, last.kind, last.guideline, role, number),
        round=number,
        role=role,
        wanted=1,
        due=now + round(params.due_days * DAY_US),
        ts=now,
    )


def _reworded(
    workspace: Workspace, lake: Lake, ledger: dict[str, Asked], rounds: dict[str, int], params: AnnotateParams, now: int
) -> list[Asked]:
    """What has to be asked anew because a clause that it touches was changed."""
    counted = lake.rows(Annotation, LATEST)
    standing = {a.annotation_id for a in still_standing(counted, guidelines(workspace))}
    gone = {(a.candidate_id, a.kind) for a in counted if a.annotation_id not in standing}
    if not gone:
        return []
    versions = in_force(workspace, sorted({kind for _, kind in gone}))
    last: dict[tuple[str, str], Asked] = {}
    for a in sorted(ledger.values(), key=lambda a: a.round):
        last[a.candidate_id, a.kind] = a
    return [
        replace(
            _next(a, ANNOTATOR, rounds[a.batch_id], params, now),
            ask_id=content_id("ak", a.candidate_id, a.kind, versions[a.kind].version, ANNOTATOR, rounds[a.batch_id]),
            guideline=versions[a.kind].version,
            wanted=params.people(a.kind),
        )
        for place, a in sorted(last.items())
        if place in gone and a.guideline != versions[a.kind].version
    ]
