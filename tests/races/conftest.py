"""One gunicorn with four workers for each lane, on a database of its own, with real mail."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app import models
from tests import lanes
from tests.conftest import World
from tests.mail import Mailbox, smtp_server
from tests.people import Person
from tests.service import Service, running

_numbers = itertools.count(1)
WIDE = {"sends_per_minute": 10_000, "sends_per_day_email": 10_000, "sends_per_day_sms": 10_000, "sms_cap_per_prefix": 0}


@dataclass
class Arena:
    service: Service
    mailbox: Mailbox
    engine: sa.Engine

    def person(self, **details: Any) -> Person:
        details = {"email": f"racer{next(_numbers)}@example.com", **details}
        return Person(self.service.api(), self.mailbox.code, **details)

    def sms_code(self, number: str) -> str:
        """The newest code to a number, as the console sender printed it."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if found := re.findall(rf"OTP for \+91\*+{number[-4:]}: (\d+)", self.service.log.read_text()):
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"no code was printed for {number}")

    def number(self) -> str:
        return f"+9198765{next(_numbers):05d}"

    def scalar(self, query: sa.Select[Any]) -> Any:
        with self.engine.connect() as connection:
            return connection.scalar(query)

    def let_resend(self, challenge_id: str) -> None:
        """As if the code of a challenge had been sent a minute earlier."""
        row = models.OtpChallenge.id == UUID(challenge_id)
        with self.engine.begin() as connection:
            sent_at = connection.scalar(sa.select(models.OtpChallenge.last_sent_at).where(row))
            earlier = {"last_sent_at": sent_at - timedelta(minutes=1)}
            connection.execute(sa.update(models.OtpChallenge).where(row).values(earlier))

    def deadlocks(self) -> int:
        """So far in this database. MariaDB counts those of the whole server, other tests' among them: none are told."""
        if self.engine.dialect.name != "postgresql":
            return 0
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(self.scalar(sa.text(query)) or 0)

    def code_that_comes(self, challenge_id: str, address: str) -> str:
        """As `code_of`, once it is there."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(AssertionError):
                return self.code_of(challenge_id, address)
            time.sleep(0.05)
        return self.code_of(challenge_id, address)

    def code_of(self, challenge_id: str, address: str) -> str:
        """The code of one challenge among many to the same address: by the message's own id."""
        where = models.OutboxMessage.challenge_id == UUID(challenge_id)
        with self.engine.connect() as connection:
            ids = {str(i) for i in connection.scalars(sa.select(models.OutboxMessage.id).where(where))}
        for mail in self.mailbox.to(address):
            if str(mail["Message-ID"]).strip("<").partition("@")[0] in ids:
                return str(mail["Subject"])[:6]
        raise AssertionError("its mail has not arrived")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "arena" in metafunc.fixturenames:
        names = lanes.wanted()
        if metafunc.definition.get_closest_marker("row_locks"):  # SQLite has one writer at a time
            names = [name for name in names if name != "sqlite"] or names
        metafunc.parametrize("arena", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def arena(request: pytest.FixtureRequest, worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    folder = tmp_path_factory.mktemp("races")
    with lanes.database(request.param, f"races_{worker}") as url, smtp_server(folder) as (mailbox, settings, _):
        lanes.migrate(url)
        engine = lanes.engine(url)
        with running(url, folder, **settings, **WIDE) as service:
            here = Arena(service, mailbox, engine)
            yield here
            met = here.deadlocks()
        engine.dispose()
    assert met == 0, "units took the same locks in two orders"


@pytest.fixture
def locking(world: World) -> World:
    if world.lane.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    return world
