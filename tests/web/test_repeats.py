"""Idempotency-Key: a repeat gets the first answer and sends nothing."""

from __future__ import annotations

from typing import Any

import pytest

from app.models import OtpChallenge, OutboxMessage, Repeat, Signup
from tests.conftest import World
from tests.people import PASSWORD, Person

ROUTES: dict[str, dict[str, Any]] = {
    "/api/auth/signup": {"email": "new@example.com", "password": PASSWORD},
    "/api/auth/forgot-password": {"email": "new@example.com"},
    "/api/v1/auth/send-otp": {"mobile_number": "+919876543210"},
}


def changed(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value.replace("new@", "other@").replace("3210", "3211") for name, value in body.items()}


@pytest.mark.parametrize("path", ROUTES)
def test_a_repeat_gets_the_first_answer_and_sends_nothing(world: World, path: str) -> None:
    api = world.api(**{"Idempotency-Key": "a1"})
    first = api.post(path, ROUTES[path]).ok()
    world.clock.advance(seconds=20)
    again = api.post(path, ROUTES[path])
    assert (again.status, again.body) == (first.status, first.body)
    assert world.count(OtpChallenge) == world.count(OutboxMessage) == 1


@pytest.mark.parametrize("path", ROUTES)
def test_the_same_key_with_another_body_is_refused_and_audited(world: World, path: str) -> None:
    api = world.api(**{"Idempotency-Key": "a1"})
    api.post(path, ROUTES[path]).ok()
    refused = api.post(path, changed(ROUTES[path]))
    assert (refused.status, refused.code) == (422, "idempotency_mismatch")
    assert world.count(OtpChallenge) == 1
    assert [row.reason for row in world.audit(event="request.refused")] == ["idempotency_mismatch"]


def test_a_resend_is_repeated_without_a_second_message(world: World) -> None:
    person = world.person()
    asked = person.ask_signup().ok()
    world.clock.advance(seconds=31)
    api = world.api(**{"Idempotency-Key": "again"})
    body = {"challenge_id": asked["challenge_id"]}
    first = api.post("/api/auth/resend-otp", body).ok()
    assert api.post("/api/auth/resend-otp", body).body == first.body
    assert world.rows(OtpChallenge)[0].sends == 2


def test_the_key_is_the_caller_s_and_the_route_s(world: World) -> None:
    key = {"Idempotency-Key": "1"}
    world.api(**key).post("/api/auth/forgot-password", {"email": "a@example.com"}).ok()
    world.api("198.51.100.7", **key).post("/api/auth/forgot-password", {"email": "b@example.com"}).ok()
    world.api(**key).post("/api/v1/auth/send-otp", {"mobile_number": "+919876543210"}).ok()
    assert world.count(OtpChallenge) == 3


def test_without_a_key_two_are_two(world: World) -> None:
    for _ in range(2):
        world.api().post("/api/auth/forgot-password", {"email": "a@example.com"}).ok()
    assert world.count(OtpChallenge) == 2


def test_a_refusal_is_not_kept(world: World) -> None:
    api = world.api(**{"Idempotency-Key": "a1"})
    weak = {"email": "new@example.com", "password": "password"}
    assert api.post("/api/auth/signup", weak).code == "validation_failed"
    assert api.post("/api/auth/signup", ROUTES["/api/auth/signup"]).status == 201


def test_after_a_day_the_key_is_free_again(world: World) -> None:
    api = world.api(**{"Idempotency-Key": "a1"})
    path = "/api/auth/forgot-password"
    api.post(path, {"email": "a@example.com"}).ok()
    world.clock.advance(hours=24)
    api.post(path, {"email": "b@example.com"}).ok()
    assert world.count(OtpChallenge) == 2


def test_what_is_kept_holds_no_password_and_no_code(world: World) -> None:
    world.api(**{"Idempotency-Key": "a1"}).post("/api/auth/signup", ROUTES["/api/auth/signup"]).ok()
    [row] = world.rows(Repeat)
    assert PASSWORD not in str(vars(row))
    assert world.read("email", "new@example.com") not in str(row.answer)
    assert world.count(Signup) == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "caf\u00e9", "a\tb"])
def test_a_key_that_is_none_is_a_field_error(world: World, key: str) -> None:
    answer = world.api(**{"Idempotency-Key": key}).post("/api/auth/forgot-password", {"email": "a@example.com"})
    assert (answer.status, answer["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert world.count(OtpChallenge) == 0


def test_a_fault_keeps_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    api = world.api(**{"Idempotency-Key": "a1"})
    monkeypatch.setattr("app.flows.recovery.asking.ask", lambda *_: 1 / 0)
    response = world.app.test_client().post(
        "/api/auth/forgot-password", json={"email": "a@example.com"}, headers={"Idempotency-Key": "a1"}
    )
    assert response.status_code == 500
    monkeypatch.undo()
    assert api.post("/api/auth/forgot-password", {"email": "a@example.com"}).status == 200


def test_what_a_signed_in_person_sends_or_creates_is_repeated_too(world: World, person: Person) -> None:
    person.api.headers["Idempotency-Key"] = "k"
    for path, body in {
        "/api/auth/change-email": {"email": "n@example.com"},
        "/api/auth/change-phone": {"phone": "+919876543210"},
        "/api/auth/me/consents": {"terms": True, "version": "2"},
    }.items():
        first = person.api.post(path, body, person.token).ok()
        assert person.api.post(path, body, person.token).body == first.body, path


def test_a_browser_s_repeat_gets_its_cookie_too(world: World) -> None:
    client, body = world.app.test_client(), {"name": "J", "email": "j@example.com", "password": PASSWORD}
    answers = [client.post("/signup", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [a.status_code for a in answers] == [200, 200]
    assert answers[0].get_json() == answers[1].get_json()
    assert answers[0].headers["Set-Cookie"] == answers[1].headers["Set-Cookie"]
    assert world.count(OtpChallenge) == 1


def test_a_browser_s_resend_of_another_challenge_is_no_repeat(world: World) -> None:
    """Which one is meant stands in its cookie."""
    world.person(email="j@example.com").sign_up()
    client, key = world.app.test_client(), {"Idempotency-Key": "k"}
    asked = []
    for _ in range(2):
        world.clock.advance(minutes=2)
        client.post("/login", json={"email": "j@example.com", "password": PASSWORD})
        world.clock.advance(seconds=31)
        asked += [client.post("/resend-otp", json={"email": "j@example.com"}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in asked] == [200, 200, 422, 422]
    assert asked[2].get_json()["code"] == "idempotency_mismatch"


def test_what_is_shown_once_is_repeated_to_the_same_session_alone(world: World, person: Person) -> None:
    """A repeat is a client's lost answer: who has another session of the same account gets none of it."""
    api = world.api(**{"Idempotency-Key": "1"})
    first = api.post("/api/auth/factors/totp", {}, person.token).ok()
    assert api.post("/api/auth/factors/totp", {}, person.refresh().ok()["access_token"]).body == first.body
    world.clock.advance(minutes=2)
    other = person.sign_in()
    assert api.post("/api/auth/factors/totp", {}, other.token).ok()["secret"] != first["secret"]
