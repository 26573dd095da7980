"""A real service for a program: gunicorn, a database of its own, stand-ins for SMS provider and mail server."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import sqlalchemy as sa

from app import create_app
from app.config import Settings
from app.db import Base
from tests import lanes
from tests.mail import Mailbox, smtp_server
from tests.providers import Line, Provider, Request, Step, provider
from tests.service import Service, running

PASSWORD = "correct horse 7"
WIDE = {"sends_per_minute": 100_000, "sends_per_day_email": 100_000, "sends_per_day_sms": 100_000}
_numbers = itertools.count(1)


def number() -> str:
    """A mobile number that was not given before, none of them adjacent."""
    return f"+9198{next(_numbers) * 10_007 % 10**8:08d}"


def address() -> str:
    return f"person{next(_numbers)}@example.com"


@dataclass(frozen=True)
class Sms:
    """A request that the SMS provider got."""

    at: datetime
    message_id: UUID
    number: str
    code: str  # empty in a notice
    answered: bool


@dataclass
class Handset:
    """The SMS provider: it takes messages, or hangs: it reads the request and never answers. `instead`: what it does in
    place of taking one. `then`: what it does once it has taken one, in place of the answer.
    """

    provider: Provider
    hanging: threading.Event = field(default_factory=threading.Event)
    got: list[Sms] = field(default_factory=list)
    instead: Step | None = None
    then: Step | None = None

    def take(self, line: Line, request: Request) -> None:
        if self.instead:
            self.instead(line, request)
            return
        callback = parse_qs(urlsplit(request.form["StatusCallback"]).query)
        code = next(iter(re.findall(r"\b\d{6}\b", request.form["Body"])), "")  # the last line repeats it for browsers
        hangs = self.hanging.is_set()
        self.got.append(Sms(datetime.now(UTC), UUID(callback["mid"][0]), request.form["To"], code, not hangs))
        if hangs:
            self.provider.over.wait()
            line.close_connection = True
        elif self.then:
            self.then(line, request)
        else:
            self.accept(line, request)

    def accept(self, line: Line, _request: Request) -> None:
        """The answer to a message that was taken."""
        line.answer((201, json.dumps({"sid": f"SM{len(self.got):032x}"}), {}))

    def code(self, number: str) -> str:
        return soon(lambda: next((sms.code for sms in reversed(self.got) if sms.number == number), ""))


class Always(list[Any]):
    """A script of one step that never runs out."""

    def pop(self, _index: Any = 0) -> Any:
        return self[0]


def tend(engine: sa.Engine) -> None:
    """Fresh statistics and no dead rows, as in a database that lives. Autovacuum sees to it there; on a server for
    tests it may be off, and a session keeps the plan it made of an empty table, which reads the whole of a full one.
    """
    words = {"postgresql": ["VACUUM ANALYZE"], "mysql": [f"ANALYZE TABLE {name}" for name in Base.metadata.tables]}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for word in words.get(engine.dialect.name, ["ANALYZE"]):
            connection.execute(sa.text(word))


def soon(look: Callable[[], Any], patience: float = 20) -> Any:
    """What `look` finds, once it finds something. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise TimeoutError("it has not come")


class Connection:
    """A connection that is kept, and what it takes to post JSON over it."""

    def __init__(self, base: str) -> None:
        self._line = HTTPConnection(urlsplit(base).netloc, timeout=60)
        self._line.connect()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._line.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **named})
        answer = self._line.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._line.close()


@dataclass
class Rig:
    service: Service
    handset: Handset
    mailbox: Mailbox
    engine: sa.Engine
    settings: dict[str, Any]

    @contextmanager
    def courier(self) -> Iterator[None]:
        """A courier in this process, for a service that has none."""
        url = self.engine.url.render_as_string(hide_password=False)
        given = {**self.settings, "database_url": url}
        courier = create_app(Settings(_env_file=None, **lanes.SECRETS, **lanes.CHEAP, **given)).extensions["courier"]
        courier.sends = True
        courier.start()
        yield
        courier.stop()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        """Post something over a connection of its own."""
        line = Connection(self.service.base)
        status, answer = line.post(path, body, **headers)
        line.close()
        return status, json.loads(answer)

    def ask(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        """Post something that must succeed."""
        status, answer = self.post(path, body, **headers)
        assert status in (200, 201), (path, status, answer)
        return answer

    def account(self, **details: str) -> dict[str, Any]:
        """Sign somebody up, by phone or by e-mail, and prove it. Returns what they got."""
        asked = self.ask("/api/auth/signup", {"password": PASSWORD, **details})
        phone = details.get("phone")
        code = self.handset.code(phone) if phone else self.mailbox.code("email", details["email"])
        return self.ask("/api/auth/verify-otp", {"challenge_id": asked["challenge_id"], "otp": code})

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def count(self, *where: Any) -> int:
        return int(self.rows(sa.select(sa.func.count()).where(*where))[0][0])  # of the tables that `where` names


@contextmanager
def rig(database: str, label: str, **settings: Any) -> Iterator[Rig]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        url = stack.enter_context(lanes.database(database, f"bench_{label}_{os.getpid()}"))
        lanes.migrate(url)
        handset = Handset(stack.enter_context(provider()))
        handset.provider.script = Always([handset.take])
        mailbox, mail, _ = stack.enter_context(smtp_server(folder))
        engine = lanes.engine(url)
        stack.callback(engine.dispose)
        sms = {**handset.provider.settings, "sms_provider": "twilio", "public_url": "https://bench.example"}
        given = {"web_concurrency": 4, **sms, **mail, **WIDE, **settings}
        service = stack.enter_context(running(url, folder, **given))
        soon(lambda: len(service.workers()) == given["web_concurrency"])  # the first has answered already
        yield Rig(service, handset, mailbox, engine, given)
