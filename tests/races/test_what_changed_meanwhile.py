"""Answers that waited while password, address, session or account changed: on servers that lock rows."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from app.core import credentials, lockout, trusted_devices
from app.models import Session, TrustedDevice, User, UsernameHold
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person
from tests.races.test_held_rows import VERIFY, holding, sending, waits_for

NEW = "thief horse 99"


def lock_out(world: World, identifier: str) -> None:
    for _ in range(5):
        world.api("198.51.100.9").post("/api/auth/login", {"identifier": identifier, "password": "wrong horse 7"})


def ask_recovery(person: Person) -> dict[str, str]:
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()["challenge_id"]
    return {"challenge_id": asked, "otp": person.code(), "new_password": NEW}


def ask_move(world: World, person: Person) -> dict[str, str]:
    """What proves a new address."""
    asked = person.api.post("/api/auth/change-email", {"email": "new@example.com"}, person.token).ok()["challenge_id"]
    return {"challenge_id": asked, "otp": world.read("email", "new@example.com")}


@pytest.mark.covers("attack A36")
@pytest.mark.parametrize("locked", [False, True])
def test_a_recovery_code_to_an_address_that_was_given_up_while_it_waited_is_wrong(locking: World, locked: bool) -> None:
    """Also where wrong guesses have locked the identifier, whose recovery is left its first guess."""
    person, sent = locking.person().sign_up(), list[Answer]()
    before = locking.rows(User)[0].password_hash
    if locked:
        lock_out(locking, person.email)
    given, moved = ask_recovery(person), ask_move(locking, person)
    reset = lambda: person.api.post("/api/auth/reset-password", given)  # noqa: E731
    with holding(locking, waits_for(person.email), sent, reset):
        person.api.post(VERIFY, moved, person.token).ok()
    assert sent[0].status in (400, 410)
    assert (locking.rows(User)[0].email, locking.rows(User)[0].password_hash) == ("new@example.com", before)
    assert person.me().status == 200


@pytest.mark.covers("attack A36")
def test_who_has_the_mailbox_that_was_given_up_is_not_in(make_world: Any, lane: Any) -> None:
    if lane.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    world: World = make_world(mfa_policy="optional")
    person, sent = world.person().sign_up(), list[Answer]()
    lock_out(world, person.email)
    given, moved = ask_recovery(person), ask_move(world, person)
    with holding(world, waits_for(person.email), sent, lambda: world.api().post("/api/auth/reset-password", given)):
        person.api.post(VERIFY, moved, person.token).ok()
    login = {"identifier": "new@example.com", "password": NEW}
    assert world.api("198.51.100.9").post("/api/auth/login", login).code == "invalid_credentials"


EVERYWHERE = {
    "others": lambda p: p.api.delete("/api/auth/sessions", p.token),
    "everywhere": lambda p: p.api.post("/api/auth/logout", {"everywhere": True}, p.token),
}


@pytest.mark.covers("attack A36", "asvs 7.4.1")
@pytest.mark.parametrize("how", EVERYWHERE)
def test_a_device_whose_session_ended_with_all_others_is_not_remembered(
    locking: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    person = locking.person().sign_up()
    thief = locking.person("198.51.100.9", email=person.email)
    asked = thief.ask_signin().ok()["challenge_id"]
    code, forget_all, entering = person.code(), trusted_devices.forget_all, list[threading.Thread]()

    def then_somebody_enters(work: Any, user_id: Any) -> int:
        gone = forget_all(work, user_id)
        if not entering:  # between the end of the devices and that of the sessions
            enter = lambda: thief.verify_signin(asked, code, remember_device=True).ok()  # noqa: E731
            entering.append(threading.Thread(target=enter))
            entering[0].start()
            entering[0].join(2)  # it is in, or it waits
        return gone

    monkeypatch.setattr(trusted_devices, "forget_all", then_somebody_enters)
    EVERYWHERE[how](person).ok()
    entering[0].join(20)
    ended = thief.me().code == "token_revoked"
    assert (ended, locking.count(TrustedDevice)) in [(True, 0), (False, 1)]


@pytest.mark.covers("attack A36", "asvs 7.4.1")
@pytest.mark.parametrize(("how", "answer"), [("others", "token_revoked"), ("everywhere", None)])
def test_a_session_that_ended_while_it_waited_ends_no_other(locking: World, how: str, answer: str | None) -> None:
    owner = locking.person().sign_up()
    thief = locking.person("198.51.100.9", email=owner.email)
    asked = thief.ask_signin().ok()["challenge_id"]
    thief.verify_signin(asked, owner.code(), remember_device=True).ok()
    sent: list[Answer] = []
    with holding(locking, sa.select(TrustedDevice.id).with_for_update(), sent, lambda: EVERYWHERE[how](thief)):
        owner.api.delete(f"/api/auth/sessions/{thief.tokens['session_id']}", owner.token).ok()
        locking.clock.advance(minutes=1)
        owner.sign_in()
    assert (sent[0].code, owner.me().status) == (answer, 200)


@pytest.mark.covers("attack A36")
def test_a_step_up_asked_while_the_address_changes_is_not_answered_from_the_old_one(
    locking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, sent, threads = locking.person().sign_up(), list[Answer](), list[threading.Thread]()
    old, moved, changed = person.email, ask_move(locking, person), credentials.changed

    def then_a_step_up(*args: Any, **more: Any) -> int:  # the owner's row is held, and what was begun has ended
        ended = changed(*args, **more)
        threads.append(sending(sent, lambda: person.api.post("/api/auth/step-up", {}, person.token)))
        return ended

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(credentials, "changed", then_a_step_up)
        person.api.post(VERIFY, moved, person.token).ok()
    threads[0].join(20)
    given = {"challenge_id": sent[0].ok()["challenge_id"], "otp": locking.read("email", old)}
    assert person.api.post("/api/auth/step-up/verify", given, person.token).code == "invalid_code"


@pytest.mark.parametrize("minutes", [0, 2])
def test_a_sign_in_at_a_sign_up_that_is_erased_meanwhile_is_refused(
    locking: World, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """The sign-up's second address is an account's, whose owner erases it. After a minute its code is sent again."""
    number, forget = "+919876543210", lockout.forget
    owner = locking.person(email="", phone=number).sign_up()
    other = locking.person(email="other@example.com", phone=number)
    other.ask_signup(channel="email").ok()
    locking.clock.advance(minutes=minutes)
    sent, threads = list[Answer](), list[threading.Thread]()

    def then_a_sign_in(work: Any, user: Any) -> None:  # the sign-up is deleted, and that is not committed
        threads.append(sending(sent, other.ask_signin))
        forget(work, user)

    monkeypatch.setattr(lockout, "forget", then_a_sign_in)
    owner.api.delete("/api/auth/me", owner.token).ok()
    threads[0].join(20)
    assert (sent[0].status, sent[0].code) == (401, "invalid_credentials")


def test_the_same_username_twice_at_once_is_as_good_as_once(locking: World) -> None:
    person, first, second = locking.person().sign_up(), list[Answer](), list[Answer]()
    name = {"username": "jane.doe"}
    with holding(locking, person, first, lambda: person.api.patch("/api/auth/me", name, person.token)):
        twice = sending(second, lambda: person.api.patch("/api/auth/me", name, person.token))
    twice.join(20)
    assert (first[0].status, second[0].status) == (200, 200)


@pytest.mark.covers("attack A36")
def test_a_session_that_ended_while_it_waited_changes_no_name(locking: World) -> None:
    person, sent = locking.person().sign_up(), list[Answer]()
    name = {"username": "thief"}
    with holding(locking, person, sent, lambda: person.api.patch("/api/auth/me", name, person.token)) as connection:
        connection.execute(sa.update(Session).values(revoked_at=locking.clock.now, revoked_why="signed_out"))
    assert (sent[0].code, locking.rows(User)[0].username) == ("token_revoked", None)
    assert locking.rows(UsernameHold) == []


@pytest.mark.covers("attack A36")
def test_a_recovery_that_waits_for_a_new_password_sets_no_other(
    locking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the counter of the account that the change holds until its commit."""
    person, sent, threads = locking.person().sign_up(), list[Answer](), list[threading.Thread]()
    lock_out(locking, person.email)
    given, changed = ask_recovery(person), credentials.changed

    def then_a_recovery(*args: Any, **more: Any) -> int:
        ended = changed(*args, **more)
        threads.append(sending(sent, lambda: person.api.post("/api/auth/reset-password", given)))
        return ended

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(credentials, "changed", then_a_recovery)
        change = {"current_password": PASSWORD, "new_password": "owner horse 55"}
        person.api.post("/api/auth/change-password", change, person.token).ok()
    threads[0].join(20)
    assert sent[0].status in (400, 410)
    person.password = "owner horse 55"
    locking.clock.advance(minutes=20)
    person.sign_in()
