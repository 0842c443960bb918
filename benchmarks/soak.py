"""The soak: a workspace lives through hundreds of random faults, and after each the invariants are checked and it is compared with
one that nothing befell.

    python -m benchmarks.soak --faults 200 --seed 1 --out /tmp/soak        exits 1 unless nothing was lost, doubled, wrong or left

Each fault strikes a flow of a real workspace (soak_world.py): it is killed at a time or at a write, its disk fills up, its clock
jumps, a server goes, a file is torn, another operator does the same at that moment (soak_faults.py). Then the same flow runs once
undisturbed. A fault that did not strike (the flow had ended before) is played, and not counted. Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.soak_faults import Fault, Measured, Wire, some
from benchmarks.soak_lives import REST_OF_A_ROLLBACK
from benchmarks.soak_world import ROOT, restore, states
from tests.conftest import start_prefect

# Chains of steps: the survivor of one fault meets the next, where what it left is what the next step begins with.
CHAINS = (
    ("logged", ("collect", "annotate")),
    ("collected", ("rebuild", "annotate")),
    ("answered", ("annotate",)),
    ("labelled", ("retrain", "promote", "approve", "rollback")),
    ("labelled", ("retrain",)),
    ("judged", ("approve", "rollback")),
    ("promoted", ("rollback", "collect", "turn")),
    ("promoted", ("maintain", "turn")),
    ("logged", ("capture", "rebuild")),
    ("collected", ("rebuild", "maintain")),
)
# What touches neither snapshots nor the registry is looked at in the lake alone, but for every third time.
OF_THE_LAKE, ALL_OF_IT = ("capture", "collect", "annotate", "rebuild", "maintain"), 3
COLD = 8  # of so many retrainings one runs its stages anew; the others find what they made in DVC's cache of runs
LOST, DOUBLED, WRONG, ORPHANS, OTHER, STUCK = "lost", "doubled", "wrong promotions", "orphans", "other faults", "stuck"
CACHE = ".dvc/cache/"
COUNTS = {
    "lost": LOST,
    "without raw": LOST,
    "account": LOST,
    "doubled": DOUBLED,
    "promotion": WRONG,
    "champion": WRONG,
    "orphan": ORPHANS,
}


@dataclass(slots=True)
class Soak:
    """What was struck and what was found. `bad`: by what it is, `stories`: each with how it came about; `named`: rotten objects
    that the checker named and its fix mended."""

    played: int = 0
    struck: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    bad: Counter = field(default_factory=Counter)
    compared: int = 0
    different: int = 0
    named: int = 0
    stories: list[dict[str, Any]] = field(default_factory=list)


class Lives:
    """The process that forks lives."""

    def __init__(self, library: Path, api: str):
        environment = {**os.environ, "LD_PRELOAD": str(library), "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT)}
        environment.pop("PREFECT_HOME", None)
        command = [sys.executable, "-m", "benchmarks.soak_lives"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, order: Any) -> Any:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("the process of the lives has ended; see its messages above")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def soak(out: Path, faults: int, seed: int, tell: Any = print, minutes: float = 1e9, flows: Sequence[str] = ()) -> Soak:
    """Play until so many faults have struck, or the time is over."""
    out.mkdir(parents=True, exist_ok=True)
    library, chance, done = out / "faulty.so", random.Random(seed), Soak()
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(library),
        str(ROOT / "tests" / "faulty.c"),
        "-ldl",
        "-pthread",
    ]
    subprocess.run(command, check=True)
    prefect = start_prefect(out / f"prefect-{os.getpid()}")
    wire = Wire(int(prefect["api"].split(":")[2].split("/")[0]))
    api = f"http://127.0.0.1:{wire.here}/api"
    lives = Lives(library, api)
    try:
        os.environ["PREFECT_API_URL"] = prefect["api"]
        kept = states(out, seed)
        measured = _remembered(out / "measured.json")
        retrained, until = 0, time.monotonic() + 60 * minutes
        while sum(done.struck.values()) < faults and time.monotonic() < until:
            state, steps = chance.choice([c for c in CHAINS if not flows or set(c[1]) <= set(flows)])
            for n in range(len(steps)):  # measured once, on a life that nothing befalls
                if (state, *steps[: n + 1]) not in measured:
                    _measure(lives, restore(kept / state, out / "workspace").root, (state, *steps), measured)
                    rows = [[path, asdict(of)] for path, of in measured.items()]
                    (out / "measured.json").write_text(json.dumps(rows), encoding="utf-8")
                    break
            retrained += "retrain" in steps
            root = restore(kept / state, out / "workspace", cold="retrain" in steps and retrained % COLD == 0).root
            for n, flow in enumerate(steps):
                of = measured[(state, *steps[: n + 1])]
                if not _strike(lives, wire, root, flow, some(chance, flow, of), of, chance, done, tell):
                    break  # what it left is another state than the next step begins with
    finally:
        lives.close()
        os.killpg(prefect["pid"], signal.SIGTERM)
    return done


def _remembered(path: Path) -> dict[tuple[str, ...], Measured]:
    """What an earlier soak of the same world measured."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {tuple(steps): Measured(**of) for steps, of in rows}


def _measure(lives: Lives, root: Path, path: tuple[str, ...], into: dict[tuple[str, ...], Measured]) -> None:
    for n, flow in enumerate(path[1:], 1):
        if path[: n + 1] in into:
            lives.ask({"flow": flow, "workspace": str(root)})
            continue
        ended = lives.ask({"flow": flow, "workspace": str(root), "count": True, "jump": 1, "jump_at": 10**9})
        if ended["ended"] != "done" and ended.get("code") != 4:
            raise SystemExit(f"undisturbed, {flow} after {path[:n]} ends so: {ended}")
        seen = lives.ask({"flow": "look", "workspace": str(root)})
        if "look" not in seen:
            raise SystemExit(f"the look after {path[: n + 1]} ends so: {seen}")
        if bad := [f for f in seen["look"]["findings"] if f["level"] == "fault"]:
            raise SystemExit(f"undisturbed, {flow} after {path[:n]} leaves: {bad}")
        into[path[: n + 1]] = Measured(ended["seconds"], ended["writes"], ended["looks"], seen["look"]["content"])


def _strike(
    lives: Lives,
    wire: Wire,
    root: Path,
    flow: str,
    fault: Fault,
    of: Measured,
    chance: random.Random,
    done: Soak,
    tell: Any,
) -> bool:
    """One fault, the rest after it, and the look. True where the workspace is as if nothing had befallen it."""
    torn = fault.torn(root, chance) if fault.torn else ""
    order = {"flow": flow, "workspace": str(root)} | fault.order
    timer = threading.Timer(fault.cut, wire.cut) if fault.cut is not None else None
    if timer:
        timer.start()
    if fault.beside:
        both = lives.ask([order, order | {"flow": fault.beside}])
        ended, struck = both[0] | {"beside": both[1]}, True
    else:
        ended = lives.ask(order)
        struck = (
            ended["killed"] or bool(torn) or ended["ended"] != "done" or ended.get("writes", 0) >= fault.order.get("at", 10**9)
            or ended.get("looks", 0) >= fault.order.get("jump_at", 10**9) or wire.refused > 0 or "environment" in fault.order
        )  # fmt: skip
    if timer:
        timer.cancel()
        wire.cut()
    wire.mend()
    done.played += 1
    if struck:
        done.struck[(fault.kind, flow)] += 1
    rest = lives.ask({"flow": REST_OF_A_ROLLBACK if flow == "rollback" else flow, "workspace": str(root)})
    whole = bool(torn) or flow not in OF_THE_LAKE or done.played % ALL_OF_IT == 0
    look = {"flow": "look" if whole else "look at the lake", "workspace": str(root)}
    seen = lives.ask(look)
    if "look" in seen and _rotten(torn, seen["look"]["findings"]):
        done.named += 1
        _fix(root, torn)
        seen = lives.ask(look)
    stuck = rest["ended"] != "done" and rest.get("code") != 4  # 4: the gate refuses, as it does undisturbed
    findings = seen["look"]["findings"] if "look" in seen else [{"check": "other", "level": "fault", "why": str(seen)}]
    # What the next run sweeps is left for good only if it is still there then.
    bad = Counter(
        COUNTS.get(f["check"], OTHER) for f in findings if f["level"] == "fault" or f["check"] in ("orphan", "account")
    )
    if stuck:
        bad[STUCK] += 1
    done.bad += bad
    same = "look" in seen and seen["look"]["content"] == of.content
    if fault.beside != ("rollback" if flow == "approve" else "approve"):
        done.compared += 1
        done.different += not same
    line = {"n": done.played, "fault": fault.kind, "flow": flow, "struck": struck, "torn": torn, "ended": ended, "rest": rest,
            "bad": dict(bad), "findings": findings, "order": fault.order}  # fmt: skip
    if not same and "look" in seen:
        line["differs"] = [k for k, v in seen["look"]["content"].items() if v != of.content[k]]
    if bad or not same:
        done.stories.append(line)
    tell(line)
    return same and not bad


def _rotten(torn: str, findings: Sequence[dict[str, Any]]) -> bool:
    """Whether the checker names an object of a snapshot that rotted where it lies. No flow reads it again, so none mends it."""
    return torn.startswith(CACHE) and any(f["check"] == "snapshot" and "MD5" in f["why"] for f in findings)


def _fix(root: Path, torn: str) -> None:
    """What the checker says to do about it."""
    (root / torn).unlink(missing_ok=True)
    dvc = Path(sys.executable).parent / "dvc"
    subprocess.run([dvc, "fetch", "--quiet", "--all-tags"], cwd=root, check=True, capture_output=True)


def table(done: Soak) -> str:
    flows = sorted({flow for _, flow in done.struck})
    kinds = sorted({kind for kind, _ in done.struck})
    lines = [f"| fault | {' | '.join(flows)} | all |", f"|---|{'---|' * (len(flows) + 1)}"]
    for kind in kinds:
        row = [done.struck[(kind, flow)] for flow in flows]
        lines.append(f"| {kind} | {' | '.join(str(n or '') for n in row)} | {sum(row)} |")
    by_flow = [sum(n for (_, f), n in done.struck.items() if f == flow) for flow in flows]
    lines.append(f"| all | {' | '.join(map(str, by_flow))} | {sum(by_flow)} |")
    said = [f"{name} = {done.bad[name]}" for name in (LOST, DOUBLED, WRONG, ORPHANS, OTHER, STUCK)]
    return "\n".join([
        *lines, "", f"{done.played} played, {sum(by_flow)} struck; {', '.join(said)};"
        f" {done.compared - done.different} of {done.compared} ended as the undisturbed twin did;"
        f" {done.named} rotten objects named by the checker and mended by its fix",
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="End earlier, with what struck until then.")
    parser.add_argument(
        "--flows", default="", help="Only chains of these, as approve,rollback,rebuild,capture (none of Prefect's)."
    )
    parser.add_argument("--out", type=Path, required=True, help="A folder for the workspace, its states and the log.")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "soak.jsonl").open("a") as log:

        def tell(line: dict[str, Any]) -> None:
            print(json.dumps(line), file=log, flush=True)
            mark = (
                "BAD" if line["bad"] else "differs" if "differs" in line else "ok" if line["struck"] else "not struck"
            )
            print(
                f"{line['n']:>4}  {line['flow']:<9} {line['fault']:<40} {line['ended']['ended']:<8} {mark}",
                file=sys.stderr,
            )

        done = soak(
            given.out.resolve(),
            given.faults,
            given.seed,
            tell,
            given.minutes,
            given.flows.split(",") if given.flows else (),
        )
    print(table(done))
    return 1 if done.bad or done.different else 0


if __name__ == "__main__":
    sys.exit(main())
