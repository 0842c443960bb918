"""What a dataset says of itself: the files beside its tables, made from what the tables hold. Equal rows give equal bytes.

    card(survey(folder), about) -> {"README.md": b"---\\npretty…", "DATASHEET.md": …, "croissant.json": …, "manifest.json": …}

README.md is a Hugging Face card: `datasets.load_dataset("data/dataset", "sft")` reads the folder by it. No clock: the dates are
those of the rows.
"""

from __future__ import annotations

from dataclasses import asdict

import orjson

from tasks.card.croissant import croissant
from tasks.card.datasheet import datasheet
from tasks.card.facts import SLICES, AboutParams, Dataset
from tasks.card.readme import readme

FORMAT = "flywheel-dataset/1"


def card(dataset: Dataset, about: AboutParams) -> dict[str, bytes]:
    """The files by name, for data/dataset."""
    manifest = _indented(_manifest(dataset))
    return {
        "README.md": readme(dataset, about).encode(),
        "DATASHEET.md": datasheet(dataset, about).encode(),
        "croissant.json": _indented(croissant(dataset, about)),
        "manifest.json": manifest,
    }


def reports(dataset: Dataset) -> dict[str, bytes]:
    """The same counts for data/reports: dataset.json for `dvc metrics diff`, the others for `dvc plots` (dvc.yaml names them)."""
    tables = ["table,side,rows,copies,weight\n"]
    tables += [f"{p.table} {p.side},{p.side},{p.rows},{p.copies},{p.weight}\n" for p in dataset.full]
    slices = ["slice,value,rows,share\n"]
    for column in SLICES:
        counts = dataset.total(column)
        slices += [
            f"{column},{_cell(value)},{n},{round(n / dataset.rows, 4)}\n" for value, n in list(counts.items())[:SHOWN]
        ]
    balance = ["table,value,rows,share\n"]
    for part in dataset.full:
        counts = part.counts.get("balance", {})
        balance += [
            f"{part.table} {part.side},{_cell(value)},{n},{round(n / part.rows, 4)}\n"
            for value, n in list(counts.items())[:SHOWN]
        ]
    people = dataset.people
    agreement = ["kind,agreed,alpha\n"]
    agreement += [f"{kind},{n},{_number(people.agreement.get(kind))}\n" for kind, n in people.labels.items()]
    metrics = {
        "rows": dataset.rows,
        "tables": {f"{p.table}_{p.side}": p.rows for p in dataset.parts},
        "languages": len(dataset.total("language")),
        "topics": len(dataset.total("topic")),
        "refused": {stage: sum(reasons.values()) for stage, reasons in dataset.refused.items()},
        "people": len(people.each),
        "labels": people.labels,
        "agreement": people.agreement,
    }
    return {
        "dataset.json": orjson.dumps(metrics, option=orjson.OPT_SORT_KEYS) + b"\n",
        "tables.csv": "".join(tables).encode(),
        "slices.csv": "".join(slices).encode(),
        "balance.csv": "".join(balance).encode(),
        "agreement.csv": "".join(agreement).encode(),
    }


SHOWN = 30  # values of a slice that a plot can show


def _manifest(dataset: Dataset) -> dict:
    plain = asdict(dataset)
    parts = {f"{p['side']}/{p['table']}": p for p in plain.pop("parts")}
    return {"format": FORMAT, "rows": dataset.rows, "tables": parts} | plain


def _indented(value: dict) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2) + b"\n"


def _number(value: float | None) -> str:
    return "" if value is None else str(round(value, 4))


def _cell(text: str) -> str:
    """A value as a CSV cell that no spreadsheet takes for a formula."""
    safe = "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
    return '"' + safe.replace('"', '""').replace("\n", " ").replace("\r", " ") + '"'
