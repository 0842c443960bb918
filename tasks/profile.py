"""A profile: what each column of each table looks like, in bins that are fixed, so that any two profiles can be compared later.

    {"sft": {"rows": 812, "groups": 640, "columns": {
        "topic":    {"kind": "code",   "nulls": 0, "shares": {"billing": 300, "bike": 512}},
        "weight":   {"kind": "number", "nulls": 0, "deciles": [0.5, …, 1.0], "bins": {"19": 400, "20": 412}},
        "messages": {"kind": "text",   "nulls": 0, "deciles": [80, …, 912],  "bins": {"45": 3, …}}}}}     (lengths)

No text and no id is in it, only codes that its suite names as slices: reports are kept in git, where nothing can be erased.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from tasks.calculator import Engine

CODE, NUMBER, TEXT = "code", "number", "text"
CODES = 100  # values of a slice that are counted one by one
LONGEST_CODE = 80
LEAST = 10  # rows of a bin in both snapshots together: below, it is counted with the others
# Linear up to 1, where shares and probabilities are; then four bins an octave.
BIN = """CASE WHEN {x} IS NULL OR isnan({x}) THEN NULL WHEN abs({x}) <= 1 THEN CAST(floor({x} * 20) AS BIGINT)
         ELSE CAST(sign({x}) * (20 + ceil(4 * log2(abs({x})))) AS BIGINT) END"""


@dataclass(frozen=True, slots=True)
class Change:
    """One column against the snapshot before. `psi` (population stability index) and `kl` (nats) over bins, `ks` the distance of
    the distributions of a number; `p_value` by chi squared, corrected for all columns; `drifted`: both the test and the size say
    so."""

    table: str
    column: str
    kind: str
    before: int
    now: int
    psi: float
    kl: float
    ks: float
    p_value: float
    drifted: bool
    said: str


def profile(engine: Engine, view: str, columns: Mapping[str, str], group: str = "") -> dict[str, Any]:
    """The profile of one table or view. `columns` are those to look at, each CODE, NUMBER or TEXT; rows of a `group` are not
    independent of each other, so their number is kept too."""
    counting = f'count(DISTINCT "{group}")' if group else "count(*)"
    rows, groups = engine.execute(f'SELECT count(*), {counting} FROM "{view}"').fetchone() or (0, 0)
    if not rows:
        return {"rows": 0, "groups": 0, "columns": {}}
    return {
        "rows": rows,
        "groups": groups,
        "columns": {c: _OF_KIND[kind](engine, view, f'"{c}"') for c, kind in columns.items()},
    }


def compared(before: Mapping[str, Any], now: Mapping[str, Any], psi: float, alpha: float, least: int) -> list[Change]:
    """What is no longer as it was, of two profiles {table: profile}: the clearest first. Tables with fewer than `least` rows (or
    groups) on either side are left out; `alpha` bounds the chance that anything is called drifted when nothing changed."""
    found = []
    for table in sorted(before.keys() & now.keys()):
        old, new = before[table], now[table]
        if min(old["groups"], new["groups"]) < least:
            continue
        for column in sorted(old["columns"].keys() & new["columns"].keys()):
            a, b = old["columns"][column], new["columns"][column]
            if a["kind"] == b["kind"]:
                found.append(_change(table, column, a, b, _dependence(old), _dependence(new)))
    # Bonferroni's correction: columns of one row are far from independent, and it needs no independence.
    judged = [replace(c, p_value=min(1.0, c.p_value * len(found))) for c in found]
    judged = [replace(c, drifted=c.p_value <= alpha and c.psi >= psi) for c in judged]
    return sorted(judged, key=lambda c: (not c.drifted, -c.psi, c.table, c.column))


def _dependence(profile: Mapping[str, Any]) -> float:
    """How much of a row is news: rows that come by the group count as groups."""
    return profile["groups"] / profile["rows"]


def _change(
    table: str, column: str, a: Mapping[str, Any], b: Mapping[str, Any], news_a: float, news_b: float
) -> Change:
    names, old, new = _aligned(a, b)
    n, m = float(old.sum()), float(new.sum())
    p, q = _shares(old), _shares(new)
    psi, kl = float(np.sum((q - p) * np.log(q / p))), float(np.sum(q * np.log(q / p)))
    test = _chi_squared(old * news_a, new * news_b)
    ks = 0.0
    if a["kind"] != CODE:
        order = np.argsort([int(x) if x.lstrip("-").isdigit() else 10**9 for x in names], kind="stable")
        ks = float(np.abs(np.cumsum(old[order]) / n - np.cumsum(new[order]) / m).max())
    return Change(
        table,
        column,
        a["kind"],
        int(n),
        int(m),
        round(psi, 4),
        round(kl, 4),
        round(ks, 4),
        test,
        False,
        _said(a, b, names, old, new),
    )


def _aligned(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The bins of two columns side by side. What is rare in both, or was not counted apart on one side, is '(other)'."""
    left, right = _counts(a), _counts(b)
    apart = set(left) | set(right)
    for mine, all_told in ((left, a.get("other", 0) == 0), (right, b.get("other", 0) == 0)):
        apart &= apart if all_told else set(mine)
    names = sorted(x for x in apart if left.get(x, 0) + right.get(x, 0) >= LEAST)
    old, new = ([float(side.get(x, 0)) for x in names] for side in (left, right))
    rest = [
        sum(side.values()) + column.get("other", 0) - sum(kept)
        for side, column, kept in ((left, a, old), (right, b, new))
    ]
    if any(rest):
        names, old, new = [*names, "(other)"], [*old, rest[0]], [*new, rest[1]]
    return names, np.array(old), np.array(new)


def _counts(column: Mapping[str, Any]) -> dict[str, int]:
    counts = dict(column["shares"] if column["kind"] == CODE else column["bins"])
    return counts | ({"(none)": column["nulls"]} if column["nulls"] else {})


def _shares(counts: np.ndarray) -> np.ndarray:
    """Half a row is added to each bin: an empty one would make the index infinite."""
    return (counts + 0.5) / (counts.sum() + 0.5 * len(counts))


def _chi_squared(old: np.ndarray, new: np.ndarray) -> float:
    counted = np.array([old, new])
    if counted.shape[1] < 2 or (counted.sum(axis=0) <= 0).any():
        return 1.0
    return float(stats.chi2_contingency(counted, correction=False).pvalue)


def _said(a: Mapping[str, Any], b: Mapping[str, Any], names: Sequence[str], old: np.ndarray, new: np.ndarray) -> str:
    if a["kind"] != CODE:
        return (
            f"median {a['deciles'][5]:g} -> {b['deciles'][5]:g}"
            if a["deciles"] and b["deciles"]
            else "no values on one side"
        )
    p, q = old / old.sum(), new / new.sum()
    moved = sorted(range(len(names)), key=lambda k: (-abs(q[k] - p[k]), names[k]))[:3]
    return ", ".join(f"{names[k] or '(empty)'} {p[k]:.1%} -> {q[k]:.1%}" for k in moved)


def _code(engine: Engine, view: str, column: str) -> dict[str, Any]:
    rows = engine.execute(
        f'SELECT left(CAST({column} AS VARCHAR), {LONGEST_CODE}) AS v, count(*) AS n FROM "{view}" GROUP BY v ORDER BY n DESC, v'
    ).fetchall()
    counts = [(v, n) for v, n in rows if v is not None]
    return {
        "kind": CODE,
        "nulls": sum(n for v, n in rows if v is None),
        "shares": dict(sorted(counts[:CODES])),
        "other": sum(n for _, n in counts[CODES:]),
    }


def _number(engine: Engine, view: str, value: str, kind: str = NUMBER) -> dict[str, Any]:
    binned = engine.execute(
        f'SELECT {BIN.format(x=value)} AS bin, count(*) FROM "{view}" GROUP BY bin ORDER BY bin'
    ).fetchall()
    (deciles,) = engine.execute(
        f"""SELECT quantile_disc({value}, {[k / 10 for k in range(11)]}) FROM "{view}" """
    ).fetchone() or ([],)
    return {
        "kind": kind,
        "nulls": sum(n for b, n in binned if b is None),
        "deciles": [_short(x) for x in deciles or []],
        "bins": {str(b): n for b, n in binned if b is not None},
    }


def _text(engine: Engine, view: str, column: str) -> dict[str, Any]:
    return _number(engine, view, f"length({column})", TEXT)


def _short(x: float) -> float:
    """Six digits are enough to read, and the same on every machine."""
    return x if isinstance(x, int) or not math.isfinite(x) else float(f"{x:.6g}")


_OF_KIND = {CODE: _code, NUMBER: _number, TEXT: _text}


def kinds(columns: Mapping[str, str], slices: Iterable[str]) -> dict[str, str]:
    """How each declared column (name -> DuckDB's type) is looked at. Ids, people, files and times are not: new by nature."""
    codes = set(slices)
    found = {}
    for column, type in columns.items():
        if column in codes or type == "BOOLEAN":
            found[column] = CODE
        elif type in ("BIGINT", "DOUBLE") and column not in _TIMES:
            found[column] = NUMBER
        elif type in ("VARCHAR", "JSON") and not column.endswith("_id") and column not in _NEW:
            found[column] = TEXT
    return found


_TIMES = {"arrived", "ts", "received", "user_since"}
_NEW = {"beside", "met", "user", "annotator", "annotators", "source"}  # people, and the files that their answers came in
