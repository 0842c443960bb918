"""What may be shown of a text: without the keys, tokens and passwords of this environment, and without those in addresses.

    masked("postgresql://fly:hunter22@db/mlflow does not answer")   ->   "postgresql://[masked]@db/mlflow does not answer"

A net under what is written by hand: errors of libraries, tracebacks and command lines say whatever they like.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

MASK = "[masked]"
SECRET_NAME = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIALS?|WEBHOOK|AUTH_STRING)(?:_|$)", re.IGNORECASE)
IN_ADDRESS = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
SHORTEST = 6  # characters: what is shorter stands in ordinary words as well


def masked(text: str, environment: Mapping[str, str] = os.environ) -> str:
    text = IN_ADDRESS.sub(MASK, text)
    for secret in sorted(_secrets(environment), key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, MASK)
    return text


def _secrets(environment: Mapping[str, str]) -> set[str]:
    found = {value for name, value in environment.items() if SECRET_NAME.search(name)}
    found |= {p for value in environment.values() if "://" in value and "@" in value for p in _passwords(value)}
    return {value for value in found if len(value) >= SHORTEST}


def _passwords(address: str) -> tuple[str, ...]:
    """As the address spells it, and as it is meant: '%40' is '@'."""
    try:
        password = urlsplit(address).password or ""
    except ValueError:
        return ()
    return password, unquote(password)
