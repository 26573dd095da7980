"""One way to call a provider over HTTP: bounded in time and size, no redirects, no repeats, no proxy from outside.

Until the request is written a failure is transient: nothing was sent. After it, no answer is 'unknown'. The
standard library does it, because here the two sides of that line are two steps, and every wait has a deadline.
"""

from __future__ import annotations

import base64
import json as jsons
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, InvalidURL
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

import certifi

from app.delivery.senders import Reason, SendFailed
from app.delivery.senders.line import Line, dial
from app.version import VERSION

CONNECT_S = 3.0  # for each address of the host, and for TLS
READ_S = 8.0  # for each wait in the answer
WHOLE_S = 10.0  # for all of it, but for the look-up of the name, which the system's resolver bounds
LONGEST_ANSWER = 64 * 1024
LONGEST_WAIT_S = 3600
LONGEST_ID = 128
BYTES = "surrogateescape"  # a password that is not UTF-8 goes out as it stands in the environment

OUR_FAULT = (401, 402, 403, 404, 405, 406, 407, 418)  # account, address or allow-list; 418: MSG91 knows not our IP
PASSING = (408, 409, 425)  # too slow, or at the same moment as another


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    text: str
    headers: dict[str, str]

    def json(self) -> dict[str, Any]:
        """The body as an object; empty if it is none."""
        try:
            found = jsons.loads(self.text)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def id_at(self, name: str) -> str:
        """The provider's id of the message in a field of the body; empty if there is none."""
        value = self.json().get(name)
        return value[:LONGEST_ID] if isinstance(value, str) else ""

    @property
    def retry_after(self) -> int | None:
        """Seconds to wait, as the provider asks (RFC 9110, section 10.2.3; dates are ignored), at most an hour."""
        value = self.headers.get("retry-after", "")
        return min(int(value[:9]), LONGEST_WAIT_S) if value.isascii() and value.isdecimal() else None


def post(
    url: str,
    *,
    form: Mapping[str, Any] | None = None,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
) -> Reply:
    """POST a form, or an object as JSON, once. `auth`: user and password. Raises SendFailed."""
    deadline = time.monotonic() + WHOLE_S
    place = urlsplit(url)
    known = {
        "User-Agent": f"latchkey/{VERSION}",  # Resend refuses a request without one
        "Accept": "*/*",
        "Content-Type": "application/x-www-form-urlencoded" if json is None else "application/json",
        **(headers or {}),
    }
    if auth:
        known["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode(errors=BYTES)).decode()
    body = urlencode(form or {}, errors=BYTES) if json is None else jsons.dumps(json)
    with _connect(place, deadline) as opened:
        try:
            return _read(_ask(Line(opened, deadline, READ_S), place, known, body.encode()))
        except (OSError, HTTPException) as error:
            raise SendFailed(Reason.UNKNOWN, f"no answer: {type(error).__name__}") from error


def _connect(place: SplitResult, deadline: float) -> socket.socket:
    host, secure = place.hostname or "", place.scheme == "https"
    try:
        opened = dial(host, place.port or (443 if secure else 80), deadline, CONNECT_S)
        return _trusted().wrap_socket(opened, server_hostname=host) if secure else opened
    except ValueError as error:  # a certificate that is not trusted is one too
        raise SendFailed(Reason.CONFIGURATION, f"a wrong address or certificate: {type(error).__name__}") from error
    except OSError as error:
        raise SendFailed(Reason.TRANSIENT, f"cannot reach the provider: {type(error).__name__}") from error


def _trusted() -> ssl.SSLContext:
    """The authorities of the system or SSL_CERT_FILE, and Mozilla's: not every system has them all at hand."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _ask(line: Line, place: SplitResult, headers: Mapping[str, str], body: bytes) -> HTTPResponse:
    connection = HTTPConnection(place.netloc)
    connection.sock = line
    try:
        connection.request("POST", place.path, body, headers)
    except (ValueError, InvalidURL):  # before anything is sent; without the cause, which may repeat the key
        raise SendFailed(Reason.CONFIGURATION, "characters in the key or address that none can have") from None
    return connection.getresponse()


def _read(answer: HTTPResponse) -> Reply:
    text = answer.read(LONGEST_ANSWER)
    if answer.read(1) or answer.length:  # there is more, or less than it said
        raise SendFailed(Reason.UNKNOWN, "the answer does not end, or breaks off")
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, text.decode(errors="replace"), headers)


def refused(reply: Reply, said: str = "") -> SendFailed:
    """The failure that an HTTP status means when the provider has no better word for it. `said`: words of ours."""
    text = f"the provider answered {reply.status} {said}".strip()
    return SendFailed(_meaning(reply.status), text, reply.retry_after)


def _meaning(status: int) -> Reason:
    if status == 429:
        return Reason.THROTTLED
    if status in OUR_FAULT or 300 <= status < 400:
        return Reason.CONFIGURATION
    # An answer that is not the provider's own, under a good status, comes from something in between: it took nothing.
    if status in PASSING or status >= 500 or status < 300:
        return Reason.TRANSIENT
    return Reason.PERMANENT
