"""Play the loop in the demo world: the company serves, Flywheel turns, people answer, Flywheel turns; and keep the score.

The loop sees log files and answer files. The score (true error rates, whether a verdict was right) is kept outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from demo.company import Company
from demo.scorer import policy_error_rate
from demo.workspace import MARK
from flows.annotate import annotate as flow
from flows.turn import Turn, turn
from tasks.errors import Refused
from tasks.live import registry
from tasks.live.handoff.follow_up import follow_up
from tasks.live.handoff.receive import receive
from tasks.live.handoff.send import Batch
from tasks.live.labels import agreement, audits
from tasks.live.lake import Lake
from tasks.live.workspace import Workspace
from tasks.policy import load

SESSIONS = 1150  # a week of conversations: about 1,500 interactions
FRESH = 800  # unlogged conversations on which the scorer compares two models
REVIEWER = "robin"  # who approves what the gate allows
NO_DIFFERENCE = 0.03  # a true difference below this is one that a holdout of this size need not see


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """One turn, as the scorer sees it. `errors_found_by_random` is what as many random labels find on average."""

    turn: int
    true_error_rate: float
    estimate: Interval
    captured: int
    rejected: int
    sent: int
    errors_found: int
    errors_found_by_random: float
    label_accuracy: float
    verdict: str
    verdict_right: bool
    champion: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class Demo:
    """The whole play. `after` is the true error rate on fresh traffic of the champion that the last turn left."""

    seed: int
    turns: list[Score]
    after: float

    def as_dict(self) -> dict:
        return asdict(self)


def play(workspace: Workspace, seed: int, turns: int, tell: Callable[[Score], None]) -> Demo:
    """Turn the wheel in a workspace of `demo.workspace`; `tell` hears of each turn."""
    company = Company(workspace.root, workspace.state / MARK, seed)
    scores = []
    for number in range(turns):
        score = _one_turn(workspace, company, number)
        scores.append(score)
        tell(score)
    last = load(registry.champion(workspace).folder)
    return Demo(seed, scores, round(policy_error_rate(last, company.world, turns, FRESH), 4))


def _one_turn(workspace: Workspace, company: Company, number: int) -> Score:
    champion = registry.champion(workspace)
    company.serve(number, SESSIONS, load(champion.folder), champion.version)
    sent = turn(workspace.root)
    if sent.sent is None:
        raise Refused("the turn sent no batch", "lower select.min_window, or play more sessions")
    annotate(workspace, company, sent.sent)
    answered = turn(workspace.root)
    if answered.asked:  # the first promotion, which a person has to approve
        registry.promote(workspace, registry.Approval(REVIEWER, "the verdict's reasons are convincing", answered.asked))
    return _score(workspace, company, number, champion, sent, answered)


def _score(
    workspace: Workspace, company: Company, number: int, champion: registry.Registered, sent: Turn, answered: Turn
) -> Score:
    truth = round(company.truth.true_error_rate(number), 4)
    labels = agreement(workspace).labels
    estimate = next(a.estimate for a in audits(workspace, labels) if a.batch_id == sent.sent.batch_id)
    batch = Lake(workspace.lake).query(
        """SELECT interaction_id, response_id FROM candidates JOIN interactions USING (interaction_id)
           WHERE batch_id = $batch AND part <> ''""",
        {"batch": sent.sent.batch_id},
    )
    facts = {r["interaction_id"]: company.truth.fact(r["response_id"]) for r in batch.to_pylist()}
    agreed = [x for x in labels if x.interaction_id in facts and x.state == "agreed"]
    found = [x for x in agreed if x.verdict == "wrong" and not facts[x.interaction_id].right]
    exact = [x for x in agreed if x.target == facts[x.interaction_id].true_action]
    verdict = answered.retrained.decision if answered.retrained else "inconclusive"
    return Score(
        turn=number,
        true_error_rate=truth,
        estimate=Interval(round(estimate.value, 4), round(estimate.low, 4), round(estimate.high, 4)),
        captured=sent.captured.stored,
        rejected=sent.captured.rejected,
        sent=len(facts),
        errors_found=len(found),
        errors_found_by_random=round(len(facts) * truth, 1),
        label_accuracy=round(len(exact) / len(agreed), 4) if agreed else 0.0,
        verdict=verdict,
        verdict_right=_verdict_right(workspace, company, number, champion, verdict),
        champion=registry.champion(workspace).version,
        snapshot=answered.retrained.snapshot if answered.retrained else "",
    )


def _verdict_right(
    workspace: Workspace, company: Company, number: int, judged: registry.Registered, verdict: str
) -> bool:
    """Compare both models on the same fresh traffic, with the truth."""
    challenger = registry.challenger(workspace)
    if challenger is None:
        return verdict == "inconclusive"
    before = policy_error_rate(load(judged.folder), company.world, number, FRESH)
    gain = before - policy_error_rate(load(challenger.folder), company.world, number, FRESH)
    return {"promote": gain > 0, "refuse": gain <= 0, "inconclusive": gain <= NO_DIFFERENCE}[verdict]


def annotate(workspace: Workspace, company: Company, batch: Batch) -> None:
    """People answer; whoever is not sure is asked again, until nothing is open. The turn after it finds it all received."""
    ids = response_ids(workspace, batch.batch_id)
    company.annotate(batch.folder, ids)
    flow(workspace.root)  # the first and most of the answers, as an operator sees it; then a round a day
    while company.annotate(batch.folder, ids):
        receive(workspace)
        follow_up(workspace)


def response_ids(workspace: Workspace, batch_id: str) -> dict[str, str]:
    rows = Lake(workspace.lake).query(
        "SELECT DISTINCT candidate_id, response_id FROM asks JOIN interactions USING (interaction_id) WHERE batch_id = $batch",
        {"batch": batch_id},
    )
    return dict(zip(rows["candidate_id"].to_pylist(), rows["response_id"].to_pylist(), strict=True))
