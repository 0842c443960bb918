"""Settings are read hard: nothing unknown, nothing missing, nothing of another type."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.errors import USAGE, Refused
from tasks.params import load, parse
from tests.imports import ROOT


def sections() -> dict[str, set[type]]:
    """Which dataclass the code reads each section of params.yaml into: load(PARAMS, "x", X) or workspace.params("x", X)."""
    found: dict[str, set[type]] = {}
    for path in sorted([*(ROOT / "tasks").rglob("*.py"), ROOT / "flows" / "cli.py"]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and len(node.args) >= 2 and isinstance(node.args[-2], ast.Constant)):
                continue
            if ast.unparse(node.func).split(".")[-1] not in ("load", "params"):
                continue
            name = node.args[-1]
            found.setdefault(str(node.args[-2].value), set()).add(resolved(path, ast.unparse(name)))
    return found


def resolved(path: Path, dotted: str) -> type:
    """The class that a name in a module stands for, also where the import stands inside a function."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    first, *rest = dotted.split(".")
    if not hasattr(module, first):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and first in {a.asname or a.name for a in node.names}:
                original = next(a.name for a in node.names if (a.asname or a.name) == first)
                value: Any = importlib.import_module(str(node.module))
                value = getattr(value, original, None) or importlib.import_module(f"{node.module}.{original}")
                break
    else:
        value = getattr(module, first)
    for attribute in rest:
        value = getattr(value, attribute)
    return value


SECTIONS = sections()


@dataclass(frozen=True, slots=True)
class Shop:
    budget: int
    share: float
    name: str
    open: bool
    days: list[str]


GOOD = {"budget": 3, "share": 0.5, "name": "corner", "open": True, "days": ["monday"]}


def refused(values: dict) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(dict(values), "shop", Shop)
    assert caught.value.exit_code == USAGE
    return caught.value


def test_a_whole_section_becomes_its_dataclass():
    assert parse(dict(GOOD), "shop", Shop) == Shop(3, 0.5, "corner", True, ["monday"])


def test_an_unknown_key_is_refused_and_the_right_one_suggested():
    error = refused(GOOD | {"budgte": 4})
    assert "shop.budgte" in error.why
    assert "shop.budget" in error.what_to_do


def test_an_unknown_key_that_resembles_none_is_answered_with_the_known_ones():
    assert "budget, share, name, open, days" in refused(GOOD | {"zzzz": 4}).what_to_do


@pytest.mark.parametrize("key", sorted(GOOD))
def test_a_missing_key_is_refused_by_its_name(key: str):
    assert f"'shop.{key}' is missing" in refused({k: v for k, v in GOOD.items() if k != key}).why


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budget", 3.0),
        ("budget", "3"),
        ("budget", True),
        ("budget", None),
        ("share", "half"),
        ("share", True),
        ("name", 7),
        ("open", 1),
        ("open", "yes"),
        ("days", "monday"),
        ("days", {"monday": 1}),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_name(key: str, value: object):
    error = refused(GOOD | {key: value})
    assert f"shop.{key}" in error.why and repr(value) in error.why


def test_a_whole_number_does_for_a_fraction():
    shop = parse(GOOD | {"share": 1}, "shop", Shop)
    assert shop.share == 1.0 and isinstance(shop.share, float)


def test_a_list_of_the_wrong_things_is_refused():
    assert "shop.days" in refused(GOOD | {"days": ["monday", 2]}).why


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_the_shipped_settings_suit_their_section(section: str):
    for cls in SECTIONS[section]:
        assert isinstance(load(ROOT / "params.yaml", section, cls), cls)


def test_the_shipped_settings_have_no_section_that_nobody_reads():
    assert set(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))) == set(SECTIONS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("other: {a: 1}\n", "no section 'shop'"),
        ("shop: 3\n", "no section 'shop'"),
        ("", "no section 'shop'"),
        ("shop: [unclosed\n", "not valid YAML"),
        ("- a\n- b\n", "no section 'shop'"),
        ("just words\n", "no section 'shop'"),
    ],
)
def test_a_damaged_file_is_refused_and_never_crashes(tmp_path: Path, text: str, why: str):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=why):
        load(path, "shop", Shop)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="does not exist"):
        load(tmp_path / "params.yaml", "shop", Shop)
