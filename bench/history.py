"""A month of a busy service, written straight into its tables: audit rows as they are signed, messages, challenges."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from app.core import signatures
from app.core.audit import Event
from app.crypto.ids import EPOCH
from app.crypto.keys import KeyRing
from app.models import AuditLog, OtpChallenge, OutboxMessage
from bench.rig import tend
from tests.lanes import SECRETS

DAYS = 30
BATCH = 5000
# What one in a hundred rows is, about as a service that asks for a code at every sign-in writes them.
SHARES = {
    Event.SIGNIN_STARTED: 30,
    Event.SIGNIN_COMPLETED: 28,
    Event.SESSION_REFRESHED: 30,
    Event.SIGNIN_REFUSED: 5,
    Event.CODE_REFUSED: 4,
    Event.SIGNUP_COMPLETED: 2,
    Event.IDENTIFIER_LOCKED: 1,
}
COUNTRIES = ("IN", "US", "DE", "GB", "BR", "JP", "ZA", "AU")


def end() -> datetime:
    """The end of the history: now, at the whole hour."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def write(engine: sa.Engine, rows: int, codes: int, until: datetime) -> None:
    """So many audit rows and messages with their challenges, evenly over DAYS days up to a time."""
    keys = KeyRing([SECRETS["secret_key"]])
    since = until - timedelta(days=DAYS)
    _insert(engine, AuditLog, _acts(keys, rows, since, until))
    _insert(engine, OtpChallenge, _challenges(codes, since, until))
    _insert(engine, OutboxMessage, _messages(codes, since, until))
    tend(engine)


def _insert(engine: sa.Engine, model: Any, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, BATCH)):
        with engine.begin() as connection:
            connection.execute(sa.insert(model), batch)


def _times(count: int, since: datetime, until: datetime, dice: random.Random) -> Iterator[tuple[datetime, UUID]]:
    """Times, each with an id that was made then."""
    for number in range(count):
        at = since + (until - since) * number / count
        milliseconds = (at - EPOCH) // timedelta(milliseconds=1)
        yield at, UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | dice.getrandbits(61))


def _acts(keys: KeyRing, count: int, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    dice = random.Random(1)
    people = [UUID(int=dice.getrandbits(128)) for _ in range(10_000)]
    for at, row_id in _times(count, since, until, dice):
        [event] = dice.choices([*SHARES], [*SHARES.values()])
        refused = event in (Event.SIGNIN_REFUSED, Event.CODE_REFUSED)
        who = dice.choice(people)
        facts = {"purpose": "signin", "attempts_left": 2} if event is Event.CODE_REFUSED else {}
        yield signatures.signed(
            keys,
            {
                "id": row_id, "at": at, "event": event.value, "success": not refused,
                "reason": "invalid_code" if refused else None, "user_id": who, "actor_id": who, "session_id": None,
                "subject": "j***@example.com", "ip": f"203.0.113.{dice.randrange(256)}",
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
                "request_id": f"{row_id.hex[:22]}", "facts": facts,
            },
        )  # fmt: skip


def _challenges(count: int, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    dice = random.Random(3)
    for number, (at, row_id) in enumerate(_times(count, since, until, random.Random(2))):
        yield {
            "id": row_id, "purpose": "signin", "channel": "sms" if number % 3 else "email", "destination": "somebody",
            "shown": "s***", "budget_key": "0" * 64, "methods": "pwd", "language": "en", "key_id": "0" * 8,
            "factor": "0" * 32, "digest": "0" * 64, "attempts": 1, "max_attempts": 3, "sends": 1, "last_sent_at": at,
            "created_at": at, "expires_at": at + timedelta(minutes=5), "used_at": at if dice.random() < 0.9 else None,
        }  # fmt: skip


def _messages(count: int, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    for number, (at, row_id) in enumerate(_times(count, since, until, random.Random(2))):
        sms = number % 3 > 0
        yield {
            "id": row_id, "kind": "code.signin", "channel": "sms" if sms else "email", "recipient": "somebody",
            "language": "en", "country": COUNTRIES[number % len(COUNTRIES)] if sms else None, "challenge_id": row_id,
            "facts": {}, "state": "delivered" if sms and number % 5 else "sent", "attempts": 1, "next_attempt_at": at,
            "created_at": at, "settled_at": at,
        }  # fmt: skip
