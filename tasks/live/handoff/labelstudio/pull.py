"""What people answered in Label Studio since the last time, as neutral lines: new, edited, skipped and taken back.

Label Studio keeps no history and tells of a deletion by silence only. So what was delivered is remembered: for each task and each
person the newest answer, its digest and its time. A task is looked at again when it changed (Label Studio moves its time for
every answer, edit, deletion and skip); one that was deleted is found because the project holds fewer. The note is written when a
delivery was accepted and not before, so that what was not stored comes again, and what was stored does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tasks.errors import BadRecord
from tasks.live.handoff.labelstudio.server import Server
from tasks.live.handoff.labelstudio.values import values
from tasks.live.handoff.tool import Delivery
from tasks.live.people import roster
from tasks.live.workspace import Workspace, write_durably
from tasks.records import canonical, digest

OVERLAP = timedelta(minutes=5)  # a change may become visible later than one that is younger
SWEEP_S = 86_400.0  # the longest that a deleted task goes unnoticed where the number of tasks gives nothing away
AT_ONCE = 1000  # tasks in a delivery
COLUMNS = "id,updated_at,total_annotations,cancelled_annotations"
MARK = "flywheel"


class Pull:
    """One pull. `state`: project -> {"since", "count", "swept", "tasks": {task: {"at", "people": {who: what was delivered}}}}."""

    def __init__(self, workspace: Workspace, server: Server, prefix: str):
        self.server, self.prefix = server, prefix
        self.path = workspace.state / f"labelstudio-{digest(server.url.encode())[:12]}.json"
        self.state: dict[str, dict[str, Any]] = _read(self.path)
        self.names = _names(workspace, server)

    def deliveries(self) -> Iterator[Delivery]:
        for project in self.server.projects(self.prefix):
            yield from self._project(project)

    def _project(self, project: dict[str, Any]) -> Iterator[Delivery]:
        known = self.state.setdefault(
            str(project["id"]), {"since": "", "count": project["task_number"], "swept": time.time(), "tasks": {}}
        )
        since = _earlier(known["since"])
        listed = self.server.tasks(project["id"], COLUMNS, since)
        changed = [t["id"] for t in listed if _is_new(t, known["tasks"].get(str(t["id"])))]
        source = f"labelstudio:{self.server.url}/projects/{project['id']}"
        accepted: list[bool] = []
        for start in range(0, len(changed), AT_ONCE):
            part = changed[start : start + AT_ONCE]
            tasks = list(self.server.whole_tasks(project["id"], set(part), since))
            yield from self._delivery(source, known, [(t["id"], t) for t in tasks], accepted)
        if known["count"] != project["task_number"] or time.time() - known["swept"] > SWEEP_S:
            yield from self._delivery(source, known, [(i, None) for i in self._deleted(project["id"], known)], accepted)
            if all(accepted):
                known |= {"count": project["task_number"], "swept": time.time()}
        if all(accepted):
            known["since"] = max((t["updated_at"] for t in listed), default=known["since"])
            self._save()

    def _deleted(self, project: int, known: dict[str, Any]) -> list[int]:
        there = {t["id"] for t in self.server.tasks(project, "id")}
        missing = [int(i) for i in known["tasks"] if int(i) not in there]
        # A listing may miss what is there; that an answer was taken back is said only when the task itself is asked for.
        return [i for i in missing if self.server.get(f"/api/tasks/{i}/", missing_ok=True) is None]

    def _delivery(
        self, source: str, known: dict[str, Any], tasks: Sequence[tuple[int, dict | None]], accepted: list[bool]
    ) -> Iterator[Delivery]:
        """One delivery of what these tasks have to tell (None: deleted), if there is anything."""
        lines: list[dict[str, Any]] = []
        flaws: list[BadRecord] = []
        after: dict[str, dict[str, Any] | None] = {}
        for number, task in tasks:
            before = known["tasks"].get(str(number), {"at": "", "people": {}})
            try:
                new, people = self._task(task, before["people"])
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
                flaws.append(BadRecord("bad_item", f"{source}/data?task={number}: {type(e).__name__}: {e}"))
                new, people = [], before["people"]
            lines += new
            after[str(number)] = None if task is None else {"at": task.get("updated_at", ""), "people": people}
        mine = len(accepted)
        accepted.append(False)

        def accept() -> None:
            accepted[mine] = True
            for number, task in after.items():
                if task is None:
                    known["tasks"].pop(number, None)
                else:
                    known["tasks"][number] = task
            self._save()

        if lines or flaws:
            yield Delivery(source, b"".join(canonical(line) + b"\n" for line in lines), accept, flaws)
        elif after:
            accept()
        else:
            accepted[mine] = True

    def _task(self, task: dict | None, before: dict[str, Any]) -> tuple[list[dict], dict[str, Any]]:
        """The lines that tell what changed, and what is to be remembered instead of `before`."""
        newest = _newest(task["annotations"]) if task is not None else {}
        at = _time(task["updated_at"]) if task is not None else datetime.now(UTC)
        lines, people = [], {}
        for who, annotation in newest.items():
            made = _digest(annotation)
            old = before.get(who)
            if old and old["made"] == made:
                people[who] = old
                continue
            when = _time(annotation["updated_at"])
            if old and when <= _time(old["time"]):  # an older answer that counts again, because the newer one was deleted
                when = max(at, _time(old["time"]) + timedelta(microseconds=1))
            new = self._lines(task or {}, annotation, _text(when))
            lines += new
            people[who] = {"made": made, "time": _text(when), "heads": [_head(line) for line in new]}
        for who, old in before.items():
            if who in newest:
                continue
            if old["made"]:
                when = _text(max(at, _time(old["time"]) + timedelta(microseconds=1)))
                empty = {"value": {}, "time": when, "status": "withdrawn", "seconds": None, "shown": [], "note": ""}
                lines += [head | empty for head in old["heads"]]
                old = old | {"made": "", "time": when}
            people[who] = old
        return lines, people

    def _lines(self, task: dict[str, Any], annotation: dict[str, Any], when: str) -> list[dict[str, Any]]:
        data = task["data"]
        asks, person = data[MARK]["asks"], data[MARK].get("person", "")
        answers = [a["id"] for a in data["answers"]]
        skipped = bool(annotation["was_cancelled"])
        given = {} if skipped else values(annotation["result"], [a["kind"] for a in asks], data)
        seconds = annotation.get("lead_time")
        return [
            {
                "batch_id": ask["batch_id"],
                "candidate_id": ask["candidate_id"],
                "kind": ask["kind"],
                "content_hash": ask["content_hash"],
                "annotator": person or self.names.get(annotation["completed_by"], f"user-{annotation['completed_by']}"),
                "value": given.get(ask["kind"], {}),
                "time": when,
                "status": "skipped" if skipped else "submitted",
                # Label Studio counts the whole page; shared out, so that the sum over a person's answers is right.
                "seconds": round(seconds / len(asks), 3) if isinstance(seconds, int | float) else None,
                "shown": answers if ask["kind"] == data[MARK].get("ranked") else [],
                "note": "",
                "guideline": ask["guideline"],
                "native_id": str(annotation["id"]),
            }
            for ask in asks
        ]

    def _save(self) -> None:
        write_durably(self.path, orjson.dumps(self.state))


def _newest(annotations: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Who -> their newest answer: Label Studio lets one person answer a task more than once."""
    newest: dict[str, dict[str, Any]] = {}
    for annotation in sorted(annotations, key=lambda a: (_time(a["updated_at"]), a["id"])):
        newest[str(annotation["completed_by"])] = annotation
    return newest


def _digest(annotation: dict[str, Any]) -> str:
    return digest(canonical([annotation["id"], annotation["result"], bool(annotation["was_cancelled"])]))[:16]


def _head(line: dict[str, Any]) -> dict[str, Any]:
    names = ("batch_id", "candidate_id", "kind", "content_hash", "annotator", "guideline", "native_id")
    return {name: line[name] for name in names}


def _is_new(task: dict[str, Any], known: dict[str, Any] | None) -> bool:
    if known is None:
        return bool(task["total_annotations"] or task["cancelled_annotations"])
    return task["updated_at"] != known["at"]


def _names(workspace: Workspace, server: Server) -> dict[int, str]:
    """User -> annotator: by the roster, else what stands before the @ of the address, if no other user has the same."""
    known = {p.labelstudio.lower(): p.annotator for p in (roster(workspace) or {}).values() if p.labelstudio}
    users = {u["id"]: str(u.get("email") or u.get("username") or f"user-{u['id']}") for u in server.get("/api/users/") or []}
    short = {i: address.partition("@")[0] for i, address in users.items()}
    alone = {i for i, name in short.items() if [*short.values()].count(name) == 1}
    return {i: known.get(address.lower(), short[i] if i in alone else address) for i, address in users.items()}


def _read(path: Any) -> dict[str, dict[str, Any]]:
    """Without the note, or with one that cannot be read, everything comes again, and is found to be stored already."""
    try:
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _earlier(since: str) -> str:
    return _text(_time(since) - OVERLAP) if since else ""
