"""The result of the real turns on a terminal."""

from __future__ import annotations

from typing import Any

WAYS = ("chance", "first offered", "shortest", "best grounded", "oracle")


def table(result: dict[str, Any], cost: dict[str, Any]) -> str:
    lines = ["turn  captured  rejected  placed (train, holdout)  sent  answered  decision      promoted  seconds"]
    for number, (turn, seconds) in enumerate(zip(result["turns"], cost["turns"], strict=True), 1):
        placed = f"{turn['placed'].get('train', 0):,}, {turn['placed'].get('holdout', 0):,}" if turn["placed"] else "-"
        lines.append(
            f"{number:>4}  {turn['captured']['stored']:>8,}  {turn['captured']['rejected']:>8}  {placed:>23}"
            f"  {sum(turn['sent'].values()):>4}  {turn['received']['stored']:>8}  {turn['decision'] or '-':<12}"
            f"  {'version ' + turn['promoted'] if turn['promoted'] else '-':<9}  {seconds:>6.1f}"
        )
    wall = result["wall"]
    lines += [
        "",
        f"The wall: {sum(wall['sources'].values())} sources in {wall['groups']} groups; sources by side {wall['sources']},"
        f" interactions by side {wall['interactions']}; sources on both sides: {wall['sources_on_both_sides']}",
    ]

    lines += ["", "batch  part           sent  answered  wrong     share     the loop's estimate      truth"]
    for number, batch in enumerate(result["batches"], 1):
        for k, (part, n) in enumerate(batch["parts"].items()):
            share = f"{n['wrong'] / n['answered']:.1%}" if n["answered"] else "-"
            line = f"{number:>5}  {part:<13}  {n['sent']:>4}  {n['answered']:>8}  {n['wrong']:>5}  {share:>8}"
            if k == 0:
                e = batch["estimate"]
                estimate = "-" if e["value"] is None else f"{e['value']:.1%} ({e['low']:.1%} to {e['high']:.1%})"
                line += f"  {estimate:>22}  {_percent(batch['true_error_rate']):>9}"
            lines.append(line)
        m = batch["mined_against_audit"]
        if m["mined"] is not None:
            lines.append(
                f"       errors per label: mined {m['mined']:.2f}, random of the same side {m['random']:.2f}"
                f" (p = {m['p_value']:.2g})"
            )

    lines += ["", "detector            fired  labelled  precision  recall   the loop believes"]
    lines += [
        f"{d['detector']:<18}  {d['fired']:>5}  {d['labelled']:>8}  {_percent(d['precision']):>9}  {d['recall']:>6.1%}"
        f"   {d['loop_precision']:.1%}, {d['loop_recall']:.1%}"
        for d in result["detectors"]
    ]

    lines += ["", "score         against                                n   base rate  first tenth     AP  AUROC"]
    lines += [
        f"{r['score']:<12}  {r['against']:<34}  {r['n']:>5,}  {r['base_rate']:>9.1%}  {r['precision_in_first_tenth']:>11.1%}"
        f"  {r['average_precision']:.3f}  {r['auroc']:.3f}"
        for r in result["ranking"]
    ]

    lines += ["", "Share of right picks on the held-out sources where a choice matters:"]
    lines += [
        "snapshot           pairs  sources  " + "  ".join(f"{way:>13}" for way in WAYS) + "     champion  challenger"
    ]
    for v in result["verdicts"]:
        shares = "  ".join(f"{v['picks'][way]:>13.1%}" for way in WAYS)
        lines.append(
            f"{v['snapshot']:<17}  {v['pairs']:>5}  {v['picks']['sources']:>7}  {shares}"
            f"     {v['champion_right']:>8.1%}  {v['challenger_right']:>10.1%}"
        )
    for v in result["verdicts"]:
        lines.append(f"{v['snapshot']}: {v['decision']}: {'; '.join(v['reasons'])}")
        g = v["challenger_against_best_grounded"]
        lines.append(
            f"{'':<17}  against the best grounded, no label needed: fixed {g['fixed']}, broken {g['broken']} of {g['n']};"
            f" difference {g['difference']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f}), p = {g['p_value']:.2g}"
        )

    lines += ["", "step        times  seconds  peak MiB"]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for step in cost["steps"]:
        by_name.setdefault(step["name"], []).append(step)
    for name, taken in by_name.items():
        peaks = [s["peak_mib"] for s in taken if s["peak_mib"] is not None]
        lines.append(
            f"{name:<10}  {len(taken):>5}  {sum(s['seconds'] for s in taken):>7.1f}  {max(peaks) if peaks else float('nan'):>8.0f}"
        )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
