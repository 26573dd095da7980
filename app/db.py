"""The database: the SQLAlchemy object, column types, and how each engine is opened.

A leaf: models, core and the factory import it, it imports only `config`, `pulse` and `sqlite_file`.
"""

from __future__ import annotations

import math
import os
import select as waiting
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, cast

import psycopg2
from flask_sqlalchemy import SQLAlchemy
from psycopg2 import extensions
from sqlalchemy import CHAR, DateTime, Engine, MetaData, Row, String, Table, TypeDecorator, Uuid, event, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import QueuePool

from app import sqlite_file
from app.config import Settings
from app.pulse import SILENCE_S, SILENT, Address, Circuit, gate

BUSY_TIMEOUT_MS = 10_000  # how long a SQLite writer waits for the one before it
STATEMENT_TIMEOUT_S = 10
ANSWER_S = STATEMENT_TIMEOUT_S + 1  # in which a server that is there answers, if only that a statement took too long
CONNECT_TIMEOUT_S = 2
# Of a connection that is made; until then it has less. Looked at for each answer, which PyMySQL does not promise.
PATIENCE = {"postgresql": ("patience_s", ANSWER_S), "mysql": ("_read_timeout", STATEMENT_TIMEOUT_S)}
POOL_WAIT_S = 1
OURS = (extensions.ISOLATION_LEVEL_AUTOCOMMIT, extensions.ISOLATION_LEVEL_READ_COMMITTED)
# Every text comes back as it was given, or is refused: whatever a URL, an environment or a server is set to.
WHOLE = {"charset": "utf8mb4", "collation": "utf8mb4_bin", "use_unicode": True,
         "sql_mode": "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"}  # fmt: skip


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    # MySQL's default collation would hold A and a, or e and é, for the same address.
    __table_args__: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


db = SQLAlchemy(metadata=Base.metadata)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime with microseconds on every engine. A naive one is a bug and raises ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name == "mysql" else self.impl_instance)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime reached the database")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# MariaDB's own UUID type refuses some well-formed ids that a client may send; text takes them all.
Id = Uuid(as_uuid=True).with_variant(Uuid(as_uuid=True, native_uuid=False), "mysql", "mariadb")
Digest = String(64).with_variant(CHAR(64, collation="ascii_bin"), "mysql", "mariadb")  # hex of 256 bits


def engine_options(settings: Settings) -> dict[str, Any]:
    """What `create_engine` gets: time-outs everywhere, a pool that fits the threads, READ COMMITTED."""
    options: dict[str, Any] = {
        "pool_size": settings.web_threads + 4,  # the courier's three and a spare
        "max_overflow": 0,
        "pool_timeout": POOL_WAIT_S,
        "pool_use_lifo": True,  # few connections that are warm, rather than all in turn
        "pool_recycle": 1800,
        "enable_from_linting": False,  # `accounts.look_up` joins one row to whatever there is, on purpose
        "hide_parameters": True,  # an error in the log must not hold an address or a digest
    }
    backend = settings.db_url.get_backend_name()
    if backend == "postgresql":
        limits = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c lock_timeout={STATEMENT_TIMEOUT_S}s"
        level = "-c default_transaction_isolation=read\\ committed"
        given = settings.db_url.normalized_query.get("options") or (os.environ.get("PGOPTIONS", ""),)  # as libpq does
        circuit = Circuit()
        told, line = " ".join((*given, limits, level)), partial(Line, circuit=circuit)
        options["connect_args"] = {"options": told, "connection_factory": line, "client_encoding": "utf8"}
        options["poolclass"] = gate(circuit)
        extensions.set_wait_callback(_wait)
    elif backend == "mysql":
        options["isolation_level"] = "READ COMMITTED"
        options["pool_pre_ping"] = True  # PyMySQL meets a closed connection where SQLAlchemy cannot replace it
        options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": CONNECT_TIMEOUT_S, **WHOLE}
    return options


class Line(extensions.connection):  # type: ignore[misc]  # the library has no types
    """A connection to PostgreSQL whose server must answer: psycopg2 itself would wait for ever for a frozen one."""

    patience_s: float | None = CONNECT_TIMEOUT_S  # None: however long it takes

    def __init__(self, dsn: str, *, circuit: Circuit) -> None:
        self.circuit = circuit
        super().__init__(dsn)

    def has_pulse(self) -> bool:
        """Whether its server is there at all, or whether it cannot be asked: the line has not reached it yet."""
        address = _address(self)
        return address is None or self.circuit.beats(address)

    def set_isolation_level(self, level: int) -> None:
        """Begin transactions from now on, or not. All are READ COMMITTED, as the server was told at the start: psycopg2
        would tell it again at every change, and wait for its answer. Any other level, and in a transaction: as it does.
        """
        if self.status == extensions.STATUS_READY and level in OURS:
            self.autocommit = level == extensions.ISOLATION_LEVEL_AUTOCOMMIT
        else:
            super().set_isolation_level(level)


def _wait(line: Any) -> None:
    """psycopg2's wait for the server. If it takes too long, or the server has no pulse: raises OperationalError, and
    psycopg2 closes the line.
    """
    patience = getattr(line, "patience_s", None)
    deadline = None if patience is None else time.monotonic() + patience
    while (state := line.poll()) != extensions.POLL_OK:
        longest = None if deadline is None else max(0.0, min(SILENCE_S, deadline - time.monotonic()))
        if _is_ready(line.fileno(), state, longest) or deadline is None:
            continue
        if time.monotonic() >= deadline or not line.has_pulse():
            raise psycopg2.OperationalError(SILENT)
    if deadline is not None:
        line.circuit.answered()


def _address(line: Line) -> Address | None:
    """Where a line goes, of several hosts too. None: nowhere yet."""
    if line.info.host.startswith("/"):  # not what the socket says: the server may know the folder by another name
        return socket.AF_UNIX, f"{line.info.host}/.s.PGSQL.{line.info.port}"
    borrowed = socket.socket(fileno=line.fileno())
    try:
        return borrowed.family, borrowed.getpeername()
    except OSError:
        return None
    finally:
        borrowed.detach()


def _is_ready(fileno: int, state: int, seconds: float | None) -> bool:
    reads = state == extensions.POLL_READ
    if sys.platform == "win32":  # which has no poll
        return any(waiting.select([fileno] if reads else [], [] if reads else [fileno], [], seconds))
    waits = waiting.poll()
    waits.register(fileno, waiting.POLLIN if reads else waiting.POLLOUT)
    return bool(waits.poll(None if seconds is None else math.ceil(seconds * 1000)))


def sessions_of(engine: Engine) -> tuple[sessionmaker[Session], sessionmaker[Session]]:
    """Two makers of sessions over one pool: for units that write, and for units that only read."""
    reading = engine  # on MariaDB: a transaction begins unasked there, and to turn that off and on takes five questions
    if engine.dialect.name != "sqlite":
        event.listen(engine, "connect", lambda line, _: setattr(line, *PATIENCE[engine.dialect.name]))
    if engine.dialect.name == "postgresql":
        reading = engine.execution_options(isolation_level="AUTOCOMMIT")
    elif engine.dialect.name == "sqlite":
        sqlite_file.keep_private(engine)
        _prepare_sqlite(engine)
        reading = engine.execution_options(reads_only=True)
    return sessionmaker(engine, expire_on_commit=False), sessionmaker(reading, expire_on_commit=False)


def watch(engine: Engine, size: Callable[[int], object], used: Callable[[int], object]) -> None:
    """Tell `used` of each connection that a pool lends (1) and gets back (-1), and `size` how many it may lend."""
    most = engine.pool.size() if isinstance(engine.pool, QueuePool) else 0

    @event.listens_for(engine, "connect")
    def connected(_connection: Any, _record: Any) -> None:
        size(most)  # here, for this is never before the fork

    @event.listens_for(engine, "checkout")
    def lent(_connection: Any, record: Any, _proxy: Any) -> None:
        record.record_info["lent"] = True
        used(1)

    @event.listens_for(engine, "checkin")
    def returned(_connection: Any, record: Any) -> None:
        if record.record_info.pop("lent", False):  # one that could not be opened comes back, too
            used(-1)


def _prepare_sqlite(engine: Engine) -> None:
    """WAL, foreign keys, a busy timeout, and transactions that the driver does not begin behind our back."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A reader that turns writer half-way fails at once when another wrote since; a writer says so first.
        reads = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def lock_rows(db: Session, model: type[Base], rows: list[dict[str, Any]]) -> list[Row[Any]]:
    """Lock rows by their primary key until the transaction ends, in the order given; insert those that are missing.
    Returns all columns of each.

    One statement on PostgreSQL, SQLite and MariaDB; MySQL, which cannot return what it inserts, takes two.
    """
    dialect, table = db.get_bind().dialect, cast(Table, model.__table__)
    locking = _upsert(table, dialect.name, only_key=True)
    if dialect.name != "mysql" or dialect.insert_returning:
        return list(db.connection().execute(_returning(locking), rows))
    db.connection().execute(locking, rows)
    [key] = table.primary_key
    chosen = select(table).where(key.in_([row[key.name] for row in rows])).order_by(key)
    return list(db.connection().execute(chosen.with_for_update()))


def write_rows(db: Session, model: type[Base], rows: list[dict[str, Any]]) -> None:
    """Write whole rows that this transaction has locked: of several, in one statement."""
    db.connection().execute(_upsert(cast(Table, model.__table__), db.get_bind().dialect.name), rows)


@cache
def _upsert(table: Table, dialect: str, *, only_key: bool = False) -> Any:
    """Insert a row or, if its key is there, write what is given; `only_key`: nothing but its key, which locks it."""
    [key] = table.primary_key
    written = [key.name] if only_key else [column.name for column in table.columns]
    if dialect == "mysql":
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in written})
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return insert.on_conflict_do_update(
        index_elements=[key.name], set_={name: insert.excluded[name] for name in written}
    )


@cache
def _returning(statement: Any) -> Any:
    return statement.returning(*statement.table.columns)


# Deadlock, serialization failure; and what a row refers to was deleted a moment ago: done again, it is not found. On
# MySQL a deadlock undoes its savepoint too: the way back to it is an error of its own (1305), which hides the deadlock.
RETRY = {"40P01", "40001", "23503", "SQLITE_CONSTRAINT_FOREIGNKEY"}
MYSQL_RETRY = {1213, 1305, 1205, 1020, 1452}  # deadlock (two), lock wait timeout, changed since last read; as above
UNTRUSTED = ("certificate", "SSL was required", "SSL is required")  # as libpq, OpenSSL and PyMySQL say it
MYSQL_FAULTS = {1267, 1270, 1271}  # texts that do not compare: PyMySQL calls all that it does not know operational
PG_READ_ONLY = "25006"  # a standby, a full managed disk: psycopg2 has it under other errors than those of a server away


def lost_a_race(error: DBAPIError) -> bool:
    """True if the database undid the unit only because of another one, so doing it again is right."""
    code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlite_errorname", None)
    number = next(iter(getattr(error.orig, "args", ())), None)
    return code in RETRY or number in MYSQL_RETRY


def cause(error: DBAPIError) -> str:
    """The driver's name for an error, and the database's number, or `TLS` if it is not trusted: no SQL, no data."""
    original = error.orig
    tls = "TLS" if any(words in str(original) for words in UNTRUSTED) else None
    named = tls or getattr(original, "pgcode", None) or getattr(original, "sqlite_errorname", None)
    number = named or next((n for n in getattr(original, "args", ())[:1] if isinstance(n, int)), "")
    return f"{type(original).__name__} {number}".strip()


def is_away(error: Exception) -> bool:
    """True if the database cannot be reached, is too busy, or refuses to write."""
    if not isinstance(error, DBAPIError):
        return False
    number = next(iter(getattr(error.orig, "args", ())), None)
    operational = isinstance(error, OperationalError) and number not in MYSQL_FAULTS
    return operational or error.connection_invalidated or getattr(error.orig, "pgcode", None) == PG_READ_ONLY
