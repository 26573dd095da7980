"""Work: the one argument of every flow, and the only place where anything is committed.

A unit of work is one transaction with one instant. A Refusal commits it (the counter and the audit line
are facts), any other exception rolls it back. Messages that were queued wake the courier after the commit.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import Executable, Insert, Row, Table, bindparam, or_, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, make_transient_to_detached, sessionmaker

from app import figures
from app.config import Settings
from app.db import Base, cause, is_away, lock_rows, lost_a_race
from app.errors import Refusal, Unavailable

if TYPE_CHECKING:
    from app.crypto.jwt import TokenRing
    from app.crypto.keys import KeyRing
    from app.crypto.passwords import Hasher

T = TypeVar("T")
M = TypeVar("M", bound=Base)
AT_ONCE = 1000  # rows of an export in one unit of work
ATTEMPTS = 4  # a unit that lost a race is done again this often in all
FOUND_DEAD_S = 5.0  # a connection that is dead shows it by then; one that shows it later was waited for in vain
RETRY_AFTER_S = 2

log = logging.getLogger("latchkey.work")


@dataclass(frozen=True, slots=True)
class Client:
    """The browser or phone that makes a request. `address` comes from trusted hops only."""

    address: str = ""
    user_agent: str = ""
    request_id: str = ""
    keeps_cookie: bool = False  # a browser whose session is a cookie, not tokens
    language: str = ""  # the one of ours that the client prefers, if it asks for any


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: nobody, a user in a session, a server with an API key, or the system itself."""

    user_id: UUID | None = None
    session_id: UUID | None = None
    auth_time: datetime | None = None
    account: Any = None  # the row that the guard read, so `me` needs no second statement
    key_id: UUID | None = None  # the API key's
    unreadable: bool = False  # nobody, who brought a token that is none of ours


ANONYMOUS = Caller()
UNREADABLE = Caller(unreadable=True)


@dataclass(frozen=True, slots=True)
class Kit:
    """What every unit shares, built once. Tests replace parts of it; production code cannot tell."""

    settings: Settings
    clock: Callable[[], datetime]
    agree: Callable[[], object]  # has the clock go by the database's
    writes: sessionmaker[Session]
    reads: sessionmaker[Session]
    hasher: Hasher
    keys: KeyRing
    masters: KeyRing | None  # of the keys of devices; None: no MASTER_SECRET
    tokens: TokenRing
    wake: Callable[[set[str]], None]  # tells the courier on which channels messages wait
    seen: dict[UUID, datetime]  # sessions used since the courier last stamped them
    seen_keys: dict[UUID, datetime]  # and API keys
    proven: deque[UUID]  # challenges whose codes came back, until upkeep has counted them by provider


@dataclass(slots=True)
class Work:
    db: Session
    now: datetime
    caller: Caller
    client: Client
    kit: Kit
    wakes: set[str] = field(default_factory=set)  # channels that a message was queued for: told after the commit
    wrote: bool = False
    claim: Callable[[Work], None] | None = None  # what this unit repeats is asked here, under its lock
    claimed: bool = False
    held: dict[str, Any] = field(default_factory=dict)  # rows that this unit has locked, by their key
    closing: list[Callable[[], object]] = field(default_factory=list)  # what is written last, before the commit
    read: dict[Any, Any] = field(default_factory=dict)  # what this unit has read and need not ask again, by its key
    afterwards: list[Callable[[], object]] = field(default_factory=list)  # what is counted or logged of it, or can wait

    @property
    def settings(self) -> Settings:
        return self.kit.settings

    def pause(self) -> None:
        """Hand the connection back before something slow; what was read stays at hand. Only before any write:
        raises AssertionError after one, because it would be committed without the rest.
        """
        assert not (self.wrote or self.db.new or self.db.dirty or self.db.deleted), "paused after a write"
        self.claimed = False
        self.db.commit()

    def count(self, figure: Counter, *labels: str, by: int = 1) -> None:
        """Raise a counter once this unit is committed: what is undone or done again has not happened."""
        self.afterwards.append(partial(figure.labels(*labels).inc, by))

    def tell(self, message: str, **fields: Any) -> None:
        """Write a line into the log once this unit is committed, with fields."""
        self.afterwards.append(partial(log.info, message, extra={"fields": fields}))

    def begin_writing(self) -> None:
        """Before the first write, and again after a pause, ask whether this very request was answered already."""
        self.wrote = True
        if self.claim and not self.claimed:
            self.claimed = True
            self.claim(self)

    def changes(self, statement: Executable, **given: Any) -> int:
        """Do a guarded UPDATE or DELETE and say how many rows it took: the decision is the write. `given`: the
        parameters of a prepared one.
        """
        self.begin_writing()
        self.db.flush()
        return self.db.connection().execute(statement, given).rowcount

    def insert(self, model: type[Base], values: dict[str, Any]) -> None:
        """Insert a row now that this unit does not look at again."""
        self.begin_writing()
        self.db.connection().execute(_insert(cast(Table, model.__table__)), values)

    def add(self, row: M) -> M:
        """Insert a row now, and go on with it as if it had been read. The session's own way, which waits and sorts what
        is new, costs half as much again for each row.
        """
        known, names = row.__dict__, type(row).__table__.columns.keys()
        self.insert(type(row), {name: known[name] for name in names if name in known})
        for name in names:
            known.setdefault(name, None)
        return self.take(row)

    def take(self, row: M) -> M:
        """Go on with a row that is stored, as if the session had loaded it."""
        make_transient_to_detached(row)
        self.db.add(row)
        return row

    def lock_rows(self, model: type[Base], rows: list[dict[str, Any]]) -> list[Row[Any]]:
        """Lock rows by their primary key in the order given, making those that are missing as given."""
        self.begin_writing()
        return lock_rows(self.db, model, rows)

    def stamp(self, model: type[Base], name: str, moments: Mapping[UUID, datetime]) -> None:
        """Set a time of many rows, each to its own, unless it is later already. One statement, sent for each row, in
        one order: two that stamp the same rows must not wait for each other.
        """
        self.begin_writing()
        table = cast(Table, model.__table__)
        earlier = or_(table.c[name].is_(None), table.c[name] < bindparam("moment"))
        stamped = update(table).where(table.c.id == bindparam("row"), earlier).values({name: bindparam("moment")})
        self.db.execute(stamped, [{"row": row, "moment": at} for row, at in sorted(moments.items())])

    def insert_once(self, row: object) -> bool:
        """Insert a row, or leave the unit as it was and return False if a unique key is taken."""
        return self.if_free(lambda: self.db.add(row))

    def if_free(self, write: Callable[[], object]) -> bool:
        """Do a write in a savepoint. False, with nothing changed, if it met a unique key that is taken."""
        self.begin_writing()
        try:
            with self.db.begin_nested():
                write()
        except IntegrityError:
            return False
        return True


@cache
def _insert(table: Table) -> Insert:
    return table.insert()


def run(
    kit: Kit,
    story: Callable[[Work], T],
    *,
    caller: Caller = ANONYMOUS,
    client: Client | None = None,
    reads: bool = False,
) -> T:
    """Do `story` as one unit of work and return its answer.

    A unit that the database undid because of another one (deadlock, serialization) or whose connection was
    found dead before its commit is done again; not one whose database was silent until the driver gave up, or each
    try would wait as long. Raises Unavailable when the database is away; refusals and faults of the story pass through.
    """
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        try:
            return _once(kit, story, caller, client or Client(), reads)
        except PoolTimeout:
            figures.POOL_TIMEOUTS.inc()
            raise Unavailable(retry_after=RETRY_AFTER_S, cause="no connection was free") from None
        except DBAPIError as error:
            dead = error.connection_invalidated and time.monotonic() - began < FOUND_DEAD_S
            again = lost_a_race(error) or (dead and not getattr(error, "committing", False))
            if again and attempt < ATTEMPTS:
                time.sleep(random.uniform(0, 0.02) * attempt)  # noqa: S311 (jitter, not a secret)
            elif is_away(error) or again:
                raise Unavailable(retry_after=RETRY_AFTER_S, cause=cause(error)) from error
            else:
                raise
    raise AssertionError("unreachable")


def in_batches(kit: Kit, read: Callable[..., list[T]], *, caller: Caller = ANONYMOUS) -> Iterator[list[T]]:
    """All rows, some at a time. `read`: the next ones `after` a row, or the first, at `most` so many. Each batch is a
    unit of work of its own, so that nothing is held open while whoever asked takes their time. Raises as `run` does.
    """
    after = None
    while rows := run(kit, partial(read, after=after, most=AT_ONCE), caller=caller, reads=True):
        yield rows
        after = rows[-1]


def _once(kit: Kit, story: Callable[[Work], T], caller: Caller, client: Client, reads: bool) -> T:
    maker = kit.reads if reads else kit.writes
    with maker() as db:
        work = Work(db, kit.clock(), caller, client, kit)
        try:
            answer = story(work)
        except Refusal:
            _commit(work)
            raise
        _commit(work)  # leaving the block by any other exception rolls back
    return answer


def _commit(work: Work) -> None:
    for write in work.closing:
        write()
    work.db.flush()
    try:
        work.db.commit()
    except DBAPIError as error:
        # Whether it took hold is not known: doing it again could do it twice.
        error.committing = not lost_a_race(error)  # type: ignore[attr-defined]  # a mark of ours for `run`
        raise
    if work.wakes:
        work.kit.wake(work.wakes)
    for act in work.afterwards:
        act()
