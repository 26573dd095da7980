"""What is deleted when nothing needs it any more, and what is not, beside a service that runs."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app import models
from app.core import lockout, retention
from app.core.inspection import Inspection, inspect
from app.db import Base
from app.delivery import upkeep
from app.flows import administration
from app.work import run
from tests.authenticator import enrol, signin
from tests.conftest import World
from tests.people import Person, wrong
from tests.security_key import Authenticator as SecurityKey
from tests.web import test_passkeys

SHORT_LIVED = [kind.model for kind in retention.KINDS]
KEPT = [m.class_ for m in Base.registry.mappers if m.class_ not in SHORT_LIVED]


def a_full_life(world: World) -> Person:
    """Somebody of whom every table that is purged has rows."""
    person = world.person(username="jane", phone="+919876543210").sign_up()
    world.person().ask_signup(username="held").ok()
    person.api.post("/api/auth/forgot-password", {"identifier": "nobody@example.com"}, **{"Idempotency-Key": "k"}).ok()
    world.clock.advance(minutes=2)
    asked = person.ask_signin().ok()
    person.verify_signin(asked["challenge_id"], person.code(), remember_device=True).ok()
    person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    person.refresh().ok()
    other = world.person().sign_up()
    other.api.delete("/api/auth/me", other.token).ok()
    return person


def counts(world: World) -> dict[str, int]:
    return {model.__tablename__: world.count(model) for model in (*SHORT_LIVED, *KEPT)}


@pytest.mark.covers("asvs 14.2.7")
def test_nothing_young_is_deleted(world: World) -> None:
    person = a_full_life(world)
    before = counts(world)
    assert all(before[model.__tablename__] for model in SHORT_LIVED)
    assert sum(upkeep.purge(world.kit).values()) == 0
    assert counts(world) == before
    person.me().ok()


@pytest.mark.covers("asvs 14.2.7")
def test_what_ended_is_deleted_on_its_day(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    a_full_life(world)
    before = counts(world)
    world.clock.advance(days=3)
    gone = upkeep.purge(world.kit)
    assert {name for name, rows in gone.items() if rows} == {
        "repeats", "username_holds", "authenticators", "erased_sessions",
    }  # fmt: skip
    world.clock.advance(days=5)
    assert upkeep.purge(world.kit)["throttles"] > 0
    world.clock.advance(days=24)
    gone = upkeep.purge(world.kit)
    assert (gone["messages"], gone["challenges"]) == (before["outbox_messages"], before["otp_challenges"])
    assert gone["signups"] == before["signups"]
    assert (gone["sessions"], gone["trusted_devices"]) == (0, 1)
    world.clock.advance(days=90)
    gone = upkeep.purge(world.kit)
    assert (gone["sessions"], gone["refresh_tokens"]) == (before["sessions"], before["refresh_tokens"])
    after = counts(world)
    assert {name for name, rows in after.items() if rows} == {"users", "audit_logs"}
    assert after["audit_logs"] == before["audit_logs"]
    upkeep.seal(world.kit)
    assert list(inspect(world.kit, Inspection())) == []


@pytest.mark.covers("asvs 14.2.7")
def test_an_app_in_use_stays(world: World) -> None:
    person = world.person().sign_up()
    app = enrol(world, person)
    world.clock.advance(days=400)
    upkeep.purge(world.kit)
    asked = person.ask_signin().ok()
    person.verify_signin(asked["challenge_id"], app.fresh()).ok()


def test_somebody_whose_rows_were_purged_signs_in_as_before(world: World) -> None:
    person = a_full_life(world)
    world.clock.advance(days=200)
    upkeep.purge(world.kit)
    person.sign_in()
    person.refresh().ok()
    assert person.me()["username"] == "jane"


def test_a_message_that_waits_is_never_deleted_nor_is_its_challenge(world: World) -> None:
    world.sends_at_once = False
    world.person().ask_signup().ok()
    world.clock.advance(days=400)
    upkeep.purge(world.kit)
    [message] = world.rows(models.OutboxMessage)
    assert message.state == "queued"
    assert world.count(models.OtpChallenge) == world.count(models.Signup) == 1


@pytest.mark.covers("nist N30")
def test_wrong_guesses_in_a_row_are_remembered_however_long_they_take(world: World) -> None:
    person = world.person().sign_up()
    asked = person.ask_signin()
    person.verify_signin(asked["challenge_id"], wrong(person.code()))
    world.clock.advance(days=4000)
    upkeep.purge(world.kit)
    [own] = world.rows(models.Throttle)
    assert (own.key, own.streak) == (lockout.keys("", account_id(person))[1], 1)
    person.sign_in()
    world.clock.advance(days=8)
    upkeep.purge(world.kit)
    assert world.rows(models.Throttle) == []


@pytest.mark.covers("asvs 14.2.7")
def test_of_guesses_at_what_nobody_has_nothing_is_left_after_a_week(world: World) -> None:
    guess = {"password": "wrong horse 7"}
    world.person(email="unproven@example.com").ask_signup().ok()
    for who in ("nobody@example.com", "+919876511111", "nobody", "unproven@example.com"):
        for _ in range(6):
            assert world.api().post("/api/auth/login", {"identifier": who, **guess}).status in (401, 423)
    assert any(row.streak for row in world.rows(models.Throttle))
    world.clock.advance(days=9)
    upkeep.purge(world.kit)
    assert world.rows(models.Throttle) == []


@pytest.mark.covers("nist N30")
def test_guesses_with_a_remembered_device_are_remembered_as_long_as_it_is(world: World) -> None:
    person = world.person().sign_up()
    world.clock.advance(minutes=2)
    asked = person.ask_signin().ok()
    token = person.verify_signin(asked["challenge_id"], person.code(), remember_device=True).ok()["device_token"]
    guess = {"identifier": person.email, "password": "wrong horse 7", "device_token": token}
    assert person.api.post("/api/auth/login", guess).status == 401
    world.clock.advance(days=29)
    upkeep.purge(world.kit)
    assert [row.streak for row in world.rows(models.Throttle)] == [1]
    world.clock.advance(days=9)
    upkeep.purge(world.kit)
    assert world.rows(models.Throttle) == []


@pytest.mark.covers("asvs 14.2.7")
@pytest.mark.parametrize("by_admin", [False, True])
def test_no_counter_of_guesses_is_left_of_who_was_erased(world: World, by_admin: bool) -> None:
    person = world.person(username="jane").sign_up()
    for who in (person.email, "jane"):
        world.api().post("/api/auth/login", {"identifier": who, "password": "wrong horse 7"})
    wrong = {"current_password": "wrong horse 7", "new_password": "another horse 9"}
    assert person.api.post("/api/auth/change-password", wrong, person.token).status == 401
    theirs = run(world.kit, lambda work: lockout.keys_of(work.db.get(models.User, account_id(person))), reads=True)
    assert {row.key for row in world.rows(models.Throttle)} >= theirs
    if by_admin:
        run(world.kit, lambda work: administration.delete(work, account_id(person)))
    else:
        person.api.delete("/api/auth/me", person.token).ok()
    assert theirs & {row.key for row in world.rows(models.Throttle)} == set()


def account_id(person: Person) -> UUID:
    return UUID(person.tokens["user"]["id"])


def test_a_spent_refresh_token_is_known_while_its_session_lasts(world: World) -> None:
    person = world.person().sign_up()
    stolen = person.tokens["refresh_token"]
    for _ in range(8):
        world.clock.advance(days=3)
        person.tokens = person.refresh().ok().body
    upkeep.purge(world.kit)
    assert person.refresh(stolen).code == "token_reused"


@pytest.mark.slow
@pytest.mark.covers("asvs 14.2.7")
def test_people_sign_in_beside_a_purge(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    old = [a_full_life(world)] + [world.person().sign_up() for _ in range(5)]
    world.clock.advance(days=200)
    over, faults = threading.Event(), []

    def noting(act: Any) -> Any:
        def run() -> None:
            try:
                act()
            except BaseException as fault:
                faults.append(fault)

        return threading.Thread(target=run)

    def live(number: int) -> None:
        for round_ in range(2):
            person = world.person(f"203.0.113.{number}", email=f"live{number}.{round_}@example.com").sign_up()
            person.sign_in()
            person.refresh().ok()
        old[number].sign_in()

    def keep_purging() -> None:
        while not over.is_set():
            upkeep.purge(world.kit)

    people = [noting(lambda number=number: live(number)) for number in range(4)]
    purging = [noting(keep_purging) for _ in range(2)]
    for thread in (*people, *purging):
        thread.start()
    for thread in people:
        thread.join()
    over.set()
    for thread in purging:
        thread.join()
    assert faults == []
    assert world.count(models.User) == 14
    bound = world.clock.now - timedelta(days=100)
    upkeep.purge(world.kit)
    assert [row for row in world.rows(models.Session) if row.created_at < bound] == []


def test_the_command_counts_and_deletes(world: World) -> None:
    a_full_life(world)
    world.clock.advance(days=200)
    runner = world.app.test_cli_runner()
    told = json.loads(runner.invoke(args=["purge", "--dry-run", "--json"]).output)
    assert told["dry_run"]
    assert told["rows"]["messages"] == world.count(models.OutboxMessage) > 0
    told = json.loads(runner.invoke(args=["purge", "--json"]).output)
    assert told["rows"]["challenges"] > 0
    assert world.count(models.OtpChallenge) == 0
    assert runner.invoke(args=["purge"]).output.endswith("done\n")


def test_the_service_does_it_by_itself_once_an_hour(world: World) -> None:
    a_full_life(world)
    keeper = upkeep.Upkeep(world.kit)
    world.clock.advance(days=200)
    with world.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(models.Session)) > 0
    keeper.tick()
    assert world.count(models.Session) == 0


def test_a_service_that_never_runs_for_an_hour_does_it_too(world: World) -> None:
    """As one on a host that puts it to sleep after minutes without a request."""
    a_full_life(world)
    world.clock.advance(days=200)
    keeper = upkeep.Upkeep(world.kit)
    world.clock.advance(minutes=4)
    keeper.tick()
    assert world.count(models.Session) > 0, "nor at each start of one that is started again and again"
    world.clock.advance(minutes=1)
    keeper.tick()
    assert world.count(models.Session) == 0


def bound_and_gone(world: World) -> Person:
    """Somebody who has had every kind of factor, and lost most of them again."""
    person = world.person(email="jane@example.com").sign_up()
    asked = person.api.post("/api/auth/change-phone", {"phone": "+919876543210"}, person.token).ok()
    code = world.read("sms", "+919876543210")
    person.api.post("/api/auth/verify-otp", {"challenge_id": asked["challenge_id"], "otp": code}, person.token).ok()
    person.sign_in()
    app = enrol(world, person)
    test_passkeys.bind(person, SecurityKey()).ok()
    person.tokens = signin(person, app.fresh(), remember_device=True).ok().body
    change = {"current_password": person.password, "new_password": "another horse 8"}
    person.api.post("/api/auth/change-password", change, person.token).ok()
    for factor in person.api.get("/api/auth/factors", person.token).ok()["items"]:
        person.api.delete(f"/api/auth/factors/{factor['id']}", person.token).ok()
    return person


@pytest.mark.covers("nist N48")
def test_what_was_ever_bound_to_an_account_is_told_after_all_else_was_purged(world: World) -> None:
    person = bound_and_gone(world)
    upkeep.seal(world.kit)
    world.clock.advance(days=4000)
    upkeep.purge(world.kit)
    assert world.count(models.OutboxMessage) == world.count(models.OtpChallenge) == world.count(models.Session) == 0
    rows = [row for row in world.audit(success=True) if str(row.user_id) == person.tokens["user"]["id"]]
    kinds = ("password", "channel", "type")
    told = {(row.event, *(row.facts[kind] for kind in kinds if kind in row.facts)) for row in rows}
    assert told >= {
        ("signup.completed", True, "email"),
        ("contact.changed", "sms"),
        ("factor.added", "totp"),
        ("factor.added", "passkey"),
        ("trusted_device.added",),
        ("password.changed",),
        ("factor.removed", "totp"),
        ("factor.removed", "passkey"),
    }
    bound = [row for row in rows if row.event in {event for event, *_ in told}]
    assert all(row.at and row.ip == "203.0.113.5" and row.user_agent for row in bound)
    assert list(inspect(world.kit, Inspection())) == []
