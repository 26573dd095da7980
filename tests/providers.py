"""Stand-ins for Twilio, MSG91, Gupshup, SendGrid and Resend: one server that speaks for all of them, tells a wrong
request as they do, or misbehaves as it is told.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from app.config import Settings
from app.delivery.senders import Outgoing, Sender

ACCOUNT: dict[str, Any] = {
    "twilio_sid": "ACtwilio0account", "twilio_token": "tw1l10-s3cret", "twilio_phone": "+15005550006",
    "msg91_auth_key": "msg91-s3cret", "msg91_template_id": "65f0c0ffee",
    "gupshup_user_id": "2000012345", "gupshup_password": "gupshup-s3cret",
    "sendgrid_api_key": "SG.s3cret", "resend_api_key": "re_s3cret", "sender_email": "no-reply@clinic.example",
}  # fmt: skip
SECRETS = tuple(value for name, value in ACCOUNT.items() if name.endswith(("token", "key", "password")))
CHANNELS = {"twilio": "sms", "msg91": "sms", "gupshup": "sms", "sendgrid": "email", "resend": "email"}


def message(channel: str = "sms", code: str = "123456", **changes: Any) -> Outgoing:
    """A message as the courier hands it to a sender; without a code a notice."""
    sms = channel == "sms"
    words = f"{code} is your Latchkey code" if code else "Your Latchkey password was changed"
    usual: dict[str, Any] = {
        "id": uuid4(), "user_id": None, "kind": "code.signin" if code else "notice.password_changed", "channel": channel,
        "recipient": "+919876543210" if sms else "jane@example.com", "masked": "+91******3210" if sms else "j***@example.com",
        "country": "IN" if sms else "", "language": "en", "brand": "Latchkey", "subject": words, "text": words, "html": f"<p>{words}</p>",
        "code": code, "minutes": 5 if code else 0, "seconds": 300 if code else 0,
    }  # fmt: skip
    return Outgoing(**usual | changes)


@dataclass
class Request:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: str

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body, keep_blank_values=True).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_a(self, kind: str) -> bool:
        return (self.headers["Content-Type"] or "").partition(";")[0] == kind


Answer = tuple[int, str, dict[str, str]]
Step = Callable[["Line", Request], None]  # what to do with one request in place of answering it


def answers(status: int, body: Any = "", **headers: str) -> Step:
    """Answer this. `Retry_After="3"` stands for the header."""
    text = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda line, _: line.answer((status, text, named))


def closes(line: Line, _: Request) -> None:
    """Take the request and close without a word."""
    line.close_connection = True


def resets(line: Line, _: Request) -> None:
    """Take the request and reset the connection."""
    line.close_connection = True
    line.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.rfile.close()
    line.connection.close()


def hangs(line: Line, _: Request) -> None:
    """Take the request and say nothing while the client waits."""
    line.provider.over.wait(20)
    line.close_connection = True


def _pours(head: bytes, drop: bytes, pause: float) -> Step:
    def pour(line: Line, _: Request) -> None:
        line.close_connection = True
        line.wfile.write(head)
        while not line.provider.over.wait(pause):
            line.wfile.write(drop)

    return pour


drips_headers = _pours(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a", 0.02)
drips_body = _pours(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b" ", 0.02)
never_ends = _pours(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096, 0.0001)


def breaks_off(line: Line, _: Request) -> None:
    """Promise more than comes."""
    line.close_connection = True
    line.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"id": "x", "type": "success", "message": "x"}')


class Line(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    provider: Provider

    def do_POST(self) -> None:
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        request = Request(self.command, place.path, query, self.headers, body)
        with self.provider.lock:
            self.provider.requests.append(request)
            step = self.provider.script.pop(0) if self.provider.script else None
        if step:
            step(self, request)
        else:
            self.answer(speak(request, self.provider.requests))

    do_GET = do_PUT = do_POST

    def answer(self, answer: Answer) -> None:
        status, text, headers = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:  # clients go away: that is what is tested
        pass


@dataclass
class Provider:
    """The stand-in: what came in, and what to do with the next requests in place of answering them."""

    base: str
    requests: list[Request] = field(default_factory=list)
    script: list[Step] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def settings(self) -> dict[str, Any]:
        """The account, and every provider's address here."""
        return ACCOUNT | {f"{name}_base_url": self.base for name in CHANNELS}

    def sender(self, name: str, **changes: Any) -> Sender:
        """The sender of a name that takes this for its provider."""
        settings = Settings(_env_file=None, **self.settings | changes)
        return import_module(f"app.delivery.senders.{name}").build(settings, CHANNELS[name])

    @property
    def request(self) -> Request:
        """The one request that came in."""
        [only] = self.requests
        return only


@contextmanager
def provider(certificate: Path | None = None) -> Iterator[Provider]:
    """A stand-in on a free port, over TLS if there is a certificate."""
    line = type("LineOfOne", (Line,), {})  # a class of its own, for a server is told the class alone
    server = _Server(("127.0.0.1", 0), line)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme, host = ("https", "localhost") if certificate else ("http", "127.0.0.1")
    opened = Provider(f"{scheme}://{host}:{server.server_port}")
    line.provider = opened
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield opened
    finally:
        opened.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def full_house() -> Iterator[str]:
    """The address of a server that lets nobody in: connecting to it takes for ever."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for guest in (first, second):
            guest.setblocking(False)
            guest.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def dead_addresses() -> Iterator[int]:
    """The port of `dead.example`, which has eight addresses, none of which lets anybody in."""
    with full_house() as address:
        port = int(address.rpartition(":")[2])
        dead = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 8
        found = socket.getaddrinfo
        with patch.object(
            socket, "getaddrinfo", lambda host, *a, **k: dead if "dead" in host else found(host, *a, **k)
        ):
            yield port


def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def speak(request: Request, seen: list[Request]) -> Answer:
    """What the real provider answers, after all that it has seen, this request with it."""
    for pattern, voice in VOICES.items():
        if re.fullmatch(pattern, request.path) and request.method == "POST":
            return voice(request, list(seen))
    return 404, "no such page", {}


def _twilio(request: Request, seen: list[Request]) -> Answer:
    def refuse(status: int, code: int) -> Answer:
        return (
            status,
            json.dumps({"code": code, "message": f"no: {request.form.get('To')}", "more_info": "", "status": status}),
            {},
        )

    login = base64.b64encode(f"{ACCOUNT['twilio_sid']}:{ACCOUNT['twilio_token']}".encode()).decode()
    form = request.form
    if request.headers["Authorization"] != f"Basic {login}":
        return refuse(401, 20003)
    if not request.is_a("application/x-www-form-urlencoded") or not form.get("Body"):
        return refuse(400, 21602)
    if not re.fullmatch(r"\+[1-9]\d{6,14}", form.get("To", "")):
        return refuse(400, 21211)
    if not form.get("From") and not form.get("MessagingServiceSid", "").startswith("MG"):
        return refuse(400, 21603)
    if not 1 <= int(form.get("ValidityPeriod", "36000")) <= 36_000:
        return refuse(400, 21621)
    said = {
        "sid": f"SM{len(seen):032x}",
        "status": "queued",
        "to": form["To"],
        "body": form["Body"],
        "price": None,
        "error_code": None,
        "date_created": "Sat, 21 Nov 2026 10:00:00 +0000",
        "num_segments": "1",
    }
    return 201, json.dumps(said), {"Content-Type": "application/json"}


def _msg91(request: Request, seen: list[Request]) -> Answer:
    def say(kind: str, words: str, status: int = 200) -> Answer:
        return status, json.dumps({"message": words, "type": kind}), {}

    if request.headers["authkey"] != ACCOUNT["msg91_auth_key"]:
        return say("error", "Unauthorized", 401)
    if not request.is_a("application/json") or not request.json.get("template_id"):
        return say("error", "template id missing")
    if not all(re.fullmatch(r"[1-9]\d{7,14}", one.get("mobiles", "")) for one in request.json["recipients"]):
        return say("error", "Invalid mobile number")
    return say("success", f"{len(seen):032x}")


def _gupshup(request: Request, seen: list[Request]) -> Answer:
    form = request.form
    needed = {"method", "userid", "password", "send_to", "msg", "msg_type", "v", "auth_scheme"}
    if missing := needed - form.keys():
        return 200, f"error | 101 | Required parameter missing: {', '.join(sorted(missing))}", {}
    if (form["userid"], form["password"]) != (ACCOUNT["gupshup_user_id"], ACCOUNT["gupshup_password"]):
        return 200, "error | 102 | Authentication failed due to invalid userId or password.", {}
    if not re.fullmatch(r"[1-9]\d{7,14}", form["send_to"]):
        return 200, f'error | 105 | The phone number "{form["send_to"]}" is not a valid phone number.', {}
    return 200, f"success | {form['send_to']} | {len(seen):032x}", {}


def _sendgrid(request: Request, seen: list[Request]) -> Answer:
    if request.headers["Authorization"] != f"Bearer {ACCOUNT['sendgrid_api_key']}":
        return 401, json.dumps({"errors": [{"message": "authorization required", "field": None}]}), {}
    mail = request.json if request.is_a("application/json") else {}
    if not mail.get("personalizations") or not mail.get("subject") or not all(c["value"] for c in mail["content"]):
        return 400, json.dumps({"errors": [{"message": "required", "field": "personalizations"}]}), {}
    if mail["from"]["email"] != ACCOUNT["sender_email"]:
        return 403, json.dumps({"errors": [{"message": "not a verified Sender Identity", "field": "from"}]}), {}
    return 202, "", {"X-Message-Id": f"{len(seen):032x}"}


def _resend(request: Request, seen: list[Request]) -> Answer:
    def refuse(status: int, name: str) -> Answer:
        return status, json.dumps({"statusCode": status, "name": name, "message": "no"}), {}

    if not request.headers["User-Agent"]:
        return 403, "error code: 1010", {}
    if request.headers["Authorization"] != f"Bearer {ACCOUNT['resend_api_key']}":
        return refuse(401, "missing_api_key")
    mail = request.json if request.is_a("application/json") else {}
    if not mail.get("to") or not mail.get("subject") or not mail.get("from"):
        return refuse(422, "missing_required_field")
    first = next(r for r in seen if r.headers["Idempotency-Key"] == request.headers["Idempotency-Key"])
    if first.body != request.body:
        return refuse(409, "invalid_idempotent_request")
    return 200, json.dumps({"id": f"{seen.index(first) + 1:032x}"}), {}


VOICES: dict[str, Callable[[Request, list[Request]], Answer]] = {
    f"/2010-04-01/Accounts/{ACCOUNT['twilio_sid']}/Messages.json": _twilio,
    "/api/v5/flow/?": _msg91,
    "/GatewayAPI/rest": _gupshup,
    "/v3/mail/send": _sendgrid,
    "/emails": _resend,
}
