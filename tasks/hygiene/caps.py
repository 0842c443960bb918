"""Caps: nobody has more than a few rows, however often somebody says it; and a repeated claim needs several people.

    5,000 votes of u7, 1 each of u8 and u9   ->   rows 0 … 4 of u7 or fewer, all others "actor_is_full"; u8's and u9's stay

Caps are counts first, because a few dozen poisoned rows are enough whatever the size of the data, and shares second. Which rows
stay is decided by how sure people are of them, then by a keyed hash of their ids: never by their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.hygiene.lots import coded, lot, place
from tasks.hygiene.params import DAY, HygieneParams
from tasks.hygiene.votes import new_votes

ALERT_TIMES = 100  # an actor, tenant, day or group that had so many times what it may have is worth a word


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` rows (0: any number) with the same `of`, and at most `share` of all that are kept, but one in any case.
    `code` is the reason of the others."""

    code: str
    of: pa.Array
    most: int
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Capped:
    """Per row its reason ('' it stays), and what people should be told."""

    reason: np.ndarray
    alerts: tuple[str, ...]


def cap(limits: Sequence[Limit], ids: Sequence[str], key: str, sure: np.ndarray | None = None) -> Capped:
    """Rows with their ids -> those within all limits. The surest stay (`sure`, the larger the surer), then by lot.

    Counts hold first, one after the other, then shares, so each row's reason is the first limit that it breaks. A share is of what
    is kept in the end; with so few of a kind that they can't all have less, each may have its equal part.
    """
    rank = np.empty(len(ids), np.int64)
    # Equal lots of different ids are as good as impossible, but must not be decided by the order.
    rank[np.lexsort((coded(pa.array(ids)), lot(ids, key), -sure if sure is not None else np.zeros(len(ids))))] = np.arange(len(ids))
    codes = [coded(limit.of) for limit in limits]
    reason = np.full(len(ids), "", object)
    for limit, code in zip(limits, codes, strict=True):
        if limit.most:
            _fill(reason, code, rank, limit.most, limit.code)
    # What is cut by one share makes the others' smaller, until all agree.
    again = True
    while again:
        again = False
        for limit, code in zip(limits, codes, strict=True):
            counts = np.bincount(code[reason == ""])
            most = _within(counts[counts > 0], limit.share)
            if counts.max(initial=0) > most:
                _fill(reason, code, rank, most, limit.code)
                again = True
    return Capped(reason, tuple(_alerts(limits, reason)))


def cap_votes(votes: pa.Table, claims: np.ndarray, usable: np.ndarray, params: HygieneParams) -> Capped:
    """Votes that the screen left (`usable`) -> those that may become rows; the reason of a vote that is not usable is ''.

    `claims`: a number for each answer and polarity, the same for near-duplicates (`dedup.claims`). A vote of nobody or of a new
    actor has no weight; a claim of fewer than `min_actors` actors counts once, however often it was made.
    """
    reason = np.full(len(votes), "", object)
    known = pc.not_equal(votes["actor"], "").to_numpy().astype(bool)
    new = new_votes(votes, params)
    reason[usable & ~known] = "actor_is_unknown"
    reason[usable & known & new] = "actor_is_new"
    ids = votes["feedback_id"].to_pylist()
    left = np.flatnonzero(usable & (reason == ""))
    drawn = lot([ids[k] for k in left], params.key)
    reason[left[_repeated(claims[left], coded(votes["actor"].take(pa.array(left))), drawn, params.min_actors)]] = "claim_of_few"
    left = np.flatnonzero(usable & (reason == ""))
    some = votes.select(["actor", "group_id", "tenant", "ts"]).take(pa.array(left))
    said = np.unique(claims[left], return_inverse=True)[1]
    limits = (
        Limit("actor_is_full", some["actor"], params.actor_rows, params.actor_share),
        Limit("group_is_full", pa.array(coded(some["group_id"]) * (len(left) + 1) + said), params.group_rows),
        Limit("claim_is_full", pa.array(said), params.claim_rows),
        Limit("tenant_is_full", some["tenant"], params.tenant_rows, params.tenant_share),
        Limit("day_is_full", pa.array(some["ts"].to_numpy() // DAY), params.day_rows),
    )
    capped = cap(limits, [ids[k] for k in left], params.key)
    reason[left] = capped.reason
    return Capped(reason, capped.alerts)


def _repeated(claim: np.ndarray, actor: np.ndarray, drawn: np.ndarray, least: int) -> np.ndarray:
    """The votes, but for one a claim, of claims with fewer than `least` actors."""
    claim = np.unique(claim, return_inverse=True)[1]
    pairs = np.unique(claim * (len(actor) + 1) + actor) // (len(actor) + 1)
    few = np.bincount(pairs, minlength=int(claim.max(initial=-1)) + 1) < least
    order = np.lexsort((drawn, claim))
    again = np.zeros(len(claim), bool)
    again[order[1:]] = claim[order[1:]] == claim[order[:-1]]
    return np.flatnonzero(again & few[claim])


def _within(counts: np.ndarray, share: float) -> int:
    """The largest number that each may keep so that none has more than its share of what all keep then."""
    if len(counts) < 2 or share >= 1:
        return int(counts.max(initial=0))
    share = max(share, 1 / len(counts))
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        # The sum is concave in what each may keep, so what is too much stays too much. A hair more: 1/3 of 3 is 1.
        fits = middle <= share * np.minimum(counts, middle).sum() + 1e-9
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _fill(reason: np.ndarray, code: np.ndarray, rank: np.ndarray, most: int, why: str) -> None:
    """Of the rows that are left, all but the first `most` of each code get the reason."""
    left = np.flatnonzero(reason == "")
    order = left[np.lexsort((rank[left], code[left]))]
    reason[order[place(code[order]) >= most]] = why


def _alerts(limits: Sequence[Limit], reason: np.ndarray) -> list[str]:
    said = []
    for limit in limits:
        full = reason == limit.code
        # Groups and claims are numbers, and popular ones are no news.
        if not full.any() or limit.code in ("group_is_full", "claim_is_full"):
            continue
        kept = dict(_counted(limit.of, reason == ""))
        for name, count in sorted(_counted(limit.of, full), key=lambda x: (-x[1], str(x[0])))[:10]:
            if count >= ALERT_TIMES * max(kept.get(name, 0), 1):
                said.append(f"{limit.code}: {name}: {count:,} rows refused, {kept.get(name, 0):,} kept")
    return said


def _counted(of: pa.Array, mask: np.ndarray) -> list[tuple[object, int]]:
    return [(x["values"], x["counts"]) for x in of.filter(pa.array(mask.astype(bool))).value_counts().to_pylist()]
