"""Annotate: take in the answers that have come, then hand the next batch to people. It never waits for them."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task

from flows import artifacts
from tasks.live import taxonomy
from tasks.live.drift import drifts
from tasks.live.handoff import files
from tasks.live.intake import Account
from tasks.live.labels import agreement, rates
from tasks.live.workspace import find


@task(name="receive", task_run_name="receive")
def receive_answers(workspace: Path) -> Account:
    place = find(workspace)
    account = files.receive(place)
    if account.seen:
        artifacts.account("received", "Received from people", account)
        artifacts.rates(rates(place, agreement(place).labels))
    return account


@task(name="send", task_run_name="send")
def send_batch(workspace: Path) -> files.Batch | None:
    place = find(workspace)
    batch = files.send(place)
    if batch is not None:
        artifacts.batch(batch)
        artifacts.clusters(*taxonomy.newest(place))
        artifacts.drift(drifts(place))
    return batch


@flow(name="annotate", flow_run_name="annotate: receive answers and send the next batch")
def annotate(workspace: Path) -> tuple[Account, files.Batch | None]:
    return receive_answers(workspace), send_batch(workspace)
