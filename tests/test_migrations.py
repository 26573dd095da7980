"""Migrations: up, down, twice, interrupted, two at once, with rows; equal to the models and to schema.sql."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask_migrate import downgrade

from app import create_app, models
from app.cli import output
from app.config import Settings
from app.core import people
from app.crypto.ids import uuid7
from app.db import Base, Id, UtcDateTime
from tests import lanes
from tests.lanes import CHEAP, SECRETS

ROOT = Path(__file__).resolve().parent.parent
OLD_COLUMNS = {"id": Id, "name": sa.String, "role": sa.String, "created_at": UtcDateTime}
TABLES = {table.name for table in Base.metadata.sorted_tables}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", lanes.wanted())


@pytest.fixture
def url(kind: str, worker: str) -> Iterator[str]:
    with lanes.database(kind, f"migrations_{worker}") as made:
        yield made


def tables(url: str) -> set[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    return set(sa.inspect(engine).get_table_names())


def go_down(url: str) -> None:
    with create_app(Settings(_env_file=None, database_url=url, **SECRETS, **CHEAP)).app_context():
        downgrade(revision="base")


def shape(url: str) -> dict[str, object]:
    """What a database is made of, to compare two of them."""
    inspector = sa.inspect(sa.create_engine(url, poolclass=sa.NullPool))
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
            "key": inspector.get_pk_constraint(table),
            "foreign": sorted(map(str, inspector.get_foreign_keys(table))),
            "unique": sorted(map(str, inspector.get_unique_constraints(table))),
            "indexes": sorted(map(str, inspector.get_indexes(table))),
        }
        for table in sorted(inspector.get_table_names())
        if table != "alembic_version"
    }


def test_the_migrations_make_what_the_models_say(url: str) -> None:
    lanes.migrate(url)
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_health_says_down_until_the_schema_is_this_version_s(url: str) -> None:
    """Else a rollout takes new copies for good that nobody can sign in by, and stops the old ones."""
    lanes.migrate(url, "0008")
    app = create_app(Settings(_env_file=None, database_url=url, **SECRETS, **CHEAP))
    client = app.test_client()
    told = client.get("/health")
    assert (told.status_code, told.get_json()["checks"]["database"]) == (503, "down")
    lanes.migrate(url)
    assert client.get("/health").get_json()["checks"]["database"] == "ok", "without a restart"
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE users ADD COLUMN of_a_later_version INTEGER"))
    later = create_app(Settings(_env_file=None, database_url=url, **SECRETS, **CHEAP))
    assert later.test_client().get("/health").get_json()["checks"]["database"] == "ok", "an older version serves on"
    with later.app_context():
        later.extensions["sqlalchemy"].engine.dispose()


def test_up_down_and_up_again(url: str) -> None:
    lanes.migrate(url)
    first = shape(url)
    lanes.migrate(url)
    go_down(url)
    assert tables(url) <= {"alembic_version"}
    lanes.migrate(url)
    assert shape(url) == first


@pytest.mark.covers("fault F34")
def test_an_interrupted_migration_is_finished_by_the_next(url: str) -> None:
    """As after a kill between two statements: some tables are there, one lacks an index, the version is not written."""
    lanes.migrate(url)
    whole = shape(url)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for table in ("consents", "audit_logs", "outbox_messages"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        on = " ON throttles" if engine.dialect.name == "mysql" else ""
        connection.execute(sa.text(f"DROP INDEX ix_throttles_touched_at{on}"))
        connection.execute(sa.text("DELETE FROM alembic_version"))
    lanes.migrate(url)
    assert shape(url) == whole


@pytest.mark.covers("fault F34")
def test_an_index_that_an_interrupted_migration_left_is_no_obstacle(url: str) -> None:
    """Neither up nor down: it was made, or dropped, and the version is not written."""
    lanes.migrate(url)
    whole = shape(url)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
    lanes.migrate(url)
    assert shape(url) == whole
    with engine.begin() as connection:
        on = " ON outbox_messages" if engine.dialect.name == "mysql" else ""
        connection.execute(sa.text(f"DROP INDEX ix_outbox_messages_channel_state_next_attempt_at{on}"))
    go_down(url)
    assert tables(url) <= {"alembic_version"}


def migrating(url: str) -> subprocess.Popen[str]:
    code = f"from tests import lanes; lanes.migrate({url!r})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)


@pytest.mark.covers("fault F34")
def test_two_at_once_are_one(url: str) -> None:
    done = [migrating(url) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in done]
    assert [process.returncode for process in done] == [0, 0, 0], errors
    assert tables(url) == TABLES | {"alembic_version"}


def test_rows_survive_a_migration_run_again(url: str) -> None:
    lanes.migrate(url)
    now = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    row = {
        "id": uuid7(now),
        "email": "jane@example.com",
        "role": "user",
        "created_at": now,
        "name": "\U0001f511 J\u00e4ne",
    }
    with engine.begin() as connection:
        connection.execute(sa.insert(models.User), row)
    lanes.migrate(url)
    with engine.connect() as connection:
        kept = connection.execute(sa.select(models.User.__table__)).one()
    assert (kept.id, kept.email, kept.name, kept.created_at) == (row["id"], row["email"], row["name"], now)


def test_names_that_were_there_before_can_be_found(url: str) -> None:
    lanes.migrate(url, "0002")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    old = sa.table("users", *(sa.column(name, type_) for name, type_ in OLD_COLUMNS.items()))
    names = [f"Person {n}" for n in range(2500)] + ["J\u00e4NE  \uff24oe", None]
    rows = [{"id": uuid7(now), "name": name, "role": "user", "created_at": now} for name in names]
    with engine.begin() as connection:
        connection.execute(sa.insert(old), rows)
    lanes.migrate(url)
    with engine.connect() as connection:
        keys = dict(iter(connection.execute(sa.select(models.User.name, models.User.name_key))))
    assert keys == {name: people.folded(name) for name in names}
    assert keys["J\u00e4NE  \uff24oe"] == "j\u00e4ne doe"


def test_addresses_are_told_apart_exactly(url: str) -> None:
    """MySQL's usual collation would hold these for one."""
    lanes.migrate(url)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    names = ["jane", "Jane", "j\u00e4ne", "jane1"]
    with engine.begin() as connection:
        for name in names:
            connection.execute(
                sa.insert(models.User), {"id": uuid7(now), "username": name, "role": "user", "created_at": now}
            )
    with engine.connect() as connection:
        for name in names:
            assert len(connection.execute(sa.select(models.User.id).where(models.User.username == name)).all()) == 1


@pytest.mark.skipif("postgresql" not in lanes.wanted(), reason="schema.sql is PostgreSQL's")
def test_schema_sql_is_what_the_migrations_make(worker: str) -> None:
    with (
        lanes.database("postgresql", f"schema_a_{worker}") as migrated,
        lanes.database("postgresql", f"schema_b_{worker}") as written,
    ):
        lanes.migrate(migrated)
        with sa.create_engine(written, poolclass=sa.NullPool).begin() as connection:
            connection.execute(sa.text((ROOT / "schema.sql").read_text()))
        assert shape(written) == shape(migrated)


TURNS = {
    "postgresql": ("SELECT pg_advisory_lock(7105117)", "SELECT pg_advisory_unlock(7105117)"),
    "mariadb": (
        "SELECT GET_LOCK(CONCAT('latchkey.7105117.', MD5(DATABASE())), 0)",
        "SELECT RELEASE_LOCK(CONCAT('latchkey.7105117.', MD5(DATABASE())))",
    ),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_second_migrator_waits_its_turn(name: str, worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a statement of the service may take, and for nobody but those of the same database."""
    if name not in lanes.wanted():
        pytest.skip("there is no such server")
    monkeypatch.setattr(sys.modules["app.db"], "STATEMENT_TIMEOUT_S", 1)
    take, release = TURNS[name]
    with lanes.database(name, f"turns_{worker}") as url, lanes.database(name, f"others_{worker}") as other:
        with lanes.engine(url, poolclass=sa.NullPool).connect() as holder:
            assert holder.scalar(sa.text(take)) != 0
            waiting = threading.Thread(target=lanes.migrate, args=(url,))
            waiting.start()
            assert migrating(other).communicate(timeout=60)[1] == ""
            waiting.join(2.5)
            assert waiting.is_alive()
            assert tables(url) == set()
            holder.execute(sa.text(release))
        waiting.join(30)
        assert tables(url) == TABLES | {"alembic_version"}


@pytest.mark.skipif("postgresql" not in lanes.wanted(), reason="one database of PostgreSQL has many schemas")
@pytest.mark.parametrize("given", ["database", "url", "environment"])
def test_it_lives_in_a_schema_of_its_own_beside_another_application(
    given: str, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose tables have some of the same names, and can be seen."""
    with lanes.database("postgresql", f"beside_{worker}") as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE public.api_keys (name TEXT)"))
            connection.execute(sa.text("CREATE TABLE public.backup_codes (name TEXT)"))
            connection.execute(sa.text("CREATE INDEX ix_backup_codes_user_id ON public.backup_codes (name)"))
            connection.execute(sa.text('CREATE SCHEMA "Own"'))
            if given == "database":
                name = sa.make_url(url).database
                connection.execute(sa.text(f'ALTER DATABASE {name} SET search_path = "Own", public'))
        words = '-c search_path="Own",public -c statement_timeout=1ms'
        with monkeypatch.context() as patch:
            if given == "environment":
                patch.setenv("PGOPTIONS", words)
            if given == "url":
                patch.setenv("PGOPTIONS", "-c search_path=nowhere")
            more = "?" + urlencode({"options": words}) if given == "url" else ""
            lanes.migrate(url + more)
        inspector = sa.inspect(engine)
        assert set(inspector.get_table_names("Own")) == TABLES | {"alembic_version"}
        assert set(inspector.get_table_names("public")) == {"api_keys", "backup_codes"}
        for table in Base.metadata.sorted_tables:
            indexes = {index["name"] for index in inspector.get_indexes(table.name, "Own")}
            assert {index.name for index in table.indexes} <= indexes, table.name


def test_an_older_version_has_nothing_to_do_on_a_newer_database(url: str) -> None:
    """A copy that is started anew during a rollout comes back."""
    lanes.migrate(url)
    whole = shape(url)
    mark(url, "9999")
    done = by_command(url, "upgrade")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The database is of a newer version, which this one can live in: nothing to do.\n"
    assert shape(url) == whole
    for command in (["downgrade"], ["upgrade", "0002"], ["current"]):
        done = by_command(url, *command)
        assert done.returncode == 1, command
        assert "Can't locate revision identified by '9999'" in done.stderr, command
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "9999"


def test_an_older_version_does_not_start_on_a_database_that_it_cannot_live_in(url: str) -> None:
    """Another application's too."""
    lanes.migrate(url, "0008")
    mark(url, "9999")
    done = by_command(url, "upgrade")
    assert done.returncode == 1
    assert "Can't locate revision identified by '9999'" in done.stderr


def test_a_database_that_is_away_or_cannot_be_written_ends_the_upgrade_with_a_line(
    url: str, kind: str, tmp_path: Path
) -> None:
    made = sa.make_url(url)
    away = made.set(database=str(tmp_path / "no" / "such.db")) if kind == "sqlite" else made.set(port=1)
    urls = [away.render_as_string(hide_password=False)]
    if kind == "sqlite":
        lanes.migrate(url, "0008")
        urls.append(f"{url}?mode=ro&uri=true".replace("sqlite:///", "sqlite:///file:"))
    for each in urls:
        done = by_command(each, "upgrade")
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: {output.AWAY} It says: OperationalError"), done.stderr
        assert done.stderr.count("\n") == 1


def mark(url: str, revision: str) -> None:
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{revision}'"))


def by_command(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    given = {"DATABASE_URL": url, **{name.upper(): value for name, value in SECRETS.items()}}
    command = [sys.executable, "-m", "flask", "db", *words]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": os.environ["PATH"], **given}, capture_output=True, text=True, timeout=60
    )
