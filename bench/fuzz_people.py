"""What the parts of `fuzz` share: a connection that takes any bytes, people who come again when they are thrown out,
and the tally of what was answered.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
import sqlalchemy as sa

from app.core.api_keys import Scope
from app.models import User
from bench.rig import Rig, soon
from tests.lanes import SECRETS
from tests.mail import Mailbox
from tests.people import Answer, Person, check_document, check_rules

PATIENCE_S = 15.0  # the service gives a request 10 s to arrive
BODILESS = (204, 304)
# Answers with rules of their own: no problem documents, not JSON, or kept by caches.
APART = re.compile(r"/metrics$|/health|/\.well-known/|/openapi\.json$|/docs|/redoc|/dev/")
TOO_LONG = (414, 431)  # a line or head that the server refuses by itself, before it is anybody's request
GONE = {"token_revoked", "token_expired", "insufficient_user_authentication", "account_locked"}


class NotHttp(Exception):
    """The service sent something that is no answer."""


@dataclass(frozen=True)
class Told:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]  # by lower-case names
    body: bytes

    @property
    def kept(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"

    @property
    def code(self) -> str:
        found = self.json if self.status >= 400 else None
        return str(found.get("code", "")) if isinstance(found, dict) else ""

    @property
    def json(self) -> Any:
        kind = self.headers.get("content-type", "")
        try:
            return json.loads(self.body) if "json" in kind else None
        except ValueError:
            raise NotHttp(f"{kind} that is none: {self.body[:80]!r}") from None


class Line:
    """A connection. It reads answers by the letter of their framing: a byte too many is a fault. Raises OSError for
    one that is closed or silent.
    """

    def __init__(self, port: int, patience: float = PATIENCE_S) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def no_more(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def answer(self, *, bodiless: bool = False) -> Told:
        """The next one. Raises EOFError if the other side has closed instead."""
        first = self._reader.readline(65536)
        if not first:
            raise EOFError
        found = re.fullmatch(rb"HTTP/1\.[01] ([1-5][0-9][0-9])( [^\r\n]*)?\r\n", first)
        if not found:
            raise NotHttp(repr(first[:80]))
        status, headers = int(found[1]), self._headers()
        if 100 <= status < 200:
            return self.answer(bodiless=bodiless)
        if bodiless or status in BODILESS:
            return Told(status, headers, b"")
        return Told(status, headers, self._body(headers))

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while (row := self._reader.readline(65536)) not in (b"\r\n", b""):
            name, colon, value = row.decode("latin-1").partition(":")
            if not colon or not row.endswith(b"\r\n"):
                raise NotHttp(repr(row[:80]))
            found[name.lower()] = value.strip()
        return found

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self._reader.readline(), 16):
                pieces.append(self._exactly(size))
                self._exactly(2)
            self._exactly(2)
            return b"".join(pieces)
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return self._reader.read()

    def _exactly(self, size: int) -> bytes:
        found = self._reader.read(size)
        if len(found) != size:
            raise NotHttp(f"{size} bytes were announced and {len(found)} came")
        return found


@dataclass
class Tally:
    """What was asked and answered in one part. Several threads count here."""

    part: str
    deadline: float = float("inf")  # by time.monotonic
    answers: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)  # kind -> what was sent, the first few
    often: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        return self.answers.total()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline

    def count(self, outcome: str, *, accepted: bool = False) -> None:
        with self._lock:
            self.answers[outcome] += 1
            self.accepted += accepted

    def fault(self, kind: str, sent: str) -> None:
        with self._lock:
            self.often[kind] += 1
            kept = self.faults.setdefault(kind, [])
            if len(kept) < 3:
                kept.append(sent[:2000])


class Post:
    """Reads the mail as it comes, and keeps of it only codes: there are thousands."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._codes: dict[str, list[str]] = {}
        mailbox.on_message = self._sort

    def _sort(self) -> None:
        for mail in self._mailbox.mails:
            if found := re.match(r"(\d{6}) is your", str(mail["Subject"])):
                self._codes.setdefault(str(mail["To"]), []).append(found[1])
        self._mailbox.mails.clear()
        self._mailbox.envelopes.clear()

    def code(self, _channel: str, address: str) -> str:
        """The next code at an address that was not read before; waits for it."""
        return str(soon(lambda: self._codes.get(address)).pop(0))


class Cast:
    """A user, an admin, a browser's session and API keys. Whoever was thrown out is replaced by somebody new."""

    def __init__(self, opened: Rig, post: Post) -> None:
        self._opened, self._post = opened, post
        self.people = 0  # who have come so far
        self._tokens: dict[str, str] = {}
        self._lock = threading.RLock()
        self.keys = {"every scope": SECRETS["api_key"]}
        for scope in Scope:
            given = {"name": scope.value, "scopes": [scope.value]}
            self.keys[scope.value] = self._api().post("/api/admin/api-keys", given, self.token("admin")).ok()["key"]

    def token(self, role: str) -> str:
        with self._lock:
            if role not in self._tokens:
                self._tokens[role] = self._new(role)
            return self._tokens[role]

    def renew(self, role: str, *said: str) -> None:
        """Somebody else plays the role from now on, unless that has happened already. `said`: by what header."""
        with self._lock:
            if self._tokens.get(role) in {header.removeprefix("Bearer ") for header in said}:
                del self._tokens[role]

    def person(self) -> Person:
        self.people += 1
        return Person(self._api(), self._post.code)

    def _api(self) -> Any:
        return self._opened.service.api()

    def _new(self, role: str) -> str:
        """Of the attackers one may have had another code sent to the same address: then somebody else comes."""
        with suppress(AssertionError):
            return self._come(role)
        return self._come(role)

    def _come(self, role: str) -> str:
        person = self.person().sign_up()
        if role == "admin":
            with self._opened.engine.begin() as connection:
                connection.execute(sa.update(User).where(User.email == person.email).values(role="admin"))
            return str(person.refresh().ok()["access_token"])
        if role == "browser":
            return self._cookie(person)
        return person.token

    def _cookie(self, person: Person) -> str:
        """Of a browser that signed in, by name and value."""
        api, given = self._api(), {"email": person.email}  # it keeps its cookies by itself
        api.post("/login", {**given, "password": person.password}).ok()
        done = api.post("/verify-otp", {**given, "otp": person.code()}).ok()
        found = re.search(r"session=[^;,]+", done.headers["Set-Cookie"])
        assert found, done.headers
        return found[0]

    def headers(self, operation: dict[str, Any], path: str, key: str = "every scope") -> tuple[str, dict[str, str]]:
        """Who may call an operation, and the headers that say so."""
        wanted = {name for way in operation.get("security", []) for name in way}
        if "cookie" in wanted:
            return "browser", {"Cookie": self.token("browser")}
        if "bearer" in wanted:
            role = "admin" if path.startswith("/api/admin") else "user"
            return role, {"Authorization": f"Bearer {self.token(role)}"}
        return ("key", {"Authorization": f"Bearer {self.keys[key]}"}) if wanted else ("", {})


class Known:
    """Values that the service gave out, by the name of their field, so that requests reach what exists."""

    def __init__(self) -> None:
        self._values: dict[str, deque[str]] = {}

    def learn(self, found: Any, name: str = "") -> None:
        if isinstance(found, dict):
            for key, value in found.items():
                self.learn(value, key)
        elif isinstance(found, list):
            for value in found[:5]:
                self.learn(value, name)
        elif isinstance(found, str) and 0 < len(found) < 600:
            self._values.setdefault(name, deque(maxlen=30)).append(found)

    def some(self, *names: str) -> list[str]:
        return [value for name in names for value in self._values.get(name, ())]


def judge(method: str, path: str, told: Told, *, astray: bool = False) -> str:
    """What is wrong with an answer; empty if nothing is. `astray`: the path may be nobody's."""
    if told.status >= 500 and told.status != 503:
        return f"status {told.status}"
    strayed = astray and told.status in (404, 405) and told.code in ("not_found", "method_not_allowed")
    if strayed or APART.search(path.partition("?")[0]):
        return ""
    if told.status < 300 and "json" not in told.headers.get("content-type", ""):
        return "" if told.status == 204 or told.headers.get("content-type", "") else "no content type"
    given = Answer(told.status, told.json, told.headers)
    try:
        check_rules(given)
        if told.status not in TOO_LONG:
            check_document(method, path, given)
    except (AssertionError, KeyError, TypeError, jsonschema_rs.ValidationError) as error:
        return f"not as documented: {type(error).__name__} {str(error)[:200]}"
    return ""
