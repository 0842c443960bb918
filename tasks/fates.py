"""How each cluster of failures fares: born, growing, shrinking, steady, fixed or regressed, on evidence.

    40 of 1,500 before, 0 of 1,480 now -> fixed (p = 2e-12)      2 of 1,500 before, 0 of 100 now -> steady

Light to import: `flywheel status` tells of it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.records import Cluster, content_id

BORN, GROWING, SHRINKING, STEADY, FIXED, REGRESSED = "born", "growing", "shrinking", "steady", "fixed", "regressed"


@dataclass(frozen=True, slots=True)
class TaxonomyParams:
    """`alike`: mean cosine of a text to a cluster from which it belongs there; `min_size`: failures that make a cluster.

    `suspicion`: score of a signal from which an interaction counts as a failure; not the fused probability, which changes
    with every label, and with it would every share. `alpha`: false discovery rate of changes; `least_change`: factor by which
    a share must change to be called changed.
    """

    suspicion: float
    alike: float
    min_size: int
    alpha: float
    least_change: float


def fared(before: Cluster, count: int, window: int, turn: int, batch_id: str, params: TaxonomyParams) -> Cluster:
    """The row of a known cluster before it is judged: its numbers, and the p-value of a change (Fisher's exact test)."""
    from scipy import stats

    seen = count >= params.min_size
    # What is rarer than a cluster may be is a residue. Absence adds up over turns, or small samples would prove a cure.
    gap = (0, 0) if seen else (before.gap_count + count, before.gap_window + window)
    now = (count, window) if seen else gap
    table = [[now[0], now[1] - now[0]], [before.base_count, before.base_window - before.base_count]]
    base = before.base_count / max(before.base_window, 1)
    return replace(
        before,
        cluster_turn_id=content_id("ct", before.cluster_id, turn),
        turn=turn,
        batch_id=batch_id,
        count=count,
        window=window,
        share=round(count / max(window, 1), 9),
        trend=round(count / max(window, 1) - base, 9),
        p_value=float(stats.fisher_exact(table).pvalue),
        last_seen=turn if seen else before.last_seen,
        gap_count=gap[0],
        gap_window=gap[1],
    )


def judged(row: Cluster, before: str, significant: bool, params: TaxonomyParams) -> Cluster:
    """The state; and the base with which the next turn is compared: begun anew where the share has changed."""
    seen = row.count >= params.min_size
    if before == FIXED:
        if not seen:
            return replace(row, state=FIXED)
        return replace(row, state=REGRESSED, base_count=row.count, base_window=row.window)
    base = row.base_count / max(row.base_window, 1)
    now = row.share if seen else row.gap_count / max(row.gap_window, 1)
    changed = significant and not base / params.least_change < now < base * params.least_change
    if not seen:
        return replace(row, state=FIXED if changed and now < base else STEADY)
    if changed:
        state = GROWING if now > base else SHRINKING
        return replace(row, state=state, base_count=row.count, base_window=row.window)
    return replace(row, state=STEADY, base_count=row.base_count + row.count, base_window=row.base_window + row.window)


def changed(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of a turn's changes are real, at a false discovery rate of `alpha` (Benjamini and Hochberg, 1995)."""
    from scipy import stats

    return (stats.false_discovery_control(p_values) <= alpha).tolist() if p_values else []


def alarms(rows: Sequence[Cluster]) -> list[str]:
    """What somebody must hear of: failures that were fixed and are back."""
    back = sorted((r for r in rows if r.state == REGRESSED), key=lambda r: (-r.share, r.cluster_id))
    return [
        f"{r.name} ({r.cluster_id}) was fixed and is back in turn {r.turn}: {r.count:,} of {r.window:,}, first seen in turn"
        f" {r.first_seen}"
        for r in back
    ]
