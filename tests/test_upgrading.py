"""Migrations under a service that goes on: the last release runs beside this one, on one database."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from app import create_app
from app.models import AuditLog
from bench.load import Ask, Load, failed
from tests import lanes
from tests.mail import smtp_server
from tests.people import PASSWORD, Answer, http_transport
from tests.service import ROOT, launch

LAST_RELEASE = "9085335"  # what ran before this version
ITS_SCHEMA = "0002"  # and the migration that it ended with


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", lanes.wanted())


@pytest.fixture
def url(kind: str, worker: str) -> Iterator[str]:
    with lanes.database(kind, f"upgrading_{worker}") as made:
        lanes.migrate(made, ITS_SCHEMA)
        yield made


def tables(url: str) -> dict[str, Any]:
    inspector = sa.inspect(sa.create_engine(url, poolclass=sa.NullPool))
    return {
        name: {
            "columns": {column["name"]: column for column in inspector.get_columns(name)},
            "unique": {tuple(each["column_names"]) for each in inspector.get_unique_constraints(name)},
            "foreign": {tuple(each["constrained_columns"]) for each in inspector.get_foreign_keys(name)},
        }
        for name in inspector.get_table_names()
    }


@pytest.mark.covers("fault F33")
def test_the_last_release_can_live_in_the_new_schema(url: str) -> None:
    """Expand only: what it reads is there, what it writes is taken, and what it does not know needs nothing from it."""
    before = tables(url)
    lanes.migrate(url)
    after = tables(url)
    assert set(before) <= set(after)
    for name, table in before.items():
        now = after[name]
        assert set(table["columns"]) <= set(now["columns"]), name
        assert (now["unique"], now["foreign"]) == (table["unique"], table["foreign"]), name
        for column, found in now["columns"].items():
            where = f"{name}.{column}"
            if column not in table["columns"]:
                assert found["nullable"] or found["default"] is not None, where
                continue
            old = table["columns"][column]
            assert type(found["type"]) is type(old["type"]), where
            assert found["nullable"] or not old["nullable"], where
            assert getattr(found["type"], "length", 0) == getattr(old["type"], "length", 0), where


def test_audit_rows_of_the_last_release_are_adopted_when_an_operator_says_so(url: str, kind: str) -> None:
    old = {"id": uuid4(), "at": datetime(2026, 1, 1, tzinfo=UTC), "event": "account.exported", "success": True}
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.execute(sa.insert(AuditLog.__table__).values({**old, "facts": {}}))
    lanes.migrate(url)
    app = create_app(lanes.Lane(kind, url, None).settings())
    told = {}
    for words in (["audit-seal"], ["audit-verify"], ["audit-seal", "--adopt"], ["audit-verify", "--json"]):
        done = app.test_cli_runner().invoke(args=words)
        told[" ".join(words)] = (done.exit_code, done.output)
    assert told["audit-seal"] == (0, "0 rows sealed; the head is 0:\n")
    assert told["audit-verify"][0] == 1
    assert f"row {old['id']}: is not signed" in told["audit-verify"][1]
    assert told["audit-seal --adopt"][1].startswith("1 rows sealed; the head is 1:")
    assert told["audit-verify --json"][0] == 0
    seen = json.loads(told["audit-verify --json"][1])
    assert (seen["adopted"], seen["adopted_seals"], seen["findings"]) == (1, 1, 0)


@pytest.mark.slow
@pytest.mark.skipif("postgresql" not in lanes.wanted(), reason="it is about locks and indexes of PostgreSQL")
def test_a_migration_lets_go_of_a_table_that_is_in_use(worker: str) -> None:
    """While somebody holds a table, the service's own statements on it are not kept waiting behind the migration."""
    with lanes.database("postgresql", f"let_go_{worker}") as url:
        lanes.migrate(url, ITS_SCHEMA)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        migrating = threading.Thread(target=lanes.migrate, args=(url,))
        with engine.begin() as holder:
            holder.execute(sa.text("LOCK TABLE users IN ROW EXCLUSIVE MODE"))
            migrating.start()
            waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass")
            with engine.connect() as watching:
                deadline = time.monotonic() + 60
                for wanted in (1, 0, 1):  # it waits, lets go, and comes again
                    while min(watching.scalar(waits) or 0, 1) != wanted:
                        assert time.monotonic() < deadline, wanted
                        watching.rollback()
                        time.sleep(0.02)
        migrating.join(60)
        assert "mfa" in tables(url)["users"]["columns"]


@pytest.mark.slow
@pytest.mark.skipif("postgresql" not in lanes.wanted(), reason="it is about locks and indexes of PostgreSQL")
def test_an_index_whose_making_was_interrupted_is_made_again(worker: str) -> None:
    with lanes.database("postgresql", f"broken_index_{worker}") as url:
        lanes.migrate(url)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
            broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_users_name_key'::regclass"
            connection.execute(sa.text(broken))
        lanes.migrate(url)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT bool_and(indisvalid) FROM pg_index"))


@pytest.fixture
def last_release(tmp_path: Path) -> Path:
    """The tree of the last release."""
    there = subprocess.run(["git", "cat-file", "-e", f"{LAST_RELEASE}^{{commit}}"], cwd=ROOT, capture_output=True)
    if there.returncode:
        pytest.skip(f"*** NOT TESTED beside the last release: this clone has no commit {LAST_RELEASE} ***")
    folder = tmp_path / "last"
    folder.mkdir()
    archive = subprocess.run(["git", "archive", LAST_RELEASE], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


@pytest.mark.covers("fault F33")
@pytest.mark.slow
@pytest.mark.skipif("postgresql" not in lanes.wanted(), reason="many copies share a PostgreSQL")
def test_two_versions_serve_together_during_a_migration(last_release: Path, worker: str, tmp_path: Path) -> None:
    """The last release serves under load while the database is migrated; then this one comes beside it, and journeys
    go from one to the other. No request fails.
    """
    with (
        lanes.database("postgresql", f"mixed_{worker}") as url,
        smtp_server(tmp_path) as (mailbox, mail, _),
    ):
        lanes.migrate(url, ITS_SCHEMA)
        settings = {**mail, "web_concurrency": 1, "mfa_policy": "optional", "otp_resend_in": 0}
        old = launch(url, tmp_path, root=last_release, **settings)
        services = [old]
        try:
            old.wait()
            first = sign_up([http_transport(old.base)] * 2, "first@example.com", mailbox)
            turn = itertools.count()
            asks = [
                Ask("GET", "/api/auth/me", token=first["access_token"]),
                Ask("POST", "/api/auth/login", {"identifier": "first@example.com", "password": PASSWORD}),
            ]
            load = Load(lambda: asks[next(turn) % 2], [int(old.base.rsplit(":", 1)[1])], 10)
            with load.running():
                lanes.migrate(url)
                services.append(new := launch(url, tmp_path, **settings))
                new.wait()
                both = [http_transport(old.base), http_transport(new.base)]
                for number, order in enumerate((both, both[::-1])):
                    journey(order, f"person{number}@example.com", mailbox)
            assert failed(load.told) == []
            assert {told.status for told in load.told} == {200}
        finally:
            for service in services:
                service.stop()


def sign_up(copies: list[Any], email: str, mailbox: Any) -> Any:
    one, other = copies
    asked = ok(one("POST", "/api/auth/signup", {"email": email, "password": PASSWORD}, {}))
    proof = {"challenge_id": asked["challenge_id"], "otp": mailbox.code("email", email, patience=40)}
    return ok(other("POST", "/api/auth/verify-otp", proof, {}))


def journey(copies: list[Any], email: str, mailbox: Any) -> None:
    """Each step at the other version than the one before."""
    one, other = copies
    tokens = sign_up(copies, email, mailbox)
    for here, there in ((one, other), (other, one)):
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert ok(here("GET", "/api/auth/me", None, bearer))["email"] == email
        tokens = ok(there("POST", "/api/auth/refresh", {"refresh_token": tokens["refresh_token"]}, {}))
        tokens = ok(here("POST", "/api/auth/login", {"identifier": email, "password": PASSWORD}, {}))
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    ok(one("POST", "/api/auth/logout", None, bearer))
    assert [copy("GET", "/api/auth/me", None, bearer).code for copy in (other, one)] == ["token_revoked"] * 2


def ok(answer: Answer) -> Any:
    return answer.ok().body
