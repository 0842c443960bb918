"""A model folder as an MLflow model: its files, the code that reads them and what that needs, without pickle.

    MLmodel   loader_module: tasks.policy.pyfunc
    data/policy/   policy.json, *.safetensors, *.jsonl        code/tasks/…   the modules that loading imports
"""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
import sys
import warnings
from functools import cache
from pathlib import Path

from tasks.policy import KINDS
from tasks.records import read_jsonl

ROOT = Path(__file__).resolve().parents[3]
LOADER = "tasks.policy.pyfunc"
FILES = "data/policy"  # of the packaged model: the model folder itself
LOGGED_AS = "policy"


def package(model: Path, to: Path, run_id: str, model_id: str) -> None:
    """Write the MLflow model of a model folder into `to`, which must not exist."""
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types.schema import AnyType, Array, ColSpec, Map, Schema

    staging = to.with_name(f"{to.name}.parts")
    shutil.copytree(model, staging / LOGGED_AS)
    kind = next(read_jsonl(model / "policy.json"))["kind"]
    for path in code(kind):
        target = staging / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    values = Array(Map(AnyType()))
    inputs = [
        ColSpec(values, "messages"), ColSpec(values, "contexts", required=False),
        ColSpec(Array("string"), "offered", required=False), ColSpec("long", "n", required=False),
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an input example that we don't give: questions are people's
        save_model(
            str(to),
            loader_module=LOADER,
            data_path=str(staging / LOGGED_AS),
            code_paths=[str(staging / "tasks")],
            pip_requirements=requirements(kind),
            signature=ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(AnyType())])),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )
    shutil.rmtree(staging)


def requirements(kind: str) -> list[str]:
    """Other people's packages that loading a model of this kind imports, with the versions that are installed."""
    names = importlib.metadata.packages_distributions()
    outside = {module.split(".")[0] for path in code(kind) for module in _imported(path)} - {"tasks", *sys.stdlib_module_names}
    found = sorted({names[module][0] for module in outside if module in names})
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in found]  # without a build's label, as +cpu


@cache
def code(kind: str) -> tuple[Path, ...]:
    """The project's files that loading a model can import, wherever in a file the import stands. A kind that has a package of its
    own (tasks/policy/KIND/) brings it, and what it needs, along with its own models only."""
    others = tuple(f"tasks.policy.{k}" for k in KINDS if k != kind)
    seen: set[Path] = set()
    waiting = [LOADER]
    while waiting:
        name = waiting.pop()
        base = ROOT.joinpath(*name.split("."))
        path = next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
        apart = any(name == o or name.startswith(f"{o}.") for o in others) and (ROOT / "tasks/policy" / name.split(".")[2]).is_dir()
        if path is None or path in seen or apart:
            continue
        seen.add(path)
        parts = name.split(".")
        waiting += [".".join(parts[:n]) for n in range(1, len(parts))]  # the packages around it
        waiting += [m for m in _imported(path) if m.startswith("tasks.")]
    return tuple(sorted(seen))


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names
