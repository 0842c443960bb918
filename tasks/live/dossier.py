"""The dossier of a snapshot, read from git, DVC and the registry: the work tree is not looked at, so an old snapshot has one too.

    write(workspace)                        ->  .flywheel/dossiers/snapshot-3f9c2a1b.html
    html(workspace, "snapshot-3f9c2a1b")    ->  "<!doctype html>…", without any text of a user: what `record` keeps

The pages are never committed: git forgets nothing, and texts in it would make erasing a person impossible. Each is noted as an
export is, before its first byte is written, so that an erasure finds it and names it to whoever gave copies away.
"""

from __future__ import annotations

import hashlib
import hmac
import io
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import yaml

from tasks.dossier import Case, Event, Evidence, Pinned, Reviewer, Version
from tasks.dossier.page import page
from tasks.errors import Refused
from tasks.live import export, kept
from tasks.live.kept import Gone, Kept, Tagged
from tasks.live.repository import git_bytes
from tasks.live.snapshot import digest_at
from tasks.live.workspace import Workspace, write_durably

FOLDER = "dossiers"
REPORTS = ("verdict", "evaluation", "training", "build", "dataset", "curate", "validation", "attribution")
ROWS = "data/evaluation/rows.jsonl"
SEALED, LABELS, ANSWERS = "data/dataset/parquet/holdout/evaluation/", "data/curated/labels/", "data/frozen/annotations/"
EARLIER = 20  # snapshots in the history


def write(workspace: Workspace, name: str = "", out: Path | None = None, with_texts: bool = False) -> Path:
    """Write the page of the newest snapshot, or of the one named. Raises Refused where there is none."""
    of = _tagged(workspace, name)
    target = (out or workspace.state / FOLDER / f"{of.tag}.html").absolute()
    if target.is_dir():
        raise Refused(f"{target} is a folder", "name a file, as in --out dossier.html")
    found = evidence(workspace, of, with_texts)
    export.note(workspace, "dossier", of.tag, found.digest, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_durably(target, page(found).encode())
    return target


def html(workspace: Workspace, name: str = "") -> str:
    """The page without texts of users: it may be kept where nothing is ever deleted."""
    return page(evidence(workspace, _tagged(workspace, name), False))


def evidence(workspace: Workspace, of: Tagged, with_texts: bool) -> Evidence:
    """All that the page says, from what the snapshot pins. Data that were erased since are left out."""
    reports = {name: found for name in REPORTS if (found := _report(workspace, of.commit, name)) is not None}
    if "verdict" not in reports:
        raise Refused(f"{of.tag} has no verdict", "name another snapshot: git tag lists them")
    with kept.opened(workspace) as objects:
        return Evidence(
            tag=of.tag,
            digest=digest_at(workspace, of.commit),
            commit=of.commit,
            made=_moment(of.time),
            reports=reports,
            params=yaml.safe_load(_file(workspace, of.commit, "params.yaml") or b"{}") or {},
            curves=_curves(_file(workspace, of.commit, "data/reports/curves.csv")),
            pinned=_pinned(workspace, of.commit),
            cases=_cases(objects, of.commit, with_texts),
            reviewers=_reviewers(workspace, objects, of.commit),
            events=_events(workspace, reports["verdict"]),
            history=_history(workspace, of),
            with_texts=with_texts,
        )


def _tagged(workspace: Workspace, name: str) -> Tagged:
    if name:
        return kept.tagged(workspace, name)
    known = kept.snapshots(workspace)
    if not known:
        raise Refused("there is no snapshot yet", "flywheel turn, or flywheel retrain")
    return known[-1]


def _file(workspace: Workspace, commit: str, path: str) -> bytes | None:
    """A file as it was committed; None where the commit has none."""
    if not git_bytes(workspace.root, "ls-tree", "--name-only", commit, "--", path):
        return None
    return git_bytes(workspace.root, "show", f"{commit}:{path}")


def _report(workspace: Workspace, commit: str, name: str) -> Any:
    data = _file(workspace, commit, f"data/reports/{name}.json")
    return None if data is None else orjson.loads(data)


def _curves(csv: bytes | None) -> list[tuple[int, str, float]]:
    lines = [x.split(",") for x in (csv or b"").decode().splitlines()[1:]]
    return [(int(step), metric, float(value)) for step, metric, value in lines]


def _pinned(workspace: Workspace, commit: str) -> list[Pinned]:
    frozen = yaml.safe_load(_file(workspace, commit, "data/frozen.dvc") or b"{}") or {}
    found = [Pinned("freeze", "data/frozen", out["md5"]) for out in frozen.get("outs", [])]
    lock = yaml.safe_load(_file(workspace, commit, "dvc.lock") or b"{}") or {}
    for name, stage in lock.get("stages", {}).items():
        found += [Pinned(name, out["path"], out["md5"]) for out in stage.get("outs", []) if "md5" in out]
    return found


def _cases(objects: Kept, commit: str, with_texts: bool) -> list[Case]:
    """The prompts on which the models differ, with what was asked where texts are wanted."""
    try:
        files = objects.files(commit)
        rows = [orjson.loads(x) for x in objects.read(files[ROWS]).splitlines()]
        asked = _asked(objects, files) if with_texts else {}
    except (Gone, KeyError):
        return []
    found = []
    for r in rows:
        if r["champion_right"] == r["challenger_right"]:
            continue
        question, right = asked.get(r["example_id"], ("", ""))
        said = {"champion": r["champion"], "challenger": r["challenger"]} if with_texts else {}
        found.append(
            Case(
                example_id=r["example_id"], part=r.get("part", ""), kind=r["kind"], topic=r.get("topic", ""),
                language=r.get("language", ""), fixed=r["challenger_right"], question=question, right=right, **said,
            )
        )  # fmt: skip
    return found


def _asked(objects: Kept, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    """What was asked and the right answer, by example."""
    found = {}
    for row in _rows(objects, files, SEALED, ["example_id", "messages", "target", "target_text"]):
        said = [m["content"] for m in orjson.loads(row["messages"]) if m["role"] == "user"]
        found[row["example_id"]] = (said[-1] if said else "", row["target_text"] or row["target"])
    return found


def _reviewers(workspace: Workspace, objects: Kept, commit: str) -> list[Reviewer]:
    """Who answered, by a pseudonym under the workspace's key, the most active first."""
    try:
        files = objects.files(commit)
        labels = {r["interaction_id"]: r["verdict"] for r in _rows(objects, files, LABELS, ["interaction_id", "verdict"])}
        columns = ["annotator", "interaction_id", "kind", "status", "role", "value"]
        given = list(_rows(objects, files, ANSWERS, columns))
    except Gone:
        return []
    answers: Counter[str] = Counter()
    labelled: Counter[str] = Counter()
    agreeing: Counter[str] = Counter()
    experts = set()
    for a in given:
        who = a["annotator"]
        experts |= {who} if a["role"] == "expert" else set()
        if a["status"] != "submitted":
            continue
        answers[who] += 1
        if a["kind"] == "answer" and a["interaction_id"] in labels:
            labelled[who] += 1
            agreeing[who] += orjson.loads(a["value"]).get("verdict") == labels[a["interaction_id"]]
    key = workspace.pseudonym_key()
    ordered = sorted(answers, key=lambda who: (-answers[who], _pseudonym(key, who)))
    return [Reviewer(_pseudonym(key, w), w in experts, answers[w], labelled[w], agreeing[w]) for w in ordered]


def _pseudonym(key: bytes, who: str) -> str:
    return "an_" + hmac.new(key, b"annotator " + who.encode(), hashlib.sha256).hexdigest()[:10]


def _rows(objects: Kept, files: dict[str, str], folder: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    for path, md5 in sorted(files.items()):
        if path.startswith(folder) and path.endswith(".parquet"):
            yield from pq.read_table(io.BytesIO(objects.read(md5)), columns=columns).to_pylist()


def _events(workspace: Workspace, verdict: dict[str, Any]) -> list[Event]:
    """What the registry has on record about this model, oldest first: who promoted, declined or rolled it back, and why."""
    from tasks.live import registry  # which logs this page

    model = verdict.get("challenger")
    if model is None:
        return []
    found = [e for e in registry.history(workspace) if e.digest == model or (e.action == "rolled back" and e.replaced == model)]
    return [Event(e.at, e.action, e.by, e.why) for e in found if e.by]


def _history(workspace: Workspace, of: Tagged) -> list[Version]:
    """This snapshot and those before it, the newest first."""
    known = kept.snapshots(workspace)
    until = next(n for n, s in enumerate(known) if s.tag == of.tag)
    found = []
    for s in reversed(known[max(0, until - EARLIER) : until + 1]):
        verdict, build = _report(workspace, s.commit, "verdict") or {}, _report(workspace, s.commit, "build") or {}
        found.append(
            Version(
                s.tag, _moment(s.time), str(verdict.get("decision", "")), build.get("rows", {}).get("train", {}).get("sft"),
                verdict.get("champion_right"), verdict.get("challenger_right"),
            )
        )  # fmt: skip
    return found


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
