"""The service, all that it stands on behind proxies or in processes that may be killed, and people who use it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import redis
import requests
import sqlalchemy as sa

from app.models import OutboxMessage, User
from bench.crowd import Crowd
from bench.journal import Caller, Journal
from bench.journeys import AUTH, CODE_S
from bench.load import until
from bench.office import Office
from bench.private import Redis, mariadb, postgres, redis_server
from bench.proxy import Proxy, proxy
from bench.rig import PASSWORD, WIDE, Always, Handset, address, soon
from bench.scene import NEXT_KEY, WAITING, Scene
from tests import lanes
from tests.mail import Mailbox, smtp_server
from tests.providers import provider
from tests.service import ROOT, Service, launch

SESSION_S = 120  # so that some are over before the program is
USUAL = {"trusted_proxies": 1, "ratelimit": "true", "metrics_public": "true", "web_concurrency": 2, "web_patience": 1,
         "courier": "worker", "step_up_max_age": 3600, "sms_shield": "off", "session_max_age": SESSION_S,
         "sms_provider": "twilio", "public_url": "https://bench.example", **WIDE}  # fmt: skip
POLL_S = 0.05
CLOCK, AHEAD = "clock", struct.Struct("@l")  # the file that says how far the host's clock is off, and how
ARMED, ENDED = "armed", "ended"  # the files that say which failpoint ends processes, and how many ended at each
FACTORY = "bench.failpoints:service"
HASH_KIB = 65_536  # of hashes whose memory goes back to the system after each, as 19 MiB would not


class Start(StrEnum):
    """How the service is started."""

    PLAIN = ""
    CLOCK = "clocks moved"
    FAILPOINTS = "failpoints"
    HASHES = "large hashes"


@dataclass
class Stage:
    """`url`: the database past every fault; `settings`: as the service has them, through the proxies."""

    folder: Path
    url: str
    settings: dict[str, Any]
    mailbox: Mailbox
    handset: Handset
    mail: Proxy
    server: Any = None  # the database's: a Postgres or a Mariadb
    between: Proxy | None = None  # before it
    redis: Redis | None = None
    store: Proxy | None = None
    start: Start = Start.PLAIN
    service: Service = field(init=False)
    courier: subprocess.Popen[bytes] = field(init=False)
    crowd: Crowd = field(init=False)
    at: list[datetime] = field(default_factory=list)  # when each mail came
    couriers: int = 0
    _given_up: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.engine = lanes.engine(self.url, poolclass=sa.NullPool)
        self.mailbox.on_message = lambda: self.at.append(datetime.now(UTC))

    @contextmanager
    def running(self) -> Iterator[Stage]:
        flags = [f"{FACTORY}()"] if self.start is Start.FAILPOINTS else []
        self.service = launch(folder=self.folder, flags=flags, **self.settings)
        try:
            self.start_courier()
            self.service.wait()
            self.crowd = Crowd(self.service.base, self._read, self._seen, SESSION_S)
            self.crowd.office = self._office()
            yield self
        finally:
            self.courier.kill()
            self.courier.wait()
            self.service.stop()

    def start_courier(self) -> None:
        """`flask courier`, as a process manager has it."""
        self.couriers += 1
        self.courier = self.flask("courier")

    def restart_courier(self) -> None:
        self.courier.kill()
        self.courier.wait()
        self.start_courier()

    def flask(self, *words: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a command of the service's, with other settings if need be. It writes into the courier's log."""
        given = {**lanes.SECRETS, **lanes.CHEAP, **self.settings, **settings}
        app = ["--app", FACTORY] if self.start is Start.FAILPOINTS else []
        with (self.folder / "courier.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flask", *app, *words], cwd=ROOT, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], **{name.upper(): str(value) for name, value in given.items()}},
            )  # fmt: skip

    def scene(self) -> Scene:
        logs = [self.service.log, self.folder / "courier.log"]
        logs += [self.server.folder / "server.log"] if self.server else []
        base, caller = self.service.base, Caller(self.service.base, Journal(), 20)
        return Scene(
            self.url, self.engine, self.crowd.journal, self.mailbox, self.at, self.handset.got, logs, self._stored,
            metrics=lambda: requests.get(f"{base}/metrics", timeout=20).text,
            me=lambda token: caller.ask("GET", f"{AUTH}/me", token=token)[0],
            renew=lambda token: caller.ask("POST", f"{AUTH}/refresh", {"refresh_token": token})[0], session_s=SESSION_S,
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
                return next(sms.code for sms in reversed(self.handset.got) if sms.number == to and sms.code)
            return self.mailbox.code("email", to, 1)
        return ""

    def _seen(self, channel: str, to: str) -> int:
        """How many messages with codes came, each counted once."""
        if channel == "sms":
            return len({sms.message_id for sms in self.handset.got if sms.number == to and sms.code})
        coded = [mail for mail in self.mailbox.to(to) if str(mail["Subject"])[:6].isdigit()]
        return len({mail["Message-ID"] for mail in coded})

    def _office(self) -> Office:
        """Two admins, who are all that there are."""
        emails = [address(), address()]
        made = [self.signs("/signup", "/verify-otp", email=email) for email in emails]
        with self.engine.begin() as connection:
            connection.execute(sa.update(User).where(User.email.in_(emails)).values(role="admin"))
        caller = Caller(self.service.base, self.crowd.journal, 20)
        return Office(
            [each["user"]["id"] for each in made],
            lambda me: self.signs("/login", "/login/verify", identifier=emails[me]), caller, SESSION_S,
        )  # fmt: skip

    def signs(self, first: str, second: str, **who: str) -> dict[str, Any]:
        """Sign somebody up or in; what they get, or nothing. Who is kept out is told that the password is wrong, and
        who got no answer, or gave up waiting for a code, may meet it the next time, in place of another.
        """
        [email] = who.values()
        caller, seen = Caller(self.service.base, self.crowd.journal, 20), self._seen("email", email)
        status, asked = caller.ask("POST", AUTH + first, {**who, "password": PASSWORD}, earned={"invalid_credentials"})
        code = self._read("email", email, seen) if "challenge_id" in asked else ""
        if not code:
            if status != 401:  # a refusal sends none
                self._given_up.add(email)
            return {}
        earned = {"invalid_code"} if email in self._given_up else ()
        body = {"challenge_id": asked["challenge_id"], "otp": code}
        told = caller.ask("POST", AUTH + second, body, earned=earned)[1]
        return told if "access_token" in told else {}


def compiler() -> str | None:
    """What makes the library that moves clocks."""
    return shutil.which("cc") if sys.platform == "linux" else None


def _with_a_clock(folder: Path) -> dict[str, str]:
    """The environment of processes whose clock can be moved."""
    library, source = folder / "clock.so", Path(__file__).with_name("clock.c")
    subprocess.run([compiler() or "", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    (folder / CLOCK).write_bytes(AHEAD.pack(0))
    return {"ld_preload": str(library), "clock_ahead": str(folder / CLOCK)}


def _with_failpoints(folder: Path) -> dict[str, str]:
    """The environment of processes that may end at a failpoint. They know the key to which keys are rotated, too."""
    (folder / ARMED).write_text("")
    (folder / ENDED).write_text("")
    files = {"failpoint": str(folder / ARMED), "failpoint_ended": str(folder / ENDED)}
    return {**files, "secret_key_previous": NEXT_KEY}


def _started(start: Start, folder: Path) -> dict[str, Any]:
    """The settings that a start needs."""
    if start is Start.CLOCK:
        return _with_a_clock(folder)
    if start is Start.FAILPOINTS:
        return _with_failpoints(folder)
    return {"argon2_memory_kib": HASH_KIB} if start is Start.HASHES else {}


@contextmanager
def stage(database: str, start: Start = Start.PLAIN) -> Iterator[Stage]:
    """On PostgreSQL and Redis, or MariaDB, of its own, each behind a proxy; or on SQLite. Without Redis limits are in
    memory.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        handset = Handset(stack.enter_context(provider()))
        handset.provider.script = Always([handset.take])
        mailbox, mail, _ = stack.enter_context(smtp_server(folder))
        before_mail = stack.enter_context(proxy(mail["smtp_port"]))
        settings = {**USUAL, **handset.provider.settings, **mail, "smtp_port": before_mail.port}
        settings |= _started(start, folder)
        more: dict[str, Any] = {"start": start}
        if database == "sqlite":
            text = settings["database_url"] = stack.enter_context(lanes.database("sqlite", f"faults_{os.getpid()}"))
        else:
            server: Any = stack.enter_context(postgres() if database == "postgresql" else mariadb())
            between = stack.enter_context(proxy(server.port))
            settings["database_url"] = server.url.set(port=between.port).render_as_string(hide_password=False)
            text = server.url.render_as_string(hide_password=False)
            more |= {"server": server, "between": between}
        if database == "postgresql":
            store = stack.enter_context(redis_server())
            before = stack.enter_context(proxy(store.port))
            settings["redis_url"] = f"redis://127.0.0.1:{before.port}/0"
            more |= {"redis": store, "store": before}
        lanes.migrate(text)
        made = Stage(folder, text, settings, mailbox, handset, before_mail, **more)
        yield stack.enter_context(made.running())


def answers(base: str) -> bool:
    """Whether the service is ready."""
    with suppress(requests.RequestException):
        return requests.get(f"{base}/health", timeout=5).ok
    return False
