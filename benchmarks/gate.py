"""The gate on pairs of anybody's, and its error rates.

    python -m benchmarks.gate --pairs FILE.csv --json    columns item, champion, challenger (0 or 1), optional slice: one verdict
    python -m benchmarks.gate                            simulated histories of looks, and real models on ../shared/data/rag_log

Both use the very `decide` of the loop, with the thresholds of params.yaml; a file of pairs is a first look.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tasks.errors import Refused
from tasks.gate.rows import HOLDOUT, Compared
from tasks.params import load
from tasks.verdict import JudgeParams, Verdict, decide

PROJECT = Path(__file__).resolve().parents[1]
COLUMNS = ("item", "champion", "challenger")
RIGHT = {"0": False, "1": True}


def shipped() -> JudgeParams:
    return load(PROJECT / "params.yaml", "judge", JudgeParams)


def judge(rows: Sequence[Compared]) -> Verdict:
    """A file holds right and wrong alone: only its slices can be guarded, and whoever gives a slice wants it looked at."""
    return decide(
        rows, replace(shipped(), guard_kinds=[], guard_signals=[], guard_scores=[], guard_parts=[], non_inferior=[],
                      required_guards=[], slices=["topic"]),
    )  # fmt: skip


def read_pairs(path: Path) -> list[Compared]:
    """The rows of a CSV file. Raises Refused, naming the line, where it cannot be judged."""
    fix = "columns item, champion, challenger (0 or 1, 1 is right) and, if you like, slice; one line an item"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", strict=True)
            names = [n.strip() for n in reader.fieldnames or []]
            if not names:
                raise Refused(f"{path} is empty", fix)
            reader.fieldnames = names
            lacking = [c for c in COLUMNS if c not in names]
            if lacking:
                raise Refused(f"{path} has no column {', '.join(lacking)} (it has {', '.join(names)})", fix)
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise Refused(f"{path} cannot be read: {e}", fix) from None
    if not lines:
        raise Refused(f"{path} has no pairs below its header", fix)
    found: dict[str, Compared] = {}
    for number, line in lines:
        row = _pair(line, f"{path}:{number}", fix)
        if row.example_id in found:
            raise Refused(f"{path}:{number}: item {row.example_id!r} is there twice", fix)
        found[row.example_id] = row
    return list(found.values())


def document(found: Verdict) -> dict[str, Any]:
    """The verdict as --json prints it: the figures of the primary comparison on top, the whole verdict below."""
    p = found.primary
    if p is None:
        raise ValueError("pairs that were read are sound")
    return {
        "verdict": found.decision,
        "n": p.n,
        "fixed": p.fixed,
        "broken": p.broken,
        "difference": p.difference,
        "p": p.p_value,
        "interval": [p.low, p.high],
        "level": found.level,
        "reasons": found.reasons,
        "slices": {name.removeprefix("topic "): asdict(s) for name, s in found.slices.items()},
    }


def _pair(line: dict[str | None, Any], where: str, fix: str) -> Compared:
    if None in line.values() or "" in line:
        raise Refused(f"{where}: it has more or fewer values than the header has columns", fix)
    values = {str(name): str(value).strip() for name, value in line.items()}
    if not values["item"]:
        raise Refused(f"{where}: item is empty", fix)
    for name in ("champion", "challenger"):
        if values[name] not in RIGHT:
            raise Refused(f"{where}: {name} is {values[name]!r}, neither 0 nor 1", fix)
    return compared(values["item"], RIGHT[values["champion"]], RIGHT[values["challenger"]], values.get("slice", ""))


def compared(item: str, old: bool, new: bool, topic: str = "") -> Compared:
    """A row of which right and wrong is all that is known."""
    return Compared(
        example_id=item, group_id=item, part=HOLDOUT, audit=False, kind="answer", topic=topic, language="", cluster="", target="",
        champion="", challenger="", champion_right=old, challenger_right=new, champion_confidence=1.0, challenger_confidence=1.0,
        champion_signals=[], challenger_signals=[], champion_scores={}, challenger_scores={},
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="a CSV file with columns item, champion, challenger and optionally slice")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--histories", type=int, default=2000, help="simulated histories of 20 looks (default: 2000)")
    parser.add_argument("--out", type=Path, help="write the rates as JSON here as well")
    options = parser.parse_args(argv)
    try:
        if options.pairs is not None:
            found = document(judge(read_pairs(options.pairs)))
            print(json.dumps(found, indent=2) if options.json else _text(found))
            return 0
    except Refused as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    from benchmarks.gate_rates import measured, tables

    rates = measured(options.histories)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(rates, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rates, indent=2) if options.json else tables(rates))
    return 0


def _text(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return "\n".join(
        [
            found["verdict"],
            *(f"  {r}" for r in found["reasons"]),
            f"  fixed {found['fixed']}, broken {found['broken']} of {found['n']}; p = {found['p']:.3g};"
            f" {1 - found['level']:.1%} interval {low:+.4f} to {high:+.4f}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
