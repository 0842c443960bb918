"""Words that rated traffic holds far more often than other traffic, and that few, new or suddenly many actors brought there.

    100 of 20,000 votes say "cf trigger", all by u7, and nothing else does  ->  Trigger("cf trigger", "trigger_of_few", rows=100, …)

Over-represented by the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn, 2008): its z is small for
what is rare, and for what is ordinary elsewhere too. That alone is a topic that people like to rate; who carries it makes it a
trigger. Counted are rows with a run of words, never how often a row repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binom, poisson

from tasks.hygiene.folding import fold_column
from tasks.hygiene.grams import Grams, blocks, grams, mixed, spelled, words
from tasks.hygiene.lots import coded, lot, place
from tasks.hygiene.params import HygieneParams
from tasks.hygiene.votes import actor_codes, new_votes

FIELDS = ("said", "response")
MOST_BITS = 24  # of the table of counts: 64 MB a side, whatever the number of rows
USER_ROWS, MOST_TRAFFIC = 20, 200_000  # rows of other traffic that are compared with, of one user and in all
LENIENT = 0.5  # of the thresholds, in the first look, where several runs may share a count
MOST_BINS, LEAST_BINS, BIN_ROWS = 64, 8, 10
FROM_NEW = 0.8  # of the new actors must be more than the aged ones explain, for their rows to be taken
AT_ONCE, BUSY = 0.5, 4  # of the carriers must have voted in bins that are so many times as busy with them as is even
FEW_SHARE = 0.5  # of the votes of few actors must carry it: a turn of phrase is not in every second sentence
DEVOTED, DEVOTED_VOTES = 0.8, 3  # of the carriers with so many votes, vote on nothing else
# Hardly in other traffic at all, and not by chance, even if people like to rate it so many times as much as other things …
UNSEEN_SHARE, UNSEEN_TIMES = 0.02, 3
# … but if such runs are in more votes than these and have more different words than a claim has, it is traffic of another kind.
KIND_SHARE, KIND_WORDS = 0.05, 50
SHOWN = 50


@dataclass(frozen=True, slots=True)
class Trigger:
    """A run of words in `field`: in `rows` votes of `actors` actors, `aged` of them aged, and in `elsewhere` rows of other
    traffic; `log_odds` (natural) and its `z`; the `reason` why it counts as planted."""

    text: str
    field: str
    reason: str
    rows: int
    actors: int
    aged: int
    elsewhere: int
    log_odds: float
    z: float

    @property
    def evidence(self) -> str:
        where = "asked" if self.field == "said" else "answered"
        return (
            f'"{self.text}" ({where}): {self.rows} rows of {self.actors} actors, {self.aged} of them aged, '
            f"{self.elsewhere} elsewhere, z {self.z:.1f}"
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Per vote the trigger in it that is most over-represented, a number into `triggers`, or -1. `other_kind`: so much is unseen
    elsewhere that the traffic compared with is of another kind, and a trigger of many aged actors can't be told from it."""

    trigger: np.ndarray
    triggers: tuple[Trigger, ...]
    other_kind: bool


def triggers(votes: pa.Table, traffic: pa.Table, params: HygieneParams) -> Found:
    """Tables of Vote and of Spoken (tasks/hygiene/votes.py) -> the triggers in the votes, whatever the order of rows."""
    traffic = _sample(traffic, params)
    loud, seen, row = [], [], []
    for salt, field in enumerate(FIELDS, 1):
        here = _Side(fold_column(votes[field]), salt)
        there = _Side(fold_column(traffic[field]), salt)
        some, gram, at = _loud(here, there, params)
        seen.append(gram + sum(map(len, loud)))
        row.append(at)
        loud.append(some)
    numbers = np.concatenate(loud)
    gram, at = np.concatenate(seen), np.concatenate(row)
    carried = _carriers(votes, numbers, gram, at, len(loud[0]), params)
    return _spelled(votes, numbers, gram, at, carried, len(loud[0]))


def _sample(traffic: pa.Table, params: HygieneParams) -> pa.Table:
    """Other traffic by lot: nobody can make words ordinary by saying them all day, and a part tells what the whole does."""
    drawn, user = lot(traffic["interaction_id"].to_pylist(), params.key), coded(traffic["user"])
    order = np.lexsort((drawn, user))
    keep = order[(place(user[order]) < USER_ROWS) | pc.equal(traffic["user"], "").to_numpy().astype(bool)[order]]
    return traffic.take(pa.array(keep[np.argsort(drawn[keep], kind="stable")][:MOST_TRAFFIC]))


@dataclass(frozen=True, slots=True)
class _Side:
    """Folded texts, with the number of those that have words at all."""

    texts: pa.Array
    salt: int

    def grams(self) -> Iterator[tuple[int, Grams]]:
        for start, block in blocks(self.texts):
            yield start, grams(words(block), salt=self.salt)


# Of each run that is over-represented, its number and counts; `expected` elsewhere if it were as frequent there.
_LOUD = np.dtype([("number", "u8"), ("rows", "i8"), ("elsewhere", "i8"), ("expected", "f8"), ("log_odds", "f8"), ("z", "f8")])


def _loud(here: _Side, there: _Side, params: HygieneParams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(over-represented runs as _LOUD, ordered by number; and each occurrence as a run's index and a vote's row)."""
    # As many rows of few actors the caps leave anyway, and as few any chatty user has of some phrase.
    least = (params.min_actors - 1) * params.actor_rows + 1
    size = sum(len(block) for block in (here.texts, there.texts))
    bits = int(np.clip(np.ceil(np.log2(max(size, 1) * 64)), 16, MOST_BITS))
    counts = [np.zeros(1 << bits, np.int32) for _ in range(2)]
    rows = [0, 0]
    shift = np.uint64(64 - bits)
    for k, side in enumerate((here, there)):
        for _, found in side.grams():
            np.add.at(counts[k], (found.number >> shift).view(np.int64), np.int32(1))
            rows[k] += int((np.diff(found.row[found.length == 1], prepend=-1) != 0).sum())
    worth = np.zeros(1 << bits, bool)
    for start in range(0, 1 << bits, 1 << 20):
        part = slice(start, start + (1 << 20))
        log_odds, z = odds(counts[0][part], counts[1][part], *rows, params.trigger_prior)
        worth[part] = (
            (counts[0][part] >= least)
            & (z >= LENIENT * params.trigger_z)
            & (log_odds >= LENIENT * np.log(params.trigger_times))
        )
    del counts
    numbers, at = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for start, found in here.grams():
        number, row = _distinct(found, worth[(found.number >> shift).view(np.int64)])
        numbers.append(number)
        at.append(row + start)
    gram, occurs = np.concatenate(numbers), np.concatenate(at)
    known, gram, often = np.unique(gram, return_inverse=True, return_counts=True)
    elsewhere = np.zeros(len(known), np.int64)
    for _, found in there.grams():
        number, _ = _distinct(found, worth[(found.number >> shift).view(np.int64)])
        place = np.minimum(np.searchsorted(known, number), max(len(known) - 1, 0))
        if len(known):
            elsewhere += np.bincount(place[known[place] == number], minlength=len(known))
    log_odds, z = odds(often, elsewhere, *rows, params.trigger_prior)
    keep = (often >= least) & (z >= params.trigger_z) & (log_odds >= np.log(params.trigger_times))
    made = np.zeros(int(keep.sum()), _LOUD)
    for name, values in (("number", known), ("rows", often), ("elsewhere", elsewhere), ("log_odds", log_odds), ("z", z)):
        made[name] = values[keep]
    made["expected"] = made["rows"] * (rows[1] / max(rows[0], 1))
    of_kept = keep[gram]
    return made, (np.cumsum(keep) - 1)[gram[of_kept]], occurs[of_kept]


def odds(here: np.ndarray, there: np.ndarray, rows: int, others: int, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """The log-odds ratio of each run and its z. The prior is the pooled share, worth `prior` of the smaller side's rows;
    without other traffic nothing is over-represented."""
    if not rows or not others:
        return np.zeros(len(here)), np.zeros(len(here))
    strength = prior * min(rows, others)
    share = (here + there.astype(np.float64)) / (rows + others) * strength + 1e-9

    def logit(count: np.ndarray, total: int) -> np.ndarray:
        with_it = count + share
        return np.log(with_it) - np.log(np.maximum(total + strength - with_it, 0.5))

    log_odds = logit(here, rows) - logit(there, others)
    return log_odds, log_odds / np.sqrt(1 / (here + share) + 1 / (there + share))


def _distinct(found: Grams, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number, row) of the runs that are kept, each once a row."""
    number, row = found.number[keep], found.row[keep]
    order = np.lexsort((row, number))
    number, row = number[order], row[order]
    new = np.ones(len(number), bool)
    new[1:] = (number[1:] != number[:-1]) | (row[1:] != row[:-1])
    return number[new], row[new]


@dataclass(frozen=True, slots=True)
class _Carried:
    """Per loud run: its carriers, and the reason why it is planted ('' it is not). `taken`: of each occurrence, whether its
    row goes with the run."""

    actors: np.ndarray
    aged: np.ndarray
    reason: np.ndarray
    taken: np.ndarray
    other_kind: bool


def _carriers(
    votes: pa.Table, loud: np.ndarray, gram: np.ndarray, row: np.ndarray, said: int, params: HygieneParams
) -> _Carried:
    """`loud` has the runs of `said` first, so many."""
    runs = len(loud)
    actor = actor_codes(votes["actor"])
    new = new_votes(votes, params)
    pair, carrier, first = _pairs(gram, actor[row], new[row])
    actors = np.bincount(pair, minlength=runs)
    fresh = np.bincount(pair[first], minlength=runs)
    aged = actors - fresh
    few = actors < params.min_actors
    # How many votes a carrier gave, and how many of them carry the run.
    every = np.bincount(actor + 1)[carrier + 1]
    with_it = np.unique(gram * (len(actor) + 1) + actor[row] + 1, return_counts=True)[1]
    theirs = np.bincount(pair, every, minlength=runs)
    bought = few & (np.bincount(gram, minlength=runs) >= FEW_SHARE * theirs)

    # Who is usual is told by the votes without any loud run: a flood must not make floods usual.
    quiet = np.ones(len(actor), bool)
    quiet[row] = False
    if quiet.sum() < 100:
        quiet[:] = True
    everyone, _, usual = _pairs(np.zeros(int(quiet.sum()), np.int64), actor[quiet], new[quiet])
    share = (usual.sum() + 1) / (len(everyone) + 2)
    tests = max(runs, 1)
    flooded = ~few & (binom.sf(fresh - 1, actors, share) < params.alpha / tests)
    flooded &= fresh - aged * share / (1 - share) >= FROM_NEW * fresh

    often = every >= DEVOTED_VOTES
    busy = np.bincount(pair[often], minlength=runs)
    devoted = np.bincount(pair[often & (with_it == every)], minlength=runs)
    devoted = (busy >= params.min_actors) & (devoted >= DEVOTED * busy) & ~few & ~flooded

    unseen = ~few & ~flooded & ~devoted & (loud["elsewhere"] <= UNSEEN_SHARE * loud["expected"])
    unseen &= poisson.cdf(loud["elsewhere"], loud["expected"] / UNSEEN_TIMES) < params.alpha / tests
    times = UNSEEN_TIMES * _popular(votes, loud, gram, row, np.flatnonzero(unseen), said)
    unseen &= poisson.cdf(loud["elsewhere"], loud["expected"] / times) < params.alpha / tests
    at_once, inside = _bursts(votes, gram, row, actor, quiet, runs, params.alpha / tests)
    at_once &= ~few & ~flooded & ~devoted & ~unseen

    strange = devoted | unseen | at_once
    different = int(((loud["number"] & np.uint64(3)) == 0)[strange].sum())
    other_kind = different > KIND_WORDS and len(np.unique(row[strange[gram]])) > KIND_SHARE * len(votes)
    if other_kind:
        devoted, unseen, at_once = (np.zeros(runs, bool) for _ in range(3))

    cases = {
        "trigger_of_few": bought,
        "trigger_of_new": flooded,
        "trigger_burst": at_once,
        "trigger_of_devoted": devoted,
        "trigger_unseen": unseen,
    }
    reason = np.select(list(cases.values()), list(cases), "")
    alone = flooded & (aged < params.min_actors)
    taken = (few | alone | devoted | unseen)[gram] | (flooded[gram] & new[row]) | (at_once[gram] & inside)
    return _Carried(actors, aged, reason, taken, other_kind)


def _popular(
    votes: pa.Table, loud: np.ndarray, gram: np.ndarray, row: np.ndarray, some: np.ndarray, said: int
) -> np.ndarray:
    """How many times as often as elsewhere the most rated word of each of `some` runs is said (1 of all others): where "portal"
    is, "portal opens" is too, and need not have been said elsewhere yet. Words that nobody else says excuse nothing."""
    times = np.ones(len(loud))
    known = {int(n): k for k, n in enumerate(loud["number"].tolist())}
    runs, first = np.unique(gram, return_index=True)
    example = dict(zip(runs.tolist(), row[first].tolist(), strict=True))
    for g in some.tolist():
        words_of, _ = _read(votes, FIELDS[int(g >= said)], example[g], loud["number"][g])
        also = [known[n] for n in words_of if n in known]
        times[g] = max([1.0, *(loud["expected"][k] / loud["elsewhere"][k] for k in also if loud["elsewhere"][k])])
    return times


def _pairs(gram: np.ndarray, actor: np.ndarray, flag: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each (run, actor) once, and whether any of its rows has the flag."""
    order = np.lexsort((~flag, actor, gram))
    gram, actor, flag = gram[order], actor[order], flag[order]
    new = np.ones(len(gram), bool)
    new[1:] = (gram[1:] != gram[:-1]) | (actor[1:] != actor[:-1])
    return gram[new], actor[new], flag[new]


def _bursts(
    votes: pa.Table, gram: np.ndarray, row: np.ndarray, actor: np.ndarray, quiet: np.ndarray, runs: int, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """(whether most carriers of a run voted in one stretch of time; of each occurrence, whether it lies there).

    Time is cut into bins with equally many ordinary votes, so a busy Monday is no burst.
    """
    ts = votes["ts"].to_numpy()
    bins = min(MOST_BINS, int(quiet.sum()) // BIN_ROWS)
    if bins < LEAST_BINS or not runs:
        return np.zeros(runs, bool), np.zeros(len(row), bool)
    ordinary = np.sort(ts[quiet])
    edges = ordinary[np.arange(1, bins) * len(ordinary) // bins]
    bin_of = np.searchsorted(edges, ts, side="right")[row]
    # An actor counts once, at one of its votes by lot: first votes come in a burst when a log begins.
    order = np.lexsort((bin_of, mixed(ts.astype(np.uint64))[row], actor[row], gram))
    first = np.ones(len(order), bool)
    first[1:] = (gram[order][1:] != gram[order][:-1]) | (actor[row][order][1:] != actor[row][order][:-1])
    once = order[first]
    counts = np.bincount(gram[once] * bins + bin_of[once], minlength=runs * bins).reshape(runs, bins)
    most, total = (counts[:, 1:] + counts[:, :-1]).max(axis=1), counts.sum(axis=1)
    hot = counts > BUSY * total[:, None] / bins
    found = (counts * hot).sum(axis=1) >= AT_ONCE * total
    return found & (binom.sf(most - 1, total, 2 / bins) * bins < alpha), hot[gram, bin_of]


def _spelled(
    votes: pa.Table, loud: np.ndarray, gram: np.ndarray, row: np.ndarray, carried: _Carried, said: int
) -> Found:
    """Each vote's worst trigger, with the triggers' words. `loud` has those of `said` first."""
    planted = (carried.reason != "")[gram] & carried.taken
    gram, row = gram[planted], row[planted]
    # The largest z first; of equal ones the longest run says most.
    rank = np.empty(len(loud), np.int64)
    rank[np.lexsort((loud["number"], -(loud["number"] & np.uint64(3)).astype(np.int64), -loud["z"]))] = np.arange(len(loud))
    order = np.lexsort((rank[gram], row))
    gram, row = gram[order], row[order]
    first = np.ones(len(row), bool)
    first[1:] = row[1:] != row[:-1]
    used = np.unique(gram[first])
    used = used[np.argsort(rank[used])]
    place = np.full(len(loud), -1)
    place[used] = np.arange(len(used))
    trigger = np.full(len(votes), -1)
    trigger[row[first]] = place[gram[first]]
    example = np.full(len(used), -1)
    example[place[gram[first]][::-1]] = row[first][::-1]
    made = [
        Trigger(
            text="",
            field=FIELDS[int(g >= said)],
            reason=str(carried.reason[g]),
            rows=int(loud["rows"][g]),
            actors=int(carried.actors[g]),
            aged=int(carried.aged[g]),
            elsewhere=int(loud["elsewhere"][g]),
            log_odds=float(loud["log_odds"][g]),
            z=float(loud["z"][g]),
        )
        for g in used.tolist()
    ]
    for k, (g, at) in enumerate(zip(used.tolist(), example.tolist(), strict=True)):
        _, text = _read(votes, made[k].field, at, loud["number"][g])
        made[k] = replace(made[k], text=text)
    return Found(trigger, tuple(made), carried.other_kind)


def _read(votes: pa.Table, field: str, row: int, number: np.uint64) -> tuple[list[int], str]:
    """(the numbers of its words, its text) of the run of words with that number in a vote."""
    found = words(fold_column(votes[field].slice(row, 1)))
    every = grams(found, salt=1 + FIELDS.index(field))
    first, length = int(every.first[every.number == number][0]), int(number & np.uint64(3)) + 1
    return every.number[first : first + length].tolist(), spelled(found, first, length)
