"""docs/privacy.md names every table and every column, with a class."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
import sqlalchemy as sa

from app import models
from app.core import retention
from app.core.api_keys import Scope
from app.db import Base
from tests.authenticator import enrol
from tests.conftest import World
from tests.pages import named, table
from tests.people import PASSWORD, Person
from tests.test_docs import ROOT
from tests.web.admins import of_role
from tests.web.test_browser import EMAIL, Browser
from tests.web.test_machines import TILL, Server, make_key
from tests.web.test_trusted_devices import remember

PAGE = (ROOT / "docs" / "privacy.md").read_text()
SECTIONS = {
    name: re.findall(r"^\| (`.+?) \| .+ \| (\w+) \|$", text, re.MULTILINE)
    for name, text in re.findall(r"^## `(\w+)`(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
TABLES = {table.name: table for table in Base.metadata.sorted_tables}


@pytest.mark.covers("asvs 14.1.1")
def test_every_table_has_its_section() -> None:
    assert models.User.__tablename__ in TABLES
    assert SECTIONS.keys() == TABLES.keys()


@pytest.mark.covers("asvs 14.1.1")
@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_named_once_and_has_a_class(name: str) -> None:
    named = [column for columns, _ in SECTIONS[name] for column in re.findall(r"`(\w+)`", columns)]
    assert sorted(named) == sorted(column.name for column in TABLES[name].columns)
    assert {kind for _, kind in SECTIONS[name]} <= {"personal", "secret", "none"}


@pytest.mark.covers("asvs 14.2.7")
def test_a_table_that_is_purged_says_for_how_long_it_is_kept() -> None:
    for kind in retention.KINDS:
        [title] = re.findall(rf"^## `{kind.model.__tablename__}`: (.+)$", PAGE, re.MULTILINE)
        assert re.search(r"RETAIN_|day|week|as long as", title), title


FORMS = {
    "password hash": r"\$argon2id\$.+",
    "SHA-256": r"[0-9a-f]{64}",
    "keyed digest": r"[0-9a-f]{64}",
    "sealed": r"[0-9a-f]{8}\.[A-Za-z0-9_-]{40,}=*",
    "random": r"[0-9a-f]{8}|[0-9a-f]{32}|1",
}


def secrets() -> dict[str, str]:
    """The form of each secret column, by the page."""
    rows = [row for row in table(PAGE, "Rules of a class") if len(row) == 2 and "." in row[1]]
    return {column: next(form for form in FORMS if row[0].startswith(form)) for row in rows for column in named(row[1])}


@pytest.mark.covers("asvs 14.1.2")
def test_every_secret_column_has_one_of_the_forms() -> None:
    told = [
        f"{name}.{column}"
        for name, rows in SECTIONS.items()
        for columns, kind in rows
        for column in re.findall(r"`(\w+)`", columns)
        if kind == "secret" and not column.endswith("_at")
    ]
    assert sorted(secrets()) == sorted(told)


@pytest.mark.covers("asvs 14.1.2")
@pytest.mark.one_lane
def test_after_a_day_every_secret_is_stored_in_its_form_and_given_out_nowhere(world: World) -> None:
    person, shown = a_day(world)
    stored, seen = everything(world), set()
    for column, form in secrets().items():
        name, _, key = column.partition(".")
        values = [str(row[key]) for row in stored[name] if row[key] is not None]
        seen |= {column} if values else set()
        assert [value for value in values if not re.fullmatch(FORMS[form], value)] == [], column
    assert seen == secrets().keys(), "each had a value"
    text = json.dumps(stored, default=str)
    whole = r"(?<![\w.]){}(?!\w)"  # six digits stand in some digest or time by chance
    assert [secret for secret in shown if re.search(whole.format(re.escape(secret)), text)] == []
    hidden = {str(row[c.partition(".")[2]]) for c in secrets() for row in stored[c.partition(".")[0]]}
    answers = all_that_is_told(world, person)
    assert [value for value in hidden if len(value) > 8 and value in answers] == []


def all_that_is_told(world: World, person: Person) -> str:
    """What administration, the person and a server can read."""
    admin = of_role(world, "admin")
    ids = [row.id for row in world.rows(models.User)]
    each = [f"/api/admin/users/{of}{rest}" for of in ids for rest in ("", "/sessions", "/audit-logs", "/timeline")]
    lists = [f"/api/admin/{name}?limit=200" for name in ("users", "api-keys", "deliveries", "audit-logs")]
    told = [admin.api.get(path, admin.token).ok().body for path in [*each, *lists]]
    told.append(person.api.get("/api/auth/me/export", person.token).ok().body)
    return json.dumps([*told, Server(world).show()])


def everything(world: World) -> dict[str, list[dict[str, Any]]]:
    with world.engine.connect() as connection:
        return {name: [dict(row._mapping) for row in connection.execute(sa.select(t))] for name, t in TABLES.items()}


def a_day(world: World) -> tuple[Person, list[str]]:
    """Make a value of every secret column. Returns somebody who did most of it, and what opens something, as it was shown."""
    person = world.person().sign_up()
    other = world.person("203.0.113.6").sign_up()
    world.clock.advance(minutes=2)
    shown = [person.password, person.token, person.tokens["refresh_token"], remember(other)]
    shown += enrol(world, person).backup_codes
    again = {"email": "waits@example.com", "password": PASSWORD}
    person.api.call("POST", "/api/auth/signup", again, **{"Idempotency-Key": "a-key-of-a-client"}).ok()
    number = {"mobile_number": "+919876543210"}
    person.api.post("/api/v1/auth/send-otp", number).ok()
    code = world.read("sms", number["mobile_number"])
    shown.append(person.api.post("/api/v1/auth/verify-otp", number | {"otp": code}).ok()["registration_token"])
    browser = Browser(world)
    browser.sign_up()
    shown.append(browser.cookie)
    world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    browser.post("/validate-otp", {"identifier": EMAIL, "otp": browser.code()})
    server = Server(world)
    server.register().ok()
    shown += [server.keys[TILL].hex(), base64.b64encode(server.keys[TILL]).decode(), make_key(world, Scope.METRICS)]
    shown += [message.code for sender in world.senders.values() for message in sender.messages if message.code]
    return person, shown
