"""How migrations run: one at a time across all hosts, beside a service that goes on, each in one transaction where the
engine has that. `docs/upgrading.md` says what a migration may do.

MySQL and MariaDB commit each statement by itself, so migrations there are written to be run again after an
interruption (`app/db.py` has the helpers' types, `migrations/resume.py` the helpers).
"""

import sys
import time
from pathlib import Path

from alembic import context
from click import ClickException
from flask import current_app
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app import models  # noqa: F401 - registers the tables
from app.cli import output
from app.core import schema
from app.db import Base, cause

sys.path.insert(0, str(Path(__file__).parent))  # for `import resume` in the versions

PATIENCE_S = 60  # how long a second migrator waits for the first
LOCK = 7_105_117  # any number, the same everywhere
OWN_LOCK = f"CONCAT('latchkey.{LOCK}.', MD5(DATABASE()))"  # by name, which MariaDB has one of for all its databases
DDL_LOCK_S = 2  # whoever wants a table for itself keeps all others waiting meanwhile
ATTEMPTS = 30  # so rather let go, and try again
PAUSE_S = 1.0
READ_ONLY = ("SQLITE_READONLY", "25006", "1290")  # as SQLite, PostgreSQL and MariaDB name it
LOCKED = {"55P03", 1205}  # PostgreSQL's and MariaDB's word for it


def run() -> None:
    engine = current_app.extensions["sqlalchemy"].engine
    mysql = engine.dialect.name == "mysql"
    if mysql:
        engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    with output.refusals():  # what a migration itself meets is shown as it is
        connection = engine.connect()
    with connection:
        try:
            schema.need_utf8(connection)
        except schema.WrongEncoding as wrong:
            raise SystemExit(str(wrong)) from None
        with output.refusals():
            take_turn(connection)
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    migrate(connection, mysql)
                    break
                except DBAPIError as error:
                    if any(word in cause(error) for word in READ_ONLY):
                        raise ClickException(output.away(error)) from None
                    code = getattr(error.orig, "pgcode", None) or error.orig.args[0]
                    if code not in LOCKED or attempt == ATTEMPTS:
                        raise
                    connection.rollback()
                    time.sleep(PAUSE_S)
        finally:
            end_turn(connection)


def migrate(connection, mysql) -> None:
    """Each migration commits by itself: no table stays locked because of another one. On SQLite all are one, and the
    transaction keeps a second migrator out.
    """
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transactional_ddl=not mysql,
        transaction_per_migration=connection.dialect.name != "sqlite",
        render_as_batch=True,
        compare_type=True,
    )
    if context.get_context().opts.get("destination_rev") == "head" and is_newer(connection):
        told = "The database is of a newer version, which this one can live in: nothing to do."
        print(told)  # noqa: T201 - for the person who runs it
        return
    with context.begin_transaction():
        context.run_migrations()
    if not mysql:
        connection.commit()


def is_newer(connection) -> bool:
    """Whether a later version has migrated the database, and left there what this one reads."""
    known = {script.revision for script in context.script.walk_revisions()}
    try:
        if known.issuperset(context.get_context().get_current_heads()):
            return False
        schema.probe(connection)
    except DBAPIError:  # not for this version: Alembic says so
        return False
    finally:
        connection.rollback()
    return True


def take_turn(connection) -> None:
    """Wait until no other host migrates, and let statements take as long as they do. SQLite needs nothing: its
    transaction is the lock.
    """
    dialect = connection.dialect.name
    line = connection.connection.driver_connection
    if dialect == "postgresql":
        line.patience_s = None
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"SET lock_timeout = '{DDL_LOCK_S}s'"))
        connection.commit()
        deadline = time.monotonic() + PATIENCE_S
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:n)"), {"n": LOCK}):
            if time.monotonic() > deadline:
                raise SystemExit("another migration has been running for a minute; try again later")
            connection.rollback()
            time.sleep(0.2)
        connection.commit()
    if dialect == "mysql":
        line._read_timeout = None  # which PyMySQL looks at anew for each answer
        if not connection.scalar(text(f"SELECT GET_LOCK({OWN_LOCK}, {PATIENCE_S})")):
            raise SystemExit("another migration has been running for a minute; try again later")
        connection.execute(text(f"SET lock_wait_timeout = {DDL_LOCK_S}"))


def end_turn(connection) -> None:
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": LOCK})
        connection.commit()
    if dialect == "mysql":
        connection.execute(text(f"SELECT RELEASE_LOCK({OWN_LOCK})"))


run()
