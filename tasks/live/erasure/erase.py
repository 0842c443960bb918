"""Erase: everything that came from one person, out of the workspace, its snapshots and their remotes, for good, and a proof of it.

    erase(workspace, Wish(user="u-17"))  ->  raw 12 lines, lake 31 rows, 14 objects in 2 stores, versions 3 and 4 to retrain, 0 hits

First the tombstones, so that nothing comes back meanwhile. What is to be done stands in a journal until it is done: a process that
was killed is followed by another with the same command, which does everything again and finds less and less to do. No step hands
over to the next anything but the journal.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tasks.addresses import without_password
from tasks.errors import Refused
from tasks.live import store
from tasks.live.erasure import databases, exports, litter, mail, objects, proof, raw, tables, told
from tasks.live.erasure.needles import Needles
from tasks.live.erasure.objects import Affected
from tasks.live.erasure.proof import JOURNALS, Looked
from tasks.live.erasure.subject import Subject, Wish, add_texts, subject_of
from tasks.live.erasure.theirs import USER, erasure_id, tombstones
from tasks.live.labels import write_rates
from tasks.live.workspace import Workspace, write_durably

OUT_OF_REACH = (
    "backups and disk images of this machine and of the remotes, until they are overwritten",
    "free blocks of the disks: a file that was deleted or written anew may be read back until they are used again",
    "clones of the workspace, and what dvc pull brought to other machines",
    "the application's own logs and tracing tools, and what was read from there",
    "exports and batches that people downloaded or passed on",
)
ROUNDS = 5  # each look into the raw segments may tell more names of theirs; two are usual


@dataclass(slots=True)
class Erased:
    """What was done. `done` counts by place; `files` are those that each snapshot lost, with their MD5; `objects` all that were to
    go; `retrain` the versions that learned from them, `judged` those that were only judged on them; `proof` what was looked into
    afterwards, and `hits` what was found there.
    """

    id: str
    at: str
    done: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    objects: list[str] = field(default_factory=list)
    retrain: list[str] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    looked_for: dict[str, int] = field(default_factory=dict)
    proof: dict[str, Looked] = field(default_factory=dict)
    hits: int = 0
    where: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    out_of_reach: list[str] = field(default_factory=lambda: list(OUT_OF_REACH))
    dry_run: bool = False


@dataclass(slots=True)
class Journal:
    """All that is needed to go on. It holds plain ids and texts, and goes when the erasure is over."""

    path: Path
    wish: Wish
    at: str
    subject: Subject
    places: tables.Places = field(default_factory=dict)
    affected: Affected = field(default_factory=Affected)
    done: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        row = {
            "wish": asdict(self.wish), "at": self.at, "subject": self.subject.as_json(), "affected": asdict(self.affected),
            "places": {name: sorted(lines.items()) for name, lines in self.places.items()}, "done": self.done,
        }  # fmt: skip
        write_durably(self.path, orjson.dumps(row))

    @classmethod
    def load(cls, path: Path) -> Journal:
        row = orjson.loads(path.read_bytes())
        places = {name: {n: whole for n, whole in lines} for name, lines in row["places"].items()}
        subject, wish = Subject.of_json(row["subject"]), Wish(**row["wish"])
        return cls(path, wish, row["at"], subject, places, Affected(**row["affected"]), row["done"])

    def add(self, place: str, counted: Any) -> None:
        """Count what was done in a place, on top of what was done there before the process died."""
        before = self.done.get(place)
        if isinstance(counted, dict):
            counted = {k: n + (before or {}).get(k, 0) for k, n in counted.items()} | {
                k: n for k, n in (before or {}).items() if k not in counted
            }
        else:
            counted += before or 0
        if counted:
            self.done[place] = counted


def unfinished(workspace: Workspace) -> list[Path]:
    """The journals of erasures that were killed."""
    return sorted((workspace.state / JOURNALS).glob("*.journal"))


def resume(workspace: Workspace) -> list[Erased]:
    """Finish what was begun. Raises Refused where nothing was."""
    begun = unfinished(workspace)
    if not begun:
        raise Refused("no erasure is unfinished", "flywheel erase --user U, or --session S, or --interaction I")
    return [erase(workspace, Journal.load(path).wish) for path in begun]


def erase(workspace: Workspace, wish: Wish, dry_run: bool = False) -> Erased:
    """Erase, or only say what would go. Repeating it changes nothing. Raises Refused where the workspace is busy, or nobody known
    is meant."""
    id = erasure_id(workspace.pseudonym_key(), wish.user, wish.tenant, wish.session, wish.interaction)
    path = workspace.state / JOURNALS / f"{id}.journal"
    with contextlib.ExitStack() as locks:
        for name in ("capture", "lake", "snapshot"):
            locks.enter_context(workspace.lock(name))
        in_git = (workspace.root / ".git").exists()
        if in_git:
            told.may_commit(workspace)
        journal = _begun(workspace, wish, path, in_git)
        if dry_run:
            return _planned(id, journal)
        tombstones(workspace).add(journal.subject.facts, id, journal.at)
        journal.save()
        by_hand = _erase(workspace, journal, in_git)
        done = _reported(workspace, id, journal, by_hand, in_git)
        path.unlink()
        return done


def _begun(workspace: Workspace, wish: Wish, path: Path, in_git: bool) -> Journal:
    """What is theirs: as the lake, the raw segments and the snapshots know it, and as an earlier attempt knew it."""
    before = Journal.load(path) if path.is_file() else None
    facts = set(before.subject.facts) if before else set()
    for _ in range(ROUNDS):
        subject = subject_of(workspace, wish, facts)
        found = raw.find(workspace, subject.facts)
        facts = subject.facts | found.facts
        if not found.facts:
            break
    add_texts(workspace, subject)
    places = {name: {n: w.is_tombstone for n, w in lines.items()} for name, lines in found.lines.items()}
    journal = Journal(path, wish, _now(), subject, places)
    if before is not None:
        subject.join(before.subject)
        journal.at, journal.done = before.at, before.done
        for name, lines in before.places.items():
            places[name] = lines | places.get(name, {})
    elif not subject.interactions and not subject.feedback and not places and not _known(workspace, subject):
        raise Refused("nothing in this workspace came from them", "check the id and --tenant; flywheel why --where-used U")
    if in_git:
        journal.affected = objects.affected(workspace, subject)
        if before is not None:
            _join(journal.affected, before.affected)
        # A remote that could not be reached the last time: its objects have no ids of theirs that anybody still knows.
        earlier = _report(workspace, path.stem)
        _join(journal.affected, Affected({md5: [] for md5 in earlier.get("objects", [])}))
    return journal


def _erase(workspace: Workspace, journal: Journal, in_git: bool) -> list[str]:
    subject, by_hand = journal.subject, []
    litter.erase(workspace)
    found = raw.find(workspace, subject.facts)
    journal.add("data/raw", raw.rewrite(workspace, found))
    journal.add("data/raw/answers", raw.answer_segments(workspace, subject))
    journal.add("data/spool", raw.spool(workspace, subject))
    lines, left = raw.inbox(workspace, subject)
    journal.add("data/inbox", lines)
    by_hand += left + raw.read_elsewhere(workspace, subject)
    journal.save()
    journal.add("data/lake", tables.erase(workspace, subject, journal.places))
    journal.add("data/outbox", mail.outbox(workspace, subject))
    journal.add("data/answers", mail.answers(workspace, subject))
    for place, step in (("Label Studio", mail.label_studio), ("MLflow traces", mail.mlflow_reviews)):
        n, left = step(workspace, subject)
        journal.add(place, n)
        by_hand += left
    journal.save()
    journal.add("work tree", objects.work_tree(workspace, subject))
    if in_git:
        counts, unreachable = objects.delete(workspace, journal.affected.objects)
        journal.add("objects of snapshots", counts)
        by_hand += [
            f"remote {name} ({why}): delete these objects there: {', '.join(sorted(journal.affected.objects))}"
            for name, why in unreachable.items()
        ]
        by_hand += _unpushed(workspace, set(journal.affected.files))
    n, left = exports.erase(workspace, subject, set(journal.affected.files))
    journal.add("exports", n)
    by_hand += left
    journal.add(".flywheel/*.json", mail.states(workspace, subject))
    counts, left = databases.erase(workspace, subject.needles)
    journal.add(".flywheel", counts)
    by_hand += left + _servers(workspace)
    if workspace.rates.is_file():
        write_rates(workspace)  # they rest on fewer labels now
    journal.save()
    return by_hand


def _reported(workspace: Workspace, id: str, journal: Journal, by_hand: list[str], in_git: bool) -> Erased:
    subject, day = journal.subject, journal.at[:10]
    objects_gone = sorted(journal.affected.objects)
    done = Erased(id, journal.at, journal.done, journal.affected.files, objects_gone, by_hand=by_hand)
    if in_git:
        told.tell(workspace, id, day, journal.affected.files)
        done.retrain, done.judged = told.to_retrain(workspace, day, journal.affected.files)
    looked = proof.prove(workspace, subject.needles)
    done.proof, done.hits, done.where = looked.places, looked.hits, looked.where
    done.by_hand += [f"could not be looked into: {name}" for name in looked.unseen]
    done.looked_for = _looked_for(subject)
    earlier = _report(workspace, id)
    if earlier and not journal.subject.interactions:  # what was done the first time stands, and what was left is added
        for place, counted in earlier["done"].items():
            journal.add(place, counted)
        done.at, done.looked_for = earlier["at"], earlier["looked_for"]
        done.files = earlier["files"] | done.files
        done.retrain, done.judged = done.retrain or earlier["retrain"], done.judged or earlier["judged"]
    write_durably(workspace.state / JOURNALS / f"{id}.json", orjson.dumps(asdict(done), option=orjson.OPT_INDENT_2))
    return done


def _report(workspace: Workspace, id: str) -> dict[str, Any]:
    path = workspace.state / JOURNALS / f"{id}.json"
    return orjson.loads(path.read_bytes()) if path.is_file() else {}


def _planned(id: str, journal: Journal) -> Erased:
    subject = journal.subject
    rows = {"interactions": len(subject.interactions), "feedback": len(subject.feedback), "asked about": len(subject.candidates)}
    lines = sum(map(len, journal.places.values()))
    plan = {"data/raw lines": lines, "data/lake": rows, "objects of snapshots": len(journal.affected.objects)}
    return Erased(id, journal.at, plan, journal.affected.files, looked_for=_looked_for(subject), dry_run=True)


def _looked_for(subject: Subject) -> dict[str, int]:
    return {
        "ids": len(subject.needles.ids), "pieces of texts": len(subject.texts), "texts that others said too": subject.shared,
        "texts too short to be known again": subject.short, "sessions with other people in them": subject.shared_sessions,
    }  # fmt: skip


def _known(workspace: Workspace, subject: Subject) -> bool:
    """Whether they were erased before, or stand in a log that was not captured yet."""
    known = tombstones(workspace)
    if any(known.has(*fact) for fact in subject.facts if fact[0] == USER):
        return True
    needles = Needles([subject.logged] if subject.logged else [v for _, _, v in subject.facts])
    waiting = (p for folder in (workspace.inbox, workspace.spool) for p in folder.rglob("*") if p.is_file())
    return any(map(needles.in_file, waiting))


def _unpushed(workspace: Workspace, lost: set[str]) -> list[str]:
    """A snapshot that lost files can't be pushed as a whole any more: the remote is not asked to take it again and again."""
    owed = store.pending(workspace)
    if not lost.intersection(owed):
        return []
    store.owe(workspace, [tag for tag in owed if tag not in lost])
    return [f"{tag} had not been pushed yet: what is left of it is on this machine only" for tag in owed if tag in lost]


def _servers(workspace: Workspace) -> list[str]:
    left = []
    if server := os.environ.get("PREFECT_API_URL"):
        left.append(
            f"the Prefect server at {without_password(server)} keeps what flows showed, examples of failures among it:"
            " delete the artifacts failure-clusters and batch there, or the flow runs"
        )
    if not workspace.tracking_uri.startswith("sqlite"):
        left.append("the MLflow server keeps reports with ids of rows (no texts) as artifacts; they were not looked into")
    return left


def _join(now: Affected, before: Affected) -> None:
    for md5, stores in before.objects.items():
        now.objects.setdefault(md5, stores)
    for tag, paths in before.files.items():
        now.files[tag] = dict(sorted((now.files.get(tag, {}) | paths).items()))


def _now() -> str:
    return datetime.fromtimestamp(int(time.time()), UTC).isoformat().replace("+00:00", "Z")
