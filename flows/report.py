"""Report: the pages of the turns, written at the end of each; where that fails, the turn's work stands all the same."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task

from flows import artifacts
from tasks.live import report, services
from tasks.live.workspace import find


@task(name="report", task_run_name="report")
def write_report(workspace: Path) -> Path:
    """Where the index is."""
    place = find(workspace)
    index = report.write(place)
    artifacts.report(services.addresses(place).get("report") or index.as_uri())
    return index


def tell(workspace: Path) -> tuple[Path | None, str]:
    """Where the index is, or None and why it could not be written: nothing of a turn depends on what tells of it."""
    try:
        return write_report(workspace), ""
    except Exception as e:
        get_run_logger().warning("the turn is done, its report could not be written: %s: %s", type(e).__name__, e)
        return None, f"{type(e).__name__}: {e}"
