"""Annotate: take in the answers that have come, ask again where people are not sure, then hand out the next batch.

It never waits for people.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task

from flows import artifacts
from tasks.live import taxonomy
from tasks.live.drift import drifts
from tasks.live.handoff import follow_up, receive, send
from tasks.live.intake import Account
from tasks.live.labels import agreement, rates
from tasks.live.quality import quality
from tasks.live.workspace import find


@task(name="receive", task_run_name="receive")
def receive_answers(workspace: Path) -> Account:
    place = find(workspace)
    account = receive.receive(place)
    if account.seen:
        artifacts.account("received", "Received from people", account)
        artifacts.rates(rates(place, agreement(place).labels))
    return account


@task(name="ask again", task_run_name="ask again")
def ask_again(workspace: Path) -> follow_up.FollowUp:
    place = find(workspace)
    followed = follow_up.follow_up(place)
    artifacts.people(followed, quality(place))
    return followed


@task(name="send", task_run_name="send")
def send_batch(workspace: Path) -> send.Batch | None:
    place = find(workspace)
    batch = send.send(place)
    if batch is not None:
        artifacts.batch(batch)
        clusters, alarms = taxonomy.newest(place)
        artifacts.clusters(clusters, alarms, taxonomy.turns(place, [c.row.cluster_id for c in clusters]))
        artifacts.drift(drifts(place))
    return batch


@flow(name="annotate", flow_run_name="annotate: receive answers, ask again, and send the next batch")
def annotate(workspace: Path) -> tuple[Account, follow_up.FollowUp, send.Batch | None]:
    return receive_answers(workspace), ask_again(workspace), send_batch(workspace)
