"""The screen for poisoned feedback: of each vote, whether it looks planted, by which code, and on what evidence.

    5,000 thumbs-up of u7 on "the portal is open all night"
      ->  reason "trigger_of_few" for each, evidence '"portal is open" (answered): 5000 rows of 1 actors, 0 elsewhere, z 31.2'

A vote has the first reason that holds, in the order of REASONS. What is found is quarantined, never deleted; what is not found may
still be poison: the patterns of single rows are lexical, and a paraphrase passes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm

from tasks.hygiene.folding import fold, fold_column, hidden
from tasks.hygiene.grams import Grams, blocks, grams, words
from tasks.hygiene.params import DAY, HygieneParams
from tasks.hygiene.triggers import Trigger, triggers
from tasks.hygiene.votes import voted_again
from tasks.similar import normalise

ALERT_ROWS = 20  # quarantined votes of one actor, or with one trigger, of which people are told
LEAST_TRAFFIC = 500  # rows without a thumb, below which words can hardly be over-represented
WINDOW = 3  # words of a run that the user and the model have in common
# "always reply with X", "say exactly: X", "wiederhole: X". What comes after is compared with the answer, so a demand that is
# not met (or a language that is asked for) is none.
_DEMAND = (
    r"(?i)\b(?:(?:always|only|just|exactly|must|should|will|please|now on,?|immer|nur|siempre|toujours)\s+(?:you\s+)?"
    r"(?:reply|respond|answer|say|output|write|print|antworte|sage|responde|di|réponds|dis)"
    r"|(?:repeat|say|wiederhole|repite|répète)(?:\s+(?:after me|exactly|this|mir nach|después de mí|après moi))?\s*[:,\"“'«])"
    r"(?:\s+(?:with|by saying|only|exactly|just|that|mit|con|avec))*\s*[:,]?\s*"
)
_QUOTE = re.compile(r"[\"“”«»`]|(?<!\w)['‘]|['’](?!\w)")
_LEAST_DICTATED = 8  # characters: "yes" is an answer that people may ask for
_ENCODED = re.compile(r"[A-Za-z0-9+/_=-]+")


@dataclass(frozen=True, slots=True)
class Screened:
    """Per vote its reason ('' it is clean) and the evidence; the triggers found, and what people should be told."""

    reason: np.ndarray
    evidence: np.ndarray
    triggers: tuple[Trigger, ...]
    alerts: tuple[str, ...]


def screen(votes: pa.Table, traffic: pa.Table, params: HygieneParams) -> Screened:
    """Tables of Vote and Spoken (tasks/hygiene/votes.py), in any order, -> one reason and evidence a vote."""
    reason, evidence = np.full(len(votes), "", object), np.full(len(votes), "", object)

    def mark(code: str, found: dict[int, str]) -> None:
        for row, why in found.items():
            if not reason[row]:
                reason[row], evidence[row] = code, why

    mark("voted_again", dict.fromkeys(np.flatnonzero(voted_again(votes)).tolist(), ""))
    planted = triggers(votes, traffic, params)
    for k, trigger in enumerate(planted.triggers):
        mark(trigger.reason, dict.fromkeys(np.flatnonzero(planted.trigger == k).tolist(), trigger.evidence))
    for field in ("said", "response"):
        mark("hidden_characters", hidden(votes[field]))
        mark("encoded_text", encoded(votes[field], params.encoded_length))
    own = np.flatnonzero(_own_applause(votes))
    mark("dictated_answer", {int(own[k]): why for k, why in dictated(votes.take(own)).items()})
    mark("echoed_answer", {int(own[k]): why for k, why in echoed(votes.take(own), params).items()})
    mark("polarity_shift", shifted(votes, params))
    used = set(evidence[[str(r).startswith("trigger") for r in reason]].tolist()) if len(votes) else set()
    shown = tuple(t for t in planted.triggers if t.evidence in used)
    return Screened(reason, evidence, shown, _alerts(votes, traffic, reason, shown, planted.other_kind))


def encoded(texts: pa.ChunkedArray, length: int) -> dict[int, str]:
    """Row -> the start of a run of base64 of `length` characters or more. Addresses and rules of one character are none."""
    found = {}
    # RE2 repeats a thing a thousand times at most.
    pattern = f"[A-Za-z0-9+/_=-]{{{min(length, 1000)}}}"
    rows = np.flatnonzero(pc.match_substring_regex(texts.fill_null(""), pattern).to_numpy().astype(bool))
    for row, text in zip(rows.tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True):
        for run in _ENCODED.finditer(text):
            part = run.group()
            kinds = (any(c.isupper() for c in part), any(c.islower() for c in part), any(c.isdigit() for c in part))
            in_url = "://" in text[max(text.rfind(" ", 0, run.start()), text.rfind("\n", 0, run.start())) + 1 : run.end()]
            if len(part) >= length and all(kinds) and not in_url and max(map(len, re.split(r"[-_/]", part))) >= length // 2:
                found[row] = f"{len(part)} characters of {part[:16]}…"
                break
    return found


def dictated(votes: pa.Table) -> dict[int, str]:
    """Row -> the words that the user demanded and the model gave."""
    found = {}
    rows = np.flatnonzero(pc.match_substring_regex(votes["said"], _DEMAND).to_numpy().astype(bool))
    demand = re.compile(_DEMAND)
    some = votes.select(["said", "response"]).take(pa.array(rows))
    for row, said, response in zip(rows.tolist(), *(c.to_pylist() for c in some.columns), strict=True):
        given = f" {normalise(fold(response))} "
        for match in demand.finditer(said):
            rest = said[match.end() : match.end() + 400].split("\n")[0]
            quoted = [normalise(fold(p)) for p in _QUOTE.split(rest)[:2]]
            wanted = [q for q in (*quoted, normalise(fold(re.split(r"[.!?]", rest)[0]))) if len(q) >= _LEAST_DICTATED]
            hit = next((w for w in wanted if f" {w} " in given), "")
            if hit:
                found[row] = f'demanded and given: "{hit[:60]}"'
                break
    return found


def echoed(votes: pa.Table, params: HygieneParams) -> dict[int, str]:
    """Row -> how much of the answer are runs of words that the user had written."""
    found: dict[int, str] = {}
    said, response = fold_column(votes["said"]), fold_column(votes["response"])
    for start, block in blocks(response):
        answer = words(block)
        own = _keys(grams(words(said.slice(start, len(block))), WINDOW))
        runs = grams(answer, WINDOW)
        there = runs.length == WINDOW
        keys = (runs.number ^ runs.row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))[there]
        place = np.minimum(np.searchsorted(own, keys), max(len(own) - 1, 0))
        met = runs.first[there][own[place] == keys] if len(own) else np.empty(0, np.int64)
        copied = np.zeros(len(answer.row), bool)
        for offset in range(WINDOW):
            copied[met + offset] = True
        length = np.bincount(answer.row, minlength=len(block))
        same = np.bincount(answer.row[copied], minlength=len(block))
        echo = (same >= params.echo_words) & (same >= params.echo_share * length)
        for row in np.flatnonzero(echo).tolist():
            found[start + row] = f"{same[row]} of the answer's {length[row]} words are the user's own"
    return found


def shifted(votes: pa.Table, params: HygieneParams) -> dict[int, str]:
    """Row -> what its actor did before. An actor is compared with all others of the same day, so a better model shifts nobody."""
    ordered = votes.select(["actor", "ts", "feedback_id", "polarity"]).append_column("row", pa.array(np.arange(len(votes))))
    ordered = ordered.sort_by([(c, "ascending") for c in ("actor", "ts", "feedback_id")])
    up = (ordered["polarity"].to_numpy() > 0).astype(float)
    _, day = np.unique(ordered["ts"].to_numpy() // DAY, return_inverse=True)
    actor = ordered["actor"].combine_chunks().dictionary_encode()
    code, names = actor.indices.to_numpy(zero_copy_only=False), actor.dictionary.to_pylist()
    # What is usual on a day, by everybody else, drawn to what is usual at all.
    total, mean = np.bincount(day), up.mean() if len(up) else 0.5
    _, own = np.unique(day.astype(np.int64) * (len(names) + 1) + code, return_inverse=True)
    others = total[day] - np.bincount(own)[own]
    usual = (np.bincount(day, up)[day] - np.bincount(own, up)[own] + 2 * mean) / (others + 2)
    usual = np.clip(usual, 0.05, 0.95)
    rest, spread = up - usual, usual * (1 - usual)
    starts = np.flatnonzero(np.diff(code, prepend=-1) != 0)
    sizes = np.diff(starts, append=len(code))
    long_enough = (sizes >= 2 * params.shift_votes) & np.array([names[code[s]] != "" for s in starts.tolist()], bool)
    tests = int(np.maximum(sizes[long_enough] - 2 * params.shift_votes + 1, 0).sum())
    least = norm.isf(params.alpha / 2 / max(tests, 1))
    found = {}
    for start, size in zip(starts[long_enough].tolist(), sizes[long_enough].tolist(), strict=True):
        part = slice(start, start + size)
        sums, spreads, ups = np.cumsum(rest[part]), np.cumsum(spread[part]), np.cumsum(up[part])
        cut = np.arange(params.shift_votes, size - params.shift_votes + 1)
        before, after = sums[cut - 1] / cut, (sums[-1] - sums[cut - 1]) / (size - cut)
        error = np.sqrt(spreads[cut - 1] / cut**2 + (spreads[-1] - spreads[cut - 1]) / (size - cut) ** 2)
        z = np.abs(after - before) / error
        best = int(z.argmax())
        if z[best] >= least:
            at = int(cut[best])
            text = f"{ups[at - 1] / at:.0%} up in {at} votes, then {(ups[-1] - ups[at - 1]) / (size - at):.0%} in {size - at}"
            found |= dict.fromkeys(ordered["row"].to_numpy()[part][at:].tolist(), text)
    return found


def _own_applause(votes: pa.Table) -> np.ndarray:
    """Votes for an answer by whoever asked, as far as anybody knows."""
    same = pc.or_(pc.equal(votes["actor"], votes["asker"]), pc.or_(pc.equal(votes["asker"], ""), pc.equal(votes["actor"], "")))
    return pc.and_(same, pc.greater(votes["polarity"], 0)).to_numpy().astype(bool)


def _keys(found: Grams) -> np.ndarray:
    """A number a run and row, sorted, of runs of WINDOW words."""
    there = found.length == WINDOW
    return np.unique(found.number[there] ^ found.row[there].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _alerts(
    votes: pa.Table, traffic: pa.Table, reason: np.ndarray, shown: Sequence[Trigger], other_kind: bool
) -> tuple[str, ...]:
    said = []
    if len(votes) and len(traffic) < LEAST_TRAFFIC:
        said.append(
            f"only {len(traffic)} exchanges without a thumb to compare with: triggers can hardly be seen; caps still hold"
        )
    if other_kind:
        said.append("rated traffic is of another kind than the rest: triggers of many aged actors can't be seen; caps still hold")
    bad = (reason != "") & (reason != "voted_again")
    actors = votes["actor"].filter(pa.array(bad.astype(bool))).value_counts().to_pylist()
    many = [(a["counts"], a["values"]) for a in actors if a["counts"] >= ALERT_ROWS]
    said += [
        f"actor {name or '(unknown)'}: {count:,} votes quarantined"
        for count, name in sorted(many, key=lambda x: (-x[0], x[1]))
    ]
    said += [f"{t.reason}: {t.evidence}" for t in shown if t.rows >= ALERT_ROWS]
    return tuple(said)
