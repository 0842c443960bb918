"""The demo's score on a terminal, a line per turn as it comes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from demo.play import Demo, Score

HEAD = "turn  true errors   the loop's estimate   errors found (random)  labels right  verdict       right?  champion  snapshot"


class Table:
    """`quiet` sends the lines to stderr, so that stdout can hold one JSON document."""

    def __init__(self, quiet: bool):
        self.out = sys.stderr if quiet else sys.stdout
        self.started = time.monotonic()
        print(HEAD, file=self.out, flush=True)

    def add(self, s: Score) -> None:
        e = s.estimate
        covered = " " if e.low <= s.true_error_rate <= e.high else "!"
        print(
            f"{s.turn:>4}  {s.true_error_rate:>10.1%}  {e.value:>6.1%} ({e.low:.1%} to {e.high:.1%}){covered}"
            f"  {s.errors_found:>6} of {s.sent} ({s.errors_found_by_random:.0f})"
            f"  {s.label_accuracy:>12.1%}  {s.verdict:<12}  {'yes' if s.verdict_right else 'NO':<6}  {s.champion:>8}  {s.snapshot}",
            file=self.out,
            flush=True,
        )

    def close(self, demo: Demo, workspace: Path) -> None:
        first = demo.turns[0].true_error_rate
        promoted = sum(s.verdict == "promote" for s in demo.turns)
        covered = sum(s.estimate.low <= s.true_error_rate <= s.estimate.high for s in demo.turns)
        print(
            f"\nTrue error rate {first:.1%} -> {demo.after:.1%} on fresh traffic ({1 - demo.after / first:.0%} fewer errors),"
            f" {promoted} promotions, interval covered the truth in {covered} of {len(demo.turns)} turns,"
            f" {time.monotonic() - self.started:.0f} s.\nThe snapshots: git -C {workspace} log --oneline; git -C {workspace} tag",
            file=self.out,
            flush=True,
        )
