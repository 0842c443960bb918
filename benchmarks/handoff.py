"""The hand-off at size: candidates out to people, answers back, by each adapter.

python -m benchmarks.handoff                                      10,000 candidates by files, as lines and as a sheet
python -m benchmarks.handoff --mlflow http://127.0.0.1:5000       200 candidates by the review queues of a running server

Made texts (a question, three sources of 500 characters, an answer of 600); kinds in turn: answer, spans, rubric, relevance,
ranking. Every candidate has one answer. Each step runs in a process of its own, which gives its memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from tasks.kinds import KINDS, Ask, checked
from tasks.live.handoff.files import Files
from tasks.live.handoff.notation import written
from tasks.live.handoff.sheet import column, sheet
from tasks.live.handoff.tool import Handout, Tool, shuffled
from tasks.live.workspace import Workspace
from tasks.records import Approved

ASKED = ("answer", "spans", "rubric", "relevance", "ranking")
IN_MLFLOW = ("answer", "sentiment", "rubric", "topics", "note")
CATALOGUE = tuple(Approved(f"help-{n}", "answer", "help", f"Help {n}", "text " * 40, f"help/{n}") for n in range(200))
TIME = "2026-01-06T09:00:00Z"


def asks(n: int, kinds: tuple[str, ...]) -> list[Ask]:
    luck = random.Random(1)
    words = ["refund", "days", "billing", "Zoë", "the", "and", "30", "=1+1", "take", "a", "longer", "sure", "😀"]

    def text(characters: int) -> str:
        made = ""
        while len(made) < characters:
            made += luck.choice(words) + " "
        return made.strip()

    return [
        Ask(
            f"as_{k:06}", "bt_bench", f"cd_{k:06}", kinds[k % len(kinds)], f"ch_{k:06}", text(80), [],
            [{"id": f"d{i}", "text": text(500)} for i in range(3)], f"{text(300)} number {k}, {text(280)}",
            [{"id": f"an_{i}", "text": text(300)} for i in "abc"] if kinds[k % len(kinds)] == "ranking" else [],
            1, [], "annotator", 1, "answer/1", "",
        )
        for k in range(n)
    ]  # fmt: skip


def value(ask: Ask) -> dict[str, Any]:
    start = ask.response.index("number")
    end = ask.response.index(",", start)
    return {
        "answer": {"verdict": "wrong", "correction": "help-7"},
        "spans": {"spans": [{"start": start, "end": end, "text": ask.response[start:end], "label": "unsupported"}]},
        "rubric": {f.name: 4 for f in KINDS["rubric"].fields},
        "relevance": {"grades": {"0": 3, "1": 0, "2": 1}},
        "ranking": {"ranks": [["an_b"], ["an_a", "an_c"]], "unacceptable": []},
        "sentiment": {"sentiment": "negative"},
        "topics": {"topics": ["billing", "delivery"]},
        "note": {"note": "All good."},
    }[ask.kind]


def handout(made: list[Ask]) -> Handout:
    kinds = {a.kind: KINDS[a.kind] for a in made}
    return Handout("bt_bench", 1, made, kinds, {"answer/1": "# Look\n" * 50}, CATALOGUE)


def measured(step: Callable[..., str], *arguments: Any) -> tuple[str, float, float, float]:
    """What a step says of itself, its seconds, CPU seconds and the memory of its process at most, in MB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (step, arguments))


def _measured(step: Callable[..., str], arguments: tuple[Any, ...]) -> tuple[str, float, float, float]:
    begun, cpu = time.perf_counter(), time.process_time()
    said = step(*arguments)
    seconds, spent = time.perf_counter() - begun, time.process_time() - cpu
    # Not ru_maxrss: a new process begins with its parent's.
    used = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return said, seconds, spent, int(used.split()[1]) / 1024


def send(place: Workspace, made: list[Ask]) -> str:
    folder = Path(Files(place).send(handout(made)))
    return ", ".join(f"{p.name} {p.stat().st_size / 1e6:.0f} MB" for p in sorted(folder.glob("batch*")))


def answer_lines(place: Workspace, made: list[Ask]) -> str:
    with (place.answers / "ana.jsonl").open("wb") as f:
        for a in made:
            row = {
                "batch_id": a.batch_id, "candidate_id": a.candidate_id, "kind": a.kind, "content_hash": a.content_hash,
                "annotator": "ana", "value": value(a), "time": TIME,
            }  # fmt: skip
            f.write(orjson.dumps(row) + b"\n")
    return ""


def answer_sheet(place: Workspace, made: list[Ask]) -> str:
    shown = [replace(a, answers=shuffled(a)) for a in made]
    filled = {
        a.ask_id: {column(k): c for k, c in written(KINDS[a.kind], value(a), a).items()} | {"annotator": "ben"} for a in shown
    }
    (place.answers / "ben.csv").write_bytes(sheet(shown, KINDS, filled))
    return ""


def receive(place: Workspace) -> str:
    return _taken(Files(place))


def status(place: Workspace) -> str:
    now = Files(place).status()
    return f"{now.answered:,} answered, {now.open:,} open"


def _taken(tool: Tool) -> str:
    lines = 0
    for delivery in tool.receive():
        assert not delivery.flaws, delivery.flaws[0]
        lines += len(delivery.data.splitlines())
        delivery.accepted()
    return f"{lines:,} answers"


def right(place: Workspace, made: list[Ask]) -> str:
    """Every answer is the one that was given, as `checked` has it."""
    known = {a.candidate_id: a for a in made}
    seen = 0
    (place.state / "sheets-answers.json").unlink(missing_ok=True)
    (place.state / "offsets-answers.json").unlink(missing_ok=True)
    for delivery in Files(place).receive():
        for line in delivery.data.splitlines():
            row = orjson.loads(line)
            a = known[row["candidate_id"]]
            approved = {c.id for c in CATALOGUE}
            assert checked(KINDS[a.kind], row["value"], a, approved) == checked(KINDS[a.kind], value(a), a, approved)
            seen += 1
    return f"{seen:,} as they were given"


def by_mlflow(uri: str, n: int) -> None:
    import mlflow
    from mlflow.entities import AssessmentSource
    from mlflow.genai import review_queues

    from tasks.live.handoff.mlflow_review import MlflowReview

    made, name = asks(n, IN_MLFLOW), f"bench-{time.time_ns()}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(name)
    traces = {}
    for number, a in enumerate(made):
        if number % 200 == 0:
            mlflow.flush_trace_async_logging()  # its queue drops what it can't hold
        with mlflow.start_span("chat") as span:
            span.set_inputs({"question": a.question})
            span.set_outputs(a.response)
            traces[a.candidate_id] = span.trace_id
    mlflow.flush_trace_async_logging()
    with tempfile.TemporaryDirectory() as folder:
        tool = MlflowReview(Workspace(Path(folder)), uri, name, {"annotator": ["ana"]}, traces.__getitem__)
        steps: list[tuple[str, Callable[[], object]]] = [
            ("send", lambda: tool.send(handout(made))),
            ("receive nothing", lambda: _taken(tool)),
        ]
        for what, step in steps:
            begun = time.perf_counter()
            step()
            print(f"| MLflow, {n:,}: {what} | {time.perf_counter() - begun:.1f} |", flush=True)
        queues = {
            k: review_queues.get_review_queue(name=f"flywheel/bt_bench/{k}/ana").queue_id for k in {a.kind for a in made}
        }
        for a in made:
            trace = traces[a.candidate_id]
            for field, given in value(a).items():
                source = AssessmentSource("HUMAN", "ana")
                mlflow.log_feedback(trace_id=trace, name=f"flywheel.{a.kind}.{field}", value=given, source=source)
            review_queues.set_review_queue_item_status(queues[a.kind], item_id=trace, status="complete", completed_by="ana")
        for what in ("receive", "receive nothing new", "status"):
            begun = time.perf_counter()
            said = tool.status().answered if what == "status" else _taken(tool)
            print(f"| MLflow, {n:,}: {what} ({said}) | {time.perf_counter() - begun:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=0)
    parser.add_argument("--mlflow", default="")
    given = parser.parse_args()
    if given.mlflow:
        by_mlflow(given.mlflow, given.candidates or 200)
        return
    made = asks(given.candidates or 10_000, ASKED)
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder))
        place.answers.mkdir(parents=True)
        print("| step | seconds | CPU s | MB at most | |\n|---|---|---|---|---|")
        for what, step, arguments in (
            ("send", send, (place, made)),
            ("send again", send, (place, made)),
            ("(people answer in lines)", answer_lines, (place, made)),
            ("receive lines", receive, (place,)),
            ("(people answer in a sheet)", answer_sheet, (place, made)),
            ("receive the sheet", receive, (place,)),
            ("receive nothing new", receive, (place,)),
            ("status", status, (place,)),
            ("(check)", right, (place, made)),
        ):
            said, seconds, cpu, memory = measured(step, *arguments)
            print(f"| {what} | {seconds:.2f} | {cpu:.2f} | {memory:.0f} | {said} |", flush=True)


if __name__ == "__main__":
    main()
