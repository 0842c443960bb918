"""A workspace that has lived: logs of several people captured, asked about, answered, frozen, built, published to two remotes and
registered as a model. Everything real; only the training is left out.

    kim      two conversations (one over OTLP, in a line with others'), a comment, a line that could not be read, the same log twice
    ada ben  conversations of their own; the same question as kim's in one of them
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tasks.live import kept, registry, snapshot
from tasks.live.capture import capture
from tasks.live.freeze import freeze
from tasks.live.handoff.receive import receive
from tasks.live.handoff.send import send
from tasks.live.lake import Lake
from tasks.live.mining import mine
from tasks.live.registry import tracking
from tasks.live.repository import TAG, dvc, git_bytes
from tasks.live.workspace import Workspace
from tasks.records import canonical, content_id, write_jsonl
from tests.handmade import CATALOGUE, TEXT, asked, attribute, chat_span, line, log, said, traces
from tests.imports import ROOT
from tests.sendable import PEOPLE, change


def _turned(text: str) -> str:
    """Words that stand in no file of the project, which a workspace is a clone of."""
    return text[::-1]


KIM, ADA, BEN = _turned("1174-ydobemos"), "ada-17", "ben-18"
SHARED = _turned("?drac ym no dnufer eht ees I litnu gnol woh")  # kim and ada asked exactly this
SECRET = _turned("yadirF no 'etnanisoR' elcycib eht elots edd\u00fciuQ rakottO ruobhgien ym")
COMMENT = _turned("em ta shgual rakottO dna ,enog llits si etnanisoR")
UNREADABLE = _turned("remmus tsal miehskcukcuknekloW ot devom I")
SPOKEN = _turned("tniap neerg ni ,elddas ym no \"ihcstadnegnhcstewZ\" etorw yeht")
OVERHEARD = _turned("ydobemos fo redluohs eht revo daer I")
MEDDLING = _turned("deksa saw ydobon taht yas I dna ,thgir si ada")
NAMES = {KIM: _turned("omik"), ADA: "ada", BEN: "ben"}
FIRST = f"{NAMES[KIM]}-response-000"  # what the application calls their first answer
THEIRS = (KIM, SECRET, COMMENT, UNREADABLE, SPOKEN, OVERHEARD, MEDDLING)


def said_by(who: str, n: int) -> str:
    """A question that nobody else asked."""
    return f"{NAMES[who]} asks number {n} about {content_id('about', who, n)[6:]}"


def interactions() -> list[dict[str, Any]]:
    """The own lines: two conversations of kim's, and many of others."""
    logs = []
    for who, many in ((ADA, 24), (BEN, 24)):
        for n in range(many):
            logs.append(_asked(who, n, said_by(who, n)))
    logs.append(_asked(ADA, 90, SHARED))
    logs += [_asked(KIM, 0, SECRET), _asked(KIM, 1, SHARED), _asked(KIM, 2, said_by(KIM, 2)), _asked(KIM, 3, said_by(KIM, 3))]
    return logs


def _asked(who: str, n: int, question: str) -> dict[str, Any]:
    name = f"{NAMES[who]}-response-{n:03d}"
    answered = f"Dear {NAMES[who]}, {TEXT['refund']}" if who == KIM else TEXT["refund"]
    return asked(
        name, user_id=who, session_id=f"session-{NAMES[who]}-{n // 2:03d}", response=answered,
        messages=[{"role": "user", "content": question}], time=f"2026-01-05T{8 + n % 12:02d}:{n % 60:02d}:00Z",
    )  # fmt: skip


def spans() -> bytes:
    """One export request with spans of kim and of ben, as a collector sends them."""
    made = []
    for n, (who, text) in enumerate(((KIM, SPOKEN), (BEN, "is the shop open on Sunday mornings?"))):
        parts = [{"type": "text", "content": text}]
        made.append(
            chat_span(
                f"5a1{n}", traceId=f"{n + 7:032x}",
                attributes={
                    "gen_ai.conversation.id": f"spoken-{NAMES[who]}-1", "user.id": who,
                    "gen_ai.response.id": f"resp-spoken-{NAMES[who]}",
                    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}]),
                },
            )
        )  # fmt: skip
    root = {"traceId": f"{7:032x}", "spanId": "0001", "name": "request", "attributes": [attribute("user.id", KIM)]}
    return line(traces(*made, root))


def lived(root: Path, second: Path | None = None) -> Workspace:
    """The workspace, with one snapshot and two remotes."""
    # DVC starts stages as `python`.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    approved = root.with_name(f"{root.name}-approved.jsonl")
    write_jsonl(approved, CATALOGUE)
    place = snapshot.init(root, ROOT, approved, None, with_uncommitted=True)
    with dvc(place) as repo, repo.config.edit("repo") as config:
        config["remote"]["backup"] = {"url": str(second or root.with_name(f"{root.name}-backup"))}
    smaller = {"budget: 300": "budget: 40", "audit_holdout: 90": "audit_holdout: 10", "audit_open: 60": "audit_open: 10"}
    smaller |= {'["answer: 1", "action: 0.1", "relevance: 0.1"]': '["answer: 1"]', "audit_share: 0.05": "audit_share: 0.0"}
    change(place, smaller | {"min_window: 50": "min_window: 20", "gold_share: 0.07": "gold_share: 0.0"})
    write_jsonl(place.data / "annotators.jsonl", PEOPLE)
    logs = interactions()
    log(place.inbox / "monday.jsonl", *logs, spans(), broken())
    log(
        place.inbox / "tuesday.jsonl", said("event-1", FIRST, user_id=KIM, comment=COMMENT),
        said("event-2", "ada-response-000", user_id=ADA, comment="the battery of my bike is not what it was"),
        said("event-3", FIRST.replace("000", "001"), user_id=BEN, comment=OVERHEARD),
        said("event-4", "ada-response-001", user_id=KIM, comment=MEDDLING),
        *[said(f"event-{n}", f"ben-response-{n:03d}", user_id=BEN) for n in range(10, 20)],
    )  # fmt: skip
    capture(place)
    log(place.inbox / "again" / "copy.jsonl", *logs[-4:])  # an export that overlaps: only the raw segments know
    capture(place)
    mine(place)
    asked_about(place)
    published(place)
    return place


def copied(place: Workspace, to: Path) -> Workspace:
    """The same workspace and its remotes elsewhere; what happens to the copy leaves the original alone."""
    shutil.copytree(place.root, to, symlinks=True)
    backup = place.root.with_name(f"{place.root.name}-backup")
    shutil.copytree(backup, to.with_name(f"{to.name}-backup"))
    config = to / ".dvc" / "config"
    text = config.read_text().replace(f"{backup}", f"{to}-backup").replace(f"{place.root}/", f"{to}/")
    config.write_text(text)
    offsets = to / ".flywheel" / "offsets-logs.json"
    known = json.loads(offsets.read_text())
    moved = {}
    for name, entry in known.items():
        there = Path(name.replace(f"{place.root}/", f"{to}/"))
        moved[str(there)] = entry | {"inode": there.stat().st_ino, "mtime": there.stat().st_mtime_ns}
    offsets.write_text(json.dumps(moved))
    return Workspace(to)


def broken() -> bytes:
    """A line that no dialect reads, with kim in it."""
    return line({"strange": UNREADABLE, "user_id": KIM, "again": 1})


def asked_about(place: Workspace) -> None:
    """A batch goes out and comes back: two people each, on every question."""
    batch = send(place)
    rows = [json.loads(x) for x in (Path(batch.folder) / "batch.jsonl").read_bytes().splitlines()]
    for who in ("ana", "ben"):
        given = [
            {name: row[name] for name in ("batch_id", "candidate_id", "kind", "content_hash", "guideline")}
            | {"annotator": who, "time": "2026-01-06T09:00:00Z", "note": f"{who} thinks so"}
            | {"value": {"verdict": "wrong", "correction": "invoice"} if n % 3 else {"verdict": "right"}}
            for n, row in enumerate(rows)
        ]
        log(place.answers / f"{who}.jsonl", *given)
    receive(place)


def published(place: Workspace) -> str:
    """Freeze, curate, build, push to both remotes, commit, tag, and register a model; returns the tag."""
    freeze(place)
    snapshot.track_frozen(place)
    for stage in ("curate", "build"):
        snapshot.run_stage(place, stage)
    verdict = {"decision": "promote", "reasons": ["it is better"], "challenger": "d", "champion": "e"}
    (place.reports / "profile.json").write_bytes(b"{}\n")
    (place.reports / "verdict.json").write_bytes(canonical(verdict) + b"\n")
    with dvc(place) as repo:
        repo.push()
        repo.push(remote="backup")
    tag = TAG + snapshot.pinned_digest(place)[:8]
    reports = [str(p.relative_to(place.root)) for p in place.reports.iterdir() if p.is_file()]
    git_bytes(place.root, "add", "--", "dvc.lock", "data/frozen.dvc", "params.yaml", ".dvc/config", *reports)
    git_bytes(place.root, "commit", "--quiet", "--allow-empty", "-m", f"{tag}: promote")
    git_bytes(place.root, "tag", "--annotate", tag, "-m", "promote: it is better")
    registry.champion(place)  # the base model
    with tracking.asking(place) as client:
        run = client.create_run(tracking.experiment(client, place), run_name=tag)
        client.create_model_version(tracking.MODEL, f"{run.info.artifact_uri}/policy", run.info.run_id, tags={"snapshot": tag})
    return tag


def rows(place: Workspace, table: str, where: str = "true") -> list[dict[str, Any]]:
    return Lake(place.lake).query(f"SELECT * FROM {table} WHERE {where} ORDER BY ALL").to_pylist()


def digests(place: Workspace, commit: str) -> dict[str, str]:
    """Path -> MD5 of what a commit pins."""
    with contextlib.ExitStack() as opened:
        return opened.enter_context(kept.opened(place)).files(commit)
