"""Step-up: a fresh sign-in time without a new session (RFC 9470)."""

from __future__ import annotations

import jwt
import pytest

from tests.authenticator import enrol
from tests.conftest import World
from tests.people import Person, wrong


def ask(person: Person, **more: str):
    return person.api.post("/api/auth/step-up", more, person.token)


def answer(person: Person, challenge_id: str, code: str, **more: str):
    body = {"challenge_id": challenge_id, "otp": code, **more}
    return person.api.post("/api/auth/step-up/verify", body, person.token)


@pytest.fixture
def stale(world: World, person: Person) -> Person:
    """Somebody whose sign-in is too old for delicate acts."""
    world.clock.advance(minutes=11)
    return person


@pytest.mark.covers("asvs 7.5.3")
def test_a_code_makes_the_sign_in_recent_again(world: World, stale: Person) -> None:
    refused = stale.api.delete("/api/auth/me", stale.token)
    assert refused.code == "insufficient_user_authentication"
    assert f'max_age="{world.settings.step_up_max_age}"' in refused.headers["WWW-Authenticate"]
    asked = ask(stale).ok()
    assert (asked["status"], asked["methods"], asked["channel"]) == ("otp_required", ["email"], "email")
    assert world.inbox(stale.email)[-1] == "code.step_up"
    fresh = answer(stale, asked["challenge_id"], stale.code()).ok()
    old, new = (jwt.decode(t, options={"verify_signature": False}) for t in (stale.token, fresh["access_token"]))
    assert (new["sid"], new["amr"]) == (old["sid"], ["email"])
    assert new["auth_time"] - old["auth_time"] >= 660
    assert stale.api.delete("/api/auth/me", fresh["access_token"]).status == 200


def test_an_app_is_asked_and_nothing_is_sent(world: World, person: Person) -> None:
    app = enrol(world, person)
    world.clock.advance(minutes=11)
    sent = len(world.inbox(person.email))
    asked = ask(person).ok()
    assert (asked["channel"], asked["methods"]) == ("totp", ["totp", "backup_code", "email"])
    assert len(world.inbox(person.email)) == sent
    fresh = answer(person, asked["challenge_id"], app.code()).ok()
    claims = jwt.decode(fresh["access_token"], options={"verify_signature": False})
    assert claims["amr"] == ["otp"]
    person.tokens = {**person.tokens, **fresh.body}
    person.api.post("/api/auth/factors/backup-codes", {}, person.token).ok()


def test_a_code_by_mail_makes_no_app_that_was_asked_earlier_look_fresh(world: World, person: Person) -> None:
    """A backend that wants the app's code of the last ten minutes compares `amr` and `auth_time` of one token."""
    app = enrol(world, person)
    world.clock.advance(minutes=1)
    asked = person.ask_signin().ok()
    person.verify_signin(asked["challenge_id"], app.code()).ok()
    world.clock.advance(minutes=11)
    fresh = answer(person, ask(person, channel="email").ok()["challenge_id"], person.code()).ok()["access_token"]
    claims = jwt.decode(fresh, options={"verify_signature": False})
    assert claims["amr"] == ["email"]
    brought = jwt.decode(person.refresh().ok()["access_token"], options={"verify_signature": False})
    assert brought["amr"] == ["pwd", "otp"]
    assert claims["auth_time"] - brought["auth_time"] >= 660


def test_a_step_that_stepped_up_signs_nobody_in(world: World, person: Person) -> None:
    app = enrol(world, person)
    world.clock.advance(minutes=11)
    code = app.code()
    answer(person, ask(person).ok()["challenge_id"], code).ok()
    asked = person.ask_signin().ok()
    assert person.verify_signin(asked["challenge_id"], code).code == "invalid_code"


def test_the_channel_may_be_chosen_and_changed(world: World, person: Person) -> None:
    enrol(world, person)
    world.clock.advance(minutes=11)
    assert ask(person, channel="email").ok()["channel"] == "email"
    world.clock.advance(minutes=1)
    asked = ask(person).ok()
    again = person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"], "channel": "email"}).ok()
    assert again["channel"] == "email"
    answer(person, asked["challenge_id"], person.code()).ok()


@pytest.mark.covers("attack A36")
def test_what_one_session_proved_helps_no_other(world: World, person: Person) -> None:
    elsewhere = world.person(email=person.email).sign_in()
    world.clock.advance(minutes=11)
    asked = ask(person).ok()
    code = person.code()
    assert answer(elsewhere, asked["challenge_id"], code).code == "challenge_closed"
    answer(person, asked["challenge_id"], code).ok()
    assert elsewhere.api.delete("/api/auth/me", elsewhere.token).code == "insufficient_user_authentication"
    assert person.api.delete("/api/auth/me", person.token).code == "insufficient_user_authentication", "the old token"


@pytest.mark.covers("attack A14", "asvs 9.2.2")
def test_its_code_opens_nothing_else_and_no_other_code_steps_up(world: World, stale: Person) -> None:
    for path, more in (
        ("/api/auth/login/verify", {}),
        ("/api/auth/verify-otp", {}),
        ("/api/auth/reset-password", {"new_password": "another horse 8"}),
    ):
        asked, code = ask(stale).ok()["challenge_id"], stale.code()
        assert stale.api.post(path, {"challenge_id": asked, "otp": code, **more}).code == "challenge_closed", path
    world.clock.advance(minutes=1)
    signin = stale.ask_signin().ok()
    assert answer(stale, signin["challenge_id"], stale.code()).code == "challenge_closed"


@pytest.mark.covers("attack A05")
def test_wrong_guesses_are_counted_with_all_others(world: World, stale: Person) -> None:
    for _ in range(2):
        asked = ask(stale).ok()
        for _ in range(2):
            assert answer(stale, asked["challenge_id"], wrong(stale.code())).code == "invalid_code"
    asked = ask(stale).ok()
    assert answer(stale, asked["challenge_id"], wrong(stale.code())).code == "invalid_code"
    assert stale.ask_signin().code == "account_locked"
    assert answer(stale, asked["challenge_id"], stale.code()).code == "account_locked"


def test_an_ended_session_steps_up_no_more(world: World, stale: Person) -> None:
    elsewhere = world.person(email=stale.email).sign_in()
    world.clock.advance(minutes=2)
    asked = ask(stale).ok()
    code = stale.code()
    elsewhere.api.delete("/api/auth/sessions", elsewhere.token).ok()
    assert answer(stale, asked["challenge_id"], code).code == "token_revoked"


def test_it_wants_a_session_and_takes_its_own_challenge_alone(world: World, person: Person) -> None:
    assert person.api.post("/api/auth/step-up", {}).code == "token_missing"
    other = world.person().sign_up()
    asked = ask(other).ok()
    assert answer(person, asked["challenge_id"], other.code()).code == "challenge_closed"


@pytest.mark.covers("attack A36")
def test_a_refresh_token_brings_nothing_of_a_step_up(world: World, stale: Person) -> None:
    """It may be a thief's, who waits for the owner to prove themselves."""
    before = jwt.decode(stale.token, options={"verify_signature": False})
    app = enrol(world, stale.sign_in())
    world.clock.advance(minutes=11)
    fresh = answer(stale, ask(stale).ok()["challenge_id"], app.fresh()).ok()["access_token"]
    brought = stale.refresh().ok()["access_token"]
    assert stale.api.delete("/api/auth/me", brought).code == "insufficient_user_authentication"
    claims = jwt.decode(brought, options={"verify_signature": False})
    assert claims["amr"] == before["amr"] == ["pwd", "email"]
    assert stale.api.delete("/api/auth/me", fresh).status == 200


@pytest.mark.covers("attack A05", "attack A10")
def test_a_spent_budget_says_so_and_calls_no_right_code_wrong(world: World) -> None:
    person = world.person(username="jane").sign_up()
    app = enrol(world, person)
    world.clock.advance(minutes=11)
    asked = ask(person).ok()
    for _ in range(5):
        world.api("198.51.100.7").post("/api/auth/login", {"username": "jane", "password": "wrong horse 7"})
    refused = answer(person, asked["challenge_id"], app.code())
    assert (refused.status, refused.code) == (423, "account_locked")
    world.clock.advance(minutes=4)
    person.tokens = person.refresh().ok().body
    world.clock.advance(minutes=12)
    person.tokens = person.refresh().ok().body
    assert answer(person, ask(person).ok()["challenge_id"], app.code()).status == 200


def test_it_is_in_the_audit_log_how_it_was_proven(world: World, stale: Person) -> None:
    answer(stale, ask(stale).ok()["challenge_id"], stale.code()).ok()
    [row] = world.audit(event="step_up.completed")
    assert row.facts == {"method": "email"}
