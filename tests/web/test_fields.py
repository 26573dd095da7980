"""Who reads and writes which field of an account: docs/access.md, the declared bodies, and every field sent everywhere."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pytest

from app import SURFACES
from app.models import User
from app.web.endpoint import Endpoint
from tests.conftest import World
from tests.pages import named, table
from tests.people import Person
from tests.test_docs import ROOT
from tests.web.admins import id_of, of_role, path
from tests.web.test_machines import make_key

PAGE = (ROOT / "docs" / "access.md").read_text()
TABLE = {name: row for row in table(PAGE, "Fields of an account") for name in named(row[0])}
COLUMNS = {column.name for column in User.__table__.columns}
# What a body calls a column of an account.
CALLED = {
    "password": "password_hash", "new_password": "password_hash", "disabled": "disabled_at", "until": "locked_until",
    "seconds": "locked_until", "mobile_number": "phone",
}  # fmt: skip
# Fields of that name that only say whose account is meant, or prove something; and those of other things.
FINDS = re.compile(
    r"POST /(api/auth/)?(login|forgot-password)|POST /(verify|resend|validate)-otp|POST /api/auth/login/verify"
    r"|POST /api/v1/auth/verify-otp|POST /reset-password (email|phone|username)"
)
OTHERS = re.compile(r"\w+ /api/auth/factors/.* name|POST /api/admin/api-keys name")
ENDPOINTS = {
    f"{endpoint.method} {surface.prefix}{endpoint.path}".replace("<uuid:", "<"): endpoint
    for surface in SURFACES
    for endpoint in surface.endpoints
}
HOSTILE: dict[str, Any] = {
    "id": str(uuid4()), "user_id": str(uuid4()), "sub": str(uuid4()), "role": "admin", "roles": ["admin"], "is_admin": True, "scope": "users:read",
    "permissions": ["users:write"], "mfa": "totp", "disabled": True, "disabled_at": "2026-01-01T00:00:00Z", "locked_at": "2026-01-01T00:00:00Z",
    "locked_until": "2126-01-01T00:00:00Z", "until": "2126-01-01T00:00:00Z", "seconds": 3600, "created_at": "1999-01-01T00:00:00Z",
    "last_login_at": "1999-01-01T00:00:00Z", "password_hash": "$argon2id$x", "password_changed_at": "1999-01-01T00:00:00Z", "name_key": "x",
    "recovered_by": "sms", "email_verified": True, "email": "other@example.com", "phone": "+12025550199", "username": "mallory", "name": "Mallory",
    "language": "hi", "status": "disabled",
}  # fmt: skip


def declared() -> set[tuple[str, str]]:
    """(column, endpoint) for every field of a body that writes to an account."""
    found = set()
    for name, endpoint in ENDPOINTS.items():
        for given in endpoint.body.model_fields if endpoint.body else ():
            column, which = CALLED.get(given, given), f"{name} {given}"
            if (
                column in COLUMNS
                and not FINDS.fullmatch(name)
                and not FINDS.fullmatch(which)
                and not OTHERS.fullmatch(which)
            ):
                found.add((column, name))
    return found


@pytest.mark.covers("asvs 8.1.2")
def test_the_table_has_every_field_and_every_endpoint_that_writes_it() -> None:
    assert TABLE.keys() == COLUMNS
    written = {(c, at) for c, row in TABLE.items() for cell in (row[2], row[4]) for at in named(cell) if "/" in at}
    lifted = {("locked_at", "POST /api/admin/users/<user_id>/lock")}  # a time goes into locked_until alone
    assert written - lifted == declared()


@pytest.mark.covers("asvs 8.1.2", "asvs 8.2.3")
@pytest.mark.one_lane
def test_everybody_reads_what_the_table_says_and_no_more(world: World) -> None:
    person, admin = world.person(username="jane").sign_up(), of_role(world, "admin")
    at_me = {column for column, row in TABLE.items() if row[1] == "`me`"}
    exported = at_me | {column for column, row in TABLE.items() if row[1] == "export"}
    assert person.me().body.keys() == at_me
    assert person.api.get("/api/auth/me/export", person.token).ok()["user"].keys() == exported
    seen = person.api.get(path(person), admin.token).ok().body
    read = {column for column, row in TABLE.items() if row[3] == "yes"}
    assert seen.keys() & COLUMNS == read
    assert seen.keys() - COLUMNS == {"status", "has_password", "guesses_locked_until"}
    key = make_key(world, "tokens:introspect")
    told = world.api().post("/api/auth/introspect", {"token": person.token}, key).ok().body
    shown = {name for row in TABLE.values() for name in named(row[5])}
    assert told.keys() - {"active", "amr", "aud", "auth_time", "exp", "iat", "iss", "jti", "sid", "token_type"} == shown


def account(world: World, person: Person) -> dict[str, Any]:
    [row] = world.rows(User, id=id_of(person))
    return {name: getattr(row, name) for name in COLUMNS}


@pytest.mark.covers("asvs 8.2.3")
def test_who_signs_up_with_more_fields_has_an_account_like_everybody(world: World) -> None:
    more = {name: value for name, value in HOSTILE.items() if name not in ("email", "phone", "username", "name")}
    usual, person = world.person().sign_up(), world.person()
    asked = person.ask_signup(**more).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": person.code()}
    person._keep(person.api.post("/api/auth/verify-otp", HOSTILE | body)).ok()
    own = {"id", "email", "created_at", "last_login_at", "password_hash", "password_changed_at"}
    one, other = account(world, usual), account(world, person)
    assert {name: one[name] for name in COLUMNS - own} == {name: other[name] for name in COLUMNS - own}
    assert other["email"] == person.email
    assert other["created_at"].year == other["password_changed_at"].year == 2026


FOLLOWS = {"name": "name_key", "password_hash": "password_changed_at"}
WRITERS = [name for name, endpoint in ENDPOINTS.items() if endpoint.body and "/api/admin" not in name]


@pytest.mark.covers("asvs 8.2.3")
@pytest.mark.one_lane
def test_fields_that_are_not_theirs_change_nothing_anywhere(world: World) -> None:
    bystander = world.person(username="bystander").sign_up()
    of_other, changed, taken = account(world, bystander), set(), 0
    for number, name in enumerate(WRITERS):
        person = world.person(f"203.0.113.{number}").sign_up()
        before = account(world, person)
        method, at = name.split(" ")
        body = body_of(ENDPOINTS[name], person) | {"user_id": str(id_of(bystander)), "id": str(id_of(bystander))}
        answer = person.api.transport(method, re.sub(r"<\w+>", str(uuid4()), at), body, bearer(person))
        assert answer.status < 500, name
        taken += answer.status < 300
        after = account(world, person)
        different = {column for column in COLUMNS if before[column] != after[column]}
        allowed = {column for column, where in declared() if where == name} - {"email", "phone"}  # these need a code
        assert different <= allowed | {FOLLOWS[column] for column in allowed & FOLLOWS.keys()}, name
        changed |= different
        assert account(world, bystander) == of_other, name
        assert after["password_changed_at"].year == 2026
    assert changed == {"name", "name_key", "password_hash", "password_changed_at"}
    assert taken >= 15, "most of these bodies are good ones"


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token}"}


def body_of(endpoint: Endpoint, person: Person) -> dict[str, Any]:
    """The body that the document shows for an endpoint, as this person would send it, with every other field."""
    assert endpoint.body
    known = {
        "identifier": person.email, "password": person.password, "current_password": person.password,
        "refresh_token": person.tokens["refresh_token"], "email": person.email,
    }  # fmt: skip
    own = endpoint.body.model_json_schema().get("examples", [{}])[0]
    own = {name: known.get(name, value) for name, value in own.items()}
    return {name: value for name, value in HOSTILE.items() if name not in endpoint.body.model_fields} | own


RULES = table(PAGE, "Rules across fields")


@pytest.mark.covers("asvs 2.1.2")
@pytest.mark.one_lane
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule[0]}: {rule[2]}")
def test_a_rule_across_fields_is_kept(world: World, rule: list[str]) -> None:
    _, caller, request, body, told = rule
    person = of_role(world, "admin") if caller == "admin" else world.person().sign_up()
    method, at = filled(named(request)[0], person).split(" ")
    given = json.loads(filled(named(body)[0], person)) if body else None
    answer = person.api.call(method, at, given, person.token if caller != "nobody" else None)
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [[error["field"], error["code"]] for error in answer["errors"]] == [named(told)]


def filled(text: str, person: Person) -> str:
    return text.replace("{email}", person.email).replace("{user_id}", str(id_of(person)))


def test_every_kind_of_caller_is_among_the_rules() -> None:
    assert {rule[1] for rule in RULES} == {"nobody", "person", "admin"}
    assert len(RULES) >= 16
