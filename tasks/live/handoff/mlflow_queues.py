"""MLflow's label schemas and review queues, as far as the hand-off needs them (MLflow 3.14 and later, experimental).

    Queues(uri, "support").put("bt_5c0…", kind, "ana", ["tr-9f…"])      a queue of one person, with the kind's questions
    Queues(uri, "support").signed(["tr-9f…"])   ->   {"tr-9f…": [Signed("answer", "verdict", "ana", "wrong", …)]}

MLflow checks neither the options of an answer nor who signs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.genai.label_schemas import InputCategorical, InputNumeric, InputText
from mlflow.tracing.client import TracingClient

from tasks.addresses import without_password
from tasks.errors import Refused
from tasks.kinds import APPROVED, CHOICE, CHOICES, MAX_TEXT, RANKING, RATING, SPANS, Field, Kind
from tasks.live.mlflow_server import reachable

PAGE = 100
MOST_OPTIONS, LONGEST_OPTION = 10, 64  # MLflow's limits
NONE = "none"  # chosen where nothing fits: an item that nobody touched is not the answer "nothing"
PREFIX = "flywheel"


@dataclass(frozen=True, slots=True)
class Item:
    """A trace in somebody's queue. `status` pending, complete or declined; `by` whom, at `ms`, where it is not pending."""

    trace: str
    status: str
    by: str
    ms: int


@dataclass(frozen=True, slots=True)
class Signed:
    """One valid assessment by a person: the answer to one field."""

    kind: str
    field: str
    person: str
    value: Any
    note: str
    ms: int
    assessment_id: str


def lacks(kind: Kind) -> str:
    """Why MLflow can't ask this kind of question; '' where it can."""
    for f in kind.fields:
        if f.type in (SPANS, RANKING) or f.each:
            return f"{kind.name}: MLflow has no {'grades for each document' if f.each else f.type}"
        if len(f.options) + _may_be_nothing(f) > MOST_OPTIONS:
            return f"{kind.name}: MLflow shows at most {MOST_OPTIONS} options, and {f.name} has {len(f.options)}"
        if any(len(o) > LONGEST_OPTION for o in f.options):
            return f"{kind.name}: an option of {f.name} has more than MLflow's {LONGEST_OPTION} characters"
    return ""


class Queues:
    """The review queues of one experiment."""

    def __init__(self, uri: str, experiment: str):
        self.shown = without_password(uri)
        reachable(self.shown)
        # The public functions are the same, but follow the one tracking address of the process.
        self.client = TracingClient(uri)
        with self.refusing():
            found = MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
        if found is None:
            raise Refused(f"{self.shown} has no experiment {experiment!r}", "name the one that the traces are in")
        self.experiment = found.experiment_id
        self.where = f"{self.shown}/#/experiments/{self.experiment}"

    @contextmanager
    def refusing(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as e:
            raise Refused(f"{self.shown}: {e.message}", "check the server; the same command goes on from there", 1) from None

    def put(self, batch: str, kind: Kind, person: str, traces: list[str]) -> None:
        """Traces into a person's queue; those that are in it already keep their status."""
        with self.refusing():
            schemas = [self._schema(kind, f) for f in kind.fields]
            queue = self._queue(batch, kind.name, person) or self.client._create_review_queue(
                self.experiment, name=_name(batch, kind.name, person), queue_type="custom", users=[person], schema_ids=schemas
            )
            for start in range(0, len(traces), PAGE):
                self.client._add_items_to_review_queue(queue.queue_id, item_ids=traces[start : start + PAGE])

    def items(self, batch: str, kind: str, person: str) -> list[Item]:
        """What is in a person's queue; nothing where there is none (it was deleted, or the sending interrupted)."""
        with self.refusing():
            queue, found, token = self._queue(batch, kind, person), [], None
            while queue is not None:
                page = self.client._list_review_queue_items(queue.queue_id, max_results=PAGE, page_token=token)
                found += [Item(i.item_id, str(i.status), i.completed_by or "", i.completed_time_ms or 0) for i in page]
                token = page.token
                if not token:
                    break
            return found

    def decline(self, batch: str, kind: str, person: str, traces: Collection[str], by: str) -> None:
        with self.refusing():
            queue = self._queue(batch, kind, person)
            for trace in traces if queue is not None else ():
                self.client._set_review_queue_item_status(
                    queue.queue_id, item_id=trace, status="declined", completed_by=by
                )

    def forget(self, traces: Collection[str]) -> int:
        """Delete these traces, with what was said about them; those that are gone already are no error."""
        ids, done = sorted(traces), 0
        with self.refusing():
            for start in range(0, len(ids), PAGE):
                done += self.client.delete_traces(self.experiment, trace_ids=ids[start : start + PAGE])
        return done

    def signed(self, traces: Collection[str]) -> dict[str, list[Signed]]:
        """The answers on these traces, oldest first: by people, not overridden, to the loop's questions."""
        found, ids = {}, sorted(traces)
        with self.refusing():
            for start in range(0, len(ids), PAGE):
                wanted = ", ".join(f"'{i}'" for i in ids[start : start + PAGE])
                for trace in self.client.search_traces(
                    locations=[self.experiment], filter_string=f"trace.request_id IN ({wanted})", max_results=PAGE,
                    include_spans=False,
                ):  # fmt: skip
                    own = [s for a in trace.info.assessments if (s := _signed(a)) is not None]
                    found[trace.info.trace_id] = sorted(own, key=lambda s: (s.ms, s.assessment_id))
        return found

    def _schema(self, kind: Kind, f: Field) -> str:
        name, told = f"{PREFIX}.{kind.name}.{f.name}", _instruction(kind, f)
        known = _or_none(lambda: self.client._get_label_schema_by_name(self.experiment, name))
        if known is None:
            known = self.client._create_label_schema(
                self.experiment, name=name, type="feedback", input=_input(f), instruction=told, enable_comment=f is kind.main
            )
        elif (known.input, known.instruction) != (_input(f), told):
            self.client._update_label_schema(known.schema_id, input=_input(f), instruction=told)
        return known.schema_id

    def _queue(self, batch: str, kind: str, person: str) -> Any:
        return _or_none(lambda: self.client._get_review_queue_by_name(self.experiment, _name(batch, kind, person)))


def nothing_chosen(f: Field, value: Any) -> bool:
    return value == [NONE] and _may_be_nothing(f)


def _may_be_nothing(f: Field) -> bool:
    return f.type == CHOICES and f.required and NONE not in f.options


def _or_none(asked: Any) -> Any:
    try:
        return asked()
    except MlflowException as e:
        if e.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _name(batch: str, kind: str, person: str) -> str:
    return f"{PREFIX}/{batch}/{kind}/{person}"


def _instruction(kind: Kind, f: Field) -> str:
    when = f"Only where {f.when[0]} is {f.when[1]}. " if f.when else ""
    told = "The id of an approved answer." if f.source == APPROVED else kind.question
    return f"{when}{told}"[:1000]


def _input(f: Field) -> Any:
    if f.source == APPROVED or f.type not in (CHOICE, CHOICES, RATING):
        return InputText(max_length=MAX_TEXT)
    if f.type == RATING:
        return InputNumeric(min_value=f.low, max_value=f.high)
    return InputCategorical(options=[*f.options, *([NONE] if _may_be_nothing(f) else [])], multi_select=f.type == CHOICES)


def _signed(assessment: Any) -> Signed | None:
    named = assessment.name.split(".", 2)
    if (
        assessment.valid is False
        or assessment.feedback is None
        or assessment.source.source_type != "HUMAN"
        or len(named) != 3
        or named[0] != PREFIX
    ):
        return None
    person = assessment.source.source_id.strip().lower()  # as MLflow keeps the users of a queue
    return Signed(
        named[1], named[2], person, assessment.value, assessment.rationale or "", assessment.last_update_time_ms,
        assessment.assessment_id,
    )  # fmt: skip
