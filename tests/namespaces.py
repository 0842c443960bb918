"""Hosts of a network of their own: Linux network namespaces, joined by a bridge in the one that the test itself enters.

with network(2) as net:          the test is at net.address (10.77.0.1), and nothing outside can be reached
    net.start(0, [...])          a process on the first host (10.77.0.2)
    net.lose(0)                  the power of that host fails: SIGKILL to everything on it
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "10.77.0."
CLONE_NEWNET = 0x40000000


def forbidden() -> str:
    """Why there can be no namespaces here; '' where there can. FLYWHEEL_REQUIRE_NAMESPACES=1 lets nobody off."""
    if not shutil.which("ip"):
        return "no iproute2 (apt-get install iproute2)"
    name = f"fw-{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are not permitted here: {made.stderr.strip()}"
    linked = _ip("-n", name, "link", "add", "br0", "type", "bridge", check=False)
    _ip("netns", "delete", name)
    return "" if linked.returncode == 0 else f"bridges are not permitted here: {linked.stderr.strip()}"


@dataclass
class Network:
    hub: str
    hosts: list[str] = field(default_factory=list)
    address: str = f"{PREFIX}1"

    def start(self, host: int, command: list[str | Path], log: Path, **environment: str) -> subprocess.Popen:
        with log.open("ab") as out:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.hosts[host], *command], env={**os.environ, **environment}, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def commands(self, host: int) -> dict[int, str]:
        """What runs on a host: process id -> command line."""
        found = {}
        for pid in _ip("netns", "pids", self.hosts[host]).stdout.split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def lose(self, host: int) -> int:
        """Returns how many processes died."""
        lost = set()
        while now := self.commands(host).keys() - lost:  # what they started meanwhile too
            for pid in now:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            lost |= now
        return len(lost)


@contextlib.contextmanager
def network(hosts: int) -> Iterator[Network]:
    """While it lasts this thread, and every process that it starts, is in the hub's namespace."""
    mark = uuid.uuid4().hex[:6]
    net = Network(f"fw-{mark}-hub")
    with contextlib.ExitStack() as made:
        _make(made, net.hub)
        _ip("-n", net.hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", net.hub, "address", "add", f"{net.address}/24", "dev", "br0")
        _ip("-n", net.hub, "link", "set", "br0", "up")
        for n in range(hosts):
            name = f"fw-{mark}-{n}"
            _make(made, name)
            _ip("-n", net.hub, "link", "add", f"host{n}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", net.hub, "link", "set", f"host{n}", "master", "br0", "up")
            _ip("-n", name, "address", "add", f"{PREFIX}{n + 2}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            net.hosts.append(name)
            made.callback(net.lose, n)
        made.enter_context(_inside(net.hub))
        yield net


def _make(made: contextlib.ExitStack, name: str) -> None:
    _ip("netns", "add", name)
    made.callback(_ip, "netns", "delete", name)
    _ip("-n", name, "link", "set", "lo", "up")


@contextlib.contextmanager
def _inside(name: str) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns into {name}")
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(there)
        os.close(before)


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check)
