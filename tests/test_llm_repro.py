"""A workspace whose policy is a language model: DVC makes the same weights again, and the first champion is the base itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tasks.live import registry, snapshot
from tasks.live.workspace import Workspace
from tasks.policy import folder_digest, load
from tasks.policy.llm import LlmParams
from tasks.records import write_jsonl
from tests import tiny
from tests.handmade import CATALOGUE
from tests.imports import ROOT
from tests.tiny import needs_torch

pytestmark = [pytest.mark.slow, needs_torch]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a dataset and what else the stage `train` depends on, and a base in its own folder."""
    root = tmp_path_factory.mktemp("llm") / "work"
    approved = root.with_name("approved.jsonl")
    write_jsonl(approved, CATALOGUE)
    place = snapshot.init(root, ROOT, approved, None, with_uncommitted=True)
    tiny.base(root / "models" / "tiny")
    tiny.dataset(place.data / "dataset")
    write_jsonl(place.data / "frozen" / "catalogue.jsonl", CATALOGUE)
    write_jsonl(place.data / "frozen" / "questions.jsonl", [])
    place.reports.mkdir(exist_ok=True)
    (place.reports / "validation.json").write_bytes(b"{}\n")
    configure(root)
    return place


def configure(root: Path, **changes: object) -> None:
    given = tiny.params(base="models/tiny", methods=["sft", "reward", "dpo"], **changes)
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["train"]["policy"] = "llm"
    params["llm"] = {name: getattr(given, name) for name in LlmParams.__slots__}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def repro(place: Workspace) -> str:
    """`dvc repro` of the stage, though nothing changed; returns the digest that DVC has of the model."""
    done = subprocess.run(
        [str(BIN / "dvc"), "repro", "--force", "--single-item", "train"],
        cwd=place.root, env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outs = yaml.safe_load((place.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]["train"]["outs"]
    return next(o["md5"] for o in outs if o["path"] == "data/model")


def test_dvc_makes_the_same_weights_again(place):
    first, digest = repro(place), folder_digest(place.data / "model")
    shutil.rmtree(place.data / "model")
    assert repro(place) == first
    assert folder_digest(place.data / "model") == digest


@pytest.mark.parametrize("merge", [True, False])
def test_the_first_champion_is_the_base(place, merge, tmp_path):
    """Wherever the process that asks for it stands, though `llm.base` is relative to the workspace."""
    work = Workspace(shutil.copytree(place.root, tmp_path / "work", symlinks=True))
    text = (work.root / "params.yaml").read_text(encoding="utf-8")
    (work.root / "params.yaml").write_text(text.replace("merge: true", f"merge: {str(merge).lower()}"), encoding="utf-8")
    folder = registry.champion(work).folder
    policy = load(folder)
    assert policy.judge is None and policy.described.form == ("whole" if merge else "adapter")
    kept = {name: value.numpy() for name, value in policy.model.state_dict().items()}
    for name, value in tiny.weights(work.root / "models" / "tiny").items():
        assert np.array_equal(kept[name], value)
    assert len(policy.respond([tiny.user("when do I see my money?")], [[]], 2)[0]) >= 1


def test_a_language_model_is_trained_asked_and_judged_like_any_other(a_copy, monkeypatch):
    """The stages of a turn, on what the demo gathered in two: against a light champion, on the sealed prompts."""
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")  # DVC starts stages as `python`
    work = Workspace(a_copy)
    tiny.base(work.root / "models" / "tiny")
    configure(work.root, sft_epochs=2.0, max_new_tokens=48)
    for stage in ("train", "evaluate", "judge"):
        snapshot.run_stage(work, stage)
    report, evaluation, verdict = (
        json.loads((work.reports / f"{name}.json").read_bytes()) for name in ("training", "evaluation", "verdict")
    )
    assert report["policy"] == "llm" and set(report["methods"]) == {"sft", "reward", "dpo"}
    assert report["digest"] == folder_digest(work.data / "model") == evaluation["challenger_digest"]
    assert evaluation["n"] > 50
    assert verdict["decision"] != "promote", "a model of no size, trained for seconds"
    assert "sft.loss" in (work.reports / "curves.csv").read_text(encoding="utf-8")
