"""Introspection (RFC 7662): a live access token says what it is; anything else is inactive, and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
import pytest
import sqlalchemy as sa

from app.models import User
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import PASSWORD, Answer, Person

KEY = SECRETS["api_key"]


def ask(world: World, token: Any) -> Answer:
    """From another backend's address, which has never seen the person."""
    return world.api("198.51.100.9").post("/api/auth/introspect", {"token": token}, KEY).ok()


def unsigned(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_a_live_token_tells_its_claims(world: World, person: Person) -> None:
    assert ask(world, person.token).body == {
        "active": True,
        "token_type": "Bearer",
        **unsigned(person.token),
    }


def test_a_username_is_told_where_there_is_one(world: World) -> None:
    person = world.person(username="jane").sign_up()
    assert ask(world, person.token)["username"] == "jane"


def test_a_role_is_the_token_s(world: World, person: Person) -> None:
    body = ask(world, person.token)
    assert (body["role"], body["sub"], body["sid"]) == (
        "user",
        person.tokens["user"]["id"],
        person.tokens["session_id"],
    )


def sign_out(_world: World, person: Person) -> None:
    person.api.post("/api/auth/logout", token=person.token).ok()


def end_session(_world: World, person: Person) -> None:
    person.api.delete(f"/api/auth/sessions/{person.tokens['session_id']}", person.token).ok()


def disable(world: World, person: Person) -> None:
    update(world, disabled_at=world.clock.now)


def change_role(world: World, person: Person) -> None:
    update(world, role="doctor")


def erase(_world: World, person: Person) -> None:
    person.api.delete("/api/auth/me", person.token).ok()


def recover(_world: World, person: Person) -> None:
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": "another horse 9"}
    person.api.post("/api/auth/reset-password", body).ok()


def change_password_elsewhere(world: World, person: Person) -> None:
    other = world.person(email=person.email).sign_in()
    body = {"current_password": PASSWORD, "new_password": "another horse 9"}
    other.api.post("/api/auth/change-password", body, other.token).ok()


def theft(world: World, person: Person) -> None:
    old = person.tokens["refresh_token"]
    person.refresh(old).ok()
    world.clock.advance(seconds=30)
    assert person.refresh(old).code == "token_reused"


def age(world: World, _person: Person) -> None:
    world.clock.advance(minutes=15)


def update(world: World, **values: Any) -> None:
    with world.engine.begin() as connection:
        connection.execute(sa.update(User).values(**values))


ENDS: list[Callable[[World, Person], None]] = [
    sign_out, end_session, disable, change_role, erase, recover, change_password_elsewhere, theft, age,
]  # fmt: skip


@pytest.mark.covers("asvs 8.3.2", "asvs 7.4.1")
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_what_ends_a_token_is_known_at_once(world: World, person: Person, end: Callable[[World, Person], None]) -> None:
    token = person.token
    assert ask(world, token)["active"] is True
    end(world, person)
    assert ask(world, token).body == {"active": False}


def forged(world: World, person: Person, **changes: Any) -> str:
    """Signed with the real secret, as another backend that shares it could."""
    header = jwt.get_unverified_header(person.token)
    claims = {k: v for k, v in (unsigned(person.token) | changes).items() if v is not ...}
    return jwt.encode(claims, SECRETS["jwt_secret_key"], headers={"typ": header["typ"], "kid": header["kid"]})


OTHERS: dict[str, Callable[[World, Person], str]] = {
    "a refresh token": lambda _, p: p.tokens["refresh_token"],
    "an API key": lambda _w, _p: KEY,
    "a session id": lambda _, p: p.tokens["session_id"],
    "nonsense": lambda _w, _p: "nonsense",
    "a changed token": lambda _, p: p.token[:-2] + ("AA" if not p.token.endswith("AA") else "BB"),
    "an unsigned one": lambda _, p: jwt.encode(unsigned(p.token), None, algorithm="none"),
    "another key's": lambda _, p: jwt.encode(unsigned(p.token), "x" * 40, headers=jwt.get_unverified_header(p.token)),
    "another audience's": lambda w, p: forged(w, p, aud="billing"),
    "another issuer's": lambda w, p: forged(w, p, iss="elsewhere"),
    "of a session that never was": lambda w, p: forged(w, p, sid=str(uuid4())),
    "of another user's session": lambda w, p: forged(w, p, sub=w.person().sign_up().tokens["user"]["id"]),
    "of a role given by itself": lambda w, p: forged(w, p, role="admin"),
    "without a session": lambda w, p: forged(w, p, sid=...),
    "spaces around": lambda _, p: f" {p.token} ",
    "with its scheme": lambda _, p: f"Bearer {p.token}",
    "nothing": lambda *_: "",
    "longer than any": lambda _, p: p.token + "A" * 4096,
    "a tab in it": lambda *_: "a\tb",
    "no letters": lambda *_: "\x00\x07",
}


@pytest.mark.covers("attack A44", "asvs 9.2.2")
@pytest.mark.parametrize("what", OTHERS)
def test_anything_else_is_just_inactive(world: World, person: Person, what: str) -> None:
    assert ask(world, OTHERS[what](world, person)).body == {"active": False}


def test_claims_that_are_not_ours_are_not_told(world: World, person: Person) -> None:
    assert "tenant" not in ask(world, forged(world, person, tenant="x")).body


def test_a_token_of_the_key_before_the_last_is_live(make_world: Callable[..., World]) -> None:
    token = make_world().person().sign_up().token
    secret = "w2Er5Ty8Ui1Op4As7Df0Gh3Jk6Lz9Xc2Vb5Nm8Qw1"
    rotated = make_world(keep=True, jwt_secret_key=secret, jwt_previous_secret_keys=SECRETS["jwt_secret_key"])
    assert ask(rotated, token)["active"] is True
    assert ask(make_world(keep=True, jwt_secret_key=secret), token).body == {"active": False}


@pytest.mark.parametrize("token", [None, 7, True, [], {}, "\ud800"], ids=ascii)
def test_what_is_no_text_is_a_field_error(world: World, token: Any) -> None:
    answer = world.api().post("/api/auth/introspect", {"token": token}, KEY)
    assert (answer.status, answer["errors"][0]["field"]) == (422, "token")


def test_a_person_s_own_token_introspects_nothing(world: World, person: Person) -> None:
    answer = person.api.post("/api/auth/introspect", {"token": person.token}, person.token)
    assert (answer.status, answer.code) == (401, "token_invalid")


@pytest.mark.covers("asvs 3.5.3")
def test_introspection_changes_nothing(world: World, person: Person) -> None:
    world.kit.seen.clear()
    audited = len(world.audit())
    ask(world, person.token)
    assert (world.kit.seen, len(world.audit())) == ({}, audited)
