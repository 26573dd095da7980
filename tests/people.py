"""Black-box helpers: an API that checks every answer against the document, and a Person who uses it."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jsonschema_rs
import requests

from app import SURFACES
from app.delivery.senders import Outgoing, Receipt
from app.web import openapi

DOCUMENT = openapi.document(SURFACES)
PATTERNS = {
    re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))): operations
    for template, operations in DOCUMENT["paths"].items()
}
PASSWORD = "correct horse 7"
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_numbers = itertools.count(1)


class Clock:
    """Time is a dial, which moves a microsecond by itself at each look, so that things have an order."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


class MemorySender:
    """Keeps what it is given. Passes the conformance suite of senders."""

    name = "memory"

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.messages: list[Outgoing] = []

    def send(self, message: Outgoing) -> Receipt:
        self.messages.append(message)
        return Receipt(self.name, str(message.id))


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str]

    @property
    def code(self) -> str | None:
        return self.body.get("code")

    def __getitem__(self, key: str) -> Any:
        return self.body[key]

    def ok(self) -> Answer:
        assert self.status in (200, 201), (self.status, self.body)
        return self


Transport = Callable[[str, str, Any, dict[str, str]], Answer]


class Api:
    """Calls endpoints. Every answer is held against the OpenAPI document and the rules for all answers."""

    def __init__(self, transport: Transport, **headers: str) -> None:
        self.transport = transport
        self.headers = headers

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Answer:
        sent = {**self.headers, **headers}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        answer = self.transport(method, path, body, sent)
        check_rules(answer)
        check_document(method, path, answer)
        return answer

    def get(self, path: str, token: str | None = None, **headers: str) -> Answer:
        return self.call("GET", path, None, token, **headers)

    def post(self, path: str, body: Any = None, token: str | None = None, **headers: str) -> Answer:
        return self.call("POST", path, body, token, **headers)

    def patch(self, path: str, body: Any = None, token: str | None = None) -> Answer:
        return self.call("PATCH", path, body, token)

    def delete(self, path: str, token: str | None = None) -> Answer:
        return self.call("DELETE", path, None, token)


def flask_transport(app: Any, address: str = "203.0.113.5") -> Transport:
    client = app.test_client(use_cookies=False)

    def send(method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        given = {"json": body} if isinstance(body, (dict, list)) else {"data": body} if body is not None else {}
        response = client.open(path, method=method, headers=headers, environ_base={"REMOTE_ADDR": address}, **given)
        return Answer(response.status_code, response.get_json(silent=True), dict(response.headers))

    return send


def http_transport(base: str) -> Transport:
    local = threading.local()

    def send(method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        given = {"json": body} if isinstance(body, (dict, list)) else {"data": body}
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        response = local.session.request(method, base + path, headers=headers, timeout=30, **given)
        parsed = response.json() if "json" in response.headers.get("Content-Type", "") else None
        return Answer(response.status_code, parsed, dict(response.headers))

    return send


def check_rules(answer: Answer) -> None:
    """What holds for every answer outside docs and static files (contract, section 1)."""
    h = {k.lower(): v for k, v in answer.headers.items()}
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", h["x-request-id"])
    assert h["cache-control"] == "no-store"
    assert h["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in h["content-security-policy"]
    assert h["strict-transport-security"].startswith("max-age=31536000")
    assert h["referrer-policy"] == "no-referrer"
    if answer.status == 304:
        assert h["etag"]
        return
    if answer.status < 400:
        assert h["content-type"] == "application/json"
        return
    assert h["content-type"] == "application/problem+json"
    assert answer.body["status"] == answer.status
    assert answer.body["request_id"] == h["x-request-id"]
    if answer.status in (423, 429, 503):
        assert h["retry-after"] == str(answer.body["retry_after"])
        assert answer.body["retry_after"] >= 1
    if answer.status == 401:
        assert h["www-authenticate"].startswith("Bearer")


def check_document(method: str, path: str, answer: Answer) -> None:
    """The answer is one that the OpenAPI document tells of, in the form it tells."""
    operation = _operation(method, path.split("?", maxsplit=1)[0])
    if operation is None:
        return
    documented = operation["responses"].get(str(answer.status))
    assert documented, f"{method} {path} answered {answer.status}, which its document does not know: {answer.body}"
    if answer.status == 304:
        assert answer.body is None
        return
    _validator(operation["operationId"], answer.status).validate(answer.body)
    if answer.status >= 400:
        assert f"`{answer.code}`" in documented["description"], (method, path, answer.code)


def _operation(method: str, path: str) -> Any:
    found = next((operations for pattern, operations in PATTERNS.items() if pattern.fullmatch(path)), {})
    return found.get(method.lower())


@cache
def _validator(operation_id: str, status: int) -> jsonschema_rs.Draft202012Validator:
    """What holds an answer against its schema. Made once: the document is large."""
    operations = (operation for path in DOCUMENT["paths"].values() for operation in path.values())
    operation = next(operation for operation in operations if operation["operationId"] == operation_id)
    kind = "application/json" if status < 400 else "application/problem+json"
    schema = operation["responses"][str(status)]["content"][kind]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


@dataclass
class Person:
    """Somebody with an address, who reads their messages and uses the front door."""

    api: Api
    read: Callable[[str, str], str]  # (channel, address) -> the newest code
    email: str = field(default_factory=lambda: f"person{next(_numbers)}@example.com")
    phone: str | None = None
    username: str | None = None
    name: str | None = "Jane"
    password: str = PASSWORD
    tokens: dict[str, Any] = field(default_factory=dict)

    @property
    def token(self) -> str:
        return self.tokens["access_token"]

    def code(self, channel: str = "email") -> str:
        return self.read(channel, (self.phone or "") if channel == "sms" else self.email)

    def ask_signup(self, **more: Any) -> Answer:
        details = {"email": self.email, "phone": self.phone, "username": self.username, "name": self.name}
        given = {k: v for k, v in details.items() if v}
        return self.api.post("/api/auth/signup", {**given, "password": self.password, **more})

    def sign_up(self, **more: Any) -> Person:
        asked = self.ask_signup(**more).ok()
        self.verify_signup(asked["challenge_id"], self.code(asked["channel"])).ok()
        return self

    def verify_signup(self, challenge_id: str, code: str) -> Answer:
        answer = self.api.post("/api/auth/verify-otp", {"challenge_id": challenge_id, "otp": code})
        return self._keep(answer)

    def ask_signin(self, **more: Any) -> Answer:
        return self.api.post("/api/auth/login", {"identifier": self.email, "password": self.password, **more})

    def sign_in(self, **more: Any) -> Person:
        asked = self.ask_signin(**more).ok()
        self.verify_signin(asked["challenge_id"], self.code(asked["channel"])).ok()
        return self

    def verify_signin(self, challenge_id: str, code: str, **more: Any) -> Answer:
        body = {"challenge_id": challenge_id, "otp": code, **more}
        return self._keep(self.api.post("/api/auth/login/verify", body))

    def refresh(self, token: str | None = None) -> Answer:
        return self.api.post("/api/auth/refresh", {"refresh_token": token or self.tokens["refresh_token"]})

    def me(self) -> Answer:
        return self.api.get("/api/auth/me", self.token)

    def _keep(self, answer: Answer) -> Answer:
        if answer.status == 200:
            self.tokens = answer.body
        return answer


def wrong(code: str) -> str:
    """Digits that are not the code's."""
    return str((int(code) + 1) % 10 ** len(code)).zfill(len(code))


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def while_hashing(world: Any, act: Callable[[], object]) -> Iterator[None]:
    """Do something in the moment in which the next password is compared, or hashed."""
    real = world.kit.hasher

    class Hooked:
        done = False

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def once(self) -> None:
            if not self.done:
                self.done = True
                act()

        def matches(self, *args: Any) -> bool:
            self.once()
            return real.matches(*args)

        def hash(self, *args: Any) -> str:
            self.once()
            return real.hash(*args)

    object.__setattr__(world.kit, "hasher", Hooked())
    try:
        yield
    finally:
        object.__setattr__(world.kit, "hasher", real)
