"""Remembered devices: they skip the code, never the password, and have guesses of their own."""

from __future__ import annotations

import jwt
import pytest

from app.core import lockout, trusted_devices
from app.models import Throttle, TrustedDevice
from tests.authenticator import enrol
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person, while_hashing


def remember(person: Person) -> str:
    """Sign in and have the device remembered."""
    asked = person.ask_signin().ok()
    answer = person.verify_signin(asked["challenge_id"], person.code(), remember_device=True).ok()
    assert len(answer["device_token"]) >= 43
    return answer["device_token"]


def signin(person: Person, token: str, password: str = PASSWORD) -> Answer:
    answer = person.ask_signin(device_token=token) if password == PASSWORD else person.api.post(
        "/api/auth/login", {"identifier": person.email, "password": password, "device_token": token}
    )  # fmt: skip
    if answer.status == 200 and answer["status"] == "complete":
        person.tokens = answer.body
    return answer


def devices(person: Person) -> list[dict[str, str]]:
    return person.api.get("/api/auth/trusted-devices", person.token).ok()["items"]


def test_a_remembered_device_is_asked_for_the_password_alone(world: World, person: Person) -> None:
    token = remember(person)
    sent = len(world.inbox(person.email))
    assert signin(person, token)["status"] == "complete"
    assert len(world.inbox(person.email)) == sent
    assert signin(person, token, "wrong horse").code == "invalid_credentials"
    [current] = [s for s in person.api.get("/api/auth/sessions", person.token)["items"] if s["current"]]
    assert current["amr"] == ["pwd", "device"]


def test_only_who_asks_is_remembered(world: World, person: Person) -> None:
    person.sign_in()
    assert "device_token" not in person.tokens
    assert devices(person) == []


def test_an_app_s_code_is_skipped_too(world: World, person: Person) -> None:
    app = enrol(world, person)
    asked = person.ask_signin().ok()
    token = person.verify_signin(asked["challenge_id"], app.fresh(), remember_device=True).ok()["device_token"]
    assert signin(person, token)["status"] == "complete"


def test_it_is_forgotten_after_thirty_days(world: World, person: Person) -> None:
    token = remember(person)
    world.clock.advance(days=29, hours=23)
    assert signin(person, token)["status"] == "complete"
    world.clock.advance(hours=1)
    assert signin(person, token)["status"] == "otp_required"


@pytest.mark.parametrize("token", ["A" * 43, "x", "A" * 512])
def test_a_token_that_is_none_is_as_good_as_none(person: Person, token: str) -> None:
    assert signin(person, token)["status"] == "otp_required"


def test_a_token_is_its_owner_s_alone(world: World, person: Person) -> None:
    token = remember(person)
    other = world.person().sign_up()
    assert signin(other, token)["status"] == "otp_required"


def test_only_its_digest_is_stored(world: World, person: Person) -> None:
    token = remember(person)
    [row] = world.rows(TrustedDevice)
    assert token not in str(vars(row))


def test_the_owner_sees_and_forgets_them(world: World, person: Person) -> None:
    person.api.headers["User-Agent"] = "Firefox/120 (X11)"
    first, second = remember(person), remember(person)
    shown = devices(person)
    assert [d["user_agent"] for d in shown] == ["Firefox/120 (X11)"] * 2
    assert shown[0].keys() == {"id", "user_agent", "ip", "created_at", "last_used_at", "expires_at"}
    other = world.person().sign_up()
    path = f"/api/auth/trusted-devices/{shown[0]['id']}"
    assert other.api.delete(path, other.token).code == "not_found"
    person.api.delete(path, person.token).ok()
    assert person.api.delete(path, person.token).code == "not_found"
    assert signin(person, second)["status"] == "otp_required"
    assert signin(person, first)["status"] == "complete"
    assert "1 device " in person.api.delete("/api/auth/trusted-devices", person.token).ok()["message"]
    assert [row.facts for row in world.audit(event="trusted_device.forgotten")] == [{"count": 1}, {"count": 1}]
    assert signin(person, first)["status"] == "otp_required"


def test_they_come_in_pages(person: Person) -> None:
    for _ in range(2):
        remember(person)
    newest = [device["id"] for device in devices(person)]
    first = person.api.get("/api/auth/trusted-devices?limit=1", person.token).ok()
    rest = person.api.get(f"/api/auth/trusted-devices?limit=1&cursor={first['next_cursor']}", person.token).ok()
    assert [[device["id"] for device in page["items"]] for page in (first, rest)] == [newest[:1], newest[1:]]
    assert rest["next_cursor"] is None


def test_there_is_an_end_to_how_many(make_world) -> None:
    world = make_world(sends_per_minute=1000, sends_per_day_email=1000)
    person = world.person().sign_up()
    other = world.person().sign_up()
    others = remember(other)
    tokens = [remember(person) for _ in range(trusted_devices.MOST + 1)]
    assert len(devices(person)) == trusted_devices.MOST
    assert signin(person, tokens[0])["status"] == "otp_required"
    assert signin(person, tokens[1])["status"] == "complete"
    assert signin(other, others)["status"] == "complete", "it is one's own that are forgotten"


def by_password(world: World, person: Person) -> None:
    body = {"current_password": PASSWORD, "new_password": "another horse 8"}
    person.api.post("/api/auth/change-password", body, person.token).ok()
    person.password = "another horse 8"


def by_reset(world: World, person: Person) -> None:
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": "another horse 8"}
    person.api.post("/api/auth/reset-password", body).ok()
    person.password = "another horse 8"


def by_address(world: World, person: Person) -> None:
    asked = person.api.post("/api/auth/change-phone", {"phone": "+919876543210"}, person.token).ok()
    answer = {"challenge_id": asked["challenge_id"], "otp": world.read("sms", "+919876543210")}
    person.api.post("/api/auth/verify-otp", answer).ok()


def by_factor(world: World, person: Person) -> None:
    enrol(world, person)


@pytest.mark.covers("asvs 7.4.3", "asvs 6.5.6")
@pytest.mark.parametrize("change", [by_password, by_reset, by_address, by_factor])
def test_every_changed_credential_forgets_them(world: World, person: Person, change) -> None:
    token = remember(person)
    change(world, person)
    assert world.count(TrustedDevice) == 0
    world.clock.advance(minutes=2)
    assert person.ask_signin(device_token=token).ok()["status"] == "otp_required"


@pytest.mark.covers("attack A10", "nist N31")
def test_who_locks_the_identifier_does_not_lock_its_owner_out(world: World, person: Person) -> None:
    token = remember(person)
    stranger = world.api("198.51.100.7")
    guesses = {"identifier": person.email, "password": "wrong horse"}
    codes = [stranger.post("/api/auth/login", guesses).code for _ in range(30)]
    assert codes.count("invalid_credentials") == 5
    assert set(codes[5:]) == {"account_locked"}
    assert person.ask_signin().code == "account_locked"
    assert signin(person, token)["status"] == "complete"
    assert stranger.post("/api/auth/login", guesses).code == "account_locked", "the stranger stays locked"


@pytest.mark.covers("attack A10")
def test_a_stolen_token_has_five_guesses_and_locks_nobody_else(world: World, person: Person) -> None:
    token = remember(person)
    codes = [signin(person, token, "wrong horse").code for _ in range(8)]
    assert codes == ["invalid_credentials"] * 5 + ["account_locked"] * 3
    assert person.ask_signin().ok()["status"] == "otp_required", "its owner signs in elsewhere"
    assert world.audit(event="identifier.locked") == []
    world.clock.advance(minutes=15)
    assert signin(person, token)["status"] == "complete"


def test_a_stranger_s_made_up_tokens_have_no_budget(world: World, person: Person) -> None:
    for n in range(8):
        signin(person, f"{n}" * 43, "wrong horse")
    assert person.ask_signin().code == "account_locked"
    assert world.count(Throttle) <= 8
    assert len(world.audit(event="identifier.locked")) == 1


def test_a_code_of_long_ago_is_no_recent_sign_in(world: World, person: Person) -> None:
    token = remember(person)
    world.clock.advance(minutes=11)
    signin(person, token).ok()
    claims = jwt.decode(person.token, options={"verify_signature": False})
    assert claims["iat"] - claims["auth_time"] >= 660
    assert person.api.delete("/api/auth/me", person.token).code == "insufficient_user_authentication"
    assert person.api.post("/api/auth/factors/totp", {}, person.token).code == "insufficient_user_authentication"


def test_the_export_lists_them_without_their_digest(world: World, person: Person) -> None:
    remember(person)
    [row] = person.api.get("/api/auth/me/export", person.token).ok()["trusted_devices"]
    assert "digest" not in row


@pytest.mark.one_copy
def test_one_that_is_forgotten_while_the_password_is_hashed_opens_nothing(world: World, person: Person) -> None:
    token = remember(person)
    with while_hashing(world, lambda: person.api.delete("/api/auth/trusted-devices", person.token).ok()):
        assert signin(person, token).code == "invalid_credentials"


def test_after_a_code_by_sms_it_is_remembered_with_the_password(world: World) -> None:
    person = world.person(phone="+919876543210").sign_up(channel="sms")
    world.clock.advance(minutes=2)
    person.api.post("/api/v1/auth/send-otp", {"mobile_number": person.phone}).ok()
    body = {"mobile_number": person.phone, "otp": person.code("sms")}
    asked = person.api.post("/api/v1/auth/verify-otp", body).ok()
    answer = {"challenge_id": asked["challenge_id"], "password": PASSWORD, "remember_device": True}
    token = person.api.post("/api/auth/login/verify", answer).ok()["device_token"]
    by_phone = {"phone": person.phone, "password": PASSWORD, "device_token": token}
    assert person.api.post("/api/auth/login", by_phone).ok()["status"] == "complete"


@pytest.mark.parametrize("way", ["others", "everywhere"])
def test_who_ends_all_sessions_has_every_device_asked_for_a_code_again(world: World, person: Person, way: str) -> None:
    """Else somebody who was in once, and had themselves remembered, comes back by the password alone."""
    token = remember(Person(world.api("203.0.113.77"), world.read, email=person.email))
    if way == "others":
        person.api.delete("/api/auth/sessions", person.token).ok()
    else:
        person.api.post("/api/auth/logout", {"everywhere": True}, person.token).ok()
    assert person.ask_signin(device_token=token)["status"] == "otp_required"
    [row] = world.audit(event="trusted_device.forgotten")
    assert row.facts == {"count": 1}


def test_the_counter_of_a_device_goes_with_its_owner(world: World, person: Person) -> None:
    token = remember(person)
    assert signin(person, token, "wrong horse 7").code == "invalid_credentials"
    [device] = world.rows(TrustedDevice)
    counter = lockout.device_key(device.id)
    assert len(world.rows(Throttle, key=counter)) == 1
    person.api.delete("/api/auth/me", person.token).ok()
    assert world.rows(Throttle, key=counter) == []
