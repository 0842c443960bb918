"""make demo-llm: a tiny language model reads the company's texts, learns from people's corrections, then from its own mistakes.

    python -m demo.llm --seed 1        a table: base, SFT and DPO on the same held-out questions, each against the one before

Week 0 is logged by an assistant that knows the handbook and little else: what it was asked and what it said is what the model
reads first. Week 1 is answered by it too, and people correct it: SFT. In week 2 the tuned model answers; what people say of that
makes pairs, its own mistakes among them: reward model and DPO. Every training is `tasks.policy.llm.training.train`, which is
what `train.policy: llm` runs, on tables as the build stage writes them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from demo import tiny_llm
from demo.annotators import answer_batch
from demo.drop import compact, drop
from demo.knowledge import approved_answers
from demo.retrieval import Retrieval
from demo.world import Ask, World, load_knowledge
from tasks import shards
from tasks.compare import Paired, paired
from tasks.examples import TABLES, example_id
from tasks.params import load as load_params
from tasks.policy import Policy, load
from tasks.policy.llm import LlmParams
from tasks.records import Approved, canonical, read_records

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"
LEVEL = 0.95
SIZE = tiny_llm.Size()
PEOPLE, AGREE = 3, 2  # who are asked about an answer, and of whom so many must say the same
# What differs from params.yaml: a model of this size learns all its weights, fast, on two cores.
TINY = {
    "tuning": "full", "max_length": 192, "max_new_tokens": 80, "batch": 32, "answer_batch": 64, "checkpoint_every": 1000,
    "sft_epochs": 6.0, "sft_rate": 2e-3, "reward_epochs": 4.0, "reward_rate": 5e-4, "dpo_epochs": 2.0, "dpo_rate": 5e-4,
    "dpo_beta": 1.0, "dpo_sft_share": 50.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything: questions a week, and how long the model reads."""

    read: int = 2500
    corrected: int = 3000
    own: int = 3000
    holdout: int = 1500
    epochs: float = 3.0
    rate: float = 3e-3
    size: tiny_llm.Size = SIZE


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question, what was served, and what people agreed the right answer is."""

    ask: Ask
    served: str
    right: str


@dataclass(frozen=True, slots=True)
class Told:
    """Right answers of each model, each against the one before, and how often the reward model puts the right answer of a held-out
    pair first: of all, and of the pairs that are a mistake of the SFT model's own."""

    seed: int
    questions: int
    right: dict[str, float]
    gain: dict[str, Paired]
    judge: Paired
    judge_right: float
    judge_right_of_mistakes: float
    seconds: float


def demo(place: Path, seed: int, plan: Plan) -> Told:
    """Play it all below `place`, an empty folder."""
    from tasks.policy.llm import training

    started = time.monotonic()
    company = Company(place, seed)
    params = replace(load_params(PARAMS, "llm", LlmParams), seed=seed, **TINY)
    read, corrected, own = (company.week(n, count) for n, count in enumerate((plan.read, plan.corrected, plan.own)))
    holdout = company.unseen(3, plan.holdout, [*corrected, *own])

    handbook = company.handbook()
    tiny_llm.base(place / "drawn", [a.text for a in read] + list(company.texts.values()), plan.size, seed)
    logs = [_said(a.text, handbook[a.text]) for a in read]
    titles = [_said(a.title, a.text) for a in company.approved]
    tiny_llm.pretrain(
        place / "drawn", place / "base", [*titles * 3, *logs], plan.epochs, plan.rate, params.batch, params.threads, seed
    )
    _tell(f"base: {_parameters(place / 'base'):,} parameters read {len(logs)} logged conversations", started)

    labels = company.labelled("week-1", corrected, [handbook[a.text] for a in corrected])
    _write(place / "week-1", sft=_supervised(labels))
    first = replace(params, base=str(place / "base"), methods=["sft"])
    training.train(place / "week-1", place / "sft", place / "checkpoints", first)
    _tell(f"sft: on {len(labels)} answers that people confirmed or corrected", started)

    tuned = load(place / "sft")
    labels = company.labelled("week-2", own, _answers(tuned, own))
    pairs = company.paired(labels)
    _write(place / "week-2", preference=_preferred(pairs), reward=_rewarding(pairs))
    second = replace(params, base=str(place / "sft" / "model"), methods=["reward", "dpo"])
    training.train(place / "week-2", place / "dpo", place / "checkpoints", second)
    _tell(f"reward, dpo: on {len(pairs)} pairs, {sum(x.served != x.right for x in labels)} of them mistakes of its own", started)

    bare = replace(params, base=str(place / "base"), methods=[])
    models = {"base": training.untrained(place / "untrained", bare, place), "sft": tuned, "dpo": load(place / "dpo")}
    replies = {name: _answers(model, holdout) for name, model in models.items()}
    right = {n: [r == company.texts[a.true_action] for r, a in zip(said, holdout, strict=True)] for n, said in replies.items()}
    groups = [a.question for a in holdout]
    sealed = company.paired([Labelled(a, r, company.texts[a.true_action]) for a, r in zip(holdout, replies["sft"], strict=True)])
    judged = _judged(models["dpo"], [(x.ask.text, x.right, x.served) for x in sealed])
    mistakes = [ok for ok, fine in zip(judged, right["sft"], strict=True) if not fine]
    return Told(
        seed=seed,
        questions=len(holdout),
        right={n: sum(x) / len(x) for n, x in right.items()},
        gain={n: paired(right[n], right[before], groups, LEVEL) for before, n in (("base", "sft"), ("sft", "dpo"))},
        judge=paired(judged, [not x for x in judged], groups, LEVEL),
        judge_right=sum(judged) / len(judged),
        judge_right_of_mistakes=sum(mistakes) / len(mistakes),
        seconds=time.monotonic() - started,
    )


class Company:
    """Who asks, what is right, and the people who say so."""

    def __init__(self, place: Path, seed: int):
        self.place, self.seed = place, seed
        self.world = World(seed, load_knowledge())
        self.texts = dict(self.world.knowledge.texts)
        drop(place / "catalogue.jsonl", map(compact, approved_answers(self.world.knowledge)))
        self.approved = read_records(place / "catalogue.jsonl", Approved)

    def week(self, number: int, count: int) -> list[Ask]:
        return [c.asks[0] for c in self.world.traffic(number, count)]

    def unseen(self, number: int, count: int, seen: Sequence[Ask]) -> list[Ask]:
        """Of another week, the questions that nobody asked in the same words before."""
        known = {_plain(a.text) for a in seen}
        return [a for a in self.week(number, count) if _plain(a.text) not in known]

    def handbook(self) -> Any:
        """What the assistant of the first weeks says to a question: the approved answer whose words are nearest."""
        from tasks.policy import answers
        from tasks.policy.encoder import Encoder, EncoderParams

        encoder = Encoder.fit(answers.described(self.approved), load_params(PARAMS, "encoder", EncoderParams).dimensions)
        policy = answers.base(self.approved, encoder, load_params(PARAMS, "answers", answers.AnswersParams))
        asked = [a for n in (0, 1) for a in self.week(n, 4000)]
        replies = policy.respond([_user(a.text) for a in asked], [[]] * len(asked))
        return {a.text: r[0].text for a, r in zip(asked, replies, strict=True)}

    def labelled(self, batch: str, asked: Sequence[Ask], served: Sequence[str]) -> list[Labelled]:
        """A batch goes out, the annotators answer it by files, and what two of three agree on is a label."""
        outbox, inbox = self.place / "outbox" / batch, self.place / "answers" / batch
        names = [f"{batch}-{k:05d}" for k in range(len(asked))]
        drop(outbox / "catalogue.jsonl", map(compact, approved_answers(self.world.knowledge)))
        same = {"batch_id": batch, "kind": "answer", "contexts": [], "wanted": PEOPLE, "guideline": "answer-1", "role": "annotator"}
        asks = [
            same | {"candidate_id": name, "content_hash": name, "response": said, "answered_by": []}
            for name, said in zip(names, served, strict=True)
        ]
        drop(outbox / "batch.jsonl", map(compact, asks))
        answer_batch(outbox, inbox, {n: a.true_action for n, a in zip(names, asked, strict=True)}, self.seed)
        votes: dict[str, Counter[str]] = {name: Counter() for name in names}
        for file in sorted(inbox.glob("*.jsonl")):
            for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
                votes[row["candidate_id"]][row["value"].get("correction", "")] += 1
        found = []
        for name, ask, said in zip(names, asked, served, strict=True):
            (answer, times), *_ = votes[name].most_common(1)
            if times >= AGREE:
                found.append(Labelled(ask, said, self.texts[answer] if answer else said))
        return found


    def paired(self, labels: Sequence[Labelled]) -> list[Labelled]:
        """As the build stage does it: a correction stands against what was served, a confirmed answer against the approved one
        that was retrieved beside it."""
        documents = Retrieval(self.world.knowledge).documents([x.ask.text for x in labels])
        beside = [next(d["text"] for d in found if d["text"] != x.right) for x, found in zip(labels, documents, strict=True)]
        return [x if x.served != x.right else replace(x, served=b) for x, b in zip(labels, beside, strict=True)]


def _answers(policy: Policy, asked: Sequence[Ask]) -> list[str]:
    return [replies[0].text for replies in policy.respond([_user(a.text) for a in asked], [[]] * len(asked))]


def _judged(policy: Any, rows: Sequence[tuple[str, str, str]]) -> list[bool]:
    """Whether the reward model puts the right answer over the wrong one."""
    asked = [_user(q) for q, _, _ in rows]
    right, wrong = (policy.judge.score(asked, [row[k] for row in rows]) for k in (1, 2))
    return [a > b for a, b in zip(right, wrong, strict=True)]


def _supervised(labels: Sequence[Labelled]) -> Iterator[Any]:
    for k, x in enumerate(labels):
        yield _example("sft", k, x, messages=_said(x.ask.text, x.right), tools="[]", action="")


def _preferred(pairs: Sequence[Labelled]) -> Iterator[Any]:
    for k, x in enumerate(pairs):
        yield _example(
            "preference", k, x, prompt=_user(x.ask.text), contexts=[], chosen=_assistant(x.right), rejected=_assistant(x.served),
            tools="[]", chosen_action="", rejected_action="",
        )  # fmt: skip


def _rewarding(pairs: Sequence[Labelled]) -> Iterator[Any]:
    for k, x in enumerate(pairs):
        yield _example("reward", k, x, chosen=_said(x.ask.text, x.right), rejected=_said(x.ask.text, x.served), margin=1.0)


def _example(table: str, k: int, x: Labelled, **own: Any) -> Any:
    nested = {name: canonical(v).decode() if isinstance(v, list) else v for name, v in own.items()}
    return TABLES[table].row(
        example_id=example_id(table, str(k)), interaction_id=f"in_{k}", beside="", group_id=x.ask.question, arrived=k,
        origin="correction" if x.served != x.right else "confirmed", author="approved", weight=1.0, copies=1, topic="",
        language="en", guideline="answer-1", **nested,
    )  # fmt: skip


def _write(dataset: Path, **tables: Iterator[Any]) -> None:
    for name, rows in tables.items():
        table = TABLES[name]
        parquet, lines = (dataset / form / "train" / name for form in ("parquet", "jsonl"))
        shards.write_rows(parquet, table.row, rows, lines, table.trains)


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _said(asked: str, answered: str) -> list[dict[str, str]]:
    return _user(asked) + _assistant(answered)


def _plain(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _parameters(folder: Path) -> int:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as file:
        return sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118 - no dict


def _tell(text: str, started: float) -> None:
    print(f"[{time.monotonic() - started:4.0f} s] {text}", file=sys.stderr, flush=True)


def shown(told: Told) -> str:
    lines = [f"{told.questions} held-out questions, seed {told.seed}"]
    lines.append("model   right   against the one before, by question (95%)   fixed  broken")
    lines.append(f"base   {told.right['base']:6.1%}")
    for name, g in told.gain.items():
        lines.append(
            f"{name:<6} {told.right[name]:6.1%}   {g.difference:+6.1%} ({g.low:+.1%} to {g.high:+.1%})"
            f"{'' if g.low > 0 else ' no gain'}  {g.fixed:>24}  {g.broken:>6}"
        )
    # Questions with more hits less those with more misses, halved: what lies over a coin.
    share, low, high = (0.5 + x / 2 for x in (told.judge.difference, told.judge.low, told.judge.high))
    lines.append(
        f"reward model: right on {share:.1%} of the held-out questions ({low:.1%} to {high:.1%}; a coin 50%): on"
        f" {told.judge_right:.1%} of all pairs, {told.judge_right_of_mistakes:.1%} of those that are the model's own mistakes"
    )
    return "\n".join([*lines, f"{told.seconds:.0f} s"])


def main(argv: list[str] | None = None) -> int:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m demo.llm", description=__doc__, formatter_class=plain)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one document instead of the table")
    parser.add_argument("--keep", type=Path, help="an empty folder for the models and datasets (default: a temporary one)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        told = demo(arguments.keep or Path(scratch), arguments.seed, Plan())
    print(json.dumps(asdict(told), indent=1) if arguments.json else shown(told))
    return 0 if all(g.low > 0 for g in told.gain.values()) and told.judge.low > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
