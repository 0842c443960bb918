"""The hand-off by review queues of a real MLflow server: everybody's own queue, edits and deletions, nothing taken on trust."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import BadRecord, Refused
from tasks.kinds import KINDS, Ask, checked, with_options
from tasks.live.handoff.tool import Handout
from tasks.live.workspace import Workspace
from tests.handmade import workspace
from tests.test_mlflow_server import ask as traced
from tests.test_mlflow_server import server as server
from tests.tool_conformance import APPROVED, BATCH, QUESTION, RESPONSE, SCENARIOS, VALUES, handout, taken

pytestmark = pytest.mark.slow
SUPPORTED = tuple(k for k in KINDS if k not in ("ranking", "spans", "relevance", "entities"))
PEOPLE = {"annotator": ["Ana", "ben"]}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


@pytest.fixture
def review(server: str, place: Workspace, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The adapter on an experiment of its own, where every candidate becomes a trace when it is asked for."""
    from tasks.live.handoff.mlflow_review import MlflowReview

    name, traces = f"review-{request.node.name}-{time.time_ns()}", {}
    traced(server, name, "the first makes the experiment", "yes")

    def trace_of(candidate: str) -> str:
        if candidate not in traces:
            traces[candidate] = traced(server, name, QUESTION, RESPONSE)
        return traces[candidate]

    return MlflowReview(place, server, name, PEOPLE, trace_of)


class AtMlflow:
    """Somebody in MLflow's review page: writes and overrides assessments, then marks the item."""

    kinds = SUPPORTED
    withdraws = skips = True

    def __init__(self, review: Any):
        import mlflow

        self.review = review
        mlflow.set_tracking_uri(review.uri)
        mlflow.set_experiment(review.experiment)

    def answer(self, ask: Ask, annotator: str, value: dict[str, Any], rationale: str | None = None) -> None:
        import mlflow
        from mlflow.entities import AssessmentSource

        trace = self.review.trace_of(ask.candidate_id)
        standing = {a.name: a for a in self._own(ask, annotator) if a.valid is not False}
        for field in KINDS[ask.kind].fields:
            name = f"flywheel.{ask.kind}.{field.name}"
            given = ["none"] if value.get(field.name) == [] and field.required else value.get(field.name)
            if given in (None, []):
                self._delete(ask, annotator, name)
                continue
            told = {"trace_id": trace, "value": given, "rationale": rationale,
                    "source": AssessmentSource("HUMAN", annotator)}  # fmt: skip
            if name in standing:
                mlflow.override_feedback(assessment_id=standing[name].assessment_id, **told)
            else:
                mlflow.log_feedback(name=name, **told)
        self._mark(ask, annotator, "complete")

    def skip(self, ask: Ask, annotator: str) -> None:
        self._mark(ask, annotator, "declined")

    def withdraw(self, ask: Ask, annotator: str) -> None:
        self._delete(ask, annotator)

    def _own(self, ask: Ask, annotator: str) -> list[Any]:
        import mlflow

        trace = mlflow.get_trace(self.review.trace_of(ask.candidate_id))
        kind = f"flywheel.{ask.kind}."
        return [a for a in trace.info.assessments if a.name.startswith(kind) and a.source.source_id == annotator]

    def _delete(self, ask: Ask, annotator: str, name: str = "") -> None:
        import mlflow

        for a in self._own(ask, annotator):
            if not name or a.name == name:
                mlflow.delete_assessment(trace_id=a.trace_id, assessment_id=a.assessment_id)

    def _mark(self, ask: Ask, annotator: str, status: Any) -> None:
        from mlflow.genai import review_queues

        queue = review_queues.get_review_queue(name=f"flywheel/{ask.batch_id}/{ask.kind}/{annotator}")
        trace = self.review.trace_of(ask.candidate_id)
        review_queues.set_review_queue_item_status(queue.queue_id, item_id=trace, status=status, completed_by=annotator)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_mlflow_conforms(scenario, review):
    scenario(review, AtMlflow(review))


def test_a_kind_that_mlflow_can_not_ask_is_refused_before_anything_is_sent(review):
    from tasks.live.handoff.mlflow_queues import lacks

    assert [k for k in KINDS.values() if not lacks(k)] == [KINDS[k] for k in SUPPORTED]
    assert "at most 10" in lacks(with_options(KINDS["intent"], {"intent": [f"intent {n}" for n in range(11)]}))
    assert "characters" in lacks(with_options(KINDS["intent"], {"intent": ["a" * 65, "b"]}))
    with pytest.raises(Refused, match=r"(?s)MLflow has no ranking.*by files"):
        review.send(handout(["note", "ranking"]))
    assert review.status().open == 0


def test_what_is_no_trace_or_a_deleted_or_a_shared_one_is_refused_whole(review):
    known = review.trace_of
    for trace in ("", "x' OR '1'='1", "a" * 51):
        review.trace_of = lambda candidate, trace=trace: trace
        with pytest.raises(Refused, match="is no trace in MLflow"):
            review.send(handout(["note"]))
    review.trace_of = lambda candidate: known(candidate) if candidate == "cd_note" else "tr-deleted"
    with pytest.raises(Refused, match=r"of 1 candidates are not in .* any more: cd_intent"):
        review.send(handout(["note", "intent"]))
    review.trace_of = lambda candidate: "tr-1"
    two = [replace(handout(["note"]).asks[0], ask_id=f"as_{n}", candidate_id=f"cd_{n}") for n in "ab"]
    with pytest.raises(Refused, match="several candidates"):
        review.send(Handout(BATCH, 1, two, {"note": KINDS["note"]}, {}, ()))
    assert review.status().open == 0


def test_the_server_lets_any_option_through_and_the_loop_does_not(review):
    out = handout(["sentiment"])
    review.send(out)
    AtMlflow(review).answer(out.asks[0], "ana", {"sentiment": "NOT_AN_OPTION"})
    (row,) = taken(review)
    with pytest.raises(BadRecord, match="NOT_AN_OPTION"):
        checked(KINDS["sentiment"], row["value"], out.asks[0], APPROVED)


def test_a_note_is_kept_as_it_was_written(review):
    out = handout(["sentiment"])
    review.send(out)
    note = "<script>alert(1)</script>\n<img src=x onerror=alert(1)> 😀"
    AtMlflow(review).answer(out.asks[0], "ana", VALUES["sentiment"][0], note)
    assert taken(review)[0]["note"] == note


def test_what_a_stranger_signs_is_told_and_not_taken(review):
    out = handout(["sentiment"], wanted=1, answered_by=["ben"])
    review.send(out)
    person = AtMlflow(review)
    with pytest.raises(Exception, match="not found"):
        person.answer(out.asks[0], "mallory", VALUES["sentiment"][0])
    assert taken(review) == []
    status = review.status()
    assert (status.open, status.answered) == (1, 0)
    assert status.warnings == ["1 answers are signed by somebody whose queue it is not"]


def test_an_answer_that_is_not_marked_complete_is_a_draft(review):
    out = handout(["sentiment"])
    review.send(out)
    person = AtMlflow(review)
    person._mark = lambda *_: None
    person.answer(out.asks[0], "ana", VALUES["sentiment"][0])
    assert taken(review) == [] and review.status().drafts == 1


def test_the_work_is_shared_and_each_asked_once(review):
    review.people = {"annotator": ["ana", "ben", "cyd", "dee"]}
    asks = [replace(handout(["note"]).asks[0], ask_id=f"as_{n}", candidate_id=f"cd_{n}") for n in range(40)]
    review.trace_of = lambda candidate: f"tr-{candidate}"
    people = [s.people for s in review._planned(Handout(BATCH, 1, asks, {"note": KINDS["note"]}, {}, ())).sent.values()]
    assert all(len(set(p)) == 2 for p in people)
    assert all(10 <= sum(name in p for p in people) <= 30 for name in review.people["annotator"])


def test_a_silent_server_and_a_wrong_name_are_told(place: Workspace, server: str):
    from tasks.live.handoff.mlflow_review import MlflowReview

    with pytest.raises(Refused, match="does not answer"):
        MlflowReview(place, "http://kim:the-password@127.0.0.1:9", "x", PEOPLE, lambda c: "tr-1").send(handout(["note"]))
    with pytest.raises(Refused, match="no experiment 'nowhere'"):
        MlflowReview(place, server, "nowhere", PEOPLE, lambda c: "tr-1").send(handout(["note"]))
    assert "the-password" not in "".join(p.read_text() for p in place.state.glob("*.json"))
