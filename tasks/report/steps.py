"""What to do next, the most urgent first: what each part of a turn's report asks of a person, with the command for it.

    steps(turn) -> [Step("Ask about “battery · dead”", "4.1% of the traffic fails so …", "flywheel send"), …]
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.dossier.gate import compared
from tasks.dossier.told import UNKNOWN, count, known, percent
from tasks.fates import FIXED, REGRESSED
from tasks.report import Detector, Failure, Step, Turn

CLUSTERS, CLAUSES, GROUPS = 3, 3, 3  # of each so many: a list that nobody finishes helps nobody
DISPUTED = 0.1  # lower bound of the share of questions that people disagree about, from which a clause is worth a rewording
HURT = "hurt"  # of tasks/attribution.py, which brings SciPy


def steps(turn: Turn) -> list[Step]:
    """In the order: what got worse, what the gate lacks, what to ask about, what people and data need, what is for later."""
    return [*_back(turn), *_gate(turn), *_asked(turn), *_people(turn), *_data(turn), *_later(turn)]


def _back(turn: Turn) -> Iterator[Step]:
    for f in turn.failures:
        if f.state == REGRESSED:
            why = f"It was fixed and is back in {_share(f)} of the traffic."
            yield Step(f"Look into “{f.name}”", why, f"flywheel label --trail {f.example_id}")


def _gate(turn: Turn) -> Iterator[Step]:
    # The first reason up to its numbers: they stand beside the decision.
    decision, reason = turn.verdict.get("decision"), next((str(r).split(",")[0] for r in turn.verdict.get("reasons", ())), "")
    if decision == "refuse":
        yield Step("Find out why the gate refused", f"It said: {reason}.", f"flywheel dossier {turn.tag} --with-examples")
    elif decision == "inconclusive":
        yield Step("Have more questions answered", f"The gate could not decide: {reason}.", "flywheel review")
    for row in compared(turn.verdict):
        if row.role == "slice" and row.state == "worse":
            why = f"Right answers there moved by {100 * row.difference:+.1f} points on {row.n:,.0f} sealed prompts."
            yield Step(f"Look at the slice {row.name}", why, f"flywheel dossier {turn.tag} --with-examples")


def _asked(turn: Turn) -> Iterator[Step]:
    """The clusters with the most failures about which people have said the least."""
    open_ = [f for f in turn.failures if f.state not in (FIXED, REGRESSED) and f.count]
    for f in sorted(open_, key=lambda f: (-f.share * (1 - _answered(f)), f.id))[:CLUSTERS]:
        said = f"people have answered {f.answered} of the {f.known} interactions by which it is known"
        yield Step(f"Ask about “{f.name}”", f"{_share(f)} of the traffic fails so; {said}.", "flywheel send")


def _people(turn: Turn) -> Iterator[Step]:
    if turn.people is None:
        return
    for p in turn.people.doubted:
        yield Step(f"Talk to {p.name}", f"What {p.name} answers is called {p.verdict}: {p.why}.", "flywheel label")
    for c in [c for c in turn.people.clauses if c.low >= DISPUTED][:CLAUSES]:
        kind, _, number = c.guideline.partition("/")
        newer = f"data/guidelines/{kind}-{int(number) + 1 if number.isdigit() else 'NEXT'}.md"
        why = f"People disagree about {c.disagreed} of the {c.questions} questions that it decides ({c.low:.0%} to {c.high:.0%})."
        what = f"Reword the clause “{c.clause}” of {c.guideline}"
        yield Step(what, why, f"cp data/guidelines/{kind}-{number}.md {newer}   # reword it there, then flywheel receive")


def _data(turn: Turn) -> Iterator[Step]:
    if turn.data is not None and turn.data.failed:
        why = f"{len(turn.data.failed)} expectations are not met, as {turn.data.failed[0]}."
        yield Step("Read what validation found", why, f"git show {turn.tag}:data/reports/validation.md")
    names, rows = {f.id: f.name for f in turn.failures}, turn.attribution.get("rows", ())
    for r in [r for r in rows if r.get("verdict") == HURT][:GROUPS]:
        why = f"The model answers better without its {r.get('rows', 0):,} rows."
        group = names.get(str(r.get("group")), r.get("group"))
        yield Step(f"Look at the rows of {r.get('by')} {group}", why, f"flywheel dossier {turn.tag}")


def _later(turn: Turn) -> Iterator[Step]:
    if turn.detectors:
        lifts = [f"{d.name} {_lift(d)} times ({d.verdict})" for d in turn.detectors]
        why = f"What they fire on is wrong so many times as often as all traffic: {', '.join(lifts)}."
        yield Step(f"Do not rely on {', '.join(d.name for d in turn.detectors)}", why, "flywheel status")
    if turn.missing:
        why = "; ".join(f"{method}: {lacks}" for method, lacks in turn.missing)
        yield Step("Collect what other ways of training lack", f"{why}.", "flywheel advise")


def _share(f: Failure) -> str:
    return f"{percent(f.share)} ({count(f.count)} of {count(f.window)})"


def _lift(d: Detector) -> str:
    return f"{d.lift:.2f} ({d.low:.2f} to {d.high:.2f})" if all(map(known, (d.lift, d.low, d.high))) else UNKNOWN


def _answered(f: Failure) -> float:
    return f.answered / f.known if f.known else 0.0
