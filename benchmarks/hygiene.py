"""Hygiene: planted feedback found and clean feedback lost, disguised doubles, label noise, and the cost of a million rows.

    python -m benchmarks.hygiene [--seeds 5] [--rows 1000000] [--only attacks,real,doubles,noise,cost] [--json]

Attacks are planted in simulated votes (benchmarks/planted_votes.py); beside them stands what the caps alone leave. Real texts are
read from ../shared/data where it is.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.cost import Memory
from benchmarks.planted_votes import NOON, Row, World, row, table
from tasks.collapse import collapse
from tasks.hygiene import balance, noise, pairs
from tasks.hygiene.caps import cap_votes
from tasks.hygiene.dedup import claims, dedup
from tasks.hygiene.folding import LOOKALIKES
from tasks.hygiene.params import DAY, HygieneParams
from tasks.hygiene.poison import screen
from tasks.hygiene.votes import Spoken, Vote
from tasks.params import load
from tasks.records import arrow_schema
from tests.imports import ROOT

SHARED = ROOT.parent / "shared" / "data"
PARAMS = load(ROOT / "params.yaml", "hygiene", HygieneParams)
ATTACKS: dict[str, Callable[[World], list[Row]]] = {
    "none": lambda w: [],
    "33: 5,000 thumbs of one actor": lambda w: w.flood(),
    "34: 200 new actors x 3": lambda w: w.sybils(),
    "34: the same, aged, within a day": lambda w: w.sybils(aged=True, span=DAY),
    "34: the same, aged, over four weeks": lambda w: w.sybils(aged=True),
    "34: 600 aged actors x 1, over four weeks": lambda w: w.sybils(600, 1, aged=True),
    "35: 100 backdoor rows of 1 actor": lambda w: w.backdoor(),
    "35: … of 5": lambda w: w.backdoor(actors=5),
    "35: … of 100": lambda w: w.backdoor(actors=100),
    "50 backdoor rows of 50": lambda w: w.backdoor(50, 50),
    "20 backdoor rows of 20": lambda w: w.backdoor(20, 20),
}


def attacks(seeds: int) -> list[dict[str, object]]:
    """Per attack, over the seeds: the share quarantined, planted rows that are left by caps alone and by both, clean lost."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ATTACKS}
    for seed in range(seeds):
        world = World(seed)
        clean, traffic = world.clean(), world.traffic()
        n = len(clean)
        for name, plant in ATTACKS.items():
            votes = table([*clean, *(planted := plant(world))])
            said = claims(votes["response"], votes["polarity"].to_numpy(), PARAMS.near_duplicate)
            reason = screen(votes, traffic, PARAMS).reason
            alone = cap_votes(votes, said, np.ones(len(votes), bool), PARAMS).reason == ""
            both = (reason == "") & (cap_votes(votes, said, reason == "", PARAMS).reason == "")
            caught = float((reason[n:] != "").mean()) if planted else 0.0
            found[name].append((caught, alone[n:].sum(), both[n:].sum(), float((reason[:n] != "").mean())))
    rows = []
    for name, values in found.items():
        caught, alone, both, lost = (list(v) for v in zip(*values, strict=True))
        rows.append({"attack": name, "caught": f"{min(caught):.1%} to {max(caught):.1%}", "left by caps alone": span(alone),
                     "left by both": span(both), "clean lost": f"{max(lost):.2%}"})  # fmt: skip
    return rows


def span(values: list[float]) -> str:
    return f"{min(values)} to {max(values)}"


def real() -> list[dict[str, object]]:
    """The share of real rows that the screen takes, by reason: users' own (convai2), and texts with users by chance."""
    rated, others = convai()
    rows = [{"rows of": "convai2 (its own users)", "votes": len(rated), **lost(rated, others)}]
    texts = general()
    for seed in range(3):
        draws = np.random.default_rng(seed)
        order = draws.permutation(len(texts)).tolist()
        votes = [
            row(str(k), f"u{draws.integers(0, 200) ** 2 // 200}", *texts[k], NOON + int(draws.integers(0, 28 * DAY)), 60, 1)
            for k in order[::2]
        ]
        rest = [spoken(str(k), "", *texts[k]) for k in order[1::2]]
        rows.append({"rows of": f"KTO, DPO, HaluEval (users by chance, seed {seed})", "votes": len(votes), **lost(votes, rest)})
    return rows


def lost(votes: list[Row], others: list[Row]) -> dict[str, object]:
    reason = screen(table(votes), pa.Table.from_pylist(others, arrow_schema(Spoken)), PARAMS).reason
    names, counts = np.unique(reason[reason != ""].astype(str), return_counts=True)
    said = ", ".join(f"{n} {c}" for n, c in zip(names.tolist(), counts.tolist(), strict=True))
    return {"lost": f"{(reason != '').mean():.2%}", "by": said or "-"}


def convai() -> tuple[list[Row], list[Row]]:
    votes, others, first = [], [], {}
    for talk in unzipped("convai2/data__data_intermediate.json.gz"):
        people = [talk[k] for k in ("participant1_id", "participant2_id")]
        user = next((p["user_id"] for p in people if p["class"] == "User"), "")
        ts = int(datetime.fromisoformat(talk["start_time"]).timestamp() * 1e6)
        said = ""
        for turn in talk["dialog"]:
            if turn["sender_class"] == "Human":
                said = turn["text"]
            elif turn["evaluation_score"] is None:
                others.append(spoken(str(len(others)), user, said, turn["text"]))
            else:
                up = 1 if int(turn["evaluation_score"]) else -1
                votes.append(row(str(len(votes)), user, said, turn["text"], ts + turn["id"], 0, up))
    for vote in sorted(votes, key=lambda v: v["ts"]):
        vote["user_since"] = first.setdefault(vote["actor"], vote["ts"])
    return votes, others


def general() -> list[tuple[str, str]]:
    found = []
    for chat in unzipped("llamafactory/data__kto_en_demo.json.gz"):
        said = "\n".join(m["content"] for m in chat["messages"] if m["role"] == "user")
        found.append((said, chat["messages"][-1]["content"]))
    for pair in unzipped("llamafactory/data__dpo_en_demo.json.gz"):
        said = "\n".join(m["value"] for m in pair["conversations"] if m["from"] == "human")
        found += [(said, pair["chosen"]["value"]), (said, pair["rejected"]["value"])]
    lines = gzip.decompress((SHARED / "halueval/halueval_general.jsonl.gz").read_bytes()).splitlines()
    return found + [(d["user_query"], d["chatgpt_response"]) for d in map(json.loads, lines)]


def unzipped(name: str) -> list[dict]:
    return json.loads(gzip.decompress((SHARED / name).read_bytes()))


def spoken(name: str, user: str, said: str, response: str) -> Row:
    return {"interaction_id": f"o{name}", "user": user, "said": said, "response": response}


def doubles(seed: int) -> list[dict[str, object]]:
    """Of disguised copies of real questions, the share that stands under its original: by what is read, and by what is stored."""
    draws = np.random.default_rng(seed)
    texts = sorted({t for t, _ in clinc()})
    texts = [texts[k] for k in draws.permutation(len(texts))[:2_000]]
    single = {p: [c for c in letters if c.lower() == c] for p, letters in LOOKALIKES.items()}

    def look_alike(text: str) -> str:
        return "".join(str(draws.choice(single[c])) if single.get(c) and draws.random() < 0.4 else c for c in text)

    disguises: dict[str, Callable[[str], str]] = {
        "zero-width": lambda t: "".join(c + "\u200b\u200d\u2060"[draws.integers(0, 3)] for c in t),
        "bidirectional": lambda t: "\u202e" + t.replace(" ", " \u2066") + "\u202c",
        "homoglyphs": look_alike,
        "full width": lambda t: "".join(chr(ord(c) + 0xFEE0) if c.isalnum() and c.isascii() else c for c in t),
        "all of these": lambda t: "\u202d" + "".join(c + "\u200b" for c in look_alike(t)),
    }
    rows = []
    for name, disguise in disguises.items():
        both = [*texts, *map(disguise, texts)]
        alone = collapse([lambda both=both: both], PARAMS.near_duplicate)
        folded = dedup(both, PARAMS.near_duplicate).keeper
        n = len(texts)
        rows.append({"disguise": name, "collapse alone": f"{(alone[n:] == alone[:n]).mean():.1%}",
                     "hygiene": f"{(folded[n:] == folded[:n]).mean():.1%}"})  # fmt: skip
    return rows


def clinc() -> list[tuple[str, str]]:
    document = unzipped("clinc150/data__data_full.json.gz")
    return [(t, label) for part in ("train", "val", "test") for t, label in document[part]]


def flipped(seed: int) -> list[dict[str, object]]:
    """Planted label noise in clinc150 (150 intents): precision and recall of flags; beside them every disagreement out of fold."""
    draws = np.random.default_rng(seed)
    rows, found = clinc(), []
    names = sorted({label for _, label in rows})
    texts, groups = [t for t, _ in rows], [f"g{k}" for k in range(len(rows))]
    for share in (0.0, 0.05, 0.1, 0.2):
        flip = draws.random(len(rows)) < share
        labels = [
            names[(names.index(label) + int(draws.integers(1, len(names)))) % len(names)] if f else label
            for (_, label), f in zip(rows, flip, strict=True)
        ]
        for who, cells in (("linear", noise.CELLS), ("naive Bayes", 0)):
            start = time.process_time()
            made = noise.noise(texts, labels, groups, PARAMS, cells)
            cpu = time.process_time() - start
            other = made.suggested != np.asarray(labels, object)
            line: dict[str, object] = {"flipped": f"{share:.0%}", "classifier": who, "flagged": f"{made.share:.1%}"}
            line |= quality(made.flagged, flip, "") | quality(other, flip, "any disagreement: ")
            found.append(line | {"CPU s": round(cpu, 1)})
    return found


def quality(flagged: np.ndarray, true: np.ndarray, name: str) -> dict[str, object]:
    hit = (flagged & true).sum()
    if not true.any():
        return {f"{name}precision": "-", f"{name}recall": "-"}
    return {f"{name}precision": f"{hit / max(flagged.sum(), 1):.3f}", f"{name}recall": f"{hit / true.sum():.3f}"}


def cost(rows: int, seed: int) -> list[dict[str, object]]:
    """CPU seconds and peak memory (of the process, the rows within it) of each step on so many rows."""
    draws = np.random.default_rng(seed)
    said, response = texts_of(draws, rows, 12), texts_of(draws, rows, 40)
    ids = pa.array([f"fb_{k:08d}" for k in range(rows)])
    ts = pa.array(NOON + draws.integers(0, 28 * DAY, rows))
    actor = pa.array([f"u{a}" for a in (rows * draws.random(rows) ** 2 / 5).astype(int).tolist()])
    empty = pa.array([""] * rows)
    votes = pa.table(
        [ids, ids, ts, actor, actor, empty, pa.array(draws.choice([1, 1, -1], rows)), ts, pa.array(np.full(rows, NOON - 60 * DAY)),
         ids, said, response], schema=arrow_schema(Vote),
    )  # fmt: skip
    traffic = pa.table([ids, empty, texts_of(draws, rows, 12), texts_of(draws, rows, 40)], schema=arrow_schema(Spoken))
    names, ordered = ids.to_pylist(), np.arange(rows)
    labels = [f"l{k}" for k in draws.integers(0, 50, rows).tolist()]
    topics = {"topic": pa.array([f"t{k}" for k in (40 * draws.random(rows) ** 3).astype(int).tolist()]), "language": empty}
    said_by = claims(votes["response"].slice(0, 10), np.ones(min(rows, 10)), PARAMS.near_duplicate)  # imports and caches
    found = []

    def timed(step: str, run: Callable[[], object]) -> object:
        with Memory() as memory:
            began, start = time.time(), time.process_time()
            made = run()
            cpu = time.process_time() - start
            found.append({"step": step, "rows": rows, "CPU s": round(cpu, 1), "peak MiB": memory.peak_mib(began, time.time())})
        return made

    timed("screen of votes against as much other traffic", lambda: screen(votes, traffic, PARAMS))
    said_by = timed("claims (near-duplicate answers)", lambda: claims(votes["response"], ordered, PARAMS.near_duplicate))
    timed("caps", lambda: cap_votes(votes, said_by, np.ones(rows, bool), PARAMS))
    timed("doubles of questions", lambda: dedup(votes["said"], PARAMS.near_duplicate, within=np.asarray(labels)))
    timed("balance by two columns", lambda: balance.balance(topics, names, PARAMS))
    timed("audit of pairs (100,000 of them)", lambda: pairs.audit(votes["said"], votes["response"], votes["said"], names, PARAMS))
    timed("label noise, 50 labels", lambda: noise.noise(said, labels, names, PARAMS))
    return found


def texts_of(draws: np.random.Generator, rows: int, length: int) -> pa.Array:
    """Texts of words of a Zipf distribution."""
    words = pa.array([f"word{k}" for k in range(50_000)])
    which = np.minimum((50_000 ** draws.random(rows * length)).astype(np.int32), 49_999)
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * length), words.take(pa.array(which)))
    return pc.binary_join(lists, " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", default="attacks,real,doubles,noise,cost")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    options = parser.parse_args()
    parts: dict[str, Callable[[], list[dict[str, object]]]] = {
        "attacks": lambda: attacks(options.seeds),
        "real": real,
        "doubles": lambda: doubles(options.seed),
        "noise": lambda: flipped(options.seed),
        "cost": lambda: cost(options.rows, options.seed),
    }
    document = {}
    for name in options.only.split(","):
        if name in ("real", "doubles", "noise") and not Path(SHARED).is_dir():
            continue
        document[name] = parts[name]()
        if not options.json:
            columns = list(document[name][0])
            print(f"\n{name}\n\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
            for line in document[name]:
                print("| " + " | ".join(str(line[c]) for c in columns) + " |", flush=True)
    if options.json:
        print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
