"""The example tables of a dataset: one row of post-training data each, in the shapes of TRL and `datasets`.

    data/dataset/parquet/train/sft/1767600000000000-5c0e7c5d.parquet   whole rows, for DuckDB: nested values are canonical JSON text
    data/dataset/jsonl/train/sft/1767600000000000-5c0e7c5d.jsonl       what a trainer reads of the same rows: `Table.trains`, nested

Every row names the interaction that it came from; who asked and who annotated it stand under that id in the same snapshot's
data/frozen, so that a dataset can be handed on without them, and `flywheel why` finds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.records import Json, content_id

TRAIN, HOLDOUT = "train", "holdout"
# Who wrote the text that a row teaches: the model itself, a person, or whoever approved the catalogue.
MODEL, PERSON, APPROVED, NOBODY = "model", "person", "approved", ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What every row has. `interaction_id` is where it came from, `beside` a second one where there is one (else '').

    `arrived` (µs) is the time of the batch in which people were first asked about it: rows are kept in this order, so that new ones
    change no old file.
    `origin` is how it was made (a code), `author` whose text it teaches, `weight` in (0, 1] how sure people are of it, `copies` how
    many near-identical pieces of evidence it stands for;
    `topic` and `language` are the slices by which datasets are balanced, `guideline` the version that people judged by.
    """

    example_id: str
    interaction_id: str
    beside: str
    group_id: str
    arrived: int
    origin: str
    author: str
    weight: float
    copies: int
    topic: str
    language: str
    guideline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised(Example):
    """`messages`: chat messages that end with the assistant's right answer; `tools`: JSON schemas of tools as
    JSON text, as TRL takes them, '[]' without.

    An assistant's turn inside the conversation that is not to be learned has `weight` 0 in its message.
    """

    messages: Json
    tools: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Example):
    """`prompt`, `chosen`, `rejected`: explicit-prompt preference. The actions where both are approved answers."""

    prompt: Json
    contexts: Json
    chosen: Json
    rejected: Json
    tools: str
    chosen_action: str
    rejected_action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired(Example):
    """One answer and whether it was good (KTO). The only table that takes thumbs, and few of them."""

    prompt: Json
    completion: Json
    label: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward(Example):
    """Two whole conversations, the first one better by `margin` in (0, 1]."""

    chosen: Json
    rejected: Json
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Example):
    """A prompt for policy optimisation. `checks`: [{"check": "action", "value": "refund"}, …], each verifiable without a model;
    `ground_truth` the right answer's text, '' where only checks are known."""

    prompt: Json
    contexts: Json
    checks: Json
    ground_truth: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Safety(Example):
    """`policies` that `response` violates ([]: none), and what should have been done: answer, clarify, refuse, escalate ('':
    nobody said), with the `route` of an escalation."""

    prompt: Json
    response: str
    policies: Json
    action: str
    route: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding(Example):
    """Whether all of `response` rests on `contexts` (documents {"id", "text", …})."""

    prompt: Json
    contexts: Json
    response: str
    grounded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval(Example):
    """How relevant a document is to a query: 0 not at all, 3 answers it."""

    query: str
    document_id: str
    document: str
    grade: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans(Example):
    """Marked characters of `text` (half-open, in code points), and the same as a tag (BIO) for each of its tokens.

    `task` is 'hallucination' (`text` is the response to `contexts`) or 'entities' (the question).
    """

    task: str
    text: str
    contexts: Json
    spans: Json
    tokens: Json
    tags: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(Example):
    """What a text is: `task` 'intent', 'sentiment' or 'topics', with one label, or several."""

    task: str
    text: str
    labels: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric(Example):
    """Scores 1 to 5 by dimension ({} where there is a `note` only)."""

    prompt: Json
    contexts: Json
    response: str
    scores: Json
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Example):
    """A sealed prompt with its right answer (`target` its id, `target_text`), or with rated answers to choose from (`offered`:
    [{"text", "right"}, …]); `rubric`: what a judge should look at, in words."""

    messages: Json
    contexts: Json
    target: str
    target_text: str
    kind: str
    offered: Json
    rubric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression(Example):
    """A prompt of a failure cluster that was fixed (`cluster_id`, and its name when it was). `seen`: whether it was trained on;
    what was seen must stay right, what was not shows that the cure is general."""

    messages: Json
    contexts: Json
    target: str
    target_text: str
    cluster_id: str
    cluster: str
    seen: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its rows, the sides of the wall that it has, the columns that a trainer reads, and what it is for (Hugging
    Face's task category). Of `messages` a trainer reads `prompt` and `completion` (tasks/shards.py)."""

    name: str
    row: type[Example]
    sides: tuple[str, ...]
    trains: tuple[str, ...]
    task: str


BOTH = (TRAIN, HOLDOUT)
TABLES = {
    t.name: t
    for t in (
        Table("sft", Supervised, (TRAIN,), ("prompt", "completion", "tools"), "text-generation"),
        Table("preference", Preference, (TRAIN,), ("prompt", "chosen", "rejected", "tools"), "text-generation"),
        Table("unpaired", Unpaired, (TRAIN,), ("prompt", "completion", "label"), "text-generation"),
        Table("reward", Reward, (TRAIN,), ("chosen", "rejected", "margin"), "text-classification"),
        Table("prompts", Prompt, (TRAIN,), ("prompt", "checks", "ground_truth"), "text-generation"),
        Table("safety", Safety, BOTH, ("prompt", "response", "policies", "action", "route"), "text-classification"),
        Table("grounding", Grounding, BOTH, ("prompt", "contexts", "response", "grounded"), "text-classification"),
        Table("retrieval", Retrieval, BOTH, ("query", "document_id", "document", "grade"), "text-ranking"),
        Table("spans", Spans, BOTH, ("task", "text", "contexts", "spans", "tokens", "tags"), "token-classification"),
        Table("classification", Classification, BOTH, ("task", "text", "labels"), "text-classification"),
        Table("rubric", Rubric, BOTH, ("prompt", "contexts", "response", "scores", "note"), "text-classification"),
        Table(
            "evaluation", Evaluation, (HOLDOUT,),
            ("messages", "contexts", "target", "target_text", "offered", "rubric"), "question-answering",
        ),
        Table(
            "regression", Regression, (HOLDOUT,),
            ("messages", "contexts", "target", "target_text", "cluster_id", "cluster", "seen"), "question-answering",
        ),
    )
}  # fmt: skip


def example_id(table: str, *of: str) -> str:
    """The same evidence gives the same row of the same table."""
    return content_id("ex", table, *of)
