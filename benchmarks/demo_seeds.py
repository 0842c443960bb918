"""The demo under many seeds: is the fall of the true error rate luck, and do the intervals keep their promise?

    python -m benchmarks.demo_seeds --seeds 20 --jobs 1

One process per seed, `flywheel demo --json --seed S` in a temporary workspace, so that nothing is carried over. What the loop
says is compared with the simulated truth that the demo's scorer keeps: the 95% intervals should cover it in 95% of turns.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import stats

PROJECT = Path(__file__).resolve().parents[1]
POLITE_S = 30
KIB_PER_UNIT = 1 / 1024 if sys.platform == "darwin" else 1  # ru_maxrss is in bytes on macOS, in KiB on Linux


@dataclass(frozen=True, slots=True)
class Played:
    """One seed. Rates are shares in [0, 1]; `fell` compares fresh traffic after the last turn with the first turn,
    `fell_by_last` the last turn with the first. Counts are sums over turns; a failed run keeps only its error."""

    seed: int
    seconds: float
    peak_mib: float
    error: str = ""
    turns: int = 0
    covered: int = 0
    first: float = 0.0
    last: float = 0.0
    after: float = 0.0
    fell: float = 0.0
    fell_by_last: float = 0.0
    promoted: int = 0
    wrongly_promoted: int = 0
    wrong_verdicts: int = 0
    sent: int = 0
    errors_found: int = 0
    errors_found_by_random: float = 0.0
    label_accuracy: float = 0.0


def play(seed: int, turns: int, timeout_s: float) -> Played:
    """Run one demo in its own process and sum it up."""
    with tempfile.TemporaryDirectory(prefix=f"flywheel-seed-{seed}-") as folder:
        command = [sys.executable, "-m", "flows.cli", "demo", "--json", "--seed", str(seed), "--turns", str(turns)]
        command += ["--workspace", str(Path(folder) / "workspace")]
        log, out = Path(folder) / "stderr", Path(folder) / "stdout"
        started = time.monotonic()
        with log.open("wb") as errors, out.open("wb") as output:
            process = subprocess.Popen(command, cwd=PROJECT, stdout=output, stderr=errors, env=_environment())
            code, peak_mib = _wait(process, started + timeout_s)
        seconds = round(time.monotonic() - started, 1)
        if code != 0:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            return Played(seed, seconds, peak_mib, error=f"exit {code}: {' '.join(last)}")
        return summed(seed, seconds, peak_mib, json.loads(out.read_text(encoding="utf-8")))


def summed(seed: int, seconds: float, peak_mib: float, document: dict[str, Any]) -> Played:
    """The demo's document (`flywheel demo --json`) as one row."""
    turns = document["turns"]
    first, last, after = turns[0]["true_error_rate"], turns[-1]["true_error_rate"], document["after"]
    promoted = [t for t in turns if t["verdict"] == "promote"]
    covered = [t for t in turns if t["estimate"]["low"] <= t["true_error_rate"] <= t["estimate"]["high"]]
    return Played(
        seed=seed,
        seconds=seconds,
        peak_mib=peak_mib,
        turns=len(turns),
        covered=len(covered),
        first=first,
        last=last,
        after=after,
        fell=round(1 - after / first, 4),
        fell_by_last=round(1 - last / first, 4),
        promoted=len(promoted),
        wrongly_promoted=sum(not t["verdict_right"] for t in promoted),
        wrong_verdicts=sum(not t["verdict_right"] for t in turns),
        sent=sum(t["sent"] for t in turns),
        errors_found=sum(t["errors_found"] for t in turns),
        errors_found_by_random=round(sum(t["errors_found_by_random"] for t in turns), 1),
        label_accuracy=round(statistics.mean(t["label_accuracy"] for t in turns), 4),
    )


def table(played: Sequence[Played]) -> str:
    """A line a seed, then medians and sums with the exact interval of the coverage."""
    lines = [
        "      true error rate        fewer errors        interval  promoted  wrong     errors found  labels",
        "seed  first   last    after  (last turn)         covers    (wrong)   verdicts  (random)      right   seconds  peak MiB",
    ]
    for p in played:
        if p.error:
            lines.append(f"{p.seed:>4}  FAILED after {p.seconds:.0f} s: {p.error}")
            continue
        lines.append(
            f"{p.seed:>4}  {p.first:>5.1%}  {p.last:>5.1%}  {p.after:>5.1%}  {p.fell:>5.0%} ({p.fell_by_last:>5.0%})"
            f"       {p.covered:>3} of {p.turns:<2} {p.promoted:>4} ({p.wrongly_promoted}) {p.wrong_verdicts:>9}"
            f"  {p.errors_found:>7} ({p.errors_found_by_random:>5.0f})  {p.label_accuracy:>6.1%}"
            f"  {p.seconds:>8.0f}  {p.peak_mib:>8.0f}"
        )
    s = summary(played)
    if s["seeds"]:
        low, high = s["coverage_interval"]
        lines += [
            "",
            f"{s['seeds']} seeds ({s['failed']} failed). Medians: the true error rate fell by {s['median_fell']:.0%}"
            f" (worst {s['worst_fell']:.0%}), {s['median_errors_found_over_random']:.2f} times the errors of random labels,"
            f" {s['median_seconds']:.0f} s, {s['median_peak_mib']:.0f} MiB.",
            f"Coverage: {s['covered']} of {s['turns']} turns, {s['coverage']:.1%} (95% interval {low:.1%} to {high:.1%}).",
            f"Promotions: {s['promoted']}, wrong {s['wrongly_promoted']}; wrong verdicts of any kind: {s['wrong_verdicts']}.",
        ]
    return "\n".join(lines)


def summary(played: Sequence[Played]) -> dict[str, Any]:
    done = [p for p in played if not p.error]
    failed = len(played) - len(done)
    if not done:
        return {"seeds": 0, "failed": failed}
    covered, turns = sum(p.covered for p in done), sum(p.turns for p in done)
    interval = stats.binomtest(covered, turns).proportion_ci(0.95, method="exact")
    return {
        "seeds": len(done),
        "failed": failed,
        "covered": covered,
        "turns": turns,
        "coverage": round(covered / turns, 4),
        "coverage_interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
        "median_fell": round(statistics.median(p.fell for p in done), 4),
        "worst_fell": min(p.fell for p in done),
        "median_fell_by_last": round(statistics.median(p.fell_by_last for p in done), 4),
        "median_errors_found_over_random": round(
            statistics.median(p.errors_found / p.errors_found_by_random for p in done), 4
        ),
        "median_label_accuracy": round(statistics.median(p.label_accuracy for p in done), 4),
        "promoted": sum(p.promoted for p in done),
        "wrongly_promoted": sum(p.wrongly_promoted for p in done),
        "wrong_verdicts": sum(p.wrong_verdicts for p in done),
        "median_seconds": statistics.median(p.seconds for p in done),
        "median_peak_mib": statistics.median(p.peak_mib for p in done),
    }


def _wait(process: subprocess.Popen, deadline: float) -> tuple[int, float]:
    """(exit code, peak resident MiB of the largest of the process and the children that it waited for). Ends it at the deadline.

    wait4 tells the usage of this very child, where RUSAGE_CHILDREN would give the largest of all seeds so far.
    """
    patience = [signal.SIGINT]
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, round(usage.ru_maxrss * KIB_PER_UNIT / 1024, 1)
        if time.monotonic() > deadline:
            # First politely: an interrupted demo ends the Prefect server that it started.
            process.send_signal(patience.pop(0) if patience else signal.SIGKILL)
            deadline += POLITE_S
        time.sleep(0.1)


def _environment() -> dict[str, str]:
    """Neither the caller's workspace nor their Prefect server: every seed starts from nothing."""
    theirs = ("FLYWHEEL_", "PREFECT_")
    return {key: value for key, value in os.environ.items() if not key.startswith(theirs)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo_seeds", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 to this, exclusive")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="demos at once")
    parser.add_argument(
        "--timeout", type=float, default=1800, help="seconds after which a demo is killed and counts as failed"
    )
    parser.add_argument("--out", type=Path, help="where to write the JSON; default: the temporary folder")
    options = parser.parse_args(argv)
    out = options.out or Path(tempfile.gettempdir()) / "flywheel-demo-seeds.json"
    played: list[Played] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in pool.map(lambda seed: play(seed, options.turns, options.timeout), range(options.seeds)):
            played.append(done)
            told = done.error or f"{done.first:.1%} -> {done.after:.1%}"
            print(f"seed {done.seed}: {told}, {done.seconds:.0f} s", file=sys.stderr, flush=True)
            # After every seed: what has been played is not lost when the rest is interrupted.
            out.parent.mkdir(parents=True, exist_ok=True)
            document = {"summary": summary(played), "seeds": [asdict(p) for p in played]}
            out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(played))
    print(f"\nJSON: {out}")
    return 1 if any(p.error for p in played) else 0


if __name__ == "__main__":
    sys.exit(main())
