"""The service, all that it stands on behind proxies or in processes that may be killed, and people who use it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import redis
import requests
import sqlalchemy as sa

from app.models import OutboxMessage, User
from bench.invariants import WAITING, Scene
from bench.journal import Caller, Journal
from bench.journeys import AUTH, CODE_S, Crowd
from bench.load import until
from bench.private import Postgres, Redis, postgres, redis_server
from bench.proxy import Proxy, proxy
from bench.rig import PASSWORD, WIDE, Always, Handset, address, soon
from tests import lanes
from tests.mail import Mailbox, smtp_server
from tests.providers import provider
from tests.service import ROOT, Service, launch

USUAL = {"trusted_proxies": 1, "ratelimit": "true", "metrics_public": "true", "web_concurrency": 2, "web_patience": 1,
         "courier": "worker", "step_up_max_age": 3600, "sms_shield": "off",
         "sms_provider": "twilio", "public_url": "https://bench.example", **WIDE}  # fmt: skip
POLL_S = 0.05
CLOCK, AHEAD = "clock", struct.Struct("@l")  # the file that says how far the host's clock is off, and how


@dataclass
class Stage:
    """`url`: the database past every fault; `settings`: as the service has them, through the proxies."""

    folder: Path
    url: str
    settings: dict[str, Any]
    mailbox: Mailbox
    handset: Handset
    mail: Proxy
    postgres: Postgres | None = None
    database: Proxy | None = None
    redis: Redis | None = None
    store: Proxy | None = None
    service: Service = field(init=False)
    courier: subprocess.Popen[bytes] = field(init=False)
    crowd: Crowd = field(init=False)
    at: list[datetime] = field(default_factory=list)  # when each mail came
    couriers: int = 0
    _token: tuple[float, str] = (0.0, "")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.engine = lanes.engine(self.url, poolclass=sa.NullPool)
        self.mailbox.on_message = lambda: self.at.append(datetime.now(UTC))

    @contextmanager
    def running(self) -> Iterator[Stage]:
        self.service = launch(folder=self.folder, **self.settings)
        try:
            self.start_courier()
            self.service.wait()
            self.crowd = Crowd(self.service.base, self._read, self._seen, self._admin)
            self._make_admin()
            yield self
        finally:
            self.courier.kill()
            self.courier.wait()
            self.service.stop()

    def start_courier(self) -> None:
        """`flask courier`, as a process manager has it."""
        self.couriers += 1
        environment = {
            name.upper(): str(value) for name, value in {**lanes.SECRETS, **lanes.CHEAP, **self.settings}.items()
        }
        with (self.folder / "courier.log").open("ab") as log:
            self.courier = subprocess.Popen(
                [sys.executable, "-m", "flask", "courier"], cwd=ROOT, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], **environment},
            )  # fmt: skip

    def scene(self) -> Scene:
        logs = [self.service.log, self.folder / "courier.log"]
        logs += [self.postgres.folder / "server.log"] if self.postgres else []
        base, caller = self.service.base, Caller(self.service.base, Journal(), 20)
        return Scene(
            self.url, self.engine, self.crowd.journal, self.mailbox, self.at, self.handset.got, logs, self._stored,
            metrics=lambda: requests.get(f"{base}/metrics", timeout=20).text,
            me=lambda token: caller.ask("GET", f"{AUTH}/me", token=token)[0],
        )  # fmt: skip

    def move_clock(self, seconds: int) -> None:
        """Put the host's clock, as service and courier see it, so far ahead of the real one."""
        with (self.folder / CLOCK).open("r+b") as file:  # in place: they have it in their memory
            file.write(AHEAD.pack(seconds))

    def settled(self, patience: float) -> None:
        """Wait until no message is on its way, or for so long."""
        waiting = sa.select(sa.func.count()).where(OutboxMessage.state.in_(WAITING))
        with suppress(TimeoutError):
            until(lambda: self.scene().rows(waiting)[0][0] == 0, patience)

    def processes(self) -> list[psutil.Process]:
        """The service's and the courier's."""
        first = psutil.Process(self.service.process.pid)
        return [first, *first.children(recursive=True), psutil.Process(self.courier.pid)]

    def _stored(self) -> str:
        if not self.redis:
            return ""
        client, told = self.redis.client(), []
        for key in client.scan_iter():
            with suppress(redis.ResponseError):
                told.append(f"{key!r} {client.get(key)!r}")
        return "\n".join(told)

    def _read(self, channel: str, to: str, seen: int) -> str:
        """The newest code to an address, once more than `seen` messages with codes came; nothing, if none comes."""
        with suppress(TimeoutError):
            soon(lambda: self._seen(channel, to) > seen or self.crowd.rests, CODE_S)
            if self._seen(channel, to) <= seen:
                return ""
            if channel == "sms":
                return next(sms.code for sms in reversed(self.handset.got) if sms.number == to)
            return self.mailbox.code("email", to, 1)
        return ""

    def _seen(self, channel: str, to: str) -> int:
        """How many messages with codes came, each counted once."""
        if channel == "sms":
            return len({sms.message_id for sms in self.handset.got if sms.number == to})
        coded = [mail for mail in self.mailbox.to(to) if str(mail["Subject"])[:6].isdigit()]
        return len({mail["Message-ID"] for mail in coded})

    def _make_admin(self) -> None:
        self._email = address()
        self._signs("/signup", "/verify-otp", email=self._email)
        with self.engine.begin() as connection:
            connection.execute(sa.update(User).where(User.email == self._email).values(role="admin"))

    def _admin(self) -> str:
        """The token of an admin who signed in not long ago; an empty one if they cannot."""
        with self._lock:
            if time.monotonic() - self._token[0] > 600:
                told = self._signs("/login", "/login/verify", identifier=self._email)
                if token := told.get("access_token", ""):
                    self._token = (time.monotonic(), token)
            return self._token[1]

    def _signs(self, first: str, second: str, **who: str) -> dict[str, Any]:
        caller, seen = Caller(self.service.base, Journal(), 20), self._seen("email", self._email)
        _, asked = caller.ask("POST", AUTH + first, {**who, "password": PASSWORD})
        if "challenge_id" not in asked:
            return {}
        code = self._read("email", self._email, seen)
        return caller.ask("POST", AUTH + second, {"challenge_id": asked["challenge_id"], "otp": code})[1]


def compiler() -> str | None:
    """What makes the library that moves clocks."""
    return shutil.which("cc") if sys.platform == "linux" else None


def _with_a_clock(folder: Path) -> dict[str, str]:
    """The environment of processes whose clock can be moved."""
    library, source = folder / "clock.so", Path(__file__).with_name("clock.c")
    subprocess.run([compiler() or "", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    (folder / CLOCK).write_bytes(AHEAD.pack(0))
    return {"ld_preload": str(library), "clock_ahead": str(folder / CLOCK)}


@contextmanager
def stage(database: str, *, moves_clocks: bool = False) -> Iterator[Stage]:
    """On PostgreSQL and Redis of its own, each behind a proxy; or on SQLite, with limits in memory. `moves_clocks`: its
    clock can be moved.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        handset = Handset(stack.enter_context(provider()))
        handset.provider.script = Always([handset.take])
        mailbox, mail, _ = stack.enter_context(smtp_server(folder))
        before_mail = stack.enter_context(proxy(mail["smtp_port"]))
        settings = {**USUAL, **handset.provider.settings, **mail, "smtp_port": before_mail.port}
        settings |= _with_a_clock(folder) if moves_clocks else {}
        more: dict[str, Any] = {}
        if database == "postgresql":
            server = stack.enter_context(postgres())
            url, behind = server.url, stack.enter_context(proxy(server.port))
            settings["database_url"] = url.set(port=behind.port).render_as_string(hide_password=False)
            store = stack.enter_context(redis_server())
            before = stack.enter_context(proxy(store.port))
            settings["redis_url"] = f"redis://127.0.0.1:{before.port}/0"
            more = {"postgres": server, "database": behind, "redis": store, "store": before}
            text = url.render_as_string(hide_password=False)
        else:
            text = settings["database_url"] = stack.enter_context(lanes.database("sqlite", f"faults_{os.getpid()}"))
        lanes.migrate(text)
        made = Stage(folder, text, settings, mailbox, handset, before_mail, **more)
        yield stack.enter_context(made.running())


def answers(base: str) -> bool:
    """Whether the service is ready."""
    with suppress(requests.RequestException):
        return requests.get(f"{base}/health", timeout=5).ok
    return False
