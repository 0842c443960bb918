"""Collect: capture what the application logged, then mine it."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task

from flows import artifacts
from tasks.live.capture import capture
from tasks.live.intake import Account
from tasks.live.mining import Mined, mine
from tasks.live.workspace import find


@task(name="capture", task_run_name="capture")
def capture_logs(workspace: Path) -> Account:
    account = capture(find(workspace))
    if account.seen or account.unfinished:
        artifacts.account("captured", "Captured from the inbox", account)
    return account


@task(name="mine", task_run_name="mine")
def mine_errors(workspace: Path) -> Mined:
    found = mine(find(workspace))
    artifacts.mined(found)
    return found


@flow(name="collect", flow_run_name="collect: capture the logs and mine them")
def collect(workspace: Path) -> tuple[Account, Mined]:
    return capture_logs(workspace), mine_errors(workspace)
