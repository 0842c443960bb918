"""Hand-off by a Label Studio server: a project of labeling tasks for each batch, and what people answered, pulled every turn.

    tool = LabelStudio(workspace, {"annotator": ["kim", "ada"]})     a project for each of them; without people one that all share
    tool.send(handout)  ->  "http://127.0.0.1:8080/projects/7/data"
    for delivery in tool.receive(): … store delivery.data …; delivery.accepted()

Label Studio without a licence knows no roles: whoever has an account can read and change what others answered, and post in their
name. Where answers must be independent, `people` gives each a project of their own, and what is answered in it is theirs.
A candidate that is asked several kinds is one task with all of them. A project's config is never changed: other kinds, options or
guidelines are another project. docs/labelstudio.md tells how it is set up.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.kinds import RANKING, Ask, Kind
from tasks.live.handoff.labelstudio.config import config, instruction, parts
from tasks.live.handoff.labelstudio.pull import Pull
from tasks.live.handoff.labelstudio.server import NEWEST_TRIED, PAGE, Server, connect
from tasks.live.handoff.tool import Delivery, Handout, ToolStatus, shuffled
from tasks.live.workspace import Workspace
from tasks.records import digest

MARK = "flywheel"  # the first word of the title of our projects, and the name of our part of a task's data
CHUNK_BYTES = 20_000_000  # of one import; Label Studio takes some hundred megabytes


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """What the tasks of one project have in common. `person` '' where all share it."""

    role: str
    kinds: tuple[str, ...]
    wanted: int
    person: str


class LabelStudio:
    """The tool. Raises Refused where no server is named; nothing is asked of it before a verb is called."""

    def __init__(self, workspace: Workspace, people: Mapping[str, Sequence[str]] | None = None, server: Server | None = None):
        self.workspace = workspace
        self.people = {role: tuple(names) for role, names in (people or {}).items() if names}
        self.server = server or connect()

    def send(self, handout: Handout) -> str:
        self.server.version()
        prefix = _prefix(handout.batch_id, handout.round)
        projects = {}
        for place, candidates in self._missing(handout, self._there(prefix)).items():
            project = self._project(prefix, place, handout)
            projects[project] = None
            for chunk in _chunks([_task(asks, place.person, handout.kinds) for asks in candidates.values()]):
                self.server.post(f"/api/projects/{project}/import", chunk)
            self._remove_duplicates(project)
        here = [*projects] if projects else [p["id"] for p in self.server.projects(prefix)]
        return f"{self.server.url}/projects/{here[0]}/data" if len(here) == 1 else f"{self.server.url}/projects"

    def receive(self) -> Iterator[Delivery]:
        self.server.version()
        yield from Pull(self.workspace, self.server, f"{MARK} ").deliveries()

    def cancel(self, ask_ids: Collection[str]) -> None:
        """A task that nobody answered goes; one that has answers stays with them, and is offered to nobody else.

        A task that also holds another ask stays as it is.
        """
        gone = set(ask_ids)
        for project in self.server.projects(f"{MARK} "):
            for task in self.server.tasks(project["id"], f"id,data,{ANSWERED}"):
                ids = set(_ask_ids(task["data"]))
                if not ids or not ids <= gone:
                    continue
                if _answers(task) == 0:
                    self.server.delete(f"/api/tasks/{task['id']}/")
                else:
                    self.server.patch(f"/api/tasks/{task['id']}/", {"overlap": 1, "is_labeled": True})

    def status(self) -> ToolStatus:
        """An ask that several people see in projects of their own counts once for each."""
        warnings = []
        version = self.server.version()
        if version[: len(NEWEST_TRIED)] > NEWEST_TRIED:
            warnings.append(f"Label Studio {'.'.join(map(str, version))} is newer than what was tried (1.23.2)")
        if self.server.scripts_run():
            warnings.append("its pages run scripts that came with a text: start it with LS_CSP_REPORT_ONLY=0")
        if not self.people:
            warnings.append("everybody who has an account can see and change what others answered: name `people`")
        asked = answered = drafts = 0
        for project in self.server.projects(f"{MARK} "):
            kinds = {parts(name)[0] for name in re.findall(r'name="([^"]*)"', project["label_config"]) if len(parts(name)) > 2}
            done, tasks = project["num_tasks_with_annotations"], project["task_number"]
            answered, asked = answered + done * len(kinds), asked + (tasks - done) * len(kinds)
            if done < tasks:
                drafts += len(kinds) * self.server.begun(project["id"])
        return ToolStatus(f"{self.server.url}/projects", asked, answered, drafts, warnings)

    def _there(self, prefix: str) -> dict[str, set[str]]:
        """Ask -> the people in whose projects it is."""
        there: dict[str, set[str]] = {}
        for project in self.server.projects(prefix):
            for task in self.server.tasks(project["id"], "id,data"):
                for ask_id in _ask_ids(task["data"]):
                    there.setdefault(ask_id, set()).add(str(task["data"][MARK].get("person", "")))
        return there

    def _missing(self, handout: Handout, there: Mapping[str, set[str]]) -> dict[_Place, dict[str, list[Ask]]]:
        """Place -> candidate -> its asks that are not yet there."""
        shares: dict[tuple[str, str, int, str], list[Ask]] = {}
        for ask in handout.asks:
            for person in self._people_for(ask, there.get(ask.ask_id, set())):
                # In a project of one's own there is one answer to give, however many people are asked.
                wanted = ask.wanted if not person else 1
                shares.setdefault((ask.candidate_id, ask.role, wanted, person), []).append(ask)
        missing: dict[_Place, dict[str, list[Ask]]] = {}
        for (candidate, role, wanted, person), asks in shares.items():
            asks = sorted(asks, key=lambda a: list(handout.kinds).index(a.kind))
            place = _Place(role, tuple(a.kind for a in asks), wanted, person)
            missing.setdefault(place, {})[candidate] = asks
        return dict(sorted(missing.items()))

    def _people_for(self, ask: Ask, have: set[str]) -> Iterable[str]:
        people = self.people.get(ask.role, ())
        if not people:
            return [] if have else [""]
        if "" in have:  # it is in a project that all share
            return []
        free = [p for p in people if p not in have and p not in ask.answered_by]
        # By the candidate, so that one person gets all that is asked about it.
        free.sort(key=lambda p: hashlib.sha256(f"{ask.candidate_id}/{p}".encode()).digest())
        return free[: max(0, ask.wanted - len(have))]

    def _project(self, prefix: str, place: _Place, handout: Handout) -> int:
        """The project's id: found by its title, or made."""
        kinds: list[Kind] = [handout.kinds[k] for k in place.kinds]
        documents = max((len(a.contexts) for a in handout.asks), default=0)
        ranked = max((len(a.answers) for a in handout.asks), default=0)
        named = sorted({a.guideline for a in handout.asks if a.kind in place.kinds})
        body = {
            "label_config": config(kinds, handout.catalogue, documents, ranked),
            "expert_instruction": instruction([handout.guidelines.get(g, "") for g in named]),
            "show_instruction": True,
            "show_skip_button": True,
            "enable_empty_annotation": True,
            "show_collab_predictions": False,
            "maximum_annotations": max(1, place.wanted),
            "description": " · ".join(filter(None, (place.person, place.role, ", ".join(place.kinds), ", ".join(named)))),
        }
        title = f"{prefix}{place.role[:1]} {digest(json.dumps(body, sort_keys=True).encode())[:8]}"
        found = self.server.projects(title)
        if not found:
            mine = self.server.post("/api/projects/", body | {"title": title})["id"]
            found = self.server.projects(title)
            if found[0]["id"] != mine:  # another process was first
                self.server.delete(f"/api/projects/{mine}/")
        return found[0]["id"]

    def _remove_duplicates(self, project: int) -> None:
        """Of tasks with the same asks, which two that sent at once have made, the answered or the oldest is kept."""
        same: dict[tuple[str, ...], list[dict]] = {}
        for task in self.server.tasks(project, f"id,data,{ANSWERED}"):
            same.setdefault(tuple(_ask_ids(task["data"])), []).append(task)
        for asks, tasks in same.items():
            tasks.sort(key=lambda t: (_answers(t) == 0, t["id"]))
            for task in tasks[1:] if asks else []:
                if _answers(task) == 0:  # otherwise what somebody wrote would be lost
                    self.server.delete(f"/api/tasks/{task['id']}/")


ANSWERED = "total_annotations,cancelled_annotations,is_labeled"


def _prefix(batch_id: str, round: int) -> str:
    """Of a title, of which Label Studio keeps 50 characters."""
    return f"{MARK} {batch_id[:27]} {round}"


def _task(asks: Sequence[Ask], person: str, kinds: Mapping[str, Kind]) -> dict:
    """A task's data: what people see, and the ids by which their answers are known again. Nothing says why it was chosen."""
    first = asks[0]
    ranking = next((a for a in asks if kinds[a.kind].main.type == RANKING), None)
    ranked = shuffled(ranking, person) if ranking else []
    head = ("ask_id", "batch_id", "candidate_id", "kind", "content_hash", "guideline")
    data = {
        MARK: {"asks": [{name: getattr(a, name) for name in head} for a in asks], "person": person,
               "ranked": ranking.kind if ranking else ""},
        "question": first.question,
        "response": first.response,
        "history": [{"title": "", "text": f"{m.get('role', '')}:\n{_said(m.get('content'))}"} for m in first.history],
        "contexts": [{"title": f"Document {n}", "text": str(c.get("text", ""))} for n, c in enumerate(first.contexts, 1)],
        "answers": [{"title": f"Answer {n}", "text": a["text"], "id": a["id"]} for n, a in enumerate(ranked, 1)],
    }
    # PostgreSQL keeps no NUL. One character for one, so that offsets stay what they are.
    return {"data": json.loads(json.dumps(data).replace("\\u0000", "\\ufffd"))}


def _said(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _chunks(tasks: Sequence[dict]) -> Iterator[list[dict]]:
    chunk: list[dict] = []
    size = 0
    for task in tasks:
        length = len(json.dumps(task))
        if chunk and (len(chunk) == PAGE or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += length
    if chunk:
        yield chunk


def _ask_ids(data: object) -> list[str]:
    """Of a task that somebody else put into the project: none."""
    try:
        return [str(a["ask_id"]) for a in data[MARK]["asks"]]  # type: ignore[index]
    except (KeyError, TypeError):
        return []


def _answers(task: dict) -> int:
    return int(task["total_annotations"]) + int(task["cancelled_annotations"])
