"""The door to a provider that speaks OpenAI's API: one address, one key, patience where it is asked for, and clear refusals.

    with Api(endpoint("https://api.openai.com/v1")) as api:
        api.ask("GET", "fine_tuning/jobs/ftjob-7")        ->  {"id": "ftjob-7", "status": "running", …}

The address is FLYWHEEL_PROVIDER_URL, or else what params.yaml says; the key is FLYWHEEL_PROVIDER_KEY and stands in no file, no log
and no message. Redirects are not followed, and no proxy or .netrc of the machine is asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tasks.addresses import checked
from tasks.errors import Refused

URL, KEY = "FLYWHEEL_PROVIDER_URL", "FLYWHEEL_PROVIDER_KEY"
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
RETRIES = 6
WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
TIMEOUT_S = 120.0
NO_MONEY = "insufficient_quota"  # a 429 that no waiting mends
LONGEST_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str
    key: str = field(default="", repr=False)


class Unsure(Exception):
    """No answer came, so whether the request was carried out is not known. Only raised where `ask` was told not to repeat it."""


def endpoint(url: str, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """Where the provider is. Raises Refused for an address to which a key must not be sent."""
    named = environment.get(URL, "")
    at = checked(named or url, URL if named else "params.yaml: provider.url", KEY)
    return Endpoint(at, environment.get(KEY, ""))


class Api:
    """Calls of one provider. Threads may share it."""

    def __init__(self, at: Endpoint, sleep: Callable[[float], None] = time.sleep):
        self.at, self._sleep = at, sleep
        headers = {"authorization": f"Bearer {at.key}"} if at.key else {}
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, repeat: bool = True, missing: bool = False, **request: Any) -> dict[str, Any]:
        """The JSON of an answer. What may pass (429, 5xx, no answer) is asked again after as long as the provider says, or twice as
        long each time; with `repeat` False, Unsure is raised where it may have been carried out. With `missing`, a 404 is {}.

        Raises Refused with the provider's own message for everything else.
        """
        attempt = 0
        while True:
            wait = min(WAIT_S * 2**attempt, LONGEST_WAIT_S)
            try:
                answer = self._client.request(method, f"{self.at.url}/{path}", **request)
            except httpx.HTTPError as e:
                why = f"{type(e).__name__} at {self.at.url}"
                if not repeat and not isinstance(e, httpx.ConnectError):
                    raise Unsure(why) from None
            else:
                if answer.is_success:
                    return self._document(answer)
                if missing and answer.status_code == 404:
                    return {}
                code, message = _told(answer)
                why = f"{answer.status_code} {message}".strip()
                self._refuse_for_good(answer.status_code, code, why)
                if not repeat and answer.status_code >= 500:
                    raise Unsure(why)
                wait = _asked_to_wait(answer.headers.get("retry-after", ""), wait)
            if attempt == RETRIES:
                raise Refused(
                    f"the provider did not answer {method} {path} after {RETRIES + 1} attempts: {why}",
                    f"try again later: dvc repro goes on where it was; {URL} says where the provider is",
                )
            attempt += 1
            self._sleep(wait)

    def _refuse_for_good(self, status: int, code: str, why: str) -> None:
        if status in (401, 403):
            # Their messages repeat the key, or part of it.
            raise Refused(f"the provider refuses the key ({status})", f"set {KEY} to a key that may tune and ask models")
        if code == NO_MONEY:
            raise Refused(f"the provider's account is used up: {self._clean(why)}", "add credit there, then dvc repro")
        if status not in AGAIN:
            raise Refused(f"the provider refuses: {self._clean(why)}", "mend what it names (params.yaml: provider)")

    def _document(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Refused(f"{self.at.url} answers with something else than JSON", f"set {URL} to the address that ends in /v1")
        return found

    def _clean(self, text: str) -> str:
        return text.replace(self.at.key, "***") if self.at.key else text


def _told(answer: httpx.Response) -> tuple[str, str]:
    """The code and the message of an error, '' where it has none."""
    try:
        error = answer.json()["error"]
        return str(error.get("code") or ""), str(error.get("message") or "")[:LONGEST_MESSAGE]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _asked_to_wait(retry_after: str, otherwise: float) -> float:
    """Seconds, as every provider gives them; a date, which HTTP allows as well, is as good as nothing said."""
    return min(float(retry_after), LONGEST_WAIT_S) if retry_after.replace(".", "", 1).isdecimal() else otherwise
