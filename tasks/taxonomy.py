"""Failure clusters that keep their identity: which kinds of failure there are, and how each fares from turn to turn.

    turn 2: fc_5c0… "battery · dead battery"  born       41 of 1,500
    turn 3:                                   fixed       0 of 1,480   (p = 2e-12)
    turn 5:                                   regressed  38 of 1,510   -> an alarm

The failures of a turn are grouped, and a group that is like a known cluster belongs to it, whichever it was; only one that
is like none of them founds a new one. So two halves of a cluster stay one, and two clusters that look like one in a turn
stay two, which one-to-one matching of the turns' partitions would not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
from scipy import sparse
from sklearn.cluster import AgglomerativeClustering
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer, HashingVectorizer, TfidfTransformer

from tasks.fates import BORN, FIXED, TaxonomyParams, changed, fared, judged
from tasks.records import Cluster, canonical, content_id
from tasks.similar import normalise

ANCHORS, RECENT = 8, 8  # exemplars from its birth, which it keeps, and from the turn in which it was last seen
NEARLY = 0.8  # of `alike`: a group is new only if it is clearly like no known cluster
MOST_DISTINCT = 3000  # distinct texts among which new clusters are looked for: their distances are a matrix
TERMS = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """An interaction that is wrong or suspected to be, and the text by which it is compared."""

    interaction_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """A turn's rows, one for each cluster that is not settled as fixed; and the cluster of each failure that has one."""

    rows: list[Cluster]
    cluster_of: dict[str, str]


def taxonomy(
    failures: Sequence[Failure],
    window: int,
    turn: int,
    batch_id: str,
    known: Sequence[Cluster],
    exemplars: Mapping[str, str],
    ordinary: Sequence[str],
    params: TaxonomyParams,
) -> Taxonomy:
    """Assign the failures of a turn, out of `window` interactions, to known and new clusters, and tell how each fares.

    `known`: the latest row of every cluster so far; `exemplars`: the texts of the interactions that those rows name (one
    that is missing was erased). `ordinary`: texts of all traffic, failures or not, which tell the words that mean little;
    weighed by the failures alone, the very word that a lone kind of failure is about would mean nothing. The order of
    `failures`, `known` and `ordinary` changes nothing.
    """
    failures = sorted(failures, key=lambda f: (normalise(f.text), f.interaction_id))
    known = sorted(known, key=lambda c: c.cluster_id)
    kept = [[i for i in orjson.loads(c.exemplars) if i in exemplars] for c in known]
    texts = [f.text for f in failures] + [exemplars[i] for ids in kept for i in ids]
    if not any(normalise(t) for t in texts):
        return Taxonomy(_rows(failures, [], [], known, kept, window, turn, batch_id, ordinary, params, None), {})
    vectors = _vectors(texts, ordinary or texts)
    mine = vectors[: len(failures)]
    centres = _means(vectors[len(failures) :], [len(ids) for ids in kept])
    joined: list[list[int]] = [[] for _ in known]
    found: list[np.ndarray] = []
    for group in _groups(failures, mine, params.alike):
        # As average linkage would, had it begun with the known clusters; but what is nearly one's own is no news.
        near = np.flatnonzero(np.asarray(mine[group].mean(axis=0) @ centres.T).ravel() >= NEARLY * params.alike)
        if len(near):
            best = near[(mine[group] @ centres[near].T).toarray().argmax(axis=1)]
            for i, k in zip(group.tolist(), best.tolist(), strict=True):
                joined[k].append(i)
        elif len(group) >= params.min_size:
            found.append(group)
    groups = [np.array(sorted(g), int) for g in joined]
    rows = _rows(failures, groups, found, known, kept, window, turn, batch_id, ordinary, params, mine)
    ids = [c.cluster_id for c in known] + [r.cluster_id for r in rows if r.state == BORN]
    cluster_of = {failures[i].interaction_id: id for id, g in zip(ids, groups + found, strict=True) for i in g.tolist()}
    return Taxonomy(rows, cluster_of)


def likeness(texts: Sequence[str], groups: Sequence[Sequence[str]], ordinary: Sequence[str]) -> np.ndarray:
    """(texts, groups) the mean cosine of each text to the texts of each group, as the taxonomy compares them."""
    flat = [t for g in groups for t in g]
    vectors = _vectors([*texts, *flat], ordinary or flat)
    return (vectors[: len(texts)] @ _means(vectors[len(texts) :], [len(g) for g in groups]).T).toarray()


def _vectors(texts: Sequence[str], ordinary: Sequence[str]) -> sparse.csr_matrix:
    """Hashed, so that a word is the same column in every turn, and one that is in no ordinary text weighs most."""
    counting = HashingVectorizer(
        preprocessor=normalise,
        analyzer="char_wb",
        ngram_range=(3, 4),
        n_features=2**20,
        norm=None,
        alternate_sign=False,
    )
    weighing = TfidfTransformer(sublinear_tf=True).fit(counting.transform(ordinary))
    return weighing.transform(counting.transform(texts))


def _means(vectors: sparse.csr_matrix, sizes: Sequence[int]) -> sparse.csr_matrix:
    """The mean of the first sizes[0] vectors, of the next sizes[1], ...: whose product with a vector is the mean cosine."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    weights = 1.0 / np.repeat(np.maximum(sizes, 1), sizes)
    return sparse.csr_matrix((weights, (owner, np.arange(len(owner)))), shape=(len(sizes), len(owner))) @ vectors


def _groups(failures: Sequence[Failure], mine: sparse.csr_matrix, alike: float) -> list[np.ndarray]:
    """The failures that look alike, by average linkage of their distinct texts: a group's mean cosine is at least `alike`."""
    texts: dict[str, list[int]] = {}
    for i, failure in enumerate(failures):
        texts.setdefault(normalise(failure.text), []).append(i)
    # Which texts are looked at, where there are too many, depends on the texts alone; the others join what they are like.
    order = sorted((t for t, at in texts.items() if mine[at[0]].nnz), key=lambda t: content_id("", t))
    some, rest = order[:MOST_DISTINCT], order[MOST_DISTINCT:]
    numbers = np.zeros(len(some), int)
    if len(some) > 1:
        vectors = mine[[texts[t][0] for t in some]]
        linkage = AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1 - alike
        )
        numbers = linkage.fit_predict(np.clip(1 - (vectors @ vectors.T).toarray(), 0, 2))
    by_number: dict[int, list[int]] = {}
    for text, number in zip(some, numbers.tolist(), strict=True):
        by_number.setdefault(number, []).extend(texts[text])
    groups = list(by_number.values())
    if rest:
        centres = _means(mine[[i for g in groups for i in g]], [len(g) for g in groups])
        likeness = (mine[[texts[t][0] for t in rest]] @ centres.T).toarray()
        for text, best, like in zip(rest, likeness.argmax(axis=1).tolist(), likeness.max(axis=1), strict=True):
            if like >= alike:
                groups[best].extend(texts[text])
    return sorted((np.array(sorted(g)) for g in groups), key=lambda g: g[0])


def _rows(
    failures: Sequence[Failure],
    groups: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    known: Sequence[Cluster],
    kept: Sequence[list[str]],
    window: int,
    turn: int,
    batch_id: str,
    ordinary: Sequence[str],
    params: TaxonomyParams,
    mine: sparse.csr_matrix | None,
) -> list[Cluster]:
    groups = list(groups) or [np.empty(0, int)] * len(known)
    names = _names([[failures[i].text for i in g] for g in [*groups, *found]], ordinary)
    compared = [fared(c, len(g), window, turn, batch_id, params) for c, g in zip(known, groups, strict=True)]
    significant = changed([r.p_value for r in compared], params.alpha)
    rows = []
    for row, group, ids, name, new, before in zip(
        compared, groups, kept, names[: len(groups)], significant, known, strict=True
    ):
        row = judged(row, before.state, new, params)
        if len(group) >= params.min_size and mine is not None:
            central = _central(failures, mine, group)
            # A name stays while its words still tell what the failures are about.
            row = replace(
                row,
                name=before.name if _tells(before.name, [failures[i].text for i in group]) else name,
                example=central[0],
                exemplars=canonical(list(dict.fromkeys(ids[:ANCHORS] + central[:RECENT]))).decode(),
            )
        if row.state != FIXED or before.state != FIXED:
            rows.append(row)
    for group, name in zip(found, names[len(groups) :], strict=True):
        central = _central(failures, mine, group)
        cluster_id = content_id("fc", turn, central[:ANCHORS])
        count, share = len(group), round(len(group) / window, 9)
        rows.append(
            Cluster(
                cluster_turn_id=content_id("ct", cluster_id, turn),
                cluster_id=cluster_id,
                turn=turn,
                batch_id=batch_id,
                name=name,
                state=BORN,
                count=count,
                window=window,
                share=share,
                trend=share,
                p_value=1.0,
                first_seen=turn,
                last_seen=turn,
                example=central[0],
                exemplars=canonical(central[:ANCHORS]).decode(),
                base_count=count,
                base_window=window,
                gap_count=0,
                gap_window=0,
            )
        )
    return rows


def _central(failures: Sequence[Failure], mine: sparse.csr_matrix, group: np.ndarray) -> list[str]:
    """The interactions of distinct texts, the one most like all others (the medoid) first."""
    vectors = mine[group]
    likeness = np.asarray(vectors @ np.asarray(vectors.mean(axis=0)).T).ravel()
    first: dict[str, tuple[float, str]] = {}
    for i, like in zip(group.tolist(), likeness, strict=True):
        first.setdefault(normalise(failures[i].text), (-round(float(like), 9), failures[i].interaction_id))
    return [id for _, id in sorted(first.values())]


def _names(groups: Sequence[Sequence[str]], ordinary: Sequence[str]) -> list[str]:
    """The words and pairs of words that tell each group from all traffic: class-based TF-IDF (Grootendorst, 2022).

    Counted in texts: a term's share of the group times log((n + 1) / (ordinary texts with it + 1)), so that one long text
    does not name a group; a pair of words counts half, for each of its words has its own place.
    """
    texts = [t for g in groups for t in g]
    if not any(normalise(t) for t in texts):
        return ["(no words)" if g else "" for g in groups]
    count = CountVectorizer(preprocessor=normalise, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", binary=True)
    shares = _means(count.fit_transform(texts), [len(g) for g in groups]).tocsr()
    usual = np.asarray(count.transform(ordinary).sum(axis=0)).ravel() if ordinary else np.zeros(shares.shape[1])
    terms = count.get_feature_names_out()
    rarity = np.log((len(ordinary) + 1) / (usual + 1)) + 1e-3
    rarity[[" " in t for t in terms]] /= 2
    # Rare among other questions or not, "again" and "how" tell nobody anything; a name of such words is the last resort.
    rarity[[len(t) == 1 or not set(t.split()) - ENGLISH_STOP_WORDS for t in terms]] /= 10
    names = []
    for k in range(len(groups)):
        row = shares[[k]]
        weight = row.data * rarity[row.indices]
        names.append(_distinct_terms([terms[row.indices[i]] for i in np.lexsort((row.indices, -weight))]))
    return names


def _distinct_terms(ranked: Sequence[str]) -> str:
    """The first TERMS terms none of which is a part of another; pairs take in their words."""
    chosen: list[str] = []
    for term in ranked[: 4 * TERMS]:
        words = set(term.split())
        if not any(words <= set(c.split()) or words >= set(c.split()) for c in chosen):
            chosen.append(term)
    return " · ".join(chosen[:TERMS])


def _tells(name: str, texts: Sequence[str]) -> bool:
    """Whether a third of the texts still hold a word of the name."""
    words = {w for term in name.split(" · ") for w in term.split()}
    return 3 * sum(bool(words & set(normalise(t).split())) for t in texts) >= len(texts)
