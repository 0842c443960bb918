"""The methods of `llm.methods` in their order, from the base to a model folder; killed at any time, the same call goes on.

    data/checkpoints/llm-5c0e7c5d1f2a/0-sft/checkpoint-100/     a step of a training that is not at its end
    data/checkpoints/llm-5c0e7c5d1f2a/0-sft/done/model/         … and one that is: an adapter, or a whole model
    data/checkpoints/llm-5c0e7c5d1f2a/1-reward/done/model/

The folder is named after all that decides the bytes: rows, base, parameters, versions. It goes when the model is in its place.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tasks.errors import Refused
from tasks.policy import Point, Trained
from tasks.policy.llm import CHECKS, FULL, GRPO, REWARD, TABLES, LlmParams, check, models, rows, trainers
from tasks.policy.llm.exact import fixed, keep_memory, quiet
from tasks.policy.llm.faults import told
from tasks.policy.llm.models import Base, Weights
from tasks.policy.llm.policy import ADAPTER, MODEL, WHOLE, Described, LlmPolicy
from tasks.policy.llm.rows import Row
from tasks.policy.llm.trainers import Ended, Start
from tasks.records import canonical, digest, read_jsonl, write_jsonl

# Of what TRL logs, what says whether a training went well.
CURVES = (
    "loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "accuracy", "margin", "rewards/accuracies",
    "rewards/margins", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected", "kl", "reward", "num_tokens",
)  # fmt: skip
COUNTED = ("rows", "steps", "tokens", "too_long")
POINTS = 200  # of a curve, at most


@dataclass(frozen=True, slots=True)
class Step:
    """A method that came to its end: where its model lies, and what is told of it."""

    method: str
    folder: Path
    rows: int
    steps: int
    tokens: int
    too_long: int
    curves: tuple[Point, ...]


def train(dataset: Path, folder: Path, checkpoints: Path, params: LlmParams, copies: int = 1) -> Trained:
    """Train on a dataset folder and write the model to `folder`, which appears whole or not at all.

    Raises Refused where a parameter, the base, memory, the disk or the loss does not allow it. `copies`: see rows.read.
    """
    check(params)
    if params.processes > 1:
        from tasks.policy.llm.launched import launch

        return launch(dataset, folder, checkpoints, params, copies)
    return together(dataset, folder, checkpoints, params, copies, True)


def together(dataset: Path, folder: Path, checkpoints: Path, params: LlmParams, copies: int, leads: bool) -> Trained:
    """The same in this process, one of those that train; the one that leads writes."""
    quiet()
    keep_memory()
    base = models.found(params.base, params.revision)
    models.precise(params)
    tables = {method: _learnable(method, rows.read(dataset, TABLES[method], copies), params) for method in params.methods}
    home = checkpoints / f"llm-{_key(base, tables, params)}"
    with fixed(params.threads):
        steps = list(_steps(base, tables, params, home))
        if leads:
            with told("saving the model", params, home):
                assemble(base, steps, params, folder)
            for old in checkpoints.glob("llm-*"):  # of trainings with other parameters too, which were given up
                shutil.rmtree(old, ignore_errors=True)
    skipped = {m: f"{len(found)} rows of {TABLES[m]}, and llm.min_rows is {params.min_rows}"
               for m, found in tables.items() if len(found) < params.min_rows}  # fmt: skip
    summary = {
        "base": params.base,
        "base_digest": base.digest,
        "tuning": params.tuning,
        "methods": {s.method: {"table": TABLES[s.method], **{n: getattr(s, n) for n in COUNTED}} for s in steps},
        "skipped": skipped,
    }
    return Trained(summary, [p for s in steps for p in s.curves])


def untrained(folder: Path, params: LlmParams, near: Path) -> LlmPolicy:
    """The base as a policy, written to `folder`: the first champion."""
    quiet()
    assemble(models.found(params.base, params.revision, near), (), params, folder)
    return LlmPolicy.load(folder)


def _learnable(method: str, found: list[Row], params: LlmParams) -> list[Row]:
    """By programmatic checks a prompt teaches something only where its right answer is known."""
    return [r for r in found if r["ground_truth"]] if method == GRPO and params.grpo_reward == CHECKS else found


def _key(base: Base, tables: dict[str, list[Row]], params: LlmParams) -> str:
    versions = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    return digest(canonical([base.digest, tables, asdict(params), versions]))[:12]


def _steps(base: Base, tables: dict[str, list[Row]], params: LlmParams, home: Path) -> Iterator[Step]:
    start = Start(base, Weights(), None)
    for number, (method, found) in enumerate(tables.items()):
        if len(found) < params.min_rows:
            continue
        place = home / f"{number}-{method}"
        done = place / "done"
        if not done.is_dir():
            with told(method, params, home):
                try:
                    _one(method, start, found, params, place)
                except Refused:
                    shutil.rmtree(place, ignore_errors=True)  # its weights are no numbers: nothing goes on from there
                    raise
        note = next(read_jsonl(done / "note.json"))
        curves = tuple(Point(**p) for p in read_jsonl(done / "curves.jsonl"))
        yield Step(method, done / MODEL, len(found), note["steps"], note["tokens"], note["too_long"], curves)
        made = Weights(whole=done / MODEL) if params.tuning == FULL else Weights(adapter=done / MODEL)
        start = Start(base, start.policy, made) if method == REWARD else Start(base, made, start.judge)


def _one(method: str, start: Start, found: Sequence[Row], params: LlmParams, place: Path) -> None:
    ended = trainers.train(method, start, found, params, place)
    if ended.accelerator.is_main_process:
        _finish(method, ended, len(found), params, place)
    ended.accelerator.wait_for_everyone()


def _finish(method: str, ended: Ended, found: int, params: LlmParams, place: Path) -> None:
    curves = _curves(method, ended.log)
    tokens = int(next((p.value for p in reversed(curves) if p.metric == f"{method}.num_tokens"), 0))
    fresh = place / "done.new"
    shutil.rmtree(fresh, ignore_errors=True)
    models.save(ended.model, ended.state, ended.tokenizer, fresh / MODEL, params.base)
    write_jsonl(fresh / "curves.jsonl", _thinned(curves))
    (fresh / "note.json").write_bytes(canonical({"steps": ended.steps, "tokens": tokens, "too_long": ended.too_long}) + b"\n")
    fresh.rename(place / "done")
    for checkpoint in place.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    cut = f"; {ended.too_long} rows are longer than llm.max_length and were cut or left out" if ended.too_long else ""
    print(f"{method}: {found} rows, {ended.steps} steps, {tokens} tokens{cut}", file=sys.stderr, flush=True)


def _curves(method: str, log: Sequence[dict[str, float]]) -> list[Point]:
    """TRL's log as points. It counts tokens anew after a restart; here they add up."""
    before = total = 0.0
    made = []
    for entry in log:
        seen = entry.get("num_tokens", before)
        total += seen if seen < before else seen - before
        before = seen
        known = entry | {"num_tokens": total}
        made += [Point(int(entry["step"]), f"{method}.{m}", float(f"{known[m]:.6g}")) for m in CURVES if m in known]
    return made


def _thinned(curves: Sequence[Point]) -> list[Point]:
    """The same in at most POINTS steps, the last one among them."""
    steps = sorted({p.step for p in curves})
    every = -(-len(steps) // POINTS) or 1
    kept = {*steps[::every], *steps[-1:]}
    return [p for p in curves if p.step in kept]


def assemble(base: Base, steps: Sequence[Step], params: LlmParams, folder: Path) -> None:
    """The model folder: what the last method of the policy made, and the reward model; whole (`llm.merge`), or as adapters."""
    policy = next((s.folder for s in reversed(steps) if s.method != REWARD), None)
    judge = next((s.folder for s in steps if s.method == REWARD), None)
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    whole = params.merge or params.tuning == FULL
    Described.of(base, params, WHOLE if whole else ADAPTER, judge is not None).write(fresh)
    _put(AutoModelForCausalLM, base, policy, params, whole, fresh)
    if judge is not None:
        _put(AutoModelForSequenceClassification, base, judge, params, whole, fresh / REWARD, num_labels=1)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _put(kind: Any, base: Base, made: Path | None, params: LlmParams, whole: bool, to: Path, **more: Any) -> None:
    if made is None:
        if whole:  # no method had rows enough: the base itself
            model = models.opened(kind, base.folder, Weights())
            models.save(model, None, models.tokens(base.folder), to / MODEL, params.base)
    elif not whole:
        shutil.copytree(made, to / ADAPTER)
    elif params.tuning == FULL:
        model = models.opened(kind, None, Weights(whole=made), **more)
        models.save(model, None, models.tokens(made), to / MODEL, params.base)
    else:
        model = models.merged(kind, base, made, **more)
        models.save(model, None, models.tokens(made), to / MODEL, params.base)
