"""Approve: a person decides in Prefect's UI whether the challenger becomes champion, by a typed form below the verdict's reasons.

    python -m flows.approve WORKSPACE          serves the deployment "approve/flywheel"; each question becomes a suspended flow run

A run that waits costs no process and no slot. It ends as answered, or as stale where champion or challenger have changed meanwhile.
"""

# No `from __future__ import annotations` here: Prefect checks the parameters of a deployed flow by its annotations, as types.
import os
import sys
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows import gate
from tasks.errors import Refused
from tasks.live import registry, snapshot
from tasks.live.workspace import Workspace, find, quiet_environment

DEPLOYMENT = "flywheel"
DAYS = 30  # that a question waits in Prefect; on the command line it waits for as long as it stands


class Approval(RunInput):
    """What a person fills in."""

    approve: bool = Field(description="Make it champion?")
    reviewer: str = Field(min_length=1, description="Who decides")
    note: str = Field(default="", description="Why; it stands in the history")


@flow(name="approve", flow_run_name="approve {snapshot}: waits for a person", persist_result=True)
def approve(workspace: Path, snapshot: str = "") -> str:
    """Ask about the promotion that waits, and do what the person says. Returns what was done, in words.

    A resumed run starts from the top, so the question is asked again by what it is about: an answer to another one is not taken.
    """
    place = find(workspace)
    asked = registry.open_question(place)
    if asked is None or snapshot not in ("", asked.snapshot):
        return "nothing waits for an approval any more: flywheel history says what happened"
    form = Approval.with_initial_data(description=question_text(place, asked))
    key = f"{asked.champion[:12]}-{asked.challenger[:12]}"
    answer = suspend_flow_run(wait_for_input=form, timeout=DAYS * 86_400, key=key)
    given = registry.Approval(answer.reviewer, answer.note, asked)
    try:
        if not answer.approve:
            registry.decline(place, given)
            done = f"{answer.reviewer} declined version {asked.version}"
        else:
            promoted = registry.promote(place, given)
            done = f"champion is version {promoted.version}: {answer.reviewer} approved it"
    except Refused as e:
        done = f"not promoted: {e.why}"
    get_run_logger().info("%s", done)
    return done


def question_text(place: Workspace, asked: registry.Asked) -> str:
    """What stands above the form, in Markdown: all that it takes to decide."""
    verdict = snapshot.report_at(place, asked.snapshot, "verdict")
    model = registry.page(place, asked.version)
    lines = [
        f"**May version {asked.version} of `{asked.snapshot}` become champion?** The gate says:",
        "",
        gate.page(verdict),
        "",
        f"**What changed in the data**: {snapshot.change_of(place, asked.snapshot)}",
        "",
        f"Challenger `{asked.challenger[:16]}`, champion now `{asked.champion[:16]}`. More: `flywheel dossier {asked.snapshot}`,"
        f" `flywheel report {asked.snapshot}`" + (f", [its model in MLflow]({model})" if model else ""),
    ]
    return "\n".join(lines)


def ask_in_prefect(workspace: Workspace, asked: registry.Asked) -> bool:
    """Start the flow run in which a person is asked, once a question; False where nobody serves the deployment."""
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    if not os.environ.get("PREFECT_API_URL"):
        return False
    try:
        run_deployment(
            f"approve/{DEPLOYMENT}",
            parameters={"workspace": str(workspace.root), "snapshot": asked.snapshot},
            timeout=0,
            as_subflow=False,
            idempotency_key=f"{workspace.root} {asked.champion} {asked.challenger}",
        )
    except (ObjectNotFound, ValueError):
        return False
    return True


def main(workspace: str) -> None:
    """Serve the deployment until stopped."""
    from prefect.deployments.runner import EntrypointType

    from flows.approve import approve as served  # by its module's name, which the processes of its runs import
    from flows.server import prefect_for

    quiet_environment()
    place = find(Path(workspace))
    with prefect_for(place):
        served.serve(
            DEPLOYMENT,
            parameters={"workspace": str(place.root)},
            pause_on_shutdown=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


if __name__ == "__main__":
    main(sys.argv[1])
