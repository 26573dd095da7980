"""Every endpoint outside administration, as everybody: the answers at the door are those of docs/access.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app import SURFACES
from app.core.api_keys import Scope
from app.web import limits
from app.web.endpoint import Endpoint
from tests.authenticator import enrol
from tests.conftest import World
from tests.people import Answer, Person
from tests.web.admins import id_of, of_role
from tests.web.test_browser import Browser
from tests.web.test_machines import make_key

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "access.md").read_text()
ENDPOINTS = {
    f"{endpoint.method} {surface.prefix}{endpoint.path}".replace("<uuid:", "<"): endpoint
    for surface in SURFACES
    for endpoint in surface.endpoints
    if surface.name != "admin"
}
REFUSED = {"token_missing", "token_invalid", "token_revoked", "insufficient_user_authentication", "forbidden"}
ENDS = ("DELETE", "logout", "change-password")  # what may end the session that it is called with


def table() -> dict[str, dict[str, str]]:
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in PAGE.partition("<!-- end of access -->")[0].splitlines()
        if line[:1] == "|"
    ]
    head, _, *body = rows
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


TABLE = table()


def address(name: str) -> str:
    return re.sub("<.*?>", str(uuid4()), name.partition(" ")[2])


def body_of(endpoint: Endpoint, person: Person) -> Any:
    """What the document gives as an example; where nobody is asked who they are, an empty one."""
    if endpoint.body is None:
        return None
    if endpoint.guard.leaving:
        return {"refresh_token": person.tokens["refresh_token"]}
    return endpoint.body.model_config["json_schema_extra"]["examples"][0] if endpoint.guard.needed else {}


def test_what_is_wrong_with_a_request_is_told_and_noted_of_who_may_make_it(world: World, person: Person) -> None:
    for body in ({}, {"name": 7}):
        answer = person.api.post("/api/admin/api-keys", body, person.token)
        assert (answer.status, answer.code) == (403, "forbidden")
    assert person.api.post("/api/auth/change-email", {}, person.token).code == "validation_failed"
    [row] = world.audit(event="request.refused", reason="validation_failed")
    assert row.actor_id == id_of(person)


def check(answer: Answer, name: str, caller: str) -> None:
    expected = TABLE[name][caller]
    found = answer.code if answer.code in REFUSED else "in"
    assert found == expected, (name, caller, answer.status, answer.body)
    if found != "in":
        assert answer.status == (403 if found == "forbidden" else 401)


def test_the_table_names_every_endpoint() -> None:
    assert {name: row["asks for"] for name, row in TABLE.items()} == {n: e.guard.name for n, e in ENDPOINTS.items()}
    assert len(TABLE) > 60


def test_what_anybody_may_write_is_limited_by_address() -> None:
    """Those with an API key are not: one server asks for everybody."""
    posted = {n: e for n, e in ENDPOINTS.items() if e.method != "GET" and e.guard.scope is None}
    assert len(posted) > 30
    assert [name for name, endpoint in posted.items() if not endpoint.limit] == []


@pytest.mark.one_lane
def test_the_limit_of_consents_is_met(make_world: Any) -> None:
    world = make_world()
    most = int(limits.TOKENS.split()[0])
    statuses = [world.api().post("/api/auth/me/consents", {}).status for _ in range(most + 20)]
    assert set(statuses) == {401, 429}
    assert statuses.count(429) in range(1, 22)  # fewer where this takes so long that the window moves on


def visit(world: World, caller: str, make: Any, token: Any) -> None:
    person = make()
    for name, endpoint in ENDPOINTS.items():
        if endpoint.guard.cookie:
            continue
        own = make() if name.startswith(ENDS) or name.endswith(ENDS) else person
        body = body_of(endpoint, own)
        if endpoint.guard.leaving and caller == "nobody" and body is None:
            continue  # there is nothing to sign out of: what it says is in the test of the dialect
        check(world.api().call(endpoint.method, address(name), body, token(own, endpoint)), name, caller)
        if TABLE[name][caller] != "in":
            check(malformed(world, endpoint, address(name), token(own, endpoint)), name, caller)


def malformed(world: World, endpoint: Endpoint, path: str, token: str | None) -> Answer:
    """What is wrong with a request is told to nobody whom the door does not let in."""
    query, body = "?limit=none" if endpoint.query else "", b"[" if endpoint.writes else None
    headers = {"Content-Type": "application/json"} if endpoint.writes else {}
    return world.api().call(endpoint.method, path + query, body, token, **headers)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 8.2.1", "asvs 8.2.2", "attack A73")
@pytest.mark.parametrize("role", ["user", "doctor", "admin"])
def test_who_is_signed_in_gets_what_the_table_says(make_world: Any, role: str) -> None:
    world = make_world(ratelimit=False)
    visit(world, "session", lambda: of_role(world, role), lambda person, _: person.token)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 8.2.1", "asvs 8.3.1", "attack A73")
def test_nobody_gets_what_the_table_says(make_world: Any) -> None:
    world = make_world(ratelimit=False)
    visit(world, "nobody", lambda: world.person().sign_up(), lambda _, __: None)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 8.2.1")
def test_whose_sign_in_is_old_gets_what_the_table_says(make_world: Any) -> None:
    world = make_world(ratelimit=False, step_up_max_age=1)

    def stale() -> Person:
        person = world.person().sign_up()
        world.clock.advance(seconds=2)
        return person

    visit(world, "old sign-in", stale, lambda person, _: person.token)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 8.3.1", "asvs 7.4.1")
def test_whose_session_has_ended_gets_what_the_table_says(make_world: Any) -> None:
    world = make_world(ratelimit=False)

    def gone() -> Person:
        person = world.person().sign_up()
        person.api.delete("/api/auth/sessions/" + person.tokens["session_id"], person.token).ok()
        return person

    visit(world, "ended session", gone, lambda person, _: person.token)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 8.2.1")
@pytest.mark.parametrize("caller", ["key with the scope", "key without"])
def test_a_server_gets_what_the_table_says(make_world: Any, caller: str) -> None:
    world = make_world(ratelimit=False)
    keys = {scope: make_key(world, scope) for scope in Scope}
    without = {scope: make_key(world, *(other for other in Scope if other is not scope)) for scope in Scope}

    def key(_: Person, endpoint: Endpoint) -> str:
        return (keys if caller == "key with the scope" else without)[endpoint.guard.scope or Scope.USERS]

    visit(world, caller, lambda: world.person().sign_up(), key)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 8.2.1")
def test_a_browser_gets_what_the_table_says(world: World) -> None:
    [name] = [name for name, endpoint in ENDPOINTS.items() if endpoint.guard.cookie]
    method, path = name.split(" ")
    key = make_key(world, *Scope)
    browser = Browser(world)

    def seen(caller: str, **headers: str) -> None:
        answer = browser.send(method, path, **headers)
        check(Answer(answer.status_code, answer.get_json(), dict(answer.headers)), name, caller)

    seen("nobody")
    seen("key with the scope", Authorization=f"Bearer {key}")
    browser.sign_up()
    seen("session")
    world.clock.advance(minutes=11)
    seen("old sign-in")
    planted = browser.cookie
    browser.post("/logout", {})
    browser.client.set_cookie("session", planted)
    seen("ended session")


@pytest.mark.covers("asvs 8.2.2", "asvs 8.4.1")
def test_other_people_s_things_answer_as_if_there_were_none(world: World) -> None:
    jane, joe = world.person().sign_up(), world.person().sign_up()
    app = enrol(world, jane)
    asked = jane.ask_signin().ok()
    jane.verify_signin(asked["challenge_id"], app.fresh(), remember_device=True).ok()
    things = {
        "sessions": jane.tokens["session_id"],
        "factors": jane.api.get("/api/auth/factors", jane.token)["items"][0]["id"],
        "trusted-devices": jane.api.get("/api/auth/trusted-devices", jane.token)["items"][0]["id"],
    }
    for kind, theirs in things.items():
        taken, free = (joe.api.delete(f"/api/auth/{kind}/{thing}", joe.token) for thing in (theirs, uuid4()))
        assert (taken.status, taken.code, taken.body["detail"]) == (free.status, free.code, free.body["detail"]), kind
        assert (taken.status, taken.code) == (404, "not_found"), kind
    jane.me().ok()
    assert len(jane.api.get("/api/auth/trusted-devices", jane.token)["items"]) == 1
