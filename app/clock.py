"""One clock for every copy of the service: the database's. `docs/adr/0024` says why.

A leaf. A process asks the database for the time when it first needs it, and again between messages; in between it
counts on by a clock that nobody sets. So a host whose clock is wrong, or jumps, changes nothing. SQLite has no clock of
its own: there the host's counts, as it was when the service started.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db import cause
from app.errors import Unavailable

QUESTIONS = {"postgresql": "SELECT clock_timestamp()"}  # now() is when the transaction began
QUESTION = "SELECT UTC_TIMESTAMP(6)"  # MariaDB's and MySQL's
APART = timedelta(seconds=2)  # clocks that are further from each other are told of
SLOW_S = 1.0  # an answer that took longer says too little: the error is up to half of it
RETRY_AFTER_S = 2
# Where there is one, the clock that goes on while the machine sleeps. Windows has but one.
STEADY = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

log = logging.getLogger("latchkey.clock")


def ticks() -> float:
    """Seconds since some moment, the same one for all processes of a machine. Nobody sets this clock."""
    return time.monotonic() if STEADY is None else time.clock_gettime(STEADY)


def host() -> datetime:
    """What the host thinks that the time is."""
    return datetime.now(UTC)


def of_database(line: Connection) -> datetime:
    """What the database at the other end thinks that the time is, in whatever zone it lives."""
    told: datetime = line.scalar(text(QUESTIONS.get(line.dialect.name, QUESTION)))
    return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)


class Clock:
    """Tells the time when called. Made before the fork, it asks nothing; each process asks for itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asks = engine.dialect.name != "sqlite"
        self._set = None if self._asks else (host(), ticks())  # what the time was, and when that was
        self._warned = False

    def __call__(self) -> datetime:
        """The time, in UTC. Raises Unavailable if the database was not asked yet and is away."""
        at, then = self._set or self._ask()
        return at + timedelta(seconds=ticks() - then)

    def agree(self) -> None:
        """Go by the database's clock as it is now. Raises Unavailable if the database is away."""
        if self._asks:
            self._ask()
        self._compare(self())

    def _ask(self) -> tuple[datetime, float]:
        """Set the clock. An answer that took long is not taken, unless it is the first."""
        try:
            with self._engine.connect() as line:
                asked = ticks()
                told = of_database(line)
                answered = ticks()
        except DBAPIError as error:
            raise Unavailable(retry_after=RETRY_AFTER_S, cause=cause(error)) from error
        except PoolTimeout:
            raise Unavailable(retry_after=RETRY_AFTER_S, cause="no connection was free") from None
        before, now = self._set, (told, (asked + answered) / 2)
        if before and answered - asked > SLOW_S:
            return before
        self._set = now
        if before:
            _tell_of_a_jump(told - before[0] - timedelta(seconds=now[1] - before[1]))
        return now

    def _compare(self, now: datetime) -> None:
        """Tell once that the host's clock is another: nothing here goes by it, but a backend on the same host that
        verifies tokens does.
        """
        apart = host() - now
        if abs(apart) > APART and not self._warned:
            log.warning("the clock of this host is %+.1f s off the one that the service goes by", apart.total_seconds())
        self._warned = abs(apart) > APART


def _tell_of_a_jump(jumped: timedelta) -> None:
    if abs(jumped) > APART:
        log.warning("the database's clock has jumped by %+.1f s, and the service with it", jumped.total_seconds())
