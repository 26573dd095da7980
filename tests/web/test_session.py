"""Staying in and getting out."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest

from app.core import sessions
from app.crypto.keys import Purpose
from app.models import RefreshToken, Session, User
from tests.conftest import World
from tests.people import Person
from tests.web.admins import id_of
from tests.web.test_token_keys import NEXT


def test_a_refresh_spends_the_token_and_keeps_the_session(world: World, person: Person) -> None:
    first = person.tokens
    fresh = person.refresh().ok()
    assert fresh["session_id"] == first["session_id"]
    assert fresh["refresh_token"] != first["refresh_token"]
    assert person.api.get("/api/auth/me", fresh["access_token"]).status == 200
    again = person.refresh(fresh["refresh_token"]).ok()
    assert again["session_id"] == first["session_id"]


def test_key_and_spent_token_do_not_tell_the_token_that_follows(world: World, person: Person) -> None:
    """An old log and a SECRET_KEY of then would be a session of now."""
    spent = person.tokens["refresh_token"]
    follows = person.refresh().ok()["refresh_token"]
    mac = world.kit.keys.mac(Purpose.SUCCESSORS, spent)
    assert follows != base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


@pytest.mark.covers("attack A46")
def test_a_lost_answer_can_be_fetched_again_within_ten_seconds(world: World, person: Person) -> None:
    old = person.tokens["refresh_token"]
    first = person.refresh(old).ok()
    world.clock.advance(seconds=9)
    second = person.refresh(old).ok()
    assert second["refresh_token"] == first["refresh_token"]
    assert person.refresh(first["refresh_token"]).status == 200
    assert len(world.rows(RefreshToken)) == 3


@pytest.mark.covers("attack A46")
def test_a_token_used_again_after_the_grace_ends_its_session_everywhere(world: World, person: Person) -> None:
    old = person.tokens["refresh_token"]
    fresh = person.refresh(old).ok()
    world.clock.advance(seconds=10)
    stolen = person.refresh(old)
    assert (stolen.status, stolen.code) == (401, "token_reused")
    assert person.api.get("/api/auth/me", fresh["access_token"]).code == "token_revoked"
    assert person.refresh(fresh["refresh_token"]).code == "token_revoked"
    assert world.inbox(person.email)[-1] == "notice.token_reused"
    assert {"session.refused", "session.ended"} <= set(world.events())


def test_only_the_immediate_predecessor_has_a_grace(world: World, person: Person) -> None:
    old = person.tokens["refresh_token"]
    second = person.refresh(old).ok()["refresh_token"]
    person.refresh(second).ok()
    assert person.refresh(old).code == "token_reused"


def test_a_refresh_token_lives_seven_days(world: World, person: Person) -> None:
    world.clock.advance(days=7, seconds=-1)
    fresh = person.refresh().ok()
    world.clock.advance(days=7)
    assert person.refresh(fresh["refresh_token"]).code == "token_expired"


def test_a_session_ends_after_thirty_days_however_it_is_refreshed(world: World, person: Person) -> None:
    token = person.tokens["refresh_token"]
    for _ in range(5):
        world.clock.advance(days=6)
        answer = person.refresh(token)
        if answer.status != 200:
            break
        token = answer["refresh_token"]
        assert answer["refresh_expires_in"] <= 7 * 86400
    assert answer.code == "token_revoked"
    assert world.clock.now.day == 21


def test_the_last_refresh_token_does_not_outlive_the_session(world: World, person: Person) -> None:
    token = person.tokens["refresh_token"]
    for _ in range(4):
        world.clock.advance(days=6.5)
        token = (answer := person.refresh(token).ok())["refresh_token"]
    assert answer["refresh_expires_in"] == 4 * 86400


def test_an_unknown_refresh_token_is_invalid(person: Person) -> None:
    assert person.refresh("A" * 43).code == "token_invalid"
    assert person.refresh(person.token).code == "token_invalid"


@pytest.mark.covers("attack A44")
def test_a_refresh_token_is_no_bearer_token(person: Person) -> None:
    answer = person.api.get("/api/auth/me", person.tokens["refresh_token"])
    assert (answer.status, answer.code) == (401, "token_invalid")


def test_an_access_token_lives_fifteen_minutes(world: World, person: Person) -> None:
    world.clock.advance(seconds=899)
    assert person.me().status == 200
    world.clock.advance(seconds=1)
    answer = person.me()
    assert (answer.status, answer.code) == (401, "token_expired")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.covers("asvs 7.4.1", "nist N39", "attack A45")
def test_signing_out_ends_the_access_token_at_once(world: World, person: Person) -> None:
    person.api.post("/api/auth/logout", token=person.token).ok()
    assert person.me().code == "token_revoked"
    assert person.refresh().code == "token_revoked"
    person.api.post("/api/auth/logout", token=person.token).ok()


@pytest.mark.covers("nist N47")
def test_signing_out_works_with_an_expired_access_token(world: World, person: Person) -> None:
    world.clock.advance(hours=1)
    person.api.post("/api/auth/logout", token=person.token).ok()
    assert person.refresh().code == "token_revoked"


def test_signing_out_by_refresh_token_works_after_the_access_token_expired(world: World, person: Person) -> None:
    world.clock.advance(hours=1)
    body = {"refresh_token": person.tokens["refresh_token"]}
    person.api.post("/api/auth/logout", body).ok()
    person.api.post("/api/auth/logout", body).ok()
    assert person.refresh().code == "token_revoked"


def test_signing_out_everywhere(world: World, person: Person) -> None:
    first = person.token
    person.sign_in()
    person.api.post("/api/auth/logout", {"everywhere": True}, person.token).ok()
    for token in (first, person.token):
        assert person.api.get("/api/auth/me", token).code == "token_revoked"


def test_a_sign_out_that_ends_nothing_is_not_recorded(world: World, person: Person) -> None:
    """Or whoever is erased would be in the audit log again."""
    for _ in range(2):
        person.api.post("/api/auth/logout", token=person.token).ok()
    assert [row.facts["count"] for row in world.audit(event="session.ended")] == [1]
    person.sign_in()
    person.api.delete("/api/auth/me", person.token).ok()
    for everywhere in (False, True):
        person.api.post("/api/auth/logout", {"everywhere": everywhere}, person.token).ok()
    assert {(row.ip, row.user_agent) for row in world.audit(user_id=id_of(person))} == {(None, None)}


def test_signing_out_needs_something_to_sign_out(person: Person) -> None:
    assert person.api.post("/api/auth/logout").code == "token_missing"
    assert person.api.post("/api/auth/logout", {"refresh_token": "A" * 43}).code == "token_invalid"
    assert person.api.post("/api/auth/logout", {}, "not.a.token").code == "token_invalid"


def test_the_list_shows_own_sessions_newest_first(world: World, person: Person) -> None:
    world.person().sign_up()
    for _ in range(2):
        world.clock.advance(minutes=1)
        person.sign_in()
    page = person.api.get("/api/auth/sessions", person.token)
    assert [item["current"] for item in page["items"]] == [True, False, False]
    assert page["next_cursor"] is None
    assert page["items"][0]["amr"] == ["pwd", "email"]


def test_the_list_comes_in_pages(world: World, person: Person) -> None:
    for _ in range(4):
        world.clock.advance(minutes=1)
        person.sign_in()
    seen, cursor = [], ""
    while cursor is not None:
        page = person.api.get(f"/api/auth/sessions?limit=2{cursor}", person.token).ok()
        seen += [item["id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert len(seen) == len(set(seen)) == 5
    for query in ("limit=0", "limit=201", "limit=x", "cursor=x", "limit=1&limit=2"):
        assert person.api.get(f"/api/auth/sessions?{query}", person.token).code == "validation_failed"


@pytest.mark.covers("asvs 7.5.2")
def test_one_session_can_be_ended(world: World, person: Person) -> None:
    first = person.tokens
    world.clock.advance(minutes=1)
    person.sign_in()
    person.api.delete(f"/api/auth/sessions/{first['session_id']}", person.token).ok()
    assert person.api.get("/api/auth/me", first["access_token"]).code == "token_revoked"
    assert person.me().status == 200
    assert person.api.delete(f"/api/auth/sessions/{first['session_id']}", person.token).code == "not_found"


def test_the_audit_row_names_the_session_that_ended(world: World, person: Person) -> None:
    ended = person.tokens["session_id"]
    person.sign_in()
    person.api.delete(f"/api/auth/sessions/{ended}", person.token).ok()
    [row] = world.audit(event="session.ended")
    assert (str(row.session_id), row.facts["why"], row.facts["count"]) == (ended, "ended_by_owner", 1)


@pytest.mark.covers("asvs 8.2.2", "attack A34")
def test_somebody_elses_session_is_not_there(world: World, person: Person) -> None:
    other = world.person().sign_up()
    theirs = person.api.delete(f"/api/auth/sessions/{other.tokens['session_id']}", person.token)
    nobodys = person.api.delete("/api/auth/sessions/01a1fc6a-56ed-7069-9126-f35c15146f3c", person.token)
    for answer in (theirs, nobodys):
        answer.body.pop("request_id")
    assert (theirs.status, theirs.body) == (nobodys.status, nobodys.body) == (404, nobodys.body)
    assert other.me().status == 200


def test_all_but_this_one_can_be_ended(world: World, person: Person) -> None:
    first = person.token
    person.sign_in()
    answer = person.api.delete("/api/auth/sessions", person.token).ok()
    assert answer["message"] == "1 other session ended."
    assert person.api.get("/api/auth/me", first).code == "token_revoked"
    assert person.me().status == 200


def test_one_more_than_may_be_ends_the_one_that_went_unused_for_longest(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST", 3)
    held = [person.tokens]
    for _ in range(2):
        world.clock.advance(minutes=2)
        held.append(person.sign_in().tokens)
    world.clock.advance(minutes=2)
    used = person.api.get("/api/auth/me", held[0]["access_token"]).status  # the oldest, and not the one to end
    world.stamp()
    held.append(person.sign_in().tokens)
    codes = [person.api.get("/api/auth/me", each["access_token"]).code for each in held]
    assert (used, codes) == (200, [None, "token_revoked", None, None])
    assert person.refresh(held[1]["refresh_token"]).code == "token_revoked"
    assert len(person.api.get("/api/auth/sessions", person.token)["items"]) == 3
    [row] = world.audit(event="session.ended")
    assert (str(row.user_id), row.facts) == (person.tokens["user"]["id"], {"why": "too_many", "count": 1})


def test_what_can_no_longer_go_on_takes_no_room(world: World, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    world.clock.advance(days=6)
    held = person.sign_in().tokens
    world.clock.advance(days=2)  # the first has lapsed
    person.sign_in()
    assert person.api.get("/api/auth/me", person.token).status == 200
    assert not world.audit(event="session.ended")
    assert person.refresh(held["refresh_token"]).status == 200


def test_what_has_ended_takes_no_room(world: World, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    first = person.token
    for _ in range(3):
        world.clock.advance(minutes=2)
        person.sign_in()
        person.api.post("/api/auth/logout", {}, person.token).ok()
    assert person.api.get("/api/auth/me", first).code in (None, "token_expired")


def test_the_last_use_is_stamped_by_the_courier(world: World, person: Person) -> None:
    world.clock.advance(minutes=5)
    person.me().ok()
    signed_in_at = world.rows(Session)[0].last_used_at
    world.stamp()
    assert world.rows(Session)[0].last_used_at >= signed_in_at + timedelta(minutes=5)


def test_a_session_that_nobody_uses_stays_as_old_as_it_is(world: World, person: Person) -> None:
    [left] = world.rows(Session)
    world.clock.advance(minutes=5)
    person.sign_in()
    world.clock.advance(minutes=5)
    person.me().ok()
    world.stamp()
    at = {row.id: row.last_used_at for row in world.rows(Session)}
    assert len(at) == 2
    assert at[left.id] == left.last_used_at < max(at.values())


def test_only_the_digest_of_a_refresh_token_is_stored(world: World, person: Person) -> None:
    [row] = world.rows(RefreshToken)
    assert person.tokens["refresh_token"] not in repr(vars(row))
    assert len(row.digest) == 64


def test_a_missing_token_says_so(world: World) -> None:
    for headers in ({}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer "}):
        answer = world.api().get("/api/auth/me", **headers)
        assert (answer.status, answer.code) == (401, "token_missing")
    assert world.api().get("/api/auth/me?access_token=x").code == "token_missing"


def test_the_role_is_read_at_each_request(world: World, person: Person) -> None:
    with world.kit.writes.begin() as db:
        db.query(User).update({"role": "doctor"})
    assert person.me().code == "token_revoked"
    fresh = person.refresh().ok()
    assert person.api.get("/api/auth/me", fresh["access_token"])["role"] == "doctor"


def test_a_session_whose_refresh_token_lapsed_is_not_listed(world: World, person: Person) -> None:
    world.clock.advance(days=7)
    person.sign_in()
    assert len(person.api.get("/api/auth/sessions", person.token)["items"]) == 1


def test_a_refresh_is_a_use_of_the_session(world: World, person: Person) -> None:
    world.clock.advance(hours=1)
    person.refresh().ok()
    world.stamp()
    assert world.rows(Session)[0].last_used_at >= world.clock.now - timedelta(minutes=1)


def test_a_dead_refresh_token_signs_nobody_out_of_other_sessions(world: World, person: Person) -> None:
    old = person.tokens["refresh_token"]
    fresh = person.refresh(old).ok()
    person.api.post("/api/auth/logout", token=fresh["access_token"]).ok()
    world.clock.advance(days=60)
    person.sign_in()
    for dead in (old, fresh["refresh_token"]):
        person.api.post("/api/auth/logout", {"refresh_token": dead, "everywhere": True}).ok()
    person.api.post("/api/auth/logout", {"everywhere": True}, fresh["access_token"]).ok()
    assert person.me().status == 200


def test_a_spent_token_still_ends_its_own_session_and_no_other(world: World, person: Person) -> None:
    """A client whose answer got lost must be able to leave; whoever finds an old token signs nobody else out."""
    world.clock.advance(minutes=2)
    other = world.person(email=person.email).sign_in()
    old = person.tokens["refresh_token"]
    fresh = person.refresh(old).ok()
    person.api.post("/api/auth/logout", {"refresh_token": old, "everywhere": True}).ok()
    assert person.api.get("/api/auth/me", fresh["access_token"]).code == "token_revoked"
    assert other.me().status == 200


def test_a_live_refresh_token_ends_all_sessions_beside_an_access_token_that_has_expired(
    world: World, person: Person
) -> None:
    """Which is what a client has after a quarter of an hour."""
    first = dict(person.tokens)
    person.sign_in()
    mine = dict(person.tokens)
    world.clock.advance(minutes=16)
    body = {"refresh_token": mine["refresh_token"], "everywhere": True}
    person.api.post("/api/auth/logout", body, mine["access_token"]).ok()
    assert person.refresh(first["refresh_token"]).code == "token_revoked"


def test_a_refresh_token_of_somebody_else_beside_an_expired_access_token_ends_nothing_of_theirs(
    world: World, person: Person
) -> None:
    other = world.person().sign_up()
    world.clock.advance(minutes=16)
    body = {"refresh_token": other.tokens["refresh_token"], "everywhere": True}
    person.api.post("/api/auth/logout", body, person.token).ok()
    other.refresh().ok()
    assert person.refresh().code == "token_revoked"


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_refresh_token_signs_out_beside_an_access_token_that_nobody_can_read(
    make_world: Callable[..., World], everywhere: bool
) -> None:
    """As once a key was dropped: neither is kept from leaving, and what the bearer says counts for nothing."""
    world = make_world()
    person = world.person().sign_up()
    first = dict(person.tokens)
    person.sign_in()
    rekeyed = make_world(keep=True, jwt_secret_key=NEXT)
    body = {"refresh_token": person.tokens["refresh_token"], "everywhere": everywhere}
    rekeyed.api().post("/api/auth/logout", body, person.token).ok()
    assert rekeyed.api().post("/api/auth/refresh", {"refresh_token": body["refresh_token"]}).code == "token_revoked"
    other = rekeyed.api().post("/api/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert other.code == ("token_revoked" if everywhere else None)


@pytest.mark.parametrize(
    ("where", "body", "event"),
    [
        ("/api/auth/logout", {}, "session.refused"),
        ("/api/auth/logout", {"refresh_token": "A" * 43}, "session.refused"),
        ("/api/v1/auth/logout", {}, "request.refused"),
    ],
)
def test_an_access_token_that_nobody_can_read_signs_nobody_out(
    world: World, person: Person, where: str, body: dict[str, str], event: str
) -> None:
    assert person.api.post(where, body, "not.a.token").code == "token_invalid"
    [row] = world.audit(reason="token_invalid")
    assert (row.event, row.user_id) == (event, None)
    person.me().ok()
