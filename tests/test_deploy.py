"""When flows run by themselves: schedules as people write them, one run at a time, and the same deployments for workers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tasks.errors import Refused
from tasks.live.workspace import Workspace
from tests.imports import ROOT

pytestmark = pytest.mark.slow


def workspace(folder: Path, **schedule: str) -> Workspace:
    """One whose schedule says something else."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    document["schedule"] |= schedule
    (folder / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return Workspace(folder)


def made(place: Workspace) -> dict[str, list]:
    from flows.deploy import deployments

    return {d.flow_name: d.schedules for d in deployments(place)}


def test_a_schedule_is_every_so_often_or_a_cron_line_in_the_workspaces_timezone_or_never(tmp_path: Path):
    found = made(workspace(tmp_path, timezone="Europe/Berlin", capture="every 90 seconds", mine="", send="15 5 * * 1-5"))
    (capture,) = found["capture"]
    assert capture.schedule.interval.total_seconds() == 90
    assert found["mine"] == []
    (send,) = found["send"]
    assert (send.schedule.cron, send.schedule.timezone) == ("15 5 * * 1-5", "Europe/Berlin")


@pytest.mark.parametrize("schedule", [{"send": "daily"}, {"send": "every 5 fortnights"}, {"send": "99 * * * *"},
                                      {"timezone": "Mars/Olympus"}])  # fmt: skip
def test_a_schedule_that_means_nothing_is_refused_by_name_with_how_to_write_it(tmp_path: Path, schedule: dict[str, str]):
    with pytest.raises(Refused, match=r"schedule\.") as refused:
        made(workspace(tmp_path, **schedule))
    assert "every 5 minutes" in refused.value.what_to_do


def test_what_must_not_overlap_runs_once_at_a_time_and_a_second_run_is_cancelled(tmp_path: Path):
    from flows.deploy import deployments

    for d in deployments(workspace(tmp_path)):
        if d.flow_name in ("approve", "alarm"):
            assert d.concurrency_limit is None, "questions and alarms don't wait for each other"
        else:
            assert (d.concurrency_limit, d.concurrency_options.collision_strategy.value) == (1, "CANCEL_NEW"), d.flow_name


def test_every_schedule_of_the_settings_is_one_of_a_flow():
    from dataclasses import fields

    from flows.deploy import DEPLOYMENTS
    from tasks.live.schedule import ScheduleParams

    assert {f.name for f in fields(ScheduleParams)} == {name for d in DEPLOYMENTS for name in d.due} | {"timezone"}


def test_only_scheduled_runs_of_ours_are_taken_for_dead():
    from flows.deploy import zombies

    assert zombies().trigger.match_related["prefect.resource.id"] == ["prefect.tag.flywheel"]


def test_every_flow_run_has_a_name_that_reads_as_a_sentence(tmp_path: Path):
    from flows.deploy import DEPLOYMENTS

    for d in DEPLOYMENTS:
        assert len(str(d.flow.flow_run_name).split()) >= 3 or d.flow.name == "alarm", d.flow.name
        assert d.says.endswith("."), d.flow.name


def test_prefect_yaml_has_the_same_deployments():
    from flows.deploy import prefect_yaml

    assert (ROOT / "prefect.yaml").read_text(encoding="utf-8") == prefect_yaml(), "python -m flows.deploy --yaml > prefect.yaml"


def test_the_operators_page_names_every_flow_and_every_artifact():
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    from flows.deploy import DEPLOYMENTS

    for d in DEPLOYMENTS:
        assert f"| {d.flow.name} |" in page
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "flows").glob("*.py"))
    for key in set(re.findall(r'key="([a-z-]+)"', code)) | {"captured", "received"}:
        assert f"`{key}`" in page, key


def test_every_deployment_is_given_to_the_pool_and_deployed_twice_is_as_once(
    tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
):
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.deploy import DEPLOYMENTS, deploy_to

    never = ("capture", "mine", "send", "receive", "retrain", "retrain_anyway", "watch", "maintain")
    place = workspace(tmp_path, **dict.fromkeys(never, ""))
    with temporary_settings({PREFECT_API_URL: prefect_server}), get_client(sync_client=True) as client:
        deploy_to(place, "a-pool-of-this-test")
        # Whose heartbeats an automation waits for is forgotten when it is written anew.
        monkeypatch.setattr(Automation, "update", lambda a: pytest.fail(f"{a.name} was as it should be"))
        names = deploy_to(place, "a-pool-of-this-test")
        assert len(names) == len(DEPLOYMENTS)
        found = {name: client.read_deployment_by_name(name) for name in names}
        assert {d.work_pool_name for d in found.values()} == {"a-pool-of-this-test"}
        mine = [a for a in client.read_automations() if a.name.startswith("flywheel: ")]
        assert len(mine) == 2
        (tells,) = [a for a in mine if "told" in a.name]
        assert tells.actions[0].deployment_id == found["alarm/flywheel"].id
        for d in found.values():
            client.delete_deployment(d.id)
        for a in mine:
            client.delete_automation(a.id)
