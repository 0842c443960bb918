"""How long a batch takes to a real Label Studio and back, from a request to the lines that are ready to be stored.

    make labelstudio && python -m benchmarks.handoff_labelstudio --candidates 10000

Candidates are answers of about 500 characters with three documents; the kinds `answer` and `spans` are asked. Answers are put in as
the page does, one by one, for `--answered` of them (a third of a second each, whatever the adapter does), the others by Label
Studio's import of tasks that have answers.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.kinds import KINDS, Ask, checked
from tasks.live.handoff.labelstudio import LabelStudio
from tasks.live.handoff.labelstudio.server import Server
from tasks.live.handoff.tool import Handout
from tasks.live.workspace import Workspace
from tests import labelstudio_server
from tests.handmade import CATALOGUE
from tests.labelstudio_server import Person, Running, results

TEXT = "Refunds are possible within 30 days, and shipping is free of charge for members of the club. " * 5
VALUES: dict[str, dict[str, Any]] = {
    "answer": {"verdict": "wrong", "correction": "refund"},
    "spans": {"spans": [{"start": 28, "end": 35, "text": "30 days", "label": "contradicted"}]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--answered", type=int, default=100, help="of them, one by one as the page does")
    given = parser.parse_args()
    if not labelstudio_server.installed():
        raise SystemExit(labelstudio_server.ABSENT)
    # Told to end, it ends like any other error would have it end: with the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        print("| | seconds | a second |\n|---|---|---|")
        server = timed("start, with an empty database", 0, lambda: labelstudio_server.start(Path(folder) / "server"))
        try:
            measure(server, Path(folder) / "workspace", given.candidates, given.answered)
        finally:
            labelstudio_server.stop(server.pid)
        print(f"\n{platform.machine()}, Python {platform.python_version()}, Label Studio 1.23.2 with SQLite")


def measure(server: Running, place: Path, n: int, by_hand: int) -> None:
    tool = LabelStudio(Workspace(place), (), Server(server.url, server.token))
    owner = Person(server.url)
    sent = handout("bt_out", n)
    timed("send", n, lambda: tool.send(sent))
    timed("send again, nothing to do", n, lambda: tool.send(sent))
    (project,) = tool.server.projects("flywheel bt_out")
    tasks = tool.server.tasks(project["id"], "id,data")
    assert len(tasks) == n
    timed("receive, nothing there", 0, lambda: lines(tool))
    timed("answers of the page", by_hand, lambda: [owner.answer(t["id"], answer(t["data"])) for t in tasks[:by_hand]])
    assert timed("receive what is new", 2 * by_hand, lambda: lines(tool)) == 2 * by_hand
    # The others: a batch that was answered elsewhere meanwhile.
    tool.send(handout("bt_back", n))
    (back,) = tool.server.projects("flywheel bt_back")
    empty = tool.server.tasks(back["id"], "id,data")
    for chunk in range(0, n, 1000):
        body = [{"data": t["data"], "annotations": [{"result": answer(t["data"])}]} for t in empty[chunk : chunk + 1000]]
        tool.server.post(f"/api/projects/{back['id']}/import", body)
    assert timed("receive all", 2 * n, lambda: lines(tool)) == 2 * n
    timed("receive again, nothing new", 0, lambda: lines(tool))
    note = next(iter(tool.workspace.state.glob("labelstudio-*.json")))
    print(f"\n{n:,} candidates; the note of what was delivered: {note.stat().st_size / 1e6:.1f} MB")


def handout(batch: str, n: int) -> Handout:
    contexts = [{"id": f"d{i}", "text": f"Policy {i}: refunds are possible within 14 days. " * 6} for i in range(3)]
    one = Ask("", batch, "", "", "ch_1", "When do I get my money?", [], contexts, TEXT, [], 3, [], "annotator", 1, "", "")
    asks = [
        replace(one, ask_id=f"{batch}/{i}/{kind}", candidate_id=f"cd_{i}", kind=kind, guideline=f"{kind}/1")
        for i in range(n)
        for kind in VALUES
    ]
    return Handout(batch, 1, asks, KINDS, {f"{kind}/1": "# Guideline" for kind in VALUES}, CATALOGUE)


def answer(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [r | {"id": f"{kind}-{r['id']}"} for kind, value in VALUES.items() for r in results(KINDS[kind], value, data)]


def lines(tool: LabelStudio) -> int:
    """How many lines came; each is checked, as the receiver does."""
    asks = {a.kind: a for a in handout("bt", 1).asks}
    came = 0
    for delivery in tool.receive():
        for line in map(json.loads, delivery.data.splitlines()):
            assert checked(KINDS[line["kind"]], line["value"], asks[line["kind"]], {"refund"}) == VALUES[line["kind"]]
            came += 1
        assert not delivery.flaws
        delivery.accepted()
    return came


def timed(what: str, n: int, work: Any) -> Any:
    start = time.perf_counter()
    done = work()
    seconds = time.perf_counter() - start
    print(f"| {what} | {seconds:.1f} | {f'{n / seconds:,.0f}' if n else ''} |", flush=True)
    return done


if __name__ == "__main__":
    main()
