"""One way to call a provider over HTTP: bounded in time and size, no redirects, no repeats.

Before the request is written a failure is transient: nothing was sent. After it, no answer is 'unknown'.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import requests
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import ConnectTimeout, RequestException
from urllib3.exceptions import NewConnectionError

from app.delivery.senders import Reason, SendFailed

CONNECT_S, READ_S, WHOLE_S = 3.0, 8.0, 10.0
LONGEST_ANSWER = 64 * 1024
LONGEST_WAIT_S = 3600


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    text: str
    headers: dict[str, str]

    def json(self) -> dict[str, Any]:
        """The body as an object; empty if it is none."""
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def retry_after(self) -> int | None:
        """Seconds to wait, as the provider asks (RFC 9110, section 10.2.3; dates are ignored)."""
        value = self.headers.get("retry-after", "")
        return min(int(value), LONGEST_WAIT_S) if value.isascii() and value.isdecimal() else None


def post(url: str, **request: Any) -> Reply:
    """POST once. `request`: `json`, `data`, `headers`, `auth`, `params` as requests takes them. Raises SendFailed."""
    deadline = time.monotonic() + WHOLE_S
    try:
        with requests.Session() as session:
            session.trust_env = False
            response = session.post(url, timeout=(CONNECT_S, READ_S), allow_redirects=False, stream=True, **request)
            with response:
                text = _read(response, deadline)
    except (ConnectTimeout, NoConnection) as error:
        raise _lost(error) from error
    except RequestException as error:
        raise SendFailed(Reason.UNKNOWN, f"no answer: {type(error).__name__}") from error
    return Reply(response.status_code, text, {k.lower(): v for k, v in response.headers.items()})


def _lost(error: RequestException) -> SendFailed:
    inner = error.args[0] if error.args else None
    refused = isinstance(error, ConnectTimeout) or isinstance(getattr(inner, "reason", None), NewConnectionError)
    reason = Reason.TRANSIENT if refused else Reason.UNKNOWN
    return SendFailed(reason, f"{'cannot reach the provider' if refused else 'no answer'}: {type(error).__name__}")


def _read(response: requests.Response, deadline: float) -> str:
    found = b""
    for chunk in response.iter_content(4096):
        found += chunk
        if len(found) > LONGEST_ANSWER or time.monotonic() > deadline:
            raise SendFailed(Reason.UNKNOWN, "the answer does not end")
    return found.decode(errors="replace")


def refused(reply: Reply, said: str = "") -> SendFailed:
    """The failure that an HTTP status means when the provider has no better word for it."""
    text = f"the provider answered {reply.status} {said}".strip()
    if reply.status in (401, 403, 418) or 300 <= reply.status < 400:
        return SendFailed(Reason.CONFIGURATION, text)
    if reply.status == 429:
        return SendFailed(Reason.THROTTLED, text, reply.retry_after)
    if reply.status >= 500 or reply.status < 300:  # junk with a good status is no acceptance
        return SendFailed(Reason.TRANSIENT, text, reply.retry_after)
    return SendFailed(Reason.PERMANENT, text)
