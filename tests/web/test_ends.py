"""What administration ends with somebody's sessions: also what anybody may begin for them, and to no stranger's eye."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import World
from tests.people import Answer, Person, wrong
from tests.test_cli import Flask, flask, said  # noqa: F401
from tests.web.admins import USERS, of_role
from tests.web.test_browser import Browser
from tests.web.test_decoys import seen
from tests.web.test_phone import Phone

NEW = "another horse 9"
At = Callable[[str, str, Any], Answer]  # administration's call about the person
ENDS: dict[str, Callable[[At], Any]] = {
    "lock": lambda at: (at("POST", "/lock", {}).ok(), at("POST", "/unlock", {}).ok()),
    "disable": lambda at: [at("PATCH", "", {"disabled": disabled}).ok() for disabled in (True, False)],
    "reset-mfa": lambda at: at("POST", "/reset-mfa", {}).ok(),
    "revoke-sessions": lambda at: at("POST", "/revoke-sessions", {}).ok(),
}
COMMANDS = {"sign-out": None, "sign-out --everyone": "--everyone"}
each_end = pytest.mark.parametrize("how", [*ENDS, *COMMANDS])


@pytest.fixture
def end(world: World, flask: Flask) -> Callable[[str, str], None]:  # noqa: F811
    """Ends what somebody has begun, named by their id."""
    admin = of_role(world, "admin")

    def do(user_id: str, how: str) -> None:
        if how in COMMANDS:
            assert said(flask("users", "sign-out", COMMANDS[how] or user_id, "--json"))["people"] >= 1
        else:
            ENDS[how](lambda method, rest, body: admin.api.call(method, f"{USERS}/{user_id}{rest}", body, admin.token))

    return do


def forgot(person: Person) -> str:
    return str(person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()["challenge_id"])


def reset(person: Person, challenge: str, code: str) -> Answer:
    given = {"challenge_id": challenge, "otp": code, "new_password": NEW}
    return person.api.post("/api/auth/reset-password", given)


@each_end
def test_a_recovery_that_was_begun_sets_no_password(world: World, end: Callable[[str, str], None], how: str) -> None:
    jane = world.person().sign_up()
    asked, code = forgot(jane), jane.code()
    end(jane.tokens["user"]["id"], how)
    assert reset(jane, asked, code).code == "invalid_code"
    world.clock.advance(minutes=1)
    assert reset(jane, forgot(jane), jane.code()).status == 200


@each_end
def test_a_recovery_that_was_proven_sets_no_password(world: World, end: Callable[[str, str], None], how: str) -> None:
    jane, browser = world.person().sign_up(), Browser(world)
    browser.post("/forgot-password", {"email": jane.email})
    browser.post("/validate-otp", {"email": jane.email, "otp": jane.code()})
    end(jane.tokens["user"]["id"], how)
    answer = browser.post("/reset-password", {"email": jane.email, "new_password": NEW})
    assert (answer.status_code, answer.get_json()["code"]) == (410, "challenge_closed")
    jane.sign_in()


@each_end
def test_a_code_by_phone_that_was_asked_for_opens_no_session(
    world: World, end: Callable[[str, str], None], how: str
) -> None:
    phone = Phone(world)
    user_id = phone.sign_up()["user"]["id"]
    world.clock.advance(minutes=4)
    asked, code = phone.ask().ok()["challenge_id"], phone.code()
    end(user_id, how)
    assert phone.answer(code).code == "invalid_code"
    world.clock.advance(minutes=1)
    again = phone.ask().ok()
    assert again["challenge_id"] == asked, "to the eye it is the question of before"
    assert phone.code() != code
    assert phone.answer(code).code == "invalid_code"
    assert phone.answer().ok()["user"]["id"] == user_id


def test_who_has_nothing_but_that_is_found(world: World, flask: Flask) -> None:  # noqa: F811
    jane, jack, phone = world.person().sign_up(), world.person().sign_up(), Phone(world)
    phone.sign_up()
    said(flask("users", "sign-out", "--everyone", "--json"))
    world.clock.advance(minutes=4)
    asked, code, browser = forgot(jane), jane.code(), Browser(world)
    browser.post("/forgot-password", {"email": jack.email})
    browser.post("/validate-otp", {"email": jack.email, "otp": jack.code()})
    phone.ask().ok()
    everyone = ("users", "sign-out", "--everyone", "--json")
    assert said(flask(*everyone)) == {"people": 3, "sessions_ended": 0}
    assert said(flask(*everyone)) == {"people": 0, "sessions_ended": 0}
    assert reset(jane, asked, code).code == "invalid_code"


@pytest.mark.covers("attack A31", "asvs 6.3.8")
def test_whoever_asked_sees_nothing_of_it(world: World, end: Callable[[str, str], None]) -> None:
    jane, number, nobody = world.person().sign_up(), Phone(world), Phone(world, "+919876500000")
    owner = number.sign_up()["user"]["id"]
    world.clock.advance(minutes=4)
    asked = [
        jane.api.post("/api/auth/forgot-password", {"email": each}).ok() for each in (jane.email, "no@example.com")
    ]
    phones = [each.ask().ok() for each in (number, nobody)]
    for each in (jane.tokens["user"]["id"], owner):
        end(each, "revoke-sessions")
    world.clock.advance(minutes=1)
    known, unknown = (seen(jane, each["challenge_id"]) for each in asked)
    assert known == unknown
    assert known[0] == (200, None)
    told = [(each.answer(wrong(each.code())), each.ask().ok()) for each in (number, nobody)]
    assert [(guess.code, guess["attempts_left"]) for guess, _ in told] == [("invalid_code", 2)] * 2
    assert [again["challenge_id"] for _, again in told] == [each["challenge_id"] for each in phones]


def test_an_invitation_outlives_another_role(world: World) -> None:
    """It proves the address of somebody who has no password yet, whatever they may do then."""
    admin = of_role(world, "admin")
    new = {"email": "new@example.com", "invite": True}
    asked = admin.api.post(USERS, new, admin.token).ok()
    admin.api.call("PUT", f"{USERS}/{asked['id']}/role", {"role": "doctor"}, admin.token).ok()
    person = world.person(email="new@example.com")
    assert reset(person, asked["invitation"]["challenge_id"], person.code()).status == 200
