"""A section of params.yaml becomes a frozen dataclass; an unknown or mistyped key is an error that names the right one.

select: {budget: 300}   ->   load(Path("params.yaml"), "select", SelectParams).budget == 300
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from tasks.errors import Refused

T = TypeVar("T")


def load(path: Path, section: str, cls: type[T]) -> T:
    """Read one section. Raises Refused for a missing file, section or key, an unknown key, or a wrong type."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise Refused(f"{path} does not exist", "run the command inside a workspace (flywheel init DIR)") from None
    except yaml.YAMLError as e:
        raise Refused(
            f"{path} is not valid YAML: {e}", f"git checkout -- {path.name}, or mend the line named"
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get(section), dict):
        raise Refused(f"{path} has no section '{section}'", f"add '{section}:' with {_names(cls)}")
    return parse(document[section], section, cls, str(path))


def parse(values: dict[str, Any], section: str, cls: type[T], where: str = "params.yaml") -> T:
    """Check `values` against the fields of `cls` (all required: a default hidden in code could change a byte unseen)."""
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean '{section}.{near[0]}'?" if near else f"known keys: {_names(cls)}"
            raise Refused(f"{where}: unknown key '{section}.{key}'", hint)
    for key, kind in hints.items():
        if key not in values:
            raise Refused(f"{where}: '{section}.{key}' is missing", f"add '{key}:' under '{section}:'")
        if kind is float and type(values[key]) is int:
            values[key] = float(values[key])
        expected = get_origin(kind) or kind  # list[str] -> list
        wrong_items = [v for v in values[key] if type(v) not in get_args(kind)] if type(values[key]) is list else []
        if type(values[key]) is not expected or wrong_items:
            raise Refused(
                f"{where}: '{section}.{key}' is {values[key]!r}, not {getattr(kind, '__name__', kind)}",
                f"write {getattr(kind, '__name__', kind)} after '{key}:'",
            )
    return cls(**values)


def _names(cls: type) -> str:
    return ", ".join(f.name for f in dataclasses.fields(cls))
