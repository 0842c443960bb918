"""Which training methods a dataset supports, and what is missing for the others.

    advise({"sft": Held(rows=812, …), "preference": Held(rows=60, …), …}, params)
    ->  SFT: ready (812 rows, 100 needed) · DPO: 140 more preference pairs (60 of 200) · KTO: no answer that people called bad · …

The thresholds are params.yaml's (`advise`); where each comes from stands in docs/training.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from tasks import shards
from tasks.errors import INVALID, Refused
from tasks.examples import TABLES, TRAIN

BYTES_PER_TOKEN = 4  # about, as tasks/validation counts them
# Of each table: the columns that make up an example's text, what tells that two rows ask the same, and what a row teaches.
TEXTS = {
    "sft": (("messages",), "messages", "action"),
    "preference": (("prompt", "chosen", "rejected"), "prompt", "chosen_action"),
    "unpaired": (("prompt", "completion"), "prompt", "label"),
    "reward": (("chosen", "rejected"), "chosen", ""),
    "prompts": (("prompt",), "prompt", ""),
}
GOOD, BAD = "true", "false"


@dataclass(frozen=True, slots=True)
class AdviseParams:
    """Rows that a method needs (`kto_each`: of good and of bad answers; `prompts`: with something to check answers by); from
    `kto_ratio` good to one bad answer, or the reverse, KTO's weights no longer mend it. Warned of: examples above `max_tokens`,
    more than `max_share` of the rows teaching one answer, more than `max_repeated` of them asking what another asks too."""

    sft: int
    preference: int
    reward: int
    kto_each: int
    kto_ratio: float
    prompts: int
    best_of_n: int
    max_tokens: int
    max_share: float
    max_repeated: float


@dataclass(frozen=True, slots=True)
class Held:
    """What a table holds. `repeated` rows ask what an earlier one asks, `long` ones are above the limit; `teaches` counts rows by
    what they teach ('' nothing named); `checked` rows have something to check an answer by (prompts only)."""

    rows: int = 0
    repeated: int = 0
    long: int = 0
    checked: int = 0
    teaches: tuple[tuple[str, int], ...] = ()

    def of(self, what: str) -> int:
        return dict(self.teaches).get(what, 0)


@dataclass(frozen=True, slots=True)
class Advice:
    """One method: whether the data supports it, how much there is of what it needs, what is missing, and what to beware of."""

    method: str
    name: str
    ready: bool
    have: int
    need: int
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        said = f"ready ({self.have:,} rows, {self.need:,} needed)" if self.ready else "; ".join(self.missing)
        return f"{self.name}: {said}"


def read(dataset: Path, params: AdviseParams) -> dict[str, Held]:
    """What a dataset folder holds, shard by shard. Raises Refused where it has no tables."""
    return {name: _held(dataset / "parquet" / TRAIN / name, name, params.max_tokens) for name in TEXTS}


def advise(held: Mapping[str, Held], params: AdviseParams) -> list[Advice]:
    """Every method, from the one that asks least of the data."""
    sft, pairs, rewards = held["sft"], held["preference"], held["reward"]
    reward = _simple("reward", "reward model", rewards, params.reward, "pair{s} of which one answer is better", params)
    return [
        _simple("sft", "SFT", sft, params.sft, "supervised row{s}", params),
        _simple("best_of_n", "best of n", pairs, params.best_of_n, "preference pair{s}", params),
        _simple("dpo", "DPO", pairs, params.preference, "preference pair{s}", params),
        _kto(held["unpaired"], params),
        reward,
        _grpo(held["prompts"], reward.ready, params),
    ]


def refuse_too_few(held: Mapping[str, Held], params: AdviseParams, methods: Collection[str]) -> None:
    """Raise Refused where the data does not support one of the methods."""
    short = [a for a in advise(held, params) if a.method in methods and not a.ready]
    if short:
        raise Refused(
            "too little data to train on: " + "; ".join(a.text for a in short),
            "collect more answers (flywheel turn), or choose a method that flywheel advise calls ready",
            INVALID,
        )


def _simple(method: str, name: str, table: Held, need: int, row: str, params: AdviseParams) -> Advice:
    missing = [_more(table.rows, need, row)] if table.rows < need else []
    return Advice(method, name, not missing, table.rows, need, tuple(missing), tuple(_warnings(table, params)))


def _kto(table: Held, params: AdviseParams) -> Advice:
    good, bad = table.of(GOOD), table.of(BAD)
    missing = [
        _more(n, params.kto_each, "answer{s} that people called " + word)
        for n, word in ((good, "good"), (bad, "bad"))
        if n < params.kto_each
    ]
    warnings = _warnings(table, params, teaches=False)
    most, least = max(good, bad), min(good, bad)
    if least and most > params.kto_ratio * least:
        warnings.append(f"{good} good and {bad} bad answers: more than {params.kto_ratio:g} to one, weights no longer mend it")
    elif least and most * 3 > least * 4:
        # TRL keeps the ratio of the weighted counts within 1:1 and 4:3, after the paper.
        word, weight = ("bad", good / bad) if good > bad else ("good", bad / good)
        warnings.append(f"{good} good and {bad} bad answers: weigh the {word} ones {weight:.1f} times")
    return Advice("kto", "KTO", not missing, table.rows, 2 * params.kto_each, tuple(missing), tuple(warnings))


def _grpo(table: Held, rewarded: bool, params: AdviseParams) -> Advice:
    have = table.rows if rewarded else table.checked
    missing = []
    if have < params.prompts:
        missing = [_more(have, params.prompts, "prompt{s}" if rewarded else "prompt{s} with checks")]
        if not rewarded and table.rows >= params.prompts:
            missing.append("or a reward model: it judges prompts that have no checks")
    return Advice("grpo", "GRPO", not missing, have, params.prompts, tuple(missing), tuple(_warnings(table, params)))


def _more(have: int, need: int, what: str) -> str:
    """`what` has an {s} where its plural has one."""
    return f"{need - have:,} more {what.format(s='' if need - have == 1 else 's')} ({have:,} of {need:,})"


def _warnings(table: Held, params: AdviseParams, teaches: bool = True) -> list[str]:
    found = []
    if table.long:
        found.append(f"{_rows(table.long)} longer than {params.max_tokens:,} tokens: trainers cut them off")
    if table.rows and table.repeated > params.max_repeated * table.rows:
        found.append(f"{_rows(table.repeated)} of {table.rows:,} ask what another row asks too")
    named = [(n, what) for what, n in table.teaches if what]
    if teaches and named:
        n, what = max(named)
        if n == table.rows > 1:
            found.append(f"all rows teach one answer ({what}): nothing can be told apart")
        elif n > params.max_share * table.rows:
            found.append(f"{n / table.rows:.0%} of the rows teach one answer ({what})")
    return found


def _rows(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"


def _held(folder: Path, name: str, max_tokens: int) -> Held:
    texts, asked, teaches = TEXTS[name]
    extra = ("checks",) if name == "prompts" else ()
    columns = list(dict.fromkeys([*texts, *([teaches] if teaches else []), *extra]))
    rows = repeated = long = checked = 0
    taught: Counter[str] = Counter()
    seen: set[int] = set()
    for file in shards.files(folder):
        shard = shards.one(file, TABLES[name].row, columns)
        rows += len(shard)
        for values in zip(*(shard[c].to_pylist() for c in texts), strict=True):
            long += sum(len(v.encode()) for v in values) > max_tokens * BYTES_PER_TOKEN
        for text in shard[asked].to_pylist():
            key = hash(_question(text) if name in ("sft", "reward") else text)
            repeated += key in seen
            seen.add(key)
        if teaches:
            taught.update(str(v).lower() if isinstance(v, bool) else v for v in shard[teaches].to_pylist())
        if extra:
            checked += sum(text != "[]" for text in shard["checks"].to_pylist())
    return Held(rows, repeated, long, checked, tuple(sorted(taught.items())))


def _question(messages: str) -> bytes:
    """A conversation without its answer."""
    return orjson.dumps(orjson.loads(messages)[:-1])
