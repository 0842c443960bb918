"""The dataset card: YAML by which Hugging Face's tools read the folder, then what a person should know before using it.

    configs: [{config_name: sft, default: true, data_files: [{split: train, path: jsonl/train/sft/*.jsonl}]}, …]
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import yaml

from tasks.card.facts import AboutParams, Dataset
from tasks.examples import HOLDOUT, TABLES, TRAIN

SPLITS = {TRAIN: "train", HOLDOUT: "test"}
SHOWN = 12  # values of a slice; all of them stand in manifest.json
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
LANGUAGE = re.compile(r"[a-z]{2,3}")
# Nested columns as trainers read them: lists of texts, one object, and else lists of objects of any keys. Declared, because what
# a loader infers from the first rows breaks at the first row with another key, or fills every row with nulls.
TEXTS = {"policies", "tokens", "tags", "labels"}
OBJECTS = {"scores"}
DTYPES = {"str": "string", "int": "int64", "float": "float64", "bool": "bool"}


def readme(dataset: Dataset, about: AboutParams) -> str:
    head = yaml.safe_dump(_yaml(dataset, about), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{head}---\n\n" + "\n\n".join(_prose(dataset, about)) + "\n"


def _yaml(dataset: Dataset, about: AboutParams) -> dict[str, Any]:
    tables = {p.table: [q for q in dataset.full if q.table == p.table] for p in dataset.full}
    languages = sorted(v for v in dataset.total("language") if LANGUAGE.fullmatch(v))
    size = next((name for limit, name in SIZES if dataset.rows < limit), "n>10M")
    linked = about.license == "other" and about.license_link
    named = {"license_name": "see-link", "license_link": about.license_link} if linked else {}
    return {
        "pretty_name": about.name,
        "license": about.license,
        **named,
        **({"language": languages} if languages else {}),
        **({"multilinguality": ["multilingual" if len(languages) > 1 else "monolingual"]} if languages else {}),
        "task_categories": sorted({TABLES[name].task for name in tables}),
        "size_categories": [size],
        "source_datasets": ["original"],
        "tags": ["flywheel", "post-training", *tables],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == next(iter(tables)) else {}),
                "data_files": [{"split": SPLITS[p.side], "path": f"jsonl/{p.side}/{name}/*.jsonl"} for p in parts],
            }
            for name, parts in tables.items()
        ],
        "dataset_info": [{"config_name": name, "features": list(_features(name))} for name in tables],
    }


def _features(name: str) -> Iterable[dict[str, Any]]:
    table = TABLES[name]
    types = {f.name: str(f.type) for f in fields(table.row)}
    for column in ("example_id", *table.trains):
        if types.get(column, "Json") != "Json":
            yield {"name": column, "dtype": DTYPES[types[column]]}
        elif column in OBJECTS:
            yield {"name": column, "dtype": "json"}
        else:
            yield {"name": column, "list": "string" if column in TEXTS else {"dtype": "json"}}


def _prose(dataset: Dataset, about: AboutParams) -> Iterable[str]:
    yield f"# {about.name}"
    if about.description:
        yield about.description
    yield (
        f"{dataset.rows:,} rows of post-training data, made by flywheel from the production logs of"
        f" {about.source or 'an application'} and"
        " from what people said of its answers. Every row names the interaction that it came from."
    )
    yield from _tables(dataset)
    yield from _made(dataset)
    yield from _slices(dataset)
    yield from _people(dataset)
    yield from _refused(dataset)
    yield from _limits(dataset, about)


def _tables(dataset: Dataset) -> Iterable[str]:
    yield "## Tables"
    if not dataset.full:
        yield "No table holds a row yet."
        return
    rows = [
        (f"`{p.table}`", SPLITS[p.side], f"{p.rows:,}", ", ".join(f"`{c}`" for c in TABLES[p.table].trains), what(p.table))
        for p in dataset.full
    ]
    yield table(("table", "split", "rows", "columns", "a row is"), rows)
    first = dataset.full[0]
    yield (
        "```python\nfrom datasets import load_dataset\n\n"
        f'rows = load_dataset("data/dataset", "{first.table}", split="{SPLITS[first.side]}")  # datasets 4.7 or newer\n```'
    )
    yield (
        "`jsonl/` holds what a trainer reads; `parquet/` the whole rows, with where each came from, how sure"
        " people are of it (`weight`)"
        " and its slices; nested values are JSON text there. `manifest.json` has the digest of every file."
    )


def _made(dataset: Dataset) -> Iterable[str]:
    yield "## How it was made"
    yield (
        "Interactions were captured from logs and redacted, some drawn at random and some as likely errors,"
        " and shown to people under written"
        " guidelines. What they agreed on became rows; a text that was only approved of by users' thumbs is"
        " never taught as a right answer."
    )
    for column, title in (("origin", "made from"), ("author", "whose text a row teaches"), ("guideline", "guideline")):
        if counts := {k: v for k, v in dataset.total(column).items() if k}:
            yield counted(counts, dataset.rows, title)
    yield (
        "Training and test rows never share a conversation or a near-duplicate: the side is a keyed hash of"
        " the group that an interaction"
        " belongs to, for ever, and a training row that resembles a test row is refused."
    )


def _slices(dataset: Dataset) -> Iterable[str]:
    yield "## Slices"
    for column in ("language", "topic"):
        if counts := dataset.total(column):
            yield counted(counts, dataset.rows, column)


def _people(dataset: Dataset) -> Iterable[str]:
    people = dataset.people
    yield "## Agreement"
    if not people.each:
        yield "No labels of people are recorded beside this dataset."
        return
    yield (
        f"{len(people.each)} people gave the labels behind it; the busiest took part in {people.each[0]:,},"
        " the least busy in"
        f" {people.each[-1]:,}."
    )
    rows = [(kind, f"{n:,}", _alpha(people.agreement.get(kind))) for kind, n in people.labels.items()]
    yield table(("kind of question", "agreed", "Krippendorff's alpha"), rows)


def _refused(dataset: Dataset) -> Iterable[str]:
    yield "## What was left out"
    rows = [(stage, reason, f"{n:,}") for stage, reasons in dataset.refused.items() for reason, n in reasons.items()]
    yield table(("stage", "reason", "rows"), rows) if rows else "Nothing."


def _limits(dataset: Dataset, about: AboutParams) -> Iterable[str]:
    yield "## Limits"
    yield (
        "- It is what one application was asked, and mostly where it failed: not a sample of a language or of"
        " a domain.\n"
        "- E-mail addresses, numbers, secrets and user ids were replaced before anything was stored; names of"
        " persons may be left.\n"
        "- People erred as well: `weight` is how sure their agreement makes a row, and the agreement above"
        " how much they differ."
    )
    yield "## Licence and contact"
    linked = f" ({about.license_link})" if about.license_link else ""
    yield f"Licence: {about.license}{linked}. Contact: {about.contact or 'not stated (about.contact in params.yaml)'}."


def what(name: str) -> str:
    """What a row of a table is, in the words that declare it."""
    return " ".join((TABLES[name].row.__doc__ or "").split("\n\n")[0].split())


def counted(counts: Mapping[str, int], total: int, title: str) -> str:
    """A table of the values of a slice, the most first."""
    shown = list(counts.items())[:SHOWN]
    rows = [(text(value) or "(none)", f"{n:,}", f"{n / total:.1%}") for value, n in shown]
    rest = sum(list(counts.values())[SHOWN:])
    if rest:
        rows.append((f"{len(counts) - SHOWN} more", f"{rest:,}", f"{rest / total:.1%}"))
    return table((title, "rows", "share"), rows)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def text(value: str) -> str:
    """A value from the outside as a cell of Markdown: no markup, no line break."""
    return html.escape(" ".join(value.split()), quote=False).replace("|", "\\|").replace("`", "'").replace("[", "\\[")


def _alpha(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
