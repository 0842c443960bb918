"""What is known of the services that `flywheel up` started: who lives, where they are, and that a look at them writes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.live import registry
from tasks.live.services import known
from tasks.live.services.known import HEALTHY, Known, Running
from tasks.live.services.table import PORTS, free_ports
from tasks.live.workspace import Workspace
from tests.handmade import workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "work")


def one(process: psutil.Process, url: str = "http://127.0.0.1:5000") -> Running:
    return Running(process.pid, process.create_time(), url, "a.log", HEALTHY)


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it():
    me = psutil.Process()
    assert known.alive(one(me))
    assert not known.alive(Running(me.pid, me.create_time() - 60, "", ""))


def test_only_who_lives_has_an_address(place: Workspace):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    me = psutil.Process()
    services = {"mlflow": one(psutil.Process(child.pid)), "review": one(me, "http://127.0.0.1:8095")}
    known.write(place, Known(me.pid, me.create_time(), services))
    assert known.addresses(place) == {"mlflow": "http://127.0.0.1:5000", "review": "http://127.0.0.1:8095"}
    assert registry.page(place, "3") == "http://127.0.0.1:5000/#/models/flywheel-policy/versions/3"
    assert registry.page(place, "") == ""
    child.kill()
    child.wait()
    assert known.addresses(place) == {"review": "http://127.0.0.1:8095"} and registry.page(place, "3") == ""


def test_what_has_not_changed_is_not_written_again(place: Workspace):
    me = psutil.Process()
    state = Known(me.pid, me.create_time(), {"review": one(me)})
    known.write(place, state)
    before = known.place(place).stat().st_ino
    known.write(place, state)
    assert known.place(place).stat().st_ino == before
    state.services["review"].state = "failing"
    known.write(place, state)
    assert known.place(place).stat().st_ino != before and known.read(place) == state


def test_a_file_that_a_crash_cut_short_is_no_state(place: Workspace):
    known.place(place).write_text('{"pid": 4, "serv', encoding="utf-8")
    assert known.read(place) is None and known.addresses(place) == {} and known.prefect_url(place) == ""


def test_a_port_that_somebody_has_is_replaced_and_each_has_its_own():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        chosen = free_ports({"review": busy})
    assert set(chosen) == set(PORTS) and len(set(chosen.values())) == len(PORTS)
    assert chosen["review"] != busy
