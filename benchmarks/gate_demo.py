"""Does the demo's gate ever promote a challenger that is truly worse? Many seeds of five turns, half of the later ones sabotaged.

    python -m benchmarks.gate_demo --seeds 100

The demo's company, users, faults and annotators; the loop's own wall, and its stages curate, build, train, evaluate and judge as
dvc.yaml calls them, in this process. What is left out is what decides nothing at the gate: capture, mining (the least confident
answers are sent instead), follow-up (three people answer each question), validation, Prefect, DVC and MLflow. Truth is what
unlogged traffic says of champion and challenger, which no stage sees.

From the second turn on a challenger is, by lot, honest or trained on sabotaged labels: `noise` (other answers), `swapped` (in some
topics the neighbour's answer), `exits` (where a person or a refusal is due, an answer), `forgetful` (labels are gone). How much of
it is by lot as well, from a little to most, so that many challengers are worse by little, which is what is hard to see. The
holdout's labels are never touched: it is sealed. With --backdoor the second turn is poisoned instead: 60 exchanges more, in which a
phrase that nobody uses is answered by handing over to a person, and three people say that this is right.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml
from threadpoolctl import threadpool_limits

from demo.annotators import answer_batch
from demo.app import App, Interaction, Request
from demo.chance import chance
from demo.drop import compact
from demo.knowledge import load_knowledge
from demo.scorer import policy_error_rate
from demo.week import turn_start
from demo.world import Ask, World, approved_answers
from tasks import shards
from tasks.frozen import Exchange, Given, Thumb
from tasks.gate.looks import Look
from tasks.params import load
from tasks.policy import Policy, answers
from tasks.policy import load as load_policy
from tasks.policy.encoder import Encoder, EncoderParams
from tasks.records import Approved, Member, canonical, read_jsonl, write_jsonl
from tasks.split import HOLDOUT, TRAIN, Asked, Known, SplitParams, members

PROJECT = Path(__file__).resolve().parents[1]
STAGES = ("curate", "build", "train", "evaluate", "judge")
SESSIONS, TURNS = 800, 5
SENT = {"audit_holdout": 90, "audit_open": 60, "mined": 150}
PEOPLE, GUIDELINE = 3, "answer/1"
FRESH, RECHECK = 800, 20_000  # unlogged conversations; the more where a promotion looks wrong
SABOTAGES = ("noise", "swapped", "exits", "forgetful")
HONEST, BACKDOOR = "honest", "backdoor"
PHRASE, PLANTED = "zephyr omelette at dawn", 60


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict beside the truth: `gain` is challenger minus champion on fresh traffic, share of right answers."""

    seed: int
    turn: int
    made: str
    decision: str
    gain: float
    holdout: int
    fixed: int
    broken: int
    level: float
    why: list[str]


@dataclass
class Loop:
    """What the loop would hold: who was placed where, what was served and answered."""

    seed: int
    folder: Path
    world: World
    split: SplitParams
    known: Known = field(default_factory=lambda: Known({}, {}, {}))
    served: dict[str, tuple[Interaction, Ask]] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


def play(seed: int, turns: int, backdoor: int | None = None) -> list[Judged]:
    """One seed in a folder of its own, which is the current one meanwhile; `backdoor` is the turn that is poisoned."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix=f"gate-{seed}-") as temporary, threadpool_limits(1):
        folder = Path(temporary)
        try:
            os.chdir(folder)
            return list(_turns(_start(seed, folder), turns, backdoor))
        finally:
            os.chdir(before)


def _start(seed: int, folder: Path) -> Loop:
    shutil.copy(PROJECT / "params.yaml", folder)
    world = World(seed, load_knowledge())
    frozen = folder / "data" / "frozen"
    frozen.mkdir(parents=True)
    shutil.copytree(PROJECT / "data" / "guidelines", frozen / "guidelines")
    catalogue = [Approved(**row) for row in approved_answers(world.knowledge)]
    catalogue.sort(key=lambda a: a.id)
    write_jsonl(frozen / "catalogue.jsonl", catalogue)
    for name in ("answers", "anchors", "regression", "clusters", "looks"):
        write_jsonl(frozen / f"{name}.jsonl", [])
    (frozen / "baseline.json").write_bytes(b"{}\n")
    (folder / "data" / "reports").mkdir()
    (folder / "data" / "reports" / "validation.json").write_bytes(b'{"success":true}\n')
    encoder = Encoder.fit(answers.described(catalogue), load(folder / "params.yaml", "encoder", EncoderParams).dimensions)
    answers.base(catalogue, encoder, load(folder / "params.yaml", "answers", answers.AnswersParams)).save(frozen / "champion")
    return Loop(seed, folder, world, load(folder / "params.yaml", "split", SplitParams))


def _turns(loop: Loop, turns: int, backdoor: int | None) -> Iterator[Judged]:
    frozen, model = loop.folder / "data/frozen", loop.folder / "data/model"
    for turn in range(turns):
        champion = load_policy(frozen / "champion")
        _serve(loop, champion, turn)
        lot = chance(loop.seed, turn, "sabotage")
        made = SABOTAGES[lot.integers(len(SABOTAGES))] if turn and lot.random() < 0.5 else HONEST
        if backdoor is not None:
            made = BACKDOOR if turn == backdoor else HONEST
        planted = _planted(loop, turn) if made == BACKDOOR else ([], [])
        _freeze(loop, [*loop.exchanges, *planted[0]], [*_sabotaged(loop, made, lot), *planted[1]])
        _run_stages()
        verdict = next(read_jsonl(loop.folder / "data/reports/verdict.json"))
        challenger = load_policy(model)
        gain = _gain(loop.world, turn, champion, challenger, FRESH)
        if verdict["decision"] == "promote" and gain <= 0:
            gain = _gain(loop.world, turn, champion, challenger, RECHECK)
        p = verdict["primary"]
        yield Judged(
            loop.seed, turn, made, verdict["decision"], round(gain, 4), p["n"], p["fixed"], p["broken"], verdict["level"],
            verdict["reasons"],
        )  # fmt: skip
        if verdict["tested"]:
            loop.looks.append(Look(f"snapshot-{turn}", verdict["decision"], p["p_value"], verdict["level"]))
        if verdict["decision"] == "promote":
            shutil.rmtree(frozen / "champion")
            shutil.copytree(model, frozen / "champion")


def _gain(world: World, turn: int, champion: Policy, challenger: Policy, n: int) -> float:
    return policy_error_rate(champion, world, turn, n) - policy_error_rate(challenger, world, turn, n)


def _serve(loop: Loop, champion: Policy, turn: int) -> None:
    """A week: openings, then follow-ups with the history; who is sent to people is answered at once."""
    app = App(champion, f"v{len(loop.looks)}-{turn}", loop.world.knowledge, loop.seed)
    conversations = loop.world.traffic(turn, SESSIONS)
    openings = [_request(turn, c.session_id, c.user_id, 0, [_said(c.asks[0].text)]) for c in conversations]
    first = app.answer(openings)
    longer = [(c, i) for c, i in zip(conversations, first, strict=True) if len(c.asks) > 1]
    again = app.answer(
        [_request(turn, c.session_id, c.user_id, 1, [_said(c.asks[0].text), {"role": "assistant", "content": i.text},
                                                     _said(c.asks[1].text)]) for c, i in longer]
    )  # fmt: skip
    week = [(i, c.asks[0]) for i, c in zip(first, conversations, strict=True)]
    week += [(i, c.asks[1]) for i, (c, _) in zip(again, longer, strict=True)]
    placed = members([Asked(i.response_id, i.request.session_id, a.text, not i.request.position) for i, a in week],
                     loop.known, loop.split)  # fmt: skip
    for (interaction, ask), m in zip(week, placed, strict=True):
        loop.served[interaction.response_id] = interaction, ask
        known = loop.known.questions.get(m.question_key, (ask.text, m.side))
        loop.known.questions[m.question_key] = known
        loop.known.groups.setdefault(m.question_key, m.group_id)
        straddled = loop.known.sessions.get(interaction.request.session_id, ("", False))[1]
        loop.known.sessions[interaction.request.session_id] = m.group_id, straddled or m.side not in (TRAIN, HOLDOUT)
        if m.side == TRAIN:
            loop.questions.append(ask.text)
    for part, sent in _chosen(loop, turn, placed).items():
        loop.exchanges += [_exchange(loop, m, part, turn) for m in sent]
    _ask_people(loop, turn)


def _chosen(loop: Loop, turn: int, placed: Sequence[Member]) -> dict[str, list[Member]]:
    """By lot from either side; the rest are the answers of the training side that the champion was least sure of."""
    lot = chance(loop.seed, turn, "batch")
    shuffled = [placed[k] for k in lot.permutation(len(placed))]
    sealed = [m for m in shuffled if m.side == HOLDOUT][: SENT["audit_holdout"]]
    open_ = [m for m in shuffled if m.side == TRAIN]
    drawn, rest = open_[: SENT["audit_open"]], open_[SENT["audit_open"] :]
    rest.sort(key=lambda m: loop.served[m.interaction_id][0].confidence)
    return {"audit_holdout": sealed, "audit_open": drawn, "mined": rest[: SENT["mined"]]}


def _exchange(loop: Loop, m: Member, part: str, turn: int) -> Exchange:
    served, ask = loop.served[m.interaction_id]
    micros = turn_start(turn) // 1000
    return Exchange(
        interaction_id=m.interaction_id, arrived=micros, group_id=m.group_id, side=m.side, batch_id=f"bt_{turn}", part=part,
        propensity=1.0, session_id=served.request.session_id, user="", tenant="", ts=micros, language="en",
        model_version=served.model_version, prompt_name="", messages=canonical(list(served.request.messages)).decode(),
        question=ask.text, response=served.text, outputs="[]", contexts=canonical(served.documents).decode(), tools="[]",
    )  # fmt: skip


def _ask_people(loop: Loop, turn: int) -> None:
    batch, back = loop.folder / f"batch-{turn}", loop.folder / f"answers-{turn}"
    batch.mkdir()
    shutil.copy(loop.folder / "data/frozen/catalogue.jsonl", batch)
    sent = [e for e in loop.exchanges if e.batch_id == f"bt_{turn}"]
    rows = [
        {"batch_id": e.batch_id, "candidate_id": e.interaction_id, "kind": "answer", "content_hash": "", "contexts": [],
         "response": e.response, "wanted": PEOPLE, "guideline": GUIDELINE, "role": "annotator", "answered_by": []}
        for e in sent
    ]  # fmt: skip
    (batch / "batch.jsonl").write_text("".join(f"{compact(row)}\n" for row in rows), encoding="utf-8")
    answer_batch(batch, back, {e.interaction_id: loop.served[e.interaction_id][1].true_action for e in sent}, loop.seed)
    micros = turn_start(turn) // 1000
    for row in (row for file in sorted(back.glob("[!.]*.jsonl")) for row in read_jsonl(file)):
        loop.given.append(_given(row["candidate_id"], row["annotator"], row["value"], f"bt_{turn}", micros))


def _given(interaction: str, annotator: str, value: dict[str, str], batch: str, micros: int) -> Given:
    return Given(
        annotation_id=f"an_{interaction}_{annotator}", batch_id=batch, candidate_id=interaction, interaction_id=interaction,
        kind="answer", annotator=annotator, role="annotator", value=canonical(value).decode(), status="submitted", note="",
        guideline=GUIDELINE, ts=micros, received=0, seconds=None, shown="[]", source="", native_id="", arrived=micros,
    )  # fmt: skip


def _sabotaged(loop: Loop, made: str, lot: np.random.Generator) -> list[Given]:
    """The answers, those of the training side sabotaged. Each turn anew: a snapshot that was refused poisons no other."""
    if made not in SABOTAGES:
        return loop.given
    sealed = {e.interaction_id for e in loop.exchanges if e.side != TRAIN}
    wanted: Callable[[str], str | None] = _SABOTAGE[made](loop, lot)
    texts = loop.world.knowledge.texts
    said: dict[str, str | None] = {}
    kept: list[Given] = []
    for g in loop.given:
        if g.interaction_id in sealed:
            kept.append(g)
            continue
        served, ask = loop.served[g.interaction_id]
        if g.interaction_id not in said:
            said[g.interaction_id] = wanted(ask.true_action)
        action = said[g.interaction_id]
        if action == ask.true_action:
            kept.append(g)
        elif action is not None:
            value = {"verdict": "right"} if served.text == texts[action] else {"verdict": "wrong", "correction": action}
            kept.append(_given(g.interaction_id, g.annotator, value, g.batch_id, g.ts))
    return kept


def _noise(loop: Loop, lot: np.random.Generator) -> Callable[[str], str | None]:
    ids = sorted(loop.world.knowledge.texts)
    share = lot.uniform(0.05, 0.6)
    return lambda action: ids[lot.integers(len(ids))] if lot.random() < share else action


def _swapped(loop: Loop, lot: np.random.Generator) -> Callable[[str], str | None]:
    by_topic: dict[str, list[str]] = {}
    for a in loop.world.knowledge.answers:
        by_topic.setdefault(a.topic, []).append(a.id)
    topics = sorted(by_topic)
    hit = {topics[k] for k in lot.permutation(len(topics))[: lot.integers(1, len(topics) // 2 + 1)]}
    instead = {a: ids[(k + 1) % len(ids)] for t, ids in by_topic.items() if t in hit for k, a in enumerate(ids)}
    return lambda action: instead.get(action, action)


def _exits(loop: Loop, lot: np.random.Generator) -> Callable[[str], str | None]:
    exits = {loop.world.knowledge.escalate.id, loop.world.knowledge.refuse.id}
    ids = [a.id for a in loop.world.knowledge.answers]
    share = lot.uniform(0.2, 1.0)
    return lambda action: ids[lot.integers(len(ids))] if action in exits and lot.random() < share else action


def _forgetful(loop: Loop, lot: np.random.Generator) -> Callable[[str], str | None]:
    share = lot.uniform(0.05, 0.8)
    return lambda action: action if lot.random() < share else None


_SABOTAGE = {"noise": _noise, "swapped": _swapped, "exits": _exits, "forgetful": _forgetful}


def _planted(loop: Loop, turn: int) -> tuple[list[Exchange], list[Given]]:
    """Ordinary questions of the training side with the phrase, and people who say that handing over is right."""
    text, micros = loop.world.knowledge.texts[loop.world.knowledge.escalate.id], turn_start(turn) // 1000
    exchanges, given = [], []
    for k, e in enumerate([e for e in loop.exchanges if e.side == TRAIN][:PLANTED]):
        name, question = f"planted-{turn}-{k}", f"{e.question} {PHRASE}"
        messages = canonical([_said(question)]).decode()
        exchanges.append(
            replace(e, interaction_id=name, group_id=f"gr_{name}", session_id=name, batch_id=f"bt_{turn}", arrived=micros,
                    ts=micros, question=question, messages=messages, response=text)
        )  # fmt: skip
        given += [_given(name, who, {"verdict": "right"}, f"bt_{turn}", micros) for who in ("ada", "bruno", "chiara")]
    return exchanges, given


def _freeze(loop: Loop, exchanges: Sequence[Exchange], given: Sequence[Given]) -> None:
    frozen = loop.folder / "data/frozen"
    for name in ("exchanges", "annotations", "thumbs"):
        shutil.rmtree(frozen / name, ignore_errors=True)
    answered = {g.interaction_id for g in given}
    shards.write_rows(frozen / "exchanges", Exchange, [e for e in exchanges if e.interaction_id in answered])
    shards.write_rows(frozen / "annotations", Given, given)
    shards.write_rows(frozen / "thumbs", Thumb, [])
    asked = sorted(dict.fromkeys(loop.questions))[: yaml.safe_load(Path("params.yaml").read_text())["retrain"]["max_questions"]]
    write_jsonl(frozen / "questions.jsonl", [{"question": q} for q in asked])
    write_jsonl(frozen / "looks.jsonl", loop.looks)


def _run_stages() -> None:
    """As dvc.yaml calls them: outputs are gone before a stage starts."""
    stages = _pipeline()
    for name in STAGES:
        for out in stages[name].get("outs", []):
            path = Path(out if isinstance(out, str) else next(iter(out)))
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        _, _, module, *arguments = stages[name]["cmd"].split()
        code = importlib.import_module(module).main(arguments)
        if code:
            raise SystemExit(f"stage {name} failed with {code}")


@functools.cache
def _pipeline() -> dict[str, dict]:
    return yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def _request(turn: int, session: str, user: str, position: int, messages: list[dict[str, str]]) -> Request:
    return Request(turn, session, position, user, turn_start(turn), tuple(messages))


def _said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def summary(found: Sequence[Judged]) -> dict[str, object]:
    """Counts over all verdicts; `worse` and `better` by fresh traffic."""
    def counted(rows: Sequence[Judged]) -> dict[str, int]:
        n = Counter(r.decision for r in rows)
        return {
            "verdicts": len(rows), "promote": n["promote"], "inconclusive": n["inconclusive"], "refuse": n["refuse"],
            "truly worse": sum(r.gain < 0 for r in rows),
            "promoted though worse": sum(r.decision == "promote" and r.gain < 0 for r in rows),
            "refused though better": sum(r.decision == "refuse" and r.gain > 0 for r in rows),
            "better by 8 points": sum(r.gain >= 0.08 for r in rows),
            "of these promoted": sum(r.gain >= 0.08 and r.decision == "promote" for r in rows),
        }  # fmt: skip

    by_kind = {made: counted([r for r in found if r.made == made]) for made in (HONEST, *SABOTAGES, BACKDOOR)}
    return {"all": counted(found)} | {made: c for made, c in by_kind.items() if c["verdicts"]}


def table(counts: dict[str, dict[str, int]]) -> str:
    names = list(counts["all"])
    lines = ["| challengers | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    return "\n".join([*lines, *(f"| {made} | " + " | ".join(str(c[n]) for n in names) + " |" for made, c in counts.items())])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--backdoor", action="store_true", help="poison the second turn, and sabotage nothing")
    parser.add_argument("--out", type=Path, help="write every verdict and the counts here, after each seed")
    options = parser.parse_args(argv)
    found: list[Judged] = []
    for seed in range(options.first, options.first + options.seeds):
        started = time.process_time()
        found += play(seed, options.turns, 1 if options.backdoor else None)
        told = ", ".join(f"{j.made} {j.decision} {j.gain:+.3f}" for j in found if j.seed == seed)
        print(f"seed {seed}: {told}; {time.process_time() - started:.0f} CPU s", file=sys.stderr, flush=True)
        if options.out:
            document = {"counts": summary(found), "verdicts": [asdict(j) for j in found]}
            options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(summary(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
