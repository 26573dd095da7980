"""The purpose x route matrix: a code opens what it was made for, and only there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.models import OtpChallenge
from tests.conftest import World
from tests.people import Answer, Person

Asked = tuple[str, str]  # challenge id and its right code


def from_signup(world: World, _person: Person) -> Asked:
    stranger = world.person()
    return stranger.ask_signup().ok()["challenge_id"], stranger.code()


def from_login(_world: World, person: Person) -> Asked:
    return person.ask_signin().ok()["challenge_id"], person.code()


def from_recovery(_world: World, person: Person) -> Asked:
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    return asked["challenge_id"], person.code()


def from_change(world: World, person: Person) -> Asked:
    asked = person.api.post("/api/auth/change-email", {"email": "new@example.com"}, person.token).ok()
    return asked["challenge_id"], world.read("email", "new@example.com")


def from_phone(world: World, person: Person) -> Asked:
    asked = person.api.post("/api/auth/change-phone", {"phone": "+447400123456"}, person.token).ok()
    return asked["challenge_id"], world.read("sms", "+447400123456")


def at(path: str, **more: str) -> Callable[[Person, Asked], Answer]:
    return lambda person, asked: person.api.post(path, {"challenge_id": asked[0], "otp": asked[1], **more})


SOURCES = {
    "signup": from_signup,
    "signin": from_login,
    "recovery": from_recovery,
    "change_email": from_change,
    "change_phone": from_phone,
}
ROUTES = {
    "verify-otp": at("/api/auth/verify-otp"),
    "login/verify": at("/api/auth/login/verify"),
    "reset-password": at("/api/auth/reset-password", new_password="a brand new horse"),
}
DIAGONAL = {
    ("signup", "verify-otp"),
    ("change_email", "verify-otp"),
    ("change_phone", "verify-otp"),
    ("signin", "login/verify"),
    ("recovery", "reset-password"),
}


@pytest.mark.covers("attack A14", "asvs 9.2.2")
@pytest.mark.parametrize("purpose", SOURCES)
@pytest.mark.parametrize("route", ROUTES)
def test_a_code_opens_only_what_it_was_made_for(world: World, person: Person, purpose: str, route: str) -> None:
    asked = SOURCES[purpose](world, person)
    answer = ROUTES[route](person, asked)
    if (purpose, route) in DIAGONAL:
        assert answer.status == 200
        return
    assert (answer.status, answer.code) == (410, "challenge_closed")
    [row] = [row for row in world.rows(OtpChallenge) if str(row.id) == asked[0]]
    assert (row.used_at, row.attempts) == (None, 1), "a use at another route costs an attempt"
    right = next(r for p, r in DIAGONAL if p == purpose)
    assert ROUTES[right](person, asked).status == 200


@pytest.mark.covers("attack A14")
@pytest.mark.parametrize("purpose", SOURCES)
def test_no_code_is_a_token(world: World, person: Person, purpose: str) -> None:
    challenge_id, code = SOURCES[purpose](world, person)
    for token in (challenge_id, code):
        assert person.api.get("/api/auth/me", token).code == "token_invalid"
        assert person.refresh(token).code == "token_invalid"


@pytest.mark.covers("attack A15")
def test_a_code_of_one_person_opens_nothing_of_another(world: World) -> None:
    people = [world.person().sign_up() for _ in range(4)]
    asked = [(p.ask_signin().ok()["challenge_id"], p.code()) for p in people]
    for owner, (challenge_id, right) in zip(people, asked, strict=True):
        others = [code for _, code in asked if code != right]
        assert owner.verify_signin(challenge_id, others[0]).code == "invalid_code"
        owner.verify_signin(challenge_id, right).ok()


def test_an_unknown_challenge_is_closed(person: Person) -> None:
    nowhere = ("01a1fc6a-56ed-7069-9126-f35c15146f3c", "123456")
    for route in ROUTES.values():
        assert route(person, nowhere).code == "challenge_closed"
    assert person.api.post("/api/auth/resend-otp", {"challenge_id": nowhere[0]}).code == "challenge_closed"
    assert person.api.get(f"/api/auth/challenges/{nowhere[0]}").code == "challenge_closed"
