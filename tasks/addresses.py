"""Where a service of somebody else is: only an address to which a key and users' texts may be sent.

    checked("https://host/v1/", "FLYWHEEL_JUDGE_URL", "FLYWHEEL_JUDGE_KEY")   ->   "https://host/v1"
    checked("http://host/v1", …)                                              ->   Refused: they would travel in the clear
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from tasks.errors import Refused


def checked(url: str, name: str, key: str) -> str:
    """The address without a slash at its end. `name` says where it was set and `key` where its key belongs, for the Refused."""
    url = url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise Refused(f"{name} is no address of an endpoint", f"set it as in https://host/v1, the key in {key}")
    if parts.scheme == "http" and not is_here(parts.hostname):
        raise Refused(
            f"{name} is http: logs and the key would travel in the clear", "use https, or a server on this machine"
        )
    return url


def without_password(url: str) -> str:
    """The address without the user and the password that it may hold: messages, notes and pages repeat it."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
