"""A table of many columns: a line each on a phone, named by their titles, because nobody reads a table by shifting it about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from xml.etree.ElementTree import Element

from tasks.page import table


def stacked(parent: Element, titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> Element:
    """As tasks.page.table; returns its body, a `tr` for each of `rows`."""
    made = table(parent, titles, rows, numbers)
    made.set("class", "stack")
    body = made.find("tbody")
    assert body is not None
    for line in body:
        for cell, title in zip(line, titles, strict=True):
            cell.set("data-name", title)
    return body
