"""Every endpoint of administration, as everybody: the answers are those of the table in docs/administration.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jsonschema
import pytest
import sqlalchemy as sa

from app import SURFACES
from app.core.api_keys import Scope
from app.models import OutboxMessage
from app.web.endpoint import Endpoint
from app.web.fields import SOME_ID
from tests.conftest import World
from tests.people import DOCUMENT, Answer, Person, wrong
from tests.web.admins import USERS, id_of, of_role
from tests.web.test_access import malformed
from tests.web.test_machines import make_key

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "administration.md"
[ADMIN] = [surface for surface in SURFACES if surface.name == "admin"]
ENDPOINTS = {f"{e.method} " + re.sub(r"<uuid:(\w+)>", r"{\1}", e.path): e for e in ADMIN.endpoints}
DOOR = {"anonymous": "token_missing", "disabled": "token_revoked", "stale": "insufficient_user_authentication"}

# What is sent where a body is asked for; other endpoints get none.
BODIES: dict[str, Any] = {
    "POST /users": {"email": "new@example.com", "invite": True},
    "PATCH /users/{user_id}": {"name": "New"},
    "PUT /users/{user_id}/role": {"role": "admin"},
    "POST /users/{user_id}/lock": {"seconds": 60},
    "POST /users/{user_id}/send-password-reset": {},
    "POST /api-keys": {"name": "new", "scopes": ["otp:verify"]},
}


def table() -> dict[str, dict[str, str]]:
    """The rows of the page by endpoint: each cell by its column."""
    inside = PAGE.read_text().partition("<!-- matrix")[2].partition("<!-- end of matrix")[0]
    rows = [
        [c.strip().strip("`") for c in line.strip("|").split("|")] for line in inside.splitlines() if line[:1] == "|"
    ]
    head, _, *body = rows
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


TABLE = table()


@pytest.mark.covers("asvs 8.1.1")
def test_the_table_names_every_endpoint_with_its_permission() -> None:
    assert {name: row["permission"] for name, row in TABLE.items()} == {
        name: str(endpoint.guard.permission) for name, endpoint in ENDPOINTS.items()
    }


def role(name: str) -> Callable[[World], Person]:
    return lambda world: of_role(world, name)


def stale(world: World) -> Person:
    person = of_role(world, "admin")
    world.clock.advance(minutes=11)
    return person


def disabled(world: World) -> Person:
    person = of_role(world, "admin")
    boss = of_role(world, "admin")
    boss.api.patch(f"/api/admin/users/{id_of(person)}", {"disabled": True}, boss.token).ok()
    return person


def nobody(world: World) -> Person:
    return world.person().sign_up()


CALLERS: dict[str, Callable[[World], Person]] = {
    "anonymous": nobody,
    "user": role("user"),
    "doctor": role("doctor"),
    "admin": role("admin"),
    "stale": stale,
    "disabled": disabled,
    "API key": nobody,
    "key with `users:read": nobody,
}


def credential(world: World, caller: str, person: Person) -> str | None:
    if caller == "anonymous":
        return None
    if "key" in caller.lower():
        return make_key(world, *([Scope.USERS] if "users" in caller else [s for s in Scope if s is not Scope.USERS]))
    return person.token


def path(world: World, endpoint: Endpoint, whose: str, person: Person, admin: Person) -> str:
    """With the caller's own id, somebody else's, or one that there is not."""
    users = {"own": id_of(person), "other": id_of(admin)}
    if whose == "nobody's":
        chosen = uuid4()
    elif "user_id" in endpoint.path:
        chosen = users[whose]
    elif "key_id" in endpoint.path:
        chosen = UUID(admin.api.post("/api/admin/api-keys", BODIES["POST /api-keys"], admin.token).ok()["id"])
    else:
        chosen = undelivered(world)
    return ADMIN.prefix + re.sub("<.*?>", str(chosen), endpoint.path)


def undelivered(world: World) -> UUID:
    """A message that may be sent once more."""
    world.person().ask_signup().ok()
    row = max(world.rows(OutboxMessage), key=lambda row: row.id.bytes)
    with world.engine.begin() as connection:
        connection.execute(sa.update(OutboxMessage).where(OutboxMessage.id == row.id).values(state="failed"))
    return row.id


def subjects(endpoint: Endpoint) -> tuple[str, ...]:
    return ("own", "other", "nobody's") if "<" in endpoint.path else ("other",)


def check(answer: Answer, name: str, caller: str, whose: str) -> None:
    expected = int(TABLE[name][caller])
    if expected < 300 and whose == "nobody's":
        expected = 200 if name.endswith("audit-logs") else 404
    assert answer.status == expected, (name, whose, answer.body)
    if expected == 401:
        assert answer.code == DOOR.get(caller, "token_invalid"), (name, whose)
    if expected == 403:
        assert answer.code == "forbidden"


@pytest.mark.one_lane
@pytest.mark.covers("asvs 8.2.1", "asvs 8.2.2", "asvs 8.3.1", "attack A73")
@pytest.mark.parametrize("caller", [caller for caller in CALLERS if caller != "admin"])
def test_everybody_else_gets_what_the_table_says(world: World, caller: str) -> None:
    person = CALLERS[caller](world)
    admin = of_role(world, "admin")
    token = credential(world, caller, person)
    for name, endpoint in ENDPOINTS.items():
        for whose in subjects(endpoint):
            at = path(world, endpoint, whose, person, admin)
            check(world.api().call(endpoint.method, at, BODIES.get(name), token), name, caller, whose)
            if int(TABLE[name][caller]) in (401, 403):
                check(malformed(world, endpoint, at, token), name, caller, whose)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_admin_gets_what_the_table_says(make_world: Callable[..., World], name: str) -> None:
    endpoint = ENDPOINTS[name]
    for whose in subjects(endpoint):
        world = make_world()
        person, admin = of_role(world, "admin"), of_role(world, "admin")
        at = path(world, endpoint, whose, person, admin)
        check(world.api().call(endpoint.method, at, BODIES.get(name), person.token), name, "admin", whose)


@pytest.mark.covers("asvs 16.2.1")
@pytest.mark.one_lane
def test_every_write_leaves_a_row_with_who_whom_before_and_after(make_world: Callable[..., World]) -> None:
    writes = {name: endpoint for name, endpoint in ENDPOINTS.items() if endpoint.method != "GET"}
    world = make_world(ratelimit=False)
    admin = of_role(world, "admin")
    for name, endpoint in writes.items():
        jane = world.person().sign_up()
        at = path(world, endpoint, "own", jane, admin)
        earlier = {row.id for row in world.audit()}
        answer = admin.api.call(endpoint.method, at, BODIES.get(name), admin.token).ok()
        [row] = [row for row in world.audit() if row.id not in earlier and "after" in row.facts]
        unseen = (
            "unlock",
            "reset-mfa",
            "PATCH /users/{user_id}",
        )  # nothing to lift or reset; a name, which it keeps out
        assert row.facts["before"] != row.facts["after"] or name.endswith(unseen), (name, row.facts)
        # A sign-up's code is nobody's, so it is the admin's act alone: its history is some account's later.
        assert str(row.user_id) in at + str(answer.body) + (str(id_of(admin)) if "deliveries" in name else ""), name
        assert (row.success, row.actor_id) == (True, id_of(admin)), name
    assert len(writes) > 10


@pytest.mark.covers("asvs 16.3.2")
def test_a_refusal_at_the_door_is_recorded_with_who_it_was(world: World) -> None:
    """Also of two behind one address: one row each in a minute."""
    people = [of_role(world, "doctor"), of_role(world, "user")]
    for person in (*people, *people):
        person.api.get("/api/admin/users", person.token)
    rows = world.audit(event="request.refused", reason="forbidden")
    assert [row.facts for row in rows] == [{"route": "admin.list_users"}] * 2
    assert [(row.actor_id, row.user_id) for row in rows] == [(id_of(person), id_of(person)) for person in people]
    assert [str(row.session_id) for row in rows] == [person.tokens["session_id"] for person in people]


def test_a_stale_write_and_a_person_who_is_not_there_are_recorded_with_who_asked(world: World) -> None:
    person = stale(world)
    person.api.post("/api/admin/api-keys", BODIES["POST /api-keys"], person.token)
    person.api.get(f"/api/admin/users/{SOME_ID}", person.token)
    rows = world.audit(event="request.refused")
    assert [row.reason for row in rows] == ["insufficient_user_authentication", "not_found"]
    assert {row.actor_id for row in rows} == {id_of(person)}


def test_a_refusal_at_the_door_says_whom_it_was_about(world: World) -> None:
    """The first in a minute: a flood of ids is no flood of rows."""
    doctor, jane, other = of_role(world, "doctor"), world.person().sign_up(), world.person().sign_up()
    asked = [("DELETE", ""), ("GET", "/sessions"), ("PUT", "/role")]
    for person in (jane, other):
        for method, rest in asked:
            assert doctor.api.call(method, f"{USERS}/{id_of(person)}{rest}", None, doctor.token).code == "forbidden"
    rows = world.audit(event="request.refused", reason="forbidden")
    assert [row.facts["target"] for row in rows] == [str(id_of(jane))] * len(asked)
    assert {row.actor_id for row in rows} == {id_of(doctor)}


def test_a_refusal_elsewhere_says_nothing_of_its_path(world: World, person: Person) -> None:
    """The id of a challenge is its holder's alone."""
    person.api.get(f"/api/auth/challenges/{SOME_ID}")
    [row] = world.audit(event="request.refused")
    assert row.facts.keys() == {"route"}


def strict(schema: Any) -> Any:
    """The same schema, which takes no field that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {name: strict(part) for name, part in schema.items()} | closed


@pytest.mark.covers("asvs 15.3.1")
def test_no_answer_has_a_field_that_its_document_has_not(world: World) -> None:
    admin = of_role(world, "admin")
    jane = world.person().sign_up()
    asked = jane.ask_signin().ok()
    jane.verify_signin(asked["challenge_id"], wrong(jane.code()))
    paths, components = DOCUMENT["paths"], strict(DOCUMENT["components"])
    for name, endpoint in ENDPOINTS.items():
        at = path(world, endpoint, "other", admin, jane) if "user_id" in name else ADMIN.prefix + endpoint.path
        if "{key_id}" in name or "{message_id}" in name or endpoint.method == "DELETE":
            continue
        admin.sign_in()
        answer = admin.api.call(endpoint.method, at, BODIES.get(name), admin.token).ok()
        operation = paths[ADMIN.prefix + name.partition(" ")[2]][endpoint.method.lower()]
        schema = operation["responses"][str(endpoint.status)]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.body, {**schema, "components": components}, cls=jsonschema.Draft202012Validator)
        world.clock.advance(minutes=2)
