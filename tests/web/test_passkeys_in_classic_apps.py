"""Who has a passkey signs in by cookie too: by a message's code, or by the passkey."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import World
from tests.people import PASSWORD, Person
from tests.security_key import Authenticator
from tests.web.test_browser import Browser, json_of
from tests.web.test_passkeys import answer, ask, bind

NEW = "another horse 8"


@pytest.fixture
def key() -> Authenticator:
    return Authenticator()


@pytest.fixture
def holder(world: World, key: Authenticator) -> Person:
    person = world.person().sign_up()
    bind(person, key).ok()
    world.clock.advance(minutes=2)
    return person


def test_a_page_with_a_field_for_a_code_is_sent_one(world: World, holder: Person) -> None:
    browser = Browser(world)
    asked = json_of(browser.post("/login", {"email": holder.email, "password": PASSWORD}))
    assert (asked["message"], asked["channel"]) == ("OTP sent to your email", "email")
    told = browser.post("/verify-otp", {"email": holder.email, "otp": browser.code(holder.email)})
    assert (told.status_code, browser.inside()) == (200, True)


def test_an_app_is_asked_first_as_it_was(world: World, holder: Person) -> None:
    """The order of factors stays; a passkey alone gives way."""
    asked = holder.ask_signin().ok()
    assert (asked["channel"], asked["methods"][0]) == ("passkey", "passkey")


def test_a_page_may_have_the_passkey_used(world: World, holder: Person, key: Authenticator) -> None:
    browser = Browser(world)
    asked = json_of(browser.post("/login", {"email": holder.email, "password": PASSWORD}))
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    told = browser.post("/verify-otp", {"email": holder.email, "credential": key.get(options)})
    assert (told.status_code, browser.inside()) == (200, True)


def test_after_a_recovery_the_passkey_lets_its_owner_in(world: World, holder: Person, key: Authenticator) -> None:
    """No message's code counts then."""
    browser = Browser(world)
    browser.post("/forgot-password", {"identifier": holder.email})
    code = browser.code(holder.email)
    browser.post("/reset-password", {"identifier": holder.email, "new_password": NEW, "otp": code})
    world.clock.advance(minutes=2)
    asked = json_of(browser.post("/login", {"email": holder.email, "password": NEW}))
    assert asked["message"] == "Use your passkey."
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    told = browser.post("/verify-otp", {"email": holder.email, "credential": key.get(options)})
    assert (told.status_code, browser.inside()) == (200, True)


@pytest.mark.parametrize("given", [{}, {"otp": "123456", "credential": {}}], ids=["nothing", "both"])
def test_one_answer_is_wanted(world: World, holder: Person, given: dict[str, object]) -> None:
    browser = Browser(world)
    browser.post("/login", {"email": holder.email, "password": PASSWORD})
    told = browser.post("/verify-otp", {"email": holder.email, **given})
    assert (told.status_code, json_of(told)["code"]) == (422, "validation_failed")


def test_a_sign_up_takes_a_code_alone(world: World, key: Authenticator) -> None:
    browser = Browser(world)
    browser.post("/signup", {"name": "Jane", "email": "jane@example.com", "password": PASSWORD})
    told = browser.post("/verify-otp", {"email": "jane@example.com", "credential": {"id": "a", "type": "public-key"}})
    assert (told.status_code, json_of(told)["errors"][0]["field"]) == (422, "otp")


def test_sending_again_leaves_an_open_prompt_in_force(world: World, holder: Person, key: Authenticator) -> None:
    """Whoever asks for the message while the phone asks for a finger, and then gives the finger, is in."""
    asked = holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    again = {"challenge_id": asked["challenge_id"], "channel": "email"}
    holder.api.post("/api/auth/resend-otp", again).ok()
    answer(holder, asked["challenge_id"], key.get(options)).ok()


def test_with_no_message_left_for_the_day_the_passkey_still_lets_its_owner_in(make_world: Any) -> None:
    """Whoever knows the password can spend the day; it is no way to keep the owner out."""
    world, key = make_world(sends_per_day_email=6), Authenticator()
    person = world.person().sign_up()
    bind(person, key).ok()
    login = {"email": person.email, "password": PASSWORD}
    for _ in range(14):
        world.clock.advance(minutes=2)
        Browser(world).post("/login", login)
    browser = Browser(world)
    world.clock.advance(minutes=2)
    asked = json_of(browser.post("/login", login))
    assert asked["message"] == "Use your passkey."
    options = ask(person.api, asked["challenge_id"]).ok()["options"]
    told = browser.post("/verify-otp", {"email": person.email, "credential": key.get(options)})
    assert (told.status_code, browser.inside()) == (200, True)
