"""What every server of ours checks before it answers: who may reach it, and by which name it was called.

    Host: evil.example  ->  403: a web page that rebinds its own name to 127.0.0.1 gets nothing from here
"""

from __future__ import annotations

import ipaddress

from starlette.requests import Request

LOCAL = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Refusal(Exception):
    """An HTTP answer that is not 200: its status and what is wrong."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def named_host(request: Request) -> str:
    """The name by which the server was called, without its port."""
    named = request.headers.get("host", "")
    return (named if named.endswith("]") or ":" not in named else named.rpartition(":")[0]).lower()


def allow_host(request: Request, allowed: frozenset[str], verb: str) -> None:
    """Raises Refusal for a name that is not ours."""
    name = named_host(request)
    if name not in allowed:
        raise Refusal(403, f"host {name!r} is not allowed; flywheel {verb} --allow-host {name}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
