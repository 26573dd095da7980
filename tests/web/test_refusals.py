"""A refusal is a fact, and only that: its counter and its audit row stay, nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app import errors
from app.core import api_keys
from app.core.api_keys import Scope
from app.db import Base
from app.errors import Refusal
from app.models import ApiKey
from app.work import run
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person, wrong
from tests.web.test_machines import Server, make_key

COUNTERS = {"throttles", "audit_logs"}  # what a refusal may change
GUESSES = {"attempts"}  # and this column of a challenge
NEW = "a brand new horse"

Story = Callable[[World, Person], Callable[[], Answer]]  # prepares, and gives the act that is refused


def snapshot(world: World) -> dict[str, Any]:
    with world.engine.connect() as connection:
        return {
            table.name: sorted(
                tuple((c.name, str(getattr(row, c.name))) for c in table.columns if c.name not in GUESSES)
                for row in connection.execute(sa.select(table))
            )
            for table in Base.metadata.sorted_tables
            if table.name not in COUNTERS
        }


def login(person: Person, **body: Any) -> Callable[[], Answer]:
    return lambda: person.api.post("/api/auth/login", {"identifier": person.email, "password": PASSWORD} | body)


def wrong_password(_world: World, person: Person) -> Callable[[], Answer]:
    return login(person, password="wrong horse 7")


def unknown_identifier(_world: World, person: Person) -> Callable[[], Answer]:
    return login(person, identifier="nobody@example.com")


def locked(_world: World, person: Person) -> Callable[[], Answer]:
    for _ in range(5):
        login(person, password="wrong horse 7")()
    return login(person)


def wrong_code(_world: World, person: Person) -> Callable[[], Answer]:
    asked = person.ask_signin().ok()
    code = wrong(person.code())
    return lambda: person.verify_signin(asked["challenge_id"], code)


def used_code(_world: World, person: Person) -> Callable[[], Answer]:
    asked = person.ask_signin().ok()
    code = person.code()
    person.verify_signin(asked["challenge_id"], code).ok()
    return lambda: person.verify_signin(asked["challenge_id"], code)


def code_at_another_route(_world: World, person: Person) -> Callable[[], Answer]:
    asked = person.ask_signin().ok()
    code = person.code()
    return lambda: person.verify_signup(asked["challenge_id"], code)


def expired_code(world: World, person: Person) -> Callable[[], Answer]:
    asked = person.ask_signin().ok()
    code = person.code()
    world.clock.advance(minutes=6)
    return lambda: person.verify_signin(asked["challenge_id"], code)


def resend_too_soon(_world: World, person: Person) -> Callable[[], Answer]:
    asked = person.ask_signin().ok()
    return lambda: person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]})


def too_many_messages(world: World, person: Person) -> Callable[[], Answer]:
    world.clock.advance(minutes=2)
    for _ in range(3):
        person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    return lambda: person.api.post("/api/auth/forgot-password", {"email": person.email})


def too_many_sign_ups(world: World, _person: Person) -> Callable[[], Answer]:
    stranger = world.person(username="stranger")
    for _ in range(3):
        world.person(email=stranger.email).ask_signup().ok()
    return stranger.ask_signup


def taken_username(world: World, _person: Person) -> Callable[[], Answer]:
    world.person(username="taken").sign_up()
    return world.person(username="taken").ask_signup


def taken_username_at_rename(world: World, person: Person) -> Callable[[], Answer]:
    world.person(username="taken").sign_up()
    return lambda: person.api.patch("/api/auth/me", {"username": "taken", "name": "Other"}, person.token)


def weak_password_at_signup(world: World, _person: Person) -> Callable[[], Answer]:
    return world.person(password="password", username="weak").ask_signup


def weak_password_at_change(_world: World, person: Person) -> Callable[[], Answer]:
    body = {"current_password": PASSWORD, "new_password": "password"}
    return lambda: person.api.post("/api/auth/change-password", body, person.token)


def wrong_current_password(_world: World, person: Person) -> Callable[[], Answer]:
    body = {"current_password": "wrong horse 7", "new_password": NEW}
    return lambda: person.api.post("/api/auth/change-password", body, person.token)


def weak_password_with_the_right_code(_world: World, person: Person) -> Callable[[], Answer]:
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": person.email}
    return lambda: person.api.post("/api/auth/reset-password", body)


def stale_sign_in(world: World, person: Person) -> Callable[[], Answer]:
    world.clock.advance(minutes=11)
    return lambda: person.api.delete("/api/auth/me", person.token)


def address_taken_meanwhile(world: World, person: Person) -> Callable[[], Answer]:
    asked = person.api.post("/api/auth/change-email", {"email": "wanted@example.com"}, person.token).ok()
    code = world.read("email", "wanted@example.com")
    world.person(email="wanted@example.com").sign_up()
    return lambda: person.verify_signup(asked["challenge_id"], code)


def unknown_refresh_token(_world: World, person: Person) -> Callable[[], Answer]:
    return lambda: person.refresh("A" * 43)


def expired_refresh_token(world: World, person: Person) -> Callable[[], Answer]:
    world.clock.advance(days=8)
    return person.refresh


def refresh_after_sign_out(_world: World, person: Person) -> Callable[[], Answer]:
    person.api.post("/api/auth/logout", token=person.token).ok()
    return person.refresh


def access_after_sign_out(_world: World, person: Person) -> Callable[[], Answer]:
    person.api.post("/api/auth/logout", token=person.token).ok()
    return person.me


def expired_access_token(world: World, person: Person) -> Callable[[], Answer]:
    world.clock.advance(hours=1)
    return person.me


def no_token(_world: World, person: Person) -> Callable[[], Answer]:
    return lambda: person.api.get("/api/auth/me")


def somebody_elses_session(world: World, person: Person) -> Callable[[], Answer]:
    other = world.person().sign_up()
    return lambda: person.api.delete(f"/api/auth/sessions/{other.tokens['session_id']}", person.token)


def no_way_on(world: World, person: Person) -> Callable[[], Answer]:
    """A second step is required, and there is no address to send it to."""
    with world.engine.begin() as connection:
        connection.execute(sa.text("UPDATE users SET email = NULL, username = 'lonely'"))
    return login(person, identifier="lonely")


def malformed(_world: World, person: Person) -> Callable[[], Answer]:
    return lambda: person.api.call("POST", "/api/auth/signup", b"{", **{"Content-Type": "application/json"})


def taken_device(world: World, _person: Person) -> Callable[[], Answer]:
    server = Server(world)
    server.register().ok()
    return server.register


def unknown_device(world: World, _person: Person) -> Callable[[], Answer]:
    return Server(world).rotate


def key_without_the_scope(world: World, _person: Person) -> Callable[[], Answer]:
    return Server(world, make_key(world, Scope.VERIFY)).register


def revoked_key(world: World, _person: Person) -> Callable[[], Answer]:
    server = Server(world, make_key(world, Scope.DEVICES))
    [row] = world.rows(ApiKey)
    run(world.kit, lambda work: api_keys.revoke(work, row.id))
    return server.register


STORIES: dict[Story, type[Refusal]] = {
    wrong_password: errors.InvalidCredentials,
    unknown_identifier: errors.InvalidCredentials,
    locked: errors.AccountLocked,
    wrong_code: errors.InvalidCode,
    used_code: errors.ChallengeClosed,
    code_at_another_route: errors.ChallengeClosed,
    expired_code: errors.ChallengeClosed,
    resend_too_soon: errors.ResendTooSoon,
    too_many_messages: errors.RateLimited,
    too_many_sign_ups: errors.RateLimited,
    taken_username: errors.UsernameTaken,
    taken_username_at_rename: errors.UsernameTaken,
    weak_password_at_signup: errors.ValidationFailed,
    weak_password_at_change: errors.ValidationFailed,
    wrong_current_password: errors.InvalidCredentials,
    weak_password_with_the_right_code: errors.ValidationFailed,
    stale_sign_in: errors.InsufficientUserAuthentication,
    address_taken_meanwhile: errors.ChallengeClosed,
    unknown_refresh_token: errors.TokenInvalid,
    expired_refresh_token: errors.TokenExpired,
    refresh_after_sign_out: errors.TokenRevoked,
    access_after_sign_out: errors.TokenRevoked,
    expired_access_token: errors.TokenExpired,
    no_token: errors.TokenMissing,
    somebody_elses_session: errors.NotFound,
    no_way_on: errors.Forbidden,
    malformed: errors.MalformedJson,
    taken_device: errors.Conflict,
    unknown_device: errors.NotFound,
    key_without_the_scope: errors.Forbidden,
    revoked_key: errors.TokenInvalid,
}
CHANGES_MORE = {"address_taken_meanwhile"}  # the code is used up: the right answer was given


@pytest.mark.covers("asvs 2.3.3", "asvs 16.3.2", "attack A74")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_refusal_leaves_its_counter_and_one_audit_row(world: World, person: Person, story: Story) -> None:
    act = story(world, person)
    world.deliver()
    world.sends_at_once = False
    before, audited = snapshot(world), len(world.audit())
    answer = act()
    assert answer.code == STORIES[story].code, answer.body
    new = world.audit()[audited:]
    assert [(row.success, row.reason) for row in new] == [(False, answer.code)]
    assert new[0].request_id == answer.body["request_id"]
    if story.__name__ not in CHANGES_MORE:
        assert snapshot(world) == before


def test_a_reused_refresh_token_ends_its_session_and_tells(world: World, person: Person) -> None:
    """The one refusal that does more: it says so."""
    old = person.tokens["refresh_token"]
    person.refresh(old).ok()
    world.clock.advance(seconds=30)
    audited = len(world.audit())
    assert person.refresh(old).code == "token_reused"
    assert [row.event for row in world.audit()[audited:]] == ["session.ended", "session.refused"]
