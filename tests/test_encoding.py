"""Every text of Unicode, whatever the URL of the database, the environment or the database itself is set to."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, OperationalError

from app import create_app
from app.db import Base
from app.work import run
from tests import lanes
from tests.conftest import World
from tests.lanes import Lane
from tests.people import Clock, MemorySender
from tests.test_migrations import by_command
from tests.web import admins
from tests.web.admins import USERS

NAME = "\U0001f600 अनीता"
OPTIONS = {
    "sqlite": [""],
    "postgresql": ["", "client_encoding=UTF-8", "options=-c%20client_encoding=latin1"],
    "mariadb": [
        "",
        "charset=utf8",
        "sql_mode=%20",
        "charset=UTF8MB3&sql_mode=ANSI_QUOTES",
        "charset=utf8&collation=utf8_general_ci",
        "use_unicode=0",
    ],
}
WANTED = [(kind, options) for kind in OPTIONS for options in OPTIONS[kind]]


@pytest.fixture
def url(kind: str, worker: str) -> Iterator[str]:
    if kind not in lanes.wanted():
        pytest.skip(f"{kind} is not of this run")
    with lanes.database(kind, f"encoding_{worker}") as made:
        yield made


def a_world(kind: str, url: str) -> World:
    lane, clock, senders = Lane(kind, url, None), Clock(), {c: MemorySender(c) for c in ("email", "sms")}
    return World(create_app(lane.settings(), clock=clock, senders=senders), lane, clock, senders)


@pytest.mark.parametrize(("kind", "options"), WANTED)
def test_a_name_is_kept_and_found_whatever_the_url_says(
    url: str, kind: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    monkeypatch.setenv("PGOPTIONS", "-c client_encoding=latin1")
    lanes.migrate(url)
    world = a_world(kind, f"{url}?{options}" if options else url)
    assert world.person(name=NAME).sign_up().me()["name"] == NAME
    admin = admins.of_role(world, "admin")
    found = admin.api.get(f"{USERS}?query={quote(NAME[:1])}", admin.token).ok()["items"]
    assert [item["name"] for item in found] == [NAME]
    world.engine.dispose()


@pytest.mark.parametrize("kind", ["mariadb"])
def test_what_does_not_fit_is_never_cut_off(url: str, kind: str) -> None:
    world = a_world(kind, f"{url}?sql_mode=ANSI_QUOTES")
    with world.engine.connect() as connection:
        connection.execute(sa.text("CREATE TEMPORARY TABLE narrow (word VARCHAR(1) CHARACTER SET latin1)"))
        for word in ("ab", "\U0001f600"):
            with pytest.raises(DataError):
                connection.execute(sa.text("INSERT INTO narrow VALUES (:word)"), {"word": word})
    world.engine.dispose()


@pytest.mark.parametrize("kind", ["mariadb"])
def test_texts_that_do_not_compare_are_a_fault_and_no_outage(url: str, kind: str) -> None:
    world, mixed = a_world(kind, url), sa.text("SELECT 'a' COLLATE utf8mb4_bin = 'a' COLLATE utf8mb4_general_ci")
    with pytest.raises(OperationalError, match="1267"):
        run(world.kit, lambda work: work.db.execute(mixed))
    world.engine.dispose()


@pytest.fixture
def other(worker: str, encoding: str) -> Iterator[str]:
    """A database of PostgreSQL in another encoding, empty."""
    if "postgresql" not in lanes.wanted():
        pytest.skip("postgresql is not of this run")
    admin = lanes.engine(lanes.available()["postgresql"] or "", isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"latchkey_test_{lanes.CHECKOUT}_{encoding.lower()}_{worker}"
    make = f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    with admin.connect() as connection:
        connection.execute(sa.text(drop))
        connection.execute(sa.text(make))
        yield admin.url.set(database=name).render_as_string(hide_password=False)
        connection.execute(sa.text(drop))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_postgresql_in_another_encoding_is_not_migrated(other: str, encoding: str) -> None:
    done = by_command(other, "upgrade")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"the encoding of the database is {encoding} and must be UTF8: ")
    assert sa.inspect(lanes.engine(other, poolclass=sa.NullPool)).get_table_names() == []


@pytest.mark.parametrize("encoding", ["LATIN1"])
def test_nor_is_it_healthy(other: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("app.web.ops.log.warning", told.append)
    world = a_world("postgresql", other)
    Base.metadata.create_all(world.engine)
    assert world.api().transport("GET", "/health", None, {}).status == 503
    [line] = told
    assert line.startswith(f"the encoding of the database is {encoding} and must be UTF8: ")
    world.engine.dispose()
