"""The import rule: what may touch what (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.imports import ROOT, closure, file_of, imported

LINES_AT_MOST = 400
ENGINES = {"prefect", "mlflow", "dvc", "duckdb", "great_expectations", "deltalake"}
# Each tool is imported behind one door. The stage that validates asks DuckDB to read the tables that it checks. Detectors use it
# as a calculator: in memory, over Arrow tables handed in, without external access (tests/test_signals.py).
CALCULATOR = "tasks/calculator.py"
DOORS = {
    "duckdb": {"tasks/live/lake.py", "tasks/stages/validate.py", CALCULATOR},
    "deltalake": {"tasks/live/lake.py"},
    # Registering, pulling traces, and review queues: three services of one server, which no module uses at once.
    "mlflow": {
        "tasks/live/registry/tracking.py", "tasks/live/registry/recording.py", "tasks/live/registry/packaged.py",
        "tasks/live/mlflow_server.py", "tasks/live/handoff/mlflow_queues.py",
    },
    "dvc": {"tasks/live/repository.py", "tasks/live/snapshot.py", "tasks/live/store.py"},
    "great_expectations": {"tasks/stages/validate.py", "expectations/engine.py"},
    "distributed": {"tasks/engine/cluster.py"},
}
HEAVY = {"prefect", "mlflow", "great_expectations", "torch", "pandas", "duckdb", "sklearn", "distributed"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room(path: Path) -> str:
    """flows, live, stages, core, expectations or demo."""
    parts = path.relative_to(ROOT).parts
    if parts[0] != "tasks":
        return parts[0]
    return parts[1] if parts[1] in ("live", "stages") else "core"


PROJECT = sorted(p for folder in ("flows", "tasks", "expectations", "demo") for p in (ROOT / folder).rglob("*.py"))
LOOP = [p for p in PROJECT if room(p) != "demo"]


def rooms_of_imports(path: Path) -> set[str]:
    return {room(f) for f in map(file_of, imported(path)) if f}


def packages(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported(path)}


def test_there_is_a_project_to_look_at():
    assert {room(p) for p in PROJECT} == {"flows", "live", "stages", "core", "expectations", "demo"}


@pytest.mark.parametrize(
    ("inside", "may"),
    [
        # The command line opens the demo, which meets the loop by log files and answer files only.
        ("flows", {"flows", "live", "core", "demo"}),
        ("live", {"live", "core"}),
        ("stages", {"stages", "core", "expectations"}),
        ("core", {"core"}),
        ("expectations", {"expectations"}),
    ],
)
def test_a_room_imports_only_the_rooms_below_it(inside: str, may: set[str]):
    wrong = {name(p): sorted(rooms_of_imports(p) - may) for p in LOOP if room(p) == inside}
    assert {p: rooms for p, rooms in wrong.items() if rooms} == {}


def test_only_the_command_line_opens_the_demo():
    assert {name(p) for p in LOOP if "demo" in rooms_of_imports(p)} <= {"flows/cli.py"}


def test_the_core_knows_no_engine_but_the_calculator_of_the_detectors():
    engines = {name(p): packages(p) & ENGINES for p in LOOP if room(p) == "core" and packages(p) & ENGINES}
    assert engines == {CALCULATOR: {"duckdb"}}


def test_the_core_reaches_no_engine_through_what_it_imports_either():
    for path in (p for p in LOOP if room(p) == "core"):
        assert {name(p) for p in closure(path) if room(p) != "core"} == set(), name(path)


@pytest.mark.parametrize("tool", sorted(DOORS))
def test_a_tool_is_imported_behind_its_door(tool: str):
    doors = {name(p) for p in LOOP if tool in packages(p)}
    assert doors and doors <= DOORS[tool]


def test_the_core_and_the_stages_reach_out_by_declared_doors_only():
    """Stages are files to files; what trains elsewhere can't be: a provider's models, and the team's own program. A language model
    trains in several processes of our own where there are several GPUs. Heavy steps go to a cluster, which runs the same functions
    over the same files."""
    outside = {"httpx", "requests", "socket", "urllib.request", "subprocess", "distributed"}
    doors = {name(p): found for p in LOOP if room(p) in ("core", "stages") and (found := imported(p) & outside)}
    assert doors == {
        "tasks/policy/provider/api.py": {"httpx"},
        "tasks/policy/command.py": {"subprocess"},
        "tasks/policy/llm/launched.py": {"subprocess"},
        "tasks/engine/cluster.py": {"distributed", "socket"},
    }


def test_prefect_is_imported_by_flows_only():
    users = {room(p) for p in LOOP if "prefect" in packages(p)}
    assert users == {"flows"}


def test_flows_touch_neither_the_lake_nor_the_registry_nor_a_detector():
    for path in (p for p in LOOP if room(p) == "flows"):
        assert not packages(path) & {"duckdb", "mlflow", "deltalake", "dvc", "great_expectations"}, name(path)
        assert not {m for m in imported(path) if m.startswith(("tasks.signals", "tasks.live.lake"))}, name(path)


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage: str):
    module = ROOT / "tasks" / "stages" / f"{stage}.py"
    assert f"tasks.stages.{stage} " in STAGES[stage]["cmd"]
    needed = {name(p) for p in closure(module) if p.read_bytes().strip()}
    listed = {d for d in STAGES[stage]["deps"] if d.endswith(".py")}
    assert sorted(needed - listed) == [], "missing among the deps: changed code would be a cache hit"
    assert sorted(listed - needed) == [], "superfluous among the deps: unrelated code would run the stage again"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_declares_each_section_of_params_that_its_code_names(stage: str):
    tree = ast.parse((ROOT / "tasks" / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    read = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load" and len(node.args) == 3
    }
    assert read == set(STAGES[stage]["params"])


def test_every_stage_is_a_module_and_every_module_a_stage():
    modules = {p.stem for p in (ROOT / "tasks" / "stages").glob("*.py")} - {"__init__"}
    assert modules == set(STAGES)


FORBIDDEN_MODULES = {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec"}


def unsafe(path: Path) -> list[str]:
    """What in a file could run code out of data."""
    found = sorted(packages(path) & FORBIDDEN_MODULES)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FORBIDDEN_CALLS or called in ("torch.load", "os.system", "os.popen", "yaml.load"):
            found.append(f"{called} at line {node.lineno}")
        found += [f"shell=True at line {node.lineno}" for k in node.keywords
                  if k.arg == "shell" and getattr(k.value, "value", True)]  # fmt: skip
    return found


@pytest.mark.parametrize("path", PROJECT, ids=name)
def test_nothing_runs_code_out_of_data(path: Path):
    assert unsafe(path) == []


def test_the_look_for_unsafe_calls_sees_them(tmp_path: Path):
    file = tmp_path / "bad.py"
    file.write_text("import pickle, os, subprocess\nos.system('x')\neval('1')\nsubprocess.run('x', shell=True)\n")
    assert unsafe(file) == ["pickle", "os.system at line 2", "eval at line 3", "shell=True at line 4"]


@pytest.mark.parametrize("path", PROJECT, ids=name)
def test_no_module_outgrows_a_sitting(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_AT_MOST


@pytest.mark.parametrize("module", ["flows.cli", "tasks.live.workspace"])
def test_what_answers_at_once_loads_nothing_heavy(module: str):
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []


def test_asking_the_command_for_help_loads_nothing_heavy():
    code = f"""
import sys
from flows.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print("loaded:", *sorted({HEAVY!r} & sys.modules.keys()))
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "capture" in shown.stdout
    assert shown.stdout.splitlines()[-1].split() == ["loaded:"]
