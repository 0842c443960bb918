"""Error rates of the gate by simulation, and on pairs of real models, beside gates that are often used instead.

A prompt has a difficulty; a model is right on it or wrong, and stays so. Each look brings another challenger and 19 more prompts
(150 to 511 over 20 looks): all looks share champion and prompts, as in the loop. Truth is a model's rate over all prompts there
could be, which only the simulation knows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.gate import compared, judge, shipped
from benchmarks.rag_log import TASKS, rows_of
from tasks.gate.looks import level
from tasks.verdict import INCONCLUSIVE, PROMOTE, Look, decide

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "rag_log"
LOOKS, FIRST, LAST = 20, 150, 511
RIGHT = (0.6, 0.4)  # Beta of the chance that the champion is right on a prompt: 60% right; two equal models differ on 24%
SIMULATED = 200  # histories that go through the whole of decide(), rows and guards and slices
Gate = Callable[[np.ndarray, np.ndarray, list[bool]], bool]


def measured(histories: int) -> dict[str, Any]:
    """All rates, as shares."""
    rng = np.random.default_rng(0)
    sizes = np.linspace(FIRST, LAST, LOOKS).astype(int)
    looks = {
        f"{100 * d:+.0f}": {name: _ever(gate, d, sizes, histories, rng) for name, gate in GATES.items()} for d in (0, -0.02, -0.05)
    }
    five = np.linspace(FIRST, LAST, 5).astype(int)
    power = {f"{100 * d:+.0f}": {f"at the first look, {n} prompts": _ever(_gate, d, np.array([n]), histories, rng) for n in five}
             | {"within 5 looks, 150 to 511 prompts": _ever(_gate, d, five, histories, rng)}
             | {"within 5 looks, by the whole of decide()": _whole(d, five, rng)} for d in (0.04, 0.08)}  # fmt: skip
    others = {f"{100 * d:+.0f}": {name: _ever(gate, d, five, histories, rng) for name, gate in GATES.items()} for d in (0.04, 0.08)}
    return {"histories": histories, "promoted within 20 looks": looks, "power": power, "promoted within 5 looks": others,
            "real models": _real(rng)}  # fmt: skip


def tables(rates: dict[str, Any]) -> str:
    lines = [f"Promoted at least once within 20 looks, of {rates['histories']:,} histories (all of it is false)", ""]
    lines += ["| true difference | " + " | ".join(GATES) + " |", "|---|" + "---|" * len(GATES)]
    for difference, found in rates["promoted within 20 looks"].items():
        lines.append(f"| {difference} points | " + " | ".join(f"{found[name]:.1%}" for name in GATES) + " |")
    lines += ["", "A better challenger is promoted", "", "| true difference | when | share |", "|---|---|---|"]
    for difference, found in rates["power"].items():
        lines += [f"| {difference} points | {when} | {share:.0%} |" for when, share in found.items()]
    lines += ["", "A better challenger is promoted within 5 looks, 150 to 511 prompts", "",
              "| true difference | " + " | ".join(GATES) + " |", "|---|" + "---|" * len(GATES)]  # fmt: skip
    for difference, found in rates["promoted within 5 looks"].items():
        lines.append(f"| {difference} points | " + " | ".join(f"{found[name]:.0%}" for name in GATES) + " |")
    real = rates["real models"]
    if not real:
        return "\n".join([*lines, "", f"{DATA} is not there: real models are skipped"])
    lines += ["", f"{real['pairs']:,} pairs of {real['models']} real models; {real['judged on']} prompts decide, the other"
              f" {real['checked on']} say whether it was right", ""]  # fmt: skip
    lines += ["| gate | promoted | of these worse on the other prompts |", "|---|---|---|"]
    lines += [f"| {name} | {g['promoted']:,} | {g['worse']:,} ({g['worse'] / max(g['promoted'], 1):.1%}) |"
              for name, g in real["gates"].items()]  # fmt: skip
    return "\n".join(lines)


def _gate(new: np.ndarray, old: np.ndarray, promoted: list[bool]) -> bool:
    """The gate's test alone: guards and slices can only promote less often."""
    fixed, broken = int((new & ~old).sum()), int((old & ~new).sum())
    return fixed > broken and _p(fixed, broken) < level(promoted, shipped_alpha)


def _uncorrected(new: np.ndarray, old: np.ndarray, promoted: list[bool]) -> bool:
    fixed, broken = int((new & ~old).sum()), int((old & ~new).sum())
    return fixed > broken and _p(fixed, broken) < shipped_alpha


def _mean(new: np.ndarray, old: np.ndarray, promoted: list[bool]) -> bool:
    return bool(new.mean() > old.mean())


def _unpaired(new: np.ndarray, old: np.ndarray, promoted: list[bool]) -> bool:
    """Two proportions as if of different prompts, p < alpha."""
    pooled = (new.mean() + old.mean()) / 2
    error = np.sqrt(2 * pooled * (1 - pooled) / len(new))
    return bool(error > 0 and new.mean() > old.mean() and 2 * stats.norm.sf((new.mean() - old.mean()) / error) < shipped_alpha)


@functools.cache
def _p(fixed: int, broken: int) -> float:
    """The exact two-sided McNemar test, as in tasks/compare.py (a test holds them together)."""
    return float(min(1.0, 2 * stats.binom.cdf(min(fixed, broken), fixed + broken, 0.5))) if fixed + broken else 1.0


shipped_alpha = shipped().alpha
GATES: dict[str, Gate] = {
    "this gate": _gate, "McNemar, p < 0.05 each time": _uncorrected, "unpaired z, p < 0.05": _unpaired, "mean > 0": _mean,
}  # fmt: skip


def _ever(gate: Gate, difference: float, sizes: np.ndarray, histories: int, rng: np.random.Generator) -> float:
    """Share of histories with a promotion; a history ends with it."""
    hits = 0
    for _ in range(histories):
        hits += any(gate(new, old, [False] * k) for k, (new, old) in enumerate(_looks(difference, sizes, rng)))
    return hits / histories


def _whole(difference: float, sizes: np.ndarray, rng: np.random.Generator) -> float:
    """The same, with rows, guards and slices: prompts of 12 topics."""
    hits, params = 0, shipped()
    for _ in range(SIMULATED):
        for k, (new, old) in enumerate(_looks(difference, sizes, rng)):
            rows = [compared(f"i{i}", bool(o), bool(n), f"t{i % 12}") for i, (n, o) in enumerate(zip(new, old, strict=True))]
            before = [Look(f"s{j}", INCONCLUSIVE, 0.5, 0.01) for j in range(k)]
            if decide(rows, params, before).decision == PROMOTE:
                hits += 1
                break
    return hits / SIMULATED


def _looks(difference: float, sizes: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Challenger and champion on the prompts of each look. A difference moves the chance on every prompt, as far as it goes."""
    chance = rng.beta(*RIGHT, int(sizes[-1]))
    old = rng.random(len(chance)) < chance
    moved = _moved(chance, difference)
    for n in sizes:
        yield (rng.random(int(n)) < moved[:n]), old[:n]


def _moved(chance: np.ndarray, difference: float) -> np.ndarray:
    """Chances whose mean over all prompts there could be is `difference` higher: a share of the way to 1, or to 0."""
    mean = RIGHT[0] / sum(RIGHT)
    if difference >= 0:
        return chance + (1 - chance) * difference / (1 - mean)
    return chance * (1 + difference / mean)


def _real(rng: np.random.Generator) -> dict[str, Any] | None:
    """Every ordered pair of models that answered the same sources: half of the sources decide, the other half checks."""
    if not DATA.is_dir():
        return None
    right: dict[str, dict[str, bool]] = {}
    for row in rows_of(DATA / "rag_log_30models_2025-04.jsonl.gz"):
        right.setdefault(row["model"], {})[str(row["source_id"])] = row["verdict"] == "Consistent"
    for task in TASKS:
        for row in rows_of(DATA / f"ragtruth_{task}.jsonl.gz"):
            for r in row["responses"]:
                right.setdefault(f"{r['model']} (people)", {})[str(row["source_id"])] = not r["labels"]
    sources = sorted(set.intersection(*(set(x) for x in right.values())))
    table = {model: np.array([x[s] for s in sources]) for model, x in sorted(right.items())}
    order = rng.permutation(len(sources))
    seen, rest = order[: len(order) // 2], order[len(order) // 2 :]
    pairs = [(a, b) for a in table for b in table if a != b and a.endswith("(people)") == b.endswith("(people)")]
    gates = {**{name: g for name, g in GATES.items() if g is not _gate}, "this gate": _judged}
    found: dict[str, dict[str, int]] = {}
    for name, gate in gates.items():
        yes = [(a, b) for a, b in pairs if gate(table[a][seen], table[b][seen], [])]
        worse = sum(int(table[a][rest].sum()) < int(table[b][rest].sum()) for a, b in yes)
        found[name] = {"promoted": len(yes), "worse": worse}
    return {"pairs": len(pairs), "models": len(table), "judged on": len(seen), "checked on": len(rest), "gates": found}


def _judged(new: np.ndarray, old: np.ndarray, promoted: list[bool]) -> bool:
    rows = [compared(f"i{i}", bool(o), bool(n)) for i, (n, o) in enumerate(zip(new, old, strict=True))]
    return judge(rows).decision == PROMOTE
