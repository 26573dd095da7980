"""What the invariants of `bench faults` are asked of: the database past every fault, what came, and the journal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from flask import Flask

from app import create_app
from app.config import Settings
from app.models.outbox import State
from bench.journal import Journal
from bench.rig import Sms
from tests.lanes import CHEAP, SECRETS
from tests.mail import Mailbox

WAITING = (State.QUEUED, State.SENDING)
NEXT_KEY = "n5xTqWz8Lb3KfYd7RmVc2JpHgSsAoEiUuTrPwQ9N4k6"  # the SECRET_KEY to which `flask rotate-keys` goes
MONTH_S = 30 * 86_400.0
Wrong = Iterator[str]


@dataclass
class Scene:
    """All that is asked. `url`: of the database, past every fault. `at`: when each mail came. `me`, `renew`: the status
    of that request with an access token, or a refresh token. `session_s`: how long a session lasts.
    """

    url: str
    engine: sa.Engine
    journal: Journal
    mailbox: Mailbox
    at: list[datetime]
    sms: list[Sms]
    logs: list[Path]
    stored: Callable[[], str]  # all that Redis holds
    metrics: Callable[[], str]
    me: Callable[[str], int]
    renew: Callable[[str], int]
    session_s: float = MONTH_S

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def app(self) -> Flask:
        """The service in this process, past every fault."""
        given = {**SECRETS, **CHEAP, "secret_key_previous": NEXT_KEY, "database_url": self.url}
        return create_app(Settings(_env_file=None, **given))

    def copies(self) -> dict[UUID, list[tuple[str, datetime]]]:
        """By message: each copy's code (or its subject, if it is a notice) and when it came."""
        came: dict[UUID, list[tuple[str, datetime]]] = defaultdict(list)
        for mail, at in zip(self.mailbox.mails, self.at, strict=False):
            found = re.match(r"\d{6}", str(mail["Subject"]))
            name = re.match(r"<([0-9a-f-]{36})@", str(mail["Message-ID"]))
            assert name, mail["Message-ID"]
            came[UUID(name[1])].append((found[0] if found else str(mail["Subject"]), at))
        for sms in self.sms:
            came[sms.message_id].append((sms.code, sms.at))
        return came


def utc(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)
