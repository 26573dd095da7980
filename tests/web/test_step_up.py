"""Step-up: a fresh sign-in time without a new session (RFC 9470)."""

from __future__ import annotations

from collections import Counter

import jwt
import pytest

from tests.authenticator import enrol
from tests.conftest import World
from tests.people import PASSWORD, Person, wrong
from tests.web.admins import act, id_of, of_role


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


def change_password(person: Person, current: str = PASSWORD):
    body = {"current_password": current, "new_password": "another horse 99"}
    return person.api.post("/api/auth/change-password", body, person.token)


@pytest.mark.covers("attack A05")
def test_wrong_guesses_in_all_sessions_have_one_budget_that_is_no_sign_in_s(world: World, stale: Person) -> None:
    for _ in range(2):
        asked = ask(stale).ok()
        for _ in range(2):
            assert answer(stale, asked["challenge_id"], wrong(stale.code())).code == "invalid_code"
    assert change_password(stale, "wrong horse 7").code == "invalid_credentials"
    asked = ask(stale).ok()
    refused = answer(stale, asked["challenge_id"], stale.code())
    assert (refused.status, refused.code, refused["retry_after"]) == (423, "account_locked", 900)
    assert change_password(stale).code == "account_locked"
    world.clock.advance(minutes=2)
    elsewhere = world.person(email=stale.email).sign_in()
    assert change_password(elsewhere).code == "account_locked", "a new session brings no guesses"
    world.clock.advance(minutes=2)
    assert answer(elsewhere, ask(elsewhere).ok()["challenge_id"], elsewhere.code()).code == "account_locked"
    world.clock.advance(minutes=11)
    elsewhere.tokens = elsewhere.refresh().ok().body
    assert change_password(elsewhere).status == 200


@pytest.mark.covers("attack A05")
def test_a_right_answer_clears_the_count_of_sessions(world: World, stale: Person) -> None:
    for _ in range(4):
        assert change_password(stale, "wrong horse 7").code == "invalid_credentials"
    answer(stale, ask(stale).ok()["challenge_id"], stale.code()).ok()
    for _ in range(4):
        assert change_password(stale, "wrong horse 7").code == "invalid_credentials"
    assert change_password(stale).status == 200


@pytest.mark.covers("nist N30", "nist N33")
@pytest.mark.parametrize("way", ["recovery", "unlock"])
def test_a_hundred_wrong_guesses_in_sessions_close_them_until_the_password_is_bound_again(
    world: World, person: Person, way: str
) -> None:
    admin, made, began = of_role(world, "admin"), 0, world.clock.now
    days: Counter[int] = Counter()
    while made < 100:
        guess = change_password(person, "wrong horse 7")
        made += guess.code == "invalid_credentials"
        days[(world.clock.now - began).days] += guess.code == "invalid_credentials"
        if guess.code == "account_locked":
            world.clock.advance(seconds=guess["retry_after"])
            person.sign_in()
    assert max(days.values()) <= 50
    world.clock.advance(days=8)
    person.sign_in()
    assert change_password(person)["retry_after"] == 86_400
    assert answer(person, ask(person).ok()["challenge_id"], person.code()).code == "account_locked"
    if way == "recovery":
        asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
        body = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": PASSWORD}
        person.api.post("/api/auth/reset-password", body).ok()
        world.clock.advance(minutes=2)
        person.sign_in()
    else:
        admin.sign_in()
        assert act(admin, person, "unlock").status == 200
    assert change_password(person).status == 200


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
@pytest.mark.parametrize("days", [0, 20])
def test_what_strangers_guess_keeps_nobody_from_a_delicate_act(world: World, days: int) -> None:
    """Neither a lock, nor a hundred wrong guesses in a row: who knows the admins' addresses must not stop their work."""
    admin = of_role(world, "admin", username="ada")
    app = enrol(world, admin)
    jane = world.person().sign_up()
    stranger = world.api("198.51.100.7")
    for day in range(days + 1):
        world.clock.advance(hours=25 if day else 1)
        for _ in range(5):
            stranger.post("/api/auth/login", {"username": "ada", "password": "wrong horse 7"})
        admin.tokens = admin.refresh().ok().body
    assert stranger.post("/api/auth/login", {"username": "ada", "password": PASSWORD}).code == "account_locked"
    fresh = answer(admin, ask(admin).ok()["challenge_id"], app.code()).ok()
    admin.tokens = {**admin.tokens, **fresh.body}
    assert act(admin, jane, "lock").status == 200
    assert change_password(admin).status == 200


def test_a_lock_of_what_is_guessed_in_sessions_is_in_the_audit_log(world: World, person: Person) -> None:
    for _ in range(5):
        change_password(person, "wrong horse 7")
    assert change_password(person).code == "account_locked"
    [row] = world.audit(event="identifier.locked")
    assert row.user_id == id_of(person)


def test_it_is_in_the_audit_log_how_it_was_proven(world: World, stale: Person) -> None:
    answer(stale, ask(stale).ok()["challenge_id"], stale.code()).ok()
    [row] = world.audit(event="step_up.completed")
    assert row.facts == {"method": "email"}


@pytest.mark.covers("attack A60")
@pytest.mark.parametrize("asked_for", [0, 14], ids=["alone", "with recoveries"])
def test_a_stolen_session_leaves_half_of_a_day_s_messages(world: World, person: Person, asked_for: int) -> None:
    """However often it asks for a step-up, and for its code again, and whatever anybody may ask for: the owner can
    sign in.
    """
    world.clock.advance(days=2)
    thief, half = person.sign_in(), world.settings.sends_per_day_email // 2
    for _ in range(asked_for):
        world.clock.advance(seconds=61)
        world.api().post("/api/auth/forgot-password", {"email": person.email}).ok()
    for _ in range(40):
        world.clock.advance(seconds=61)
        thief.tokens = thief.refresh().ok().body
        asked = ask(thief)
        if asked.status != 200:
            break
        world.clock.advance(seconds=61)
        thief.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]})
    assert (asked.status, asked.code) == (429, "rate_limited")
    assert asked["retry_after"] > 3600
    sent = world.inbox(person.email)
    assert sent.count("code.step_up") + sent.count("code.recovery") == half - 1, "the thief's sign-in is one"
    owner = world.person(email=person.email).sign_in()
    assert owner.me().status == 200
