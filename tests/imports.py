"""Which modules of this project a file imports, directly or through others, wherever in the file the import stands."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("flows", "tasks", "expectations", "demo", "benchmarks")


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports: 'tasks.live.lake', 'duckdb', …"""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return frozenset(names)


def file_of(module: str) -> Path | None:
    """The project's file behind a dotted name, None for other packages and for names that are not modules."""
    if module.split(".")[0] not in ROOMS:
        return None
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def closure(path: Path) -> set[Path]:
    """Every project file that importing `path` can load, itself included (with the packages' __init__ files)."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        package = current.parent
        while package != ROOT:
            if (package / "__init__.py").is_file():
                todo.append(package / "__init__.py")
            package = package.parent
        todo += [f for f in map(file_of, imported(current)) if f]
    return seen
