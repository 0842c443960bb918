"""The datasheet: the questions of Gebru et al., Datasheets for Datasets (2018), answered from what is known, or by who must answer.

    ### How many instances are there in total?
    4,812 rows: 3,904 for training, 908 for testing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from tasks.card.facts import AboutParams, Dataset
from tasks.card.readme import text, what
from tasks.examples import APPROVED, HOLDOUT, MODEL, PERSON, TRAIN


def datasheet(dataset: Dataset, about: AboutParams) -> str:
    sections = (
        ("Motivation", _motivation(dataset, about)),
        ("Composition", _composition(dataset)),
        ("Collection", _collection(dataset)),
        ("Preprocessing, cleaning, labelling", _preprocessing(dataset)),
        ("Uses", _uses(dataset)),
        ("Distribution", _distribution(about)),
        ("Maintenance", _maintenance(about)),
    )
    lines = [f"# Datasheet: {about.name}", ""]
    for title, answers in sections:
        lines += [f"## {title}", ""]
        for question, answer in answers:
            lines += [f"### {question}", "", answer, ""]
    return "\n".join(lines)


Answers = Iterable[tuple[str, str]]


def _motivation(dataset: Dataset, about: AboutParams) -> Answers:
    tables = ", ".join(dict.fromkeys(p.table for p in dataset.full)) or "none yet"
    yield "For what purpose was it created?", (
        f"To improve the model of {about.source or 'an application'} where it failed in production, and to"
        " measure whether a new"
        f" model is better. Tables: {tables}."
    )
    yield "Who created it?", about.contact or _unstated("contact")


def _composition(dataset: Dataset) -> Answers:
    yield "What do the instances represent?", (
        "\n".join(f"- `{name}`: {what(name)}" for name in dict.fromkeys(p.table for p in dataset.full))
        or "There are none yet."
    )
    train, test = (sum(p.rows for p in dataset.parts if p.side == side) for side in (TRAIN, HOLDOUT))
    copies = sum(p.copies for p in dataset.parts)
    yield "How many instances are there in total?", (
        f"{dataset.rows:,} rows: {train:,} for training, {test:,} for testing. They stand for {copies:,}"
        " pieces of evidence,"
        " near-identical ones being one row."
    )
    yield "Is it a sample?", (
        "Yes: part of the interactions was drawn at random from all traffic, with its probability recorded,"
        " and part was chosen as"
        " likely errors. The rows are not representative of the traffic."
    )
    yield "Is there a label or target?", _counts(dataset, "origin")
    yield "Are relationships between instances explicit?", (
        "`interaction_id` names the interaction, `beside` a second one, `group_id` the conversation and its"
        " near-duplicates."
    )
    yield "Are there recommended splits?", (
        "train and test, by a keyed hash of the group: no conversation and no near-duplicate is on both"
        " sides, and none ever changes side."
    )
    yield "Are there errors or noise?", (
        "`weight` is how sure the agreement of people makes a row; its means by table: "
        + (", ".join(f"{p.table} ({p.side}) {p.weight:.2f}" for p in dataset.full) or "none")
        + "."
    )
    yield "Does it contain personal data?", (
        "User ids are keyed pseudonyms and stand in no table of it; e-mail addresses, numbers and secrets in"
        " texts were replaced when"
        " they were captured. Names of persons may be left, and so may what a text tells of a person without"
        " naming one."
    )


def _collection(dataset: Dataset) -> Answers:
    first = min((p.arrived[0] for p in dataset.full), default=0)
    last = max((p.arrived[1] for p in dataset.full), default=0)
    yield "How was the data acquired?", "Read from the application's production logs; labelled by people under written guidelines."
    if last:
        yield "Over what time?", f"People were first asked about these rows from {_day(first)} to {_day(last)} (UTC)."
    people = dataset.people
    yield "Who was involved?", (
        f"{len(people.each)} people; agreed labels by kind of question: "
        + ", ".join(f"{kind} {n:,}" for kind, n in people.labels.items())
        + "."
        if people.each
        else "No labels of people are recorded beside this dataset."
    )
    yield "Under which guidelines?", _counts(dataset, "guideline")


def _preprocessing(dataset: Dataset) -> Answers:
    known = {k: v for k, v in people.items() if v is not None} if (people := dataset.people.agreement) else {}
    yield "Was any labelling done?", (
        "Several people answered each question; a label is what they agree on."
        + (" Krippendorff's alpha: " + ", ".join(f"{kind} {alpha:.2f}" for kind, alpha in known.items()) + "." if known else "")
    )
    refused = [f"- {stage}: {reason}: {n:,}" for stage, reasons in dataset.refused.items() for reason, n in reasons.items()]
    yield "Was anything left out?", "\n".join(refused) or "No row was refused."
    yield "Is the raw data kept?", "In the loop that made it, redacted; `interaction_id` finds it there."
    yield "Is the software available?", (
        "flywheel; its code, its settings and its input are pinned by the commit that this dataset belongs"
        " to. Digests of the settings: "
        + (", ".join(f"{name} {value[:12]}" for name, value in dataset.params.items()) or "not recorded")
        + "."
    )


def _uses(dataset: Dataset) -> Answers:
    authors = dataset.total("author")
    yield "For what can it be used?", (
        "Fine-tuning, preference and reward training, and evaluation of the application that it comes from."
    )
    yield "For what should it not be used?", (
        "The test split must not be trained on. Rates of errors cannot be read from it, as likely errors were"
        " chosen on purpose."
    )
    yield "Whose text does it teach?", (
        f"{authors.get(PERSON, 0):,} rows a person's, {authors.get(APPROVED, 0):,} an approved answer's,"
        f" {authors.get(MODEL, 0):,} the"
        " model's own; the others teach a judgement and no text."
    )


def _distribution(about: AboutParams) -> Answers:
    yield "Under which licence?", about.license + (f" ({about.license_link})" if about.license_link else "")
    yield "How is it distributed?", "As a folder: JSON lines and Parquet; manifest.json has the digest of every file."


def _maintenance(about: AboutParams) -> Answers:
    yield "Who maintains it, and how can they be reached?", about.contact or _unstated("contact")
    yield "Will it be updated?", (
        "Each snapshot of the loop is a new version; data/CHANGELOG.md says what it added, removed and changed."
    )
    yield "Are older versions kept?", "Yes, under their tags, except what was erased at a person's request."


def _counts(dataset: Dataset, column: str) -> str:
    counts = {k: v for k, v in dataset.total(column).items() if k}
    return "\n".join(f"- {text(value)}: {n:,} rows" for value, n in counts.items()) or "None is recorded."


def _day(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).date().isoformat()


def _unstated(key: str) -> str:
    return f"Not stated yet: `about.{key}` in params.yaml."
