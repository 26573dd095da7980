"""How migrations run: one at a time across all hosts, each in one transaction where the engine has that.

MySQL and MariaDB commit each statement by itself, so migrations there are written to be run again after an
interruption (`app/db.py` has the helpers' types, `migrations/resume.py` the helpers).
"""

import sys
import time
from pathlib import Path

from alembic import context
from flask import current_app
from sqlalchemy import text

from app import models  # noqa: F401 - registers the tables
from app.db import Base

sys.path.insert(0, str(Path(__file__).parent))  # for `import resume` in the versions

PATIENCE_S = 60  # how long a second migrator waits for the first
LOCK = 7_105_117  # any number, the same everywhere
DDL_LOCK_TIMEOUT = "2s"  # rather fail and run again than block the running service


def run() -> None:
    engine = current_app.extensions["sqlalchemy"].engine
    mysql = engine.dialect.name == "mysql"
    if mysql:
        engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        take_turn(connection)
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transactional_ddl=not mysql,
            render_as_batch=True,
            compare_type=True,
        )
        try:
            with context.begin_transaction():
                context.run_migrations()
            if not mysql:
                connection.commit()
        finally:
            end_turn(connection)


def take_turn(connection) -> None:
    """Wait until no other host migrates. SQLite needs nothing: its transaction is the lock."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"SET lock_timeout = '{DDL_LOCK_TIMEOUT}'"))
        deadline = time.monotonic() + PATIENCE_S
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:n)"), {"n": LOCK}):
            if time.monotonic() > deadline:
                raise SystemExit("another migration has been running for a minute; try again later")
            time.sleep(0.2)
        connection.commit()
    if dialect == "mysql" and not connection.scalar(
        text("SELECT GET_LOCK(:n, :s)"), {"n": f"latchkey.{LOCK}", "s": PATIENCE_S}
    ):
        raise SystemExit("another migration has been running for a minute; try again later")


def end_turn(connection) -> None:
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": LOCK})
        connection.commit()
    if dialect == "mysql":
        connection.execute(text("SELECT RELEASE_LOCK(:n)"), {"n": f"latchkey.{LOCK}"})


run()
