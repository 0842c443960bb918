"""The same loop on real logs: a reward model learned from human verdicts on real answers, and best-of-n judged on held-out sources.

    python -m benchmarks.real_turn            four turns and an idle one (under three minutes)
    python -m benchmarks.real_turn --quick    one batch, one verdict (under a minute)

What is real: 854 responses of six models to 143 sources, with the hallucination spans that people marked
(RagTruth), and 4,290 responses of 30 newer models to the same sources, which no person has labelled. A response with any
span is wrong, one without is right. People's answers are the recorded ones, and one is revealed only for a candidate
that was sent in a batch; a candidate that nobody labelled gets no answer, and the loop has to live with that.

    turn 1   half of the labelled responses arrive          mined, batch 1 sent
    turn 2   batch 1 is answered                            snapshot, verdict, promotion
    turn 3   the other half arrives                         mined, now also by the champion's reward model; batch 2 sent
    turn 4   batch 2 is answered; the 4,290 arrive          snapshot, verdict against the new champion; batch 3 sent
    turn 5   nobody answers batch 3                         nothing is done, nothing is lost

The 4,290 come last and alone: in one window with the others they would leave most of the audit slice unanswered, and not at
random, and the error rate would then be that of the old models and say that it was everybody's.

What it does not show: every source has at least one wrong response (they were chosen so), hence error rates are higher than in
traffic; the held-out sources are new to the reward model, but the six models are not. Half of the sources are held out,
because with 143 of them the judgement, not the training, is short of data.
The encoder and the reward model keep the settings of params.yaml: nothing about them was chosen on this data.
The 4,290 carry an LLM judge's opinion; it is compared with, never learned from.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cost import Memory, Step, steps
from benchmarks.rag_log import Served, read
from demo.drop import compact, drop
from tasks.live import workspace as live
from tasks.live.workspace import Workspace, write_durably

PROJECT = Path(__file__).resolve().parents[1]
DATA = PROJECT.parent / "shared" / "data" / "rag_log"
ANNOTATOR, ANSWERED_AT = "ragtruth", ("2025-01-12T12:00:00Z", "2025-01-19T12:00:00Z")
# What this use needs otherwise than a support desk; see the docstring for the half that is held out.
CHANGED = {
    "split": {"holdout_share": 0.5},
    "select": {"budget": 400, "audit_holdout": 250, "audit_open": 130, "per_group": 6},  # six answers to each prompt: pairs
    "annotate": {"kinds": ["answer: 1"], "first": 1, "most": 1, "audit_share": 0.0, "gold_share": 0.0},  # one label an answer
    "retrain": {"min_new_labels": 100},
    "curate": {"min_votes": 1},
    "hygiene": {"group_rows": 100},
    "validate": {"min_rows": ["labels: 100", "preference: 40", "evaluation: 20"], "min_votes": 1},
    "train": {"policy": "best_of_n"},
    "judge": {"guard_kinds": []},
}


@dataclass(frozen=True, slots=True)
class Played:
    """`turns` as the flow returned them, with the seconds of each; `verdicts` as they were when they were new."""

    workspace: Workspace
    served: list[Served]
    turns: list[Any]
    verdicts: list[dict[str, Any]]
    seconds: list[float]
    steps: list[Step]


def play(directory: Path, quick: bool) -> Played:
    """Make a workspace in `directory` and turn the wheel. The loop sees log files and answer files only."""
    workspace = _new_workspace(directory)
    first, second, newer = read(DATA)
    labelled = {(s.source.question, s.response): s for s in (*first, *second)}
    from benchmarks.real_score import judged
    from flows.server import prefect_for

    turns: list[Any] = []
    verdicts: list[dict[str, Any]] = []
    seconds: list[float] = []
    since = time.time()
    with Memory() as memory, prefect_for(workspace):
        from flows.turn import turn
        from tasks.live import registry

        def once() -> Any:
            started = time.monotonic()
            turns.append(turn(workspace.root))
            seconds.append(round(time.monotonic() - started, 2))
            if asked := turns[-1].asked:
                turns[-1] = replace(turns[-1], promoted=registry.promote(workspace, registry.Approval("the benchmark", "", asked)))
            if turns[-1].retrained and turns[-1].retrained.new:
                verdicts.append(judged(workspace, turns[-1].retrained))
            return turns[-1]

        _serve(workspace, "week-1", first)
        _answer(workspace, once().sent, labelled, ANSWERED_AT[0])
        once()
        if not quick:
            _serve(workspace, "week-2", second)
            _answer(workspace, once().sent, labelled, ANSWERED_AT[1])
            _serve(workspace, "thirty-models", newer)
            _answer(workspace, once().sent, {}, "")
            once()
        served = [*first, *([] if quick else [*second, *newer])]
        return Played(workspace, served, turns, verdicts, seconds, steps(memory, since))


def _new_workspace(directory: Path) -> Workspace:
    from tasks.live import snapshot

    directory.mkdir(parents=True, exist_ok=True)
    approved = directory / "approved.jsonl"
    approved.write_bytes(b"")  # free text: there is no list of approved answers
    workspace = snapshot.init(directory / "workspace", PROJECT, approved, remote=None, with_uncommitted=True)
    path = workspace.root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, values in CHANGED.items():
        unknown = set(values) - set(params[section])
        if unknown:
            raise SystemExit(f"benchmarks/real_turn.py sets {section}.{unknown}, which params.yaml no longer has")
        params[section] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return workspace


def _serve(workspace: Workspace, name: str, served: Sequence[Served]) -> None:
    drop(workspace.inbox / f"{name}.jsonl", (compact(s.line()) for s in served))


def _answer(workspace: Workspace, sent: Any, labelled: dict[tuple[str, str], Served], time: str) -> None:
    """What the people of RagTruth said of the candidates in a batch, and of nothing else."""
    from tasks.records import read_jsonl

    answers = []
    for row in read_jsonl(sent.folder / "batch.jsonl"):
        served = labelled.get((row["question"], row["response"]))
        if served is None:
            continue
        answer = {key: row[key] for key in ("batch_id", "candidate_id", "kind", "content_hash")}
        value = {"verdict": "right" if served.right else "wrong"}
        answers.append(compact(answer | {"annotator": ANNOTATOR, "value": value, "time": time}))
    if answers:
        drop(workspace.answers / f"{sent.batch_id}.jsonl", answers)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_turn", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one batch and one verdict")
    parser.add_argument("--out", type=Path, help="where to write the JSON; default: a temporary folder")
    parser.add_argument("--keep", type=Path, help="keep the workspace in this new folder")
    options = parser.parse_args(argv)
    if not DATA.is_dir():
        print(f"real_turn: skipped, there is no {DATA}")
        return 0
    live.quiet_environment()
    temporary = Path(tempfile.mkdtemp(prefix="flywheel-real-turn-"))
    out = (options.out or temporary / "real_turn.json").resolve()
    directory = options.keep.resolve() if options.keep else temporary / "play"
    os.environ.setdefault("PREFECT_HOME", str(directory / "prefect"))
    try:
        played = play(directory, options.quick)
        from benchmarks.real_score import score
        from benchmarks.real_table import table

        result = score(played.workspace, played.turns, played.verdicts, played.served)
        cost = {"turns": played.seconds, "steps": [asdict(s) for s in played.steps]}
        print(table(result, cost))
        write_durably(out, (compact({"result": result, "cost": cost}) + "\n").encode())
        print(f"\nJSON: {out}")
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        if not any(temporary.iterdir()):
            temporary.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
