"""Tune a model at a provider: lines up, a job, patience; what comes back is a name. A killed training goes on with the same job.

    data/dataset/parquet/train/sft  ->  812 lines, 1.1 MB, about 9 USD  ->  ftjob-7: validating_files … succeeded
    ->  policy.json {"kind": "provider", "model": "ft:gpt-4.1-nano:acme:flywheel:9aB", "jobs": ["ftjob-7"], …}

The key of an order stands in a note in the checkpoints folder, written before anything is waited for, and in the job's metadata,
where it is looked for before a job is made. So a job is paid for once, whatever dies, and a stage that runs again because its code
changed finds its job finished.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.errors import INVALID, Refused
from tasks.policy import Point, Trained
from tasks.policy.provider import ProviderPolicy, Tuned
from tasks.policy.provider.api import RETRIES, Api, Unsure, endpoint
from tasks.policy.provider.orders import DIALECTS, SUPERVISED, Note, Notes, Order, ProviderParams, order_of
from tasks.records import Approved, read_records

SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
OVER = (SUCCEEDED, FAILED, CANCELLED)
OURS = "flywheel"  # the key of a job's metadata that holds the order's digest
FIRST_POLL_S, LONGEST_POLL_S = 2.0, 60.0
PAGE = 100


def train(
    catalogue: Path,
    dataset: Path,
    model: Path,
    checkpoints: Path,
    params: ProviderParams,
    sleep: Callable[[float], None] = time.sleep,
) -> Trained:
    """Write the model folder. Raises Refused where nothing may be sent, a job failed, or it still runs after `wait_hours`."""
    at = endpoint(params.url)
    _check(params)
    notes = Notes(checkpoints / "provider")
    orders: list[Order] = []
    jobs: list[dict[str, Any]] = []
    curves: list[Point] = []
    base = params.base
    with Api(at, sleep) as api:
        for step in params.steps:
            order = order_of(at.url, step, base, dataset, params)
            job = _found(api, order, notes) or _made(api, order, notes, sum(o.usd for o in orders))
            job = _waited(api, order, job, notes, sleep)
            base = job["fine_tuned_model"]
            curves += _curves(api, step, job["id"])
            orders.append(order)
            jobs.append(job)
    tuned = Tuned(
        model=base, base=params.base, url=params.url, jobs=[j["id"] for j in jobs], data=[o.data for o in orders],
        seed=params.seed, max_tokens=params.max_tokens,
    )  # fmt: skip
    ProviderPolicy(tuned, tuple(read_records(catalogue, Approved))).save(model)
    summary = {
        "base": params.base,
        "model": base,
        "jobs": tuned.jobs,
        "rows": {o.step: o.rows for o in orders},
        "left_out": {o.step: o.left_out for o in orders},
        "trained_tokens": [j.get("trained_tokens") for j in jobs],
        # Their weights are not ours to compare: the same order tuned again may be another model.
        "reproducible": False,
    }
    return Trained(summary, curves)


def cancel(checkpoints: Path, url: str, job: str) -> Note:
    """Cancel a job that this folder knows. Raises Refused for one that it does not."""
    notes = Notes(checkpoints / "provider")
    known = next((n for n in notes.all() if n.job == job), None)
    if known is None:
        raise Refused(f"no job {job} was ordered from here", "flywheel provider lists them")
    with Api(endpoint(url)) as api:
        api.ask("POST", f"fine_tuning/jobs/{job}/cancel")
    return notes.write(replace(known, status=CANCELLED))


def _check(params: ProviderParams) -> None:
    wrong = [s for s in params.steps if s not in DIALECTS]
    if wrong or not params.steps:
        raise Refused(f"params.yaml: provider.steps is {params.steps}", f"a list of {', '.join(DIALECTS)}")
    if params.epochs < 1:
        # With the provider's own choice nobody could say beforehand what it costs.
        raise Refused(f"params.yaml: provider.epochs is {params.epochs}", "1 or more")


def _found(api: Api, order: Order, notes: Notes) -> dict[str, Any] | None:
    """The job of this order, where one was made and neither failed nor was cancelled: by our note, or else by its metadata."""
    known = notes.read(order.key)
    if known is not None and known.status not in (FAILED, CANCELLED):
        job = api.ask("GET", f"fine_tuning/jobs/{known.job}", missing=True)
        if job and job["status"] not in (FAILED, CANCELLED):
            return job
    for job in _pages(api, "fine_tuning/jobs", {f"metadata[{OURS}]": order.key}):
        # A server that knows no such filter lists them all.
        if (job.get("metadata") or {}).get(OURS) == order.key and job["status"] not in (FAILED, CANCELLED):
            return job
    return None


def _made(api: Api, order: Order, notes: Notes, spent: float) -> dict[str, Any]:
    """Send the order. Nothing is sent that may cost more than `max_cost`, and jobs that nobody waits for any more are cancelled."""
    if spent + order.usd > order.params.max_cost:
        raise Refused(
            f"tuning on {order.rows} examples for {order.params.epochs} epochs may cost {spent + order.usd:.2f} USD, more than"
            f" provider.max_cost ({order.params.max_cost:.2f})",
            "raise it in params.yaml, or send fewer examples or epochs",
        )
    for old in notes.all():
        if old.status not in OVER and old.url == order.url:
            api.ask("POST", f"fine_tuning/jobs/{old.job}/cancel", missing=True)
            notes.write(replace(old, status=CANCELLED))
    sent = (_name(order), order.lines, "application/jsonl")
    file = api.ask("POST", "files", data={"purpose": "fine-tune"}, files={"file": sent})
    body = order.body(file["id"]) | {"metadata": {OURS: order.key}}
    for _ in range(RETRIES):
        try:
            return api.ask("POST", "fine_tuning/jobs", repeat=False, json=body)
        except Unsure:
            # It may have been made all the same: a second one would be paid for too.
            job = _found(api, order, notes)
            if job is not None:
                return job
    raise Refused("the provider makes no job: it breaks off each time", "try again later: dvc repro")


def _waited(api: Api, order: Order, job: dict[str, Any], notes: Notes, sleep: Callable[[float], None]) -> dict[str, Any]:
    """The finished job. Raises Refused where it failed or was cancelled, or still runs when patience ends."""
    wait, waited, said = FIRST_POLL_S, 0.0, ""
    while True:
        notes.write(Note(order.key, order.url, order.step, job["id"], job["status"]))
        if job["status"] != said:
            said = job["status"]
            print(f"provider: {order.step} job {job['id']} {said}", file=sys.stderr, flush=True)
        if said in OVER:
            _forget(api, order)
            break
        if waited >= order.params.wait_hours * 3600:
            raise Refused(
                f"the provider's job {job['id']} is still {said} after {order.params.wait_hours:g} hours",
                "dvc repro train takes it up again; flywheel provider --cancel ends it",
            )
        sleep(wait)
        waited += wait
        wait = min(wait * 1.5, LONGEST_POLL_S)
        job = api.ask("GET", f"fine_tuning/jobs/{job['id']}")
    if said == CANCELLED:
        raise Refused(f"the provider's job {job['id']} was cancelled", "dvc repro train orders a new one")
    if said == FAILED:
        error = job.get("error") or {}
        why = f"{error.get('message') or 'it does not say why'} ({error.get('code') or 'no code'})"
        export = "openai-sft" if order.step == SUPERVISED else "openai-dpo"
        raise Refused(
            f"the provider's job {job['id']} failed: {why}",
            f"mend it (flywheel export {export} shows the lines), then dvc repro train",
            INVALID,
        )
    return job


def _forget(api: Api, order: Order) -> None:
    """Delete what was uploaded, also by an attempt that died: users' texts stay there no longer than they are needed."""
    try:
        for file in list(_pages(api, "files", {"purpose": "fine-tune"})):
            if file.get("filename") == _name(order):
                api.ask("DELETE", f"files/{file['id']}", missing=True)
    except Refused as e:
        # No reason to lose the model over: the job is paid for.
        print(f"provider: {_name(order)} could not be deleted there: {e.why}", file=sys.stderr)


def _name(order: Order) -> str:
    return f"{OURS}-{order.key[:16]}.jsonl"


def _curves(api: Api, step: str, job: str) -> list[Point]:
    """The numbers of a job's events, by step. Events come newest first."""
    found = []
    for event in _pages(api, f"fine_tuning/jobs/{job}/events", {}):
        values = event.get("data") or {}
        if event.get("type") == "metrics" and isinstance(values.get("step"), int):
            found += [
                Point(values["step"], f"{step}/{name}", float(v))
                for name, v in sorted(values.items())
                if name not in ("step", "total_steps") and type(v) in (int, float)
            ]
    return sorted(found, key=lambda p: (p.step, p.metric))


def _pages(api: Api, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Everything of a list, page by page."""
    after: dict[str, str] = {}
    while True:
        page = api.ask("GET", path, params={"limit": str(PAGE)} | query | after)
        yield from page["data"]
        if not page.get("has_more") or not page["data"]:
            return
        after = {"after": page["data"][-1]["id"]}
