"""Who answers: the champion, and beside it a challenger, or the champion before, for a share of the users.

    .flywheel/serve/state.json        who is champion here, who was before, which versions were worse for users
    .flywheel/serve/decisions.jsonl   {"at": "2026-01-05T08:00:00Z", "trial": "holdback", "decision": "breach", "low": 0.02, …}

A model takes its place once it is loaded; requests under way keep the one that they began with. A model whose files are broken
never takes it. What a breach changes is changed here at once; the registry follows when it can be reached (watch.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tasks.errors import Refused
from tasks.live.registry import Registered
from tasks.live.serving.decisions import Decision, append
from tasks.live.serving.model import Model
from tasks.live.serving.params import ServeParams
from tasks.live.serving.trial import CANARY, HOLDBACK, Trial
from tasks.live.workspace import Workspace, write_durably
from tasks.sequential import BREACH, SUCCESS, Evidence, evidence
from tasks.verdict import INCONCLUSIVE, PROMOTE

RETRY_S = 30.0  # until broken files are looked at again
DAY_S = 86_400.0
EXPIRED = "expired"  # a holdback whose days are over, undecided
log = logging.getLogger("flywheel.serve")


@dataclass(slots=True)
class State:
    """What a restart must know. `past`: digests that were champion. `worse`: challengers that were worse for users, and why;
    `taken_back`: champions that were."""

    champion: dict[str, str] | None = None
    previous: dict[str, str] | None = None
    promoted_at: float = 0.0
    past: list[str] = field(default_factory=list)
    worse: dict[str, str] = field(default_factory=dict)
    taken_back: dict[str, str] = field(default_factory=dict)


class LineUp:
    """`champion`, `challenger` and `trial` are read by requests without a lock: each is replaced as a whole."""

    def __init__(self, workspace: Workspace, params: ServeParams, now: Callable[[], float] = time.time):
        self.folder = workspace.state / "serve"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.champion: Model | None = None
        self.challenger: Model | None = None
        self.previous: Model | None = None
        self.trial: Trial | None = None
        self.evidence: Evidence | None = None
        self.problems: dict[str, str] = {}
        self.to_mark: list[Registered] = []  # challengers that breached, whose mark in the registry is due
        self._params, self._now, self._key = params, now, workspace.pseudonym_key()
        self._lock = threading.RLock()
        self._broken: dict[str, float] = {}
        self._state = _read(self.folder / "state.json")

    def resume(self) -> None:
        """Go on with whom this workspace served last: at a start, before the registry has answered, or where it cannot."""
        with self._lock:
            if self.champion is None and self._state.champion:
                self.champion = self._load("champion", _registered(self._state.champion))
                if self._state.previous:
                    self.previous = self._ready("previous", _registered(self._state.previous))

    def update(self, champion: Registered, challenger: Registered | None, decision: str) -> None:
        """What the registry says now. `decision` is the gate's about the challenger."""
        with self._lock:
            self._take_champion(champion)
            self._take_challenger(challenger, decision)
            self._compare()

    def look(self) -> None:
        """What the users of the trial have met so far, and what follows from it."""
        with self._lock:
            trial = self.trial
            if trial is None:
                return
            p, outcomes = self._params, trial.outcomes(self._now())
            if self.evidence is not None and len(outcomes) == self.evidence.older + self.evidence.newer:
                return  # nothing new
            found = evidence(outcomes, trial.share, p.alpha, p.margin)
            self.evidence = found
            if found.decision == BREACH:
                self._breach(trial, found)
            elif found.decision == SUCCESS and not trial.succeeded:
                trial.succeeded = True
                self._decide(trial, found, SUCCESS)
                if trial.kind == HOLDBACK:
                    self._end_holdback()

    def taken_back(self, champion: Registered) -> str:
        """Why a champion of the registry is not served here any more; "" where it is."""
        return self._state.taken_back.get(champion.digest, "")

    def was_worse(self, challenger: Registered) -> str:
        """What users met of a challenger that breached. If people promote it all the same, it is a fresh champion as any."""
        return self._state.worse.get(challenger.digest, "")

    def _take_champion(self, found: Registered) -> None:
        known = self.champion
        if known is not None and known.digest == found.digest:
            self.problems.pop("champion", None)
            return
        if known is not None and found.digest in self._state.taken_back:
            return  # served is the one before, until the registry says so too
        new = self._ready("champion", found)
        if new is None:
            return
        # One that was champion before comes back without a trial: how it does is known.
        self.previous = known if new.digest not in self._state.past else None
        self._state.previous = _described(self.previous) if self.previous else None
        self._state.promoted_at = self._now()
        self.champion = new
        self._state.champion = _described(new)
        self._state.past = [*dict.fromkeys([*self._state.past, new.digest])]
        self._save()
        log.warning("champion: version %s", new.version)

    def _take_challenger(self, found: Registered | None, decision: str) -> None:
        wanted = self._params.shadow or self._params.challenger_share > 0
        allowed = (PROMOTE,) if self._params.canary == PROMOTE else (PROMOTE, INCONCLUSIVE)
        fit = found is not None and decision in allowed and found.digest not in {*self._state.past, *self._state.worse}
        if found is None or not wanted or not fit:
            self.challenger = None
        elif self.challenger is None or self.challenger.digest != found.digest:
            self.challenger = self._ready("challenger", found)

    def _compare(self) -> None:
        """The trial that is due: first whether a fresh champion is no worse than the one before, then a challenger."""
        p, due = self._params, None
        if self.champion and self.previous and p.holdback_share:
            if self._now() - self._state.promoted_at < p.holdback_days * DAY_S:
                due = HOLDBACK, self.previous, self.champion, 1 - p.holdback_share
            elif self.trial is not None and self.trial.kind == HOLDBACK:
                self._decide(self.trial, self.evidence or evidence([], self.trial.share, p.alpha, p.margin), EXPIRED)
                self._end_holdback()
        if due is None and self.champion and self.challenger and p.challenger_share:
            due = CANARY, self.champion, self.challenger, p.challenger_share
        models = (due[0], due[1].digest, due[2].digest) if due else None
        now = (self.trial.kind, self.trial.older.digest, self.trial.newer.digest) if self.trial else None
        if models != now:
            self._stop(decided=True)
            if due:
                self.trial = Trial(self.folder, *due, p.outcome_minutes * 60, self._key, self._now())
                log.warning("%s: version %s beside %s", due[0], due[2].version, due[1].version)

    def _breach(self, trial: Trial, found: Evidence) -> None:
        if trial.kind == HOLDBACK:
            self._state.taken_back[trial.newer.digest] = found.told()
            self.champion, self.previous = trial.older, None
            self._state.champion, self._state.previous = _described(trial.older), None
        else:
            self._state.worse[trial.newer.digest] = found.told()
            self.challenger = None
            self.to_mark.append(trial.newer.registered)
        self._decide(trial, found, BREACH)
        self._stop(decided=True)
        self._save()

    def _decide(self, trial: Trial, found: Evidence, decision: str) -> None:
        made = Decision.of(trial.kind, decision, trial.older.registered, trial.newer.registered, found, self._now())
        log.warning("%s: %s: %s", trial.kind, decision, found.told())
        try:
            append(self.folder, made)
            self.problems.pop("decisions", None)
        except OSError as e:
            self.problems["decisions"] = f"not written: {e.strerror}: {made.reason}"

    def _end_holdback(self) -> None:
        self.previous = self._state.previous = None
        self._stop(decided=True)
        self._save()

    def _stop(self, decided: bool) -> None:
        if self.trial is not None:
            self.trial.close(decided)
        self.trial = self.evidence = None

    def close(self) -> None:
        """The trial's file stays: the next process goes on with it."""
        with self._lock:
            self._stop(decided=False)

    def _ready(self, name: str, found: Registered) -> Model | None:
        """The model, loaded; one of those at work already is not loaded twice."""
        for at_work in (self.champion, self.challenger, self.previous):
            if at_work is not None and at_work.digest == found.digest:
                return at_work
        return self._load(name, found)

    def _load(self, name: str, found: Registered) -> Model | None:
        if self._now() - self._broken.get(found.digest, -RETRY_S) < RETRY_S:
            return None
        try:
            model = Model.load(found, self._params.max_batch)
        except Refused as e:
            self._broken[found.digest] = self._now()
            self.problems[name] = e.why
            log.error("%s; fix: %s", e.why, e.what_to_do)
            return None
        self.problems.pop(name, None)
        return model

    def _save(self) -> None:
        try:
            write_durably(self.folder / "state.json", orjson.dumps(asdict(self._state)))
            self.problems.pop("state", None)
        except OSError as e:
            self.problems["state"] = f"not written: {e.strerror}"


def _described(model: Model) -> dict[str, Any]:
    return {"version": model.version, "digest": model.digest, "folder": str(model.folder)}


def _registered(described: dict[str, str]) -> Registered:
    return Registered(described["version"], described["digest"], Path(described["folder"]))


def _read(path: Path) -> State:
    try:
        return State(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return State()


