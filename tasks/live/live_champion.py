"""The live champion: what users meet from each model version, side by side, and what must alarm a person.

    version      answers   bad feedback            flagged
    3-81f3c0de   1,840     4.1% (3.3% to 5.1%)     12.0%

Not an experiment: users and weeks differ between versions (`flywheel serve` has the experiment: canary and holdback). It tells
when the newest champion is plainly worse than all before it, or when what watches it has raised an alarm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from scipy.stats import binomtest, fisher_exact

from tasks.live.feedback import RESOLVED, query
from tasks.live.lake import Lake
from tasks.live.registry import journal
from tasks.live.status import decided
from tasks.live.taxonomy import alarmed
from tasks.live.workspace import Workspace
from tasks.metrics import FeedbackParams, metrics
from tasks.sequential import BREACH

DAYS = 28  # of traffic that is looked at
VERSIONS = 5  # the newest
ALPHA = 0.001  # looked at every quarter of an hour, a small level; an experiment decides, this only calls a person
SQL = f"""
    WITH {RESOLVED},
    recent AS (SELECT interaction_id, model_version, ts FROM interactions WHERE ts >= $since),
    said AS (SELECT interaction_id, min(polarity) AS worst FROM resolved WHERE polarity IS NOT NULL GROUP BY ALL),
    flagged AS (SELECT DISTINCT interaction_id FROM signals)
    SELECT model_version, count(*) AS answers, count(worst) AS rated, count(*) FILTER (worst < 0) AS bad,
           count(flagged.interaction_id) AS flagged, max(ts) AS newest
    FROM recent LEFT JOIN said USING (interaction_id) LEFT JOIN flagged USING (interaction_id)
    GROUP BY ALL ORDER BY newest DESC, model_version LIMIT {VERSIONS}"""


@dataclass(frozen=True, slots=True)
class Version:
    """`bad` of `rated` answers got bad feedback; its share with a 95% interval (Wilson). `flagged`: a detector spoke."""

    version: str
    answers: int
    rated: int
    bad: int
    flagged: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Live:
    champion: str
    versions: list[Version]
    alarms: list[str]


def live_champion(workspace: Workspace) -> Live:
    """Compare the newest model version in the logs with those before it. Reads the lake and files only."""
    lake = Lake(workspace.lake)
    params = metrics(workspace.params("feedback", FeedbackParams))
    since = time.time_ns() // 1000 - DAYS * 86_400_000_000
    rows = query(lake, SQL.replace("$since", str(since)), params).to_pylist()
    versions = [
        Version(r["model_version"], r["answers"], r["rated"], r["bad"], r["flagged"], *_interval(r["bad"], r["rated"]))
        for r in rows
    ]
    alarms = [*alarmed(lake), *_worse(versions), *_breached(workspace)]
    now = journal.read(workspace)
    return Live(now.version(now.champion) or now.snapshot(now.champion), versions, alarms)


def _interval(bad: int, rated: int) -> tuple[float, float]:
    if not rated:
        return 0.0, 1.0
    interval = binomtest(bad, rated).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _worse(versions: list[Version]) -> list[str]:
    """The newest version against all before it, one-sided (Fisher's exact test)."""
    if len(versions) < 2 or not versions[0].rated:
        return []
    new, bad, rated = versions[0], sum(v.bad for v in versions[1:]), sum(v.rated for v in versions[1:])
    if not rated:
        return []
    p = fisher_exact([[new.bad, new.rated - new.bad], [bad, rated - bad]], alternative="greater").pvalue
    if p >= ALPHA:
        return []
    shares = f"{new.bad / new.rated:.1%} of its rated answers against {bad / rated:.1%} before (p = {p:.2g})"
    return [f"users rate version {new.version or 'unknown'} worse: bad feedback on {shares}; flywheel rollback takes it back"]


def _breached(workspace: Workspace) -> list[str]:
    """What `flywheel serve` took back by itself."""
    newest = decided(workspace)
    if not newest or newest["decision"] != BREACH:
        return []
    return [f"version {newest['newer']['version']} was worse for users ({newest['reason']}); it was taken back {newest['at'][:10]}"]
