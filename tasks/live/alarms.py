"""Alarms: what people must hear of though nobody looks. Kept in a file always; mailed or posted where that is set.

    .flywheel/alarms.jsonl      {"at": "2026-11-29T03:00:12Z", "subject": "retrain failed", "text": "…"}
    FLYWHEEL_ALARM_WEBHOOK      an address that takes {"text": "…"}, as Slack, Mattermost and Teams do
    FLYWHEEL_ALARM_EMAIL        to whom; FLYWHEEL_SMTP says by which server: smtp://user:password@host:587, or smtps://…
"""

from __future__ import annotations

import os
import smtplib
import ssl
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import orjson

from tasks.errors import Refused
from tasks.live.masked import masked
from tasks.live.workspace import Workspace, write_durably

SEND_S = 15.0
AGAIN_S = 86_400.0  # until the same alarm is raised anew
KEPT = 1_000  # the newest; older ones are in the history of the flow runs
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Told:
    """By which ways an alarm went out, and why it did not by others."""

    sent: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def alarm(workspace: Workspace, subject: str, text: str) -> Told:
    """Keep the alarm, then send it every way that is set. What cannot be sent is told, and does not raise.

    The text may be that of any error, so secrets are taken out first.
    """
    subject, text = masked(subject), masked(text)
    kept = [*read(workspace), {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "subject": subject, "text": text}]
    _write(workspace, kept)
    told = Told()
    for way, send in (("webhook", _post), ("email", _mail)):
        address = os.environ.get(f"FLYWHEEL_ALARM_{way.upper()}")
        if not address:
            continue
        try:
            send(address, subject, text)
            told.sent.append(way)
        except (OSError, httpx.HTTPError, smtplib.SMTPException, Refused) as e:
            told.failed[way] = e.why if isinstance(e, Refused) else type(e).__name__  # its text may hold the address's secret
    return told


def alarm_once(workspace: Workspace, subject: str, text: str) -> Told:
    """The same, but not where the same was said within a day."""
    subject, text = masked(subject), masked(text)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - AGAIN_S))
    if any(a["subject"] == subject and a["text"] == text and a["at"] >= since for a in read(workspace)):
        return Told()
    return alarm(workspace, subject, text)


def read(workspace: Workspace) -> list[dict[str, Any]]:
    """All that are kept, oldest first. A line that a crash cut short is left out."""
    path = workspace.state / "alarms.jsonl"
    found = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
    return found


def _write(workspace: Workspace, kept: list[dict[str, Any]]) -> None:
    write_durably(workspace.state / "alarms.jsonl", b"".join(orjson.dumps(a) + b"\n" for a in kept[-KEPT:]))


def _post(address: str, subject: str, text: str) -> None:
    if not address.startswith(("http://", "https://")):
        raise Refused("FLYWHEEL_ALARM_WEBHOOK is no address", "write http://… or https://…")
    # The address is the operator's own. It is not left for another one that its server names.
    answer = httpx.post(address, json={"text": f"{subject}\n{text}".strip()}, timeout=SEND_S, follow_redirects=False)
    if answer.status_code >= 300:
        raise Refused(f"the webhook answered {answer.status_code}", "check FLYWHEEL_ALARM_WEBHOOK")


def _mail(to: str, subject: str, text: str) -> None:
    server = urlsplit(os.environ.get("FLYWHEEL_SMTP", ""))
    if server.scheme not in ("smtp", "smtps") or not server.hostname:
        raise Refused("FLYWHEEL_SMTP is missing or no address", "FLYWHEEL_SMTP=smtp://user:password@host:587")
    message = EmailMessage()
    message["From"] = os.environ.get("FLYWHEEL_ALARM_FROM") or f"flywheel@{server.hostname}"
    message["To"] = to
    message["Subject"] = "Flywheel: " + " ".join(subject.split())  # a header is one line
    message.set_content(text or subject)
    tls = ssl.create_default_context()
    secure = server.scheme == "smtps"
    made: Any = smtplib.SMTP_SSL if secure else smtplib.SMTP
    options = {"timeout": SEND_S} | ({"context": tls} if secure else {})
    with made(server.hostname, server.port or (465 if secure else 25), **options) as smtp:
        if server.username:
            if not secure:
                smtp.starttls(context=tls)  # a password never goes in the clear
            smtp.login(unquote(server.username), unquote(server.password or ""))
        smtp.send_message(message)
