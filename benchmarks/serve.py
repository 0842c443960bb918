"""What serving costs beyond the policy itself: requests a second and times, with and without a shadow, answered together or not.

    python -m benchmarks.serve                      a table on stdout; --json for one document
    python -m benchmarks.serve --test               how often the sequential test errs, and how soon it finds what is worse

The server is a process of its own with a real policy (the demo's approved answers, a base model of 256 dimensions behind a reward
guard), a real log and fsyncs; only who is champion is told to it directly, so that no registry's start is in the times. The load
comes from a third process over kept connections.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from demo.knowledge import approved_answers, load_knowledge
from tasks.policy import answers, folder_digest, load, reward
from tasks.policy.encoder import Encoder
from tasks.records import Approved
from tests.handmade import workspace

SECONDS = 6.0
PAIRS = 200
CALLERS = 16


@dataclass(frozen=True, slots=True)
class Measured:
    name: str
    callers: int
    per_second: float
    p50_ms: float
    p95_ms: float


def models(folder: Path) -> list[str]:
    """Two models' folders: champion and challenger, which differ in how sharp they are."""
    catalogue = approved()
    encoder = Encoder.fit([*answers.described(catalogue), *questions(2000)], 256)
    draw = random.Random(1)
    pairs = [
        reward.Pair([{"role": "user", "content": q}], [], *(a.text for a in draw.sample(catalogue, 2))) for q in questions(PAIRS)
    ]
    judge = reward.train(pairs, encoder, reward.RewardParams(3.0, 30.0, 30))
    made = []
    for name, sharpness in (("one", 12.0), ("two", 8.0)):
        policy = answers.base(catalogue, encoder, answers.AnswersParams(sharpness, 0.02, 1.0, 0.1, 3, 1))
        reward.Guarded(policy, judge, reward.GuardParams(0.05)).save(folder / name)
        made.append(str(folder / name))
    return made


def approved() -> list[Approved]:
    return [Approved(**row) for row in approved_answers(load_knowledge())]


def questions(n: int) -> list[str]:
    draw = random.Random(2)
    catalogue = approved()
    return [" ".join(draw.sample(draw.choice(catalogue).text.split(), 6)) + f" {k}?" for k in range(n)]


def direct(folder: str, batch: int) -> Measured:
    """The policy alone, in this process."""
    policy, asked, times = load(Path(folder)), questions(4000), []
    end = time.perf_counter() + SECONDS / 2
    at = 0
    while time.perf_counter() < end:
        some = [[{"role": "user", "content": q}] for q in asked[at % 3000 : at % 3000 + batch]]
        start = time.perf_counter()
        policy.respond(some, [[] for _ in some])
        times.append(time.perf_counter() - start)
        at += batch
    p50, p95 = np.quantile(times, [0.5, 0.95]) * 1000
    return Measured(f"policy alone, {batch} at once", 1, at / sum(times), round(p50, 2), round(p95, 2))


def served(name: str, folder: Path, made: list[str], callers: int, **settings: object) -> Measured:
    """Ask a server for some seconds."""
    place = workspace(folder)
    document = yaml.safe_load((place.root / "params.yaml").read_text(encoding="utf-8"))
    document["serve"] |= settings
    (place.root / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.serve", "--server", str(port), str(folder), *made]
    server = subprocess.Popen(command, env=os.environ)
    try:
        _until_up(port)
        load_command = [sys.executable, "-m", "benchmarks.serve", "--load", str(port), str(callers)]
        times = json.loads(subprocess.run(load_command, capture_output=True, check=True, text=True).stdout)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    p50, p95 = np.quantile(times, [0.5, 0.95]) * 1000
    return Measured(name, callers, round(len(times) / SECONDS, 1), round(p50, 2), round(p95, 2))


def run_server(port: int, folder: Path, made: list[str]) -> None:
    from tasks.live.registry import Registered
    from tasks.live.serving import app, champions
    from tasks.live.workspace import Workspace

    one, two = (Registered(str(k + 1), folder_digest(Path(m)), Path(m)) for k, m in enumerate(made))
    champions.found = lambda _: champions.Found(one, two)  # type: ignore[assignment]
    champions.decision = lambda *_: "promote"  # type: ignore[assignment]
    app.serve(Workspace(folder), "127.0.0.1", port)


def run_load(port: int, callers: int) -> list[float]:
    """Seconds that each request took."""
    asked, times, end = questions(2000), [], time.perf_counter() + SECONDS

    def call(seed: int) -> None:
        connection, k = http.client.HTTPConnection("127.0.0.1", port, timeout=60), seed * 101
        while time.perf_counter() < end:
            messages = [{"role": "user", "content": asked[k % len(asked)]}]
            body = json.dumps({"model": "champion", "messages": messages, "user": f"user-{seed}"})
            start = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"{answer.status}")
            times.append(time.perf_counter() - start)
            k += 1

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(callers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return times


def simulated(worlds: int = 300, users: int = 4000) -> list[dict[str, float]]:
    """Users come one after the other, and each is looked at: in what share of worlds is the newer ever called worse, and when?"""
    from tasks import sequential

    rows = []
    for share in (0.5, 0.1):
        for older, newer in ((0.1, 0.1), (0.3, 0.3), (0.1, 0.15), (0.1, 0.2), (0.3, 0.4)):
            draw, found = np.random.default_rng(1), []
            for _ in range(worlds):
                arm = draw.random(users) < share
                bad = draw.random(users) < np.where(arm, newer, older)
                outcomes = [sequential.Outcome(a, b) for a, b in zip(arm.tolist(), bad.tolist(), strict=True)]
                z = (1 + sequential.blocks(outcomes, share)) / 2
                wealth = np.exp(np.log1p(sequential.STAKES * (z[:, None] / 0.5 - 1)).cumsum(axis=0)).mean(axis=1)
                hit = np.flatnonzero(wealth >= 1 / 0.05)
                if len(hit):
                    found.append((hit[0] + 1) / len(z) * users)
            late = np.quantile(found, [0.5, 0.9]).round().tolist() if found else [None, None]
            rows.append({"share": share, "older": older, "newer": newer, "called worse": len(found) / worlds,
                         "users, median": late[0], "users, 90%": late[1]})  # fmt: skip
    return rows


def _until_up(port: int) -> None:
    for _ in range(400):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--server", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()
    if args.test:
        return print("\n".join(json.dumps(row) for row in simulated()))
    if args.server:
        return run_server(int(args.server[0]), Path(args.server[1]), args.server[2:])
    if args.load:
        return print(json.dumps(run_load(*args.load)))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        made = models(root / "models")
        rows = [
            direct(made[0], 1),
            direct(made[0], CALLERS),
            served("served, one caller", root / "a", made, 1),
            served("served", root / "b", made, CALLERS),
            served("served, each alone (max_batch 1)", root / "c", made, CALLERS, max_batch=1),
            served("served, with a shadow", root / "d", made, CALLERS, shadow=True),
            served("served, with a shadow, one caller", root / "e", made, 1, shadow=True),
            served("served, half of the users a canary", root / "f", made, CALLERS, challenger_share=0.5),
        ]
    if args.json:
        return print(json.dumps([asdict(r) for r in rows]))
    print(f"{'':36} callers  requests/s   p50 ms   p95 ms   of the policy alone")
    for r in rows:
        share = r.per_second / rows[0].per_second
        print(f"{r.name:36} {r.callers:7} {r.per_second:11.0f} {r.p50_ms:8.2f} {r.p95_ms:8.2f} {share:10.2f}")


if __name__ == "__main__":
    main()
