"""Signing in with a password and a code."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
import sqlalchemy as sa

from app.crypto.passwords import Hasher
from app.models import AuditLog, OtpChallenge, OutboxMessage, Throttle, User
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person, while_hashing, wrong
from tests.web.admins import id_of, of_role


def test_a_person_signs_in_with_password_and_code(person: Person) -> None:
    asked = person.ask_signin()
    assert (asked.status, asked["status"]) == (200, "otp_required")
    assert (asked["methods"], asked["channel"]) == (["email"], "email")
    tokens = person.verify_signin(asked["challenge_id"], person.code())
    assert (tokens.status, tokens["status"]) == (200, "complete")
    assert tokens["user"]["last_login_at"] is not None


@pytest.mark.parametrize(
    "spell",
    [str.upper, str.title, lambda e: f"  {e} ", lambda e: e.replace("@", "@EXAMPLE.COM", 1)[: -len("example.com")]],
)
def test_any_spelling_of_the_address_signs_in(person: Person, spell) -> None:
    answer = person.api.post("/api/auth/login", {"identifier": spell(person.email), "password": PASSWORD})
    assert answer.status == 200


def test_it_signs_in_by_username_and_by_phone(world: World) -> None:
    person = world.person(phone="+919876543210", username="jane")
    asked = person.ask_signup().ok()
    pending = person.verify_signup(asked["challenge_id"], person.code()).ok()["pending"]
    answer = {"challenge_id": pending["challenge_id"], "otp": person.code("sms")}
    person.api.post("/api/auth/verify-otp", answer).ok()
    world.clock.advance(minutes=2)
    for body in (
        {"username": "Jane"},
        {"phone": "0091 98765 43210"},
        {"identifier": "jane"},
        {"identifier": "+919876543210"},
    ):
        asked = person.api.post("/api/auth/login", {**body, "password": PASSWORD}).ok()
        assert asked["methods"] == ["email", "sms"]
        world.clock.advance(minutes=1)


def test_the_channel_can_be_chosen(world: World) -> None:
    person = world.person(phone="+919876543210")
    asked = person.ask_signup().ok()
    pending = person.verify_signup(asked["challenge_id"], person.code()).ok()["pending"]
    person.api.post("/api/auth/verify-otp", {"challenge_id": pending["challenge_id"], "otp": person.code("sms")}).ok()
    asked = person.ask_signin(channel="sms").ok()
    assert (asked["channel"], asked["destination"]) == ("sms", "+91******3210")
    person.verify_signin(asked["challenge_id"], person.code("sms")).ok()
    [current] = [s for s in person.api.get("/api/auth/sessions", person.token)["items"] if s["current"]]
    assert current["amr"] == ["pwd", "sms"]


def with_both_addresses(world: World) -> Person:
    person = world.person(phone="+919876543210")
    asked = person.ask_signup().ok()
    pending = person.verify_signup(asked["challenge_id"], person.code()).ok()["pending"]
    person.api.post("/api/auth/verify-otp", {"challenge_id": pending["challenge_id"], "otp": person.code("sms")}).ok()
    world.clock.advance(minutes=2)
    return person


def sent_to_the_phone(world: World, person: Person, challenge_id: str) -> Answer:
    world.clock.advance(seconds=31)
    return person.api.post("/api/auth/resend-otp", {"challenge_id": challenge_id, "channel": "sms"}).ok()


def test_a_code_can_be_sent_to_the_other_proven_address_and_is_another(world: World) -> None:
    """So the answer says which was read: whoever has the mailbox alone does not come by as the phone's owner."""
    person = with_both_addresses(world)
    asked = person.ask_signin().ok()
    mailed = person.code()
    again = sent_to_the_phone(world, person, asked["challenge_id"])
    assert (again["channel"], again["destination"]) == ("sms", "+91******3210")
    assert person.verify_signin(asked["challenge_id"], mailed, method="email").code == "invalid_code"
    assert person.verify_signin(asked["challenge_id"], mailed).code == "invalid_code"
    tokens = person.verify_signin(asked["challenge_id"], person.code("sms")).ok()
    assert jwt.decode(tokens["access_token"], options={"verify_signature": False})["amr"] == ["pwd", "sms"]


def test_back_at_the_first_address_the_newest_code_counts(world: World) -> None:
    person = with_both_addresses(world)
    asked = person.ask_signin().ok()
    first = person.code()
    sent_to_the_phone(world, person, asked["challenge_id"])
    world.clock.advance(seconds=31)
    person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"], "channel": "email"}).ok()
    assert person.code() != first
    person.verify_signin(asked["challenge_id"], person.code()).ok()


def test_a_code_that_was_not_sent_yet_goes_to_the_address_of_now_alone(world: World) -> None:
    """What waits for a provider would else come late, with digits that are not asked for, or with the other's."""
    person = with_both_addresses(world)
    world.sends_at_once = False
    asked = person.ask_signin().ok()
    sent_to_the_phone(world, person, asked["challenge_id"])
    before = len(world.inbox(person.email))
    world.deliver()
    assert len(world.inbox(person.email)) == before
    dropped = [row for row in world.audit(event="message.dropped") if row.facts["kind"] == "code.signin"]
    [mail] = world.rows(OutboxMessage, state="dropped", channel="email", kind="code.signin")
    admin = of_role(world, "admin")
    assert admin.api.post(f"/api/admin/deliveries/{mail.id}/retry", None, admin.token).code == "conflict"
    assert [(row.reason, row.facts["channel"]) for row in dropped] == [("closed", "email")]
    person.verify_signin(asked["challenge_id"], person.code("sms")).ok()


def test_exactly_one_identifier_must_be_given(person: Person) -> None:
    for body in ({}, {"email": person.email, "username": "jane"}):
        answer = person.api.post("/api/auth/login", {**body, "password": PASSWORD})
        assert (answer.status, answer["errors"][0]["field"]) == (422, "identifier")


def test_unknown_wrong_and_disabled_are_one_answer(world: World, person: Person) -> None:
    disabled = world.person().sign_up()
    with world.kit.writes.begin() as db:
        db.query(User).filter_by(email=disabled.email).update({"disabled_at": world.clock.now})
    bodies = [
        {"identifier": "nobody@example.com", "password": PASSWORD},
        {"identifier": "nobody", "password": PASSWORD},
        {"identifier": "+919811111111", "password": PASSWORD},
        {"identifier": person.email, "password": "wrong horse 7"},
        {"identifier": disabled.email, "password": PASSWORD},
    ]
    answers = [world.api().post("/api/auth/login", body) for body in bodies]
    for answer in answers:
        answer.body.pop("request_id")
        assert (answer.status, answer.body) == (401, answers[0].body)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.covers("asvs 7.4.2", "attack A38", "attack A45")
def test_a_disabled_user_is_out_at_once(world: World, person: Person) -> None:
    asked = person.ask_signin().ok()
    code = person.code()
    with world.kit.writes.begin() as db:
        db.query(User).update({"disabled_at": world.clock.now})
    assert person.me().code == "token_revoked"
    assert person.refresh().code == "token_revoked"
    assert person.verify_signin(asked["challenge_id"], code).code == "invalid_code"


@pytest.mark.covers("asvs 6.2.8", "attack A65", "nist N07", "nist N08")
def test_a_password_is_compared_whole_in_nfc(world: World) -> None:
    person = world.person(password="caf\u00e9 horse battery").sign_up()
    tries = {
        "cafe\u0301 horse battery": 200,
        "caf\u00e9 horse battery ": 401,
        "Caf\u00e9 horse battery": 401,
        "caf\u00e9 horse batter": 401,
    }
    for password, status in tries.items():
        assert person.api.post("/api/auth/login", {"email": person.email, "password": password}).status == status


@pytest.mark.covers("asvs 6.2.9", "nist N02")
def test_passwords_of_64_and_256_code_points_sign_in(world: World) -> None:
    for n, length in enumerate((64, 256)):
        person = world.person(password="\U0001f511" * (length - 1) + str(n)).sign_up()
        assert person.ask_signin().status == 200
        assert world.person(email=person.email, password="\U0001f511" * (length - 1)).ask_signin().status == 401


@pytest.mark.covers("attack A16", "asvs 6.6.2")
def test_a_code_belongs_to_one_sign_in(person: Person) -> None:
    first = person.ask_signin().ok()
    first_code = person.code()
    second = person.ask_signin().ok()
    second_code = person.code()
    if first_code != second_code:
        assert person.verify_signin(second["challenge_id"], first_code).code == "invalid_code"
        assert person.verify_signin(first["challenge_id"], second_code).code == "invalid_code"
    person.verify_signin(first["challenge_id"], first_code).ok()
    person.verify_signin(second["challenge_id"], second_code).ok()


def test_a_password_changed_meanwhile_closes_the_sign_in(world: World, person: Person) -> None:
    thief = world.person("198.51.100.7", email=person.email)
    asked = thief.ask_signin().ok()
    code = thief.code()
    body = {"current_password": PASSWORD, "new_password": "a new horse 42"}
    person.api.post("/api/auth/change-password", body, person.token).ok()
    assert thief.verify_signin(asked["challenge_id"], code).code == "challenge_closed"


def test_codes_beyond_three_a_minute_wait_their_turn(world: World, person: Person) -> None:
    world.clock.advance(minutes=5)
    challenges = [person.ask_signin().ok()["challenge_id"] for _ in range(5)]
    assert world.inbox(person.email).count("code.signin") == 3
    world.clock.advance(seconds=61)
    assert world.inbox(person.email).count("code.signin") == 5
    codes = {c: person.api.get(f"/api/auth/challenges/{c}")["delivery"] for c in challenges}
    assert set(codes.values()) == {"sent"}


@pytest.mark.covers("asvs 2.3.2", "attack A60")
def test_a_day_of_sends_is_bounded(world: World, person: Person) -> None:
    for _ in range(29):  # and the sign-up's
        world.clock.advance(minutes=7)
        person.ask_signin().ok()
    refused = person.ask_signin()
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert len(world.inbox(person.email)) == 30


def test_a_new_client_is_told_to_the_owner(world: World) -> None:
    person = world.person().sign_up()
    person.sign_in()
    assert "notice.new_signin" not in world.inbox(person.email)
    world.clock.advance(minutes=2)
    elsewhere = world.person("198.51.100.7", email=person.email).sign_in()
    assert world.inbox(person.email).count("notice.new_signin") == 1
    elsewhere.sign_in()
    assert world.inbox(person.email).count("notice.new_signin") == 1


def signed_in_twice(world: World) -> tuple[Person, Person]:
    """Somebody, and who signed in to the same account from a network that had not been seen."""
    person = world.person().sign_up()
    world.clock.advance(minutes=2)
    return person, world.person("198.51.100.7", email=person.email).sign_in()


@pytest.mark.parametrize("act", ["one", "others", "recovery", "everywhere"])
@pytest.mark.parametrize("twice", [False, True])
def test_a_client_whose_session_the_owner_ended_is_new_again(world: World, act: str, *, twice: bool) -> None:
    """`twice`: it had signed out once by itself."""
    person, thief = signed_in_twice(world)
    if twice:
        thief.api.post("/api/auth/logout", {}, thief.token).ok()
        world.clock.advance(minutes=2)
        thief.sign_in()
    assert world.inbox(person.email).count("notice.new_signin") == 1
    if act == "one":
        person.api.delete(f"/api/auth/sessions/{thief.tokens['session_id']}", person.token).ok()
    elif act == "others":
        person.api.delete("/api/auth/sessions", person.token).ok()
    elif act == "everywhere":
        person.api.post("/api/auth/logout", {"everywhere": True}, person.token).ok()
    else:
        asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
        new = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": PASSWORD}
        person.api.post("/api/auth/reset-password", new).ok()
    assert thief.me().code == "token_revoked"
    world.clock.advance(minutes=2)
    thief.sign_in()
    assert world.inbox(person.email).count("notice.new_signin") == 2


def test_who_changes_something_of_their_own_is_told_of_no_client_again(world: World) -> None:
    person, elsewhere = signed_in_twice(world)
    change = {"current_password": PASSWORD, "new_password": "another horse 8"}
    person.api.post("/api/auth/change-password", change, person.token).ok()
    assert elsewhere.me().code == "token_revoked"
    world.clock.advance(minutes=2)
    elsewhere.password = "another horse 8"
    elsewhere.sign_in()
    assert world.inbox(person.email).count("notice.new_signin") == 1


def test_a_client_that_signed_out_stays_known(world: World) -> None:
    person, elsewhere = signed_in_twice(world)
    elsewhere.api.post("/api/auth/logout", {}, elsewhere.token).ok()
    world.clock.advance(minutes=2)
    elsewhere.sign_in()
    assert world.inbox(person.email).count("notice.new_signin") == 1


def test_the_session_remembers_where_it_came_from(world: World) -> None:
    person = world.person()
    person.api.headers["User-Agent"] = "Firefox/120 (X11)"
    person.sign_up(device_info=None)
    person.sign_in()
    asked = person.ask_signin().ok()
    person.verify_signin(asked["challenge_id"], person.code(), device_info={"model": "Pixel 8", "os": 15}).ok()
    newest = person.api.get("/api/auth/sessions", person.token)["items"][0]
    assert (newest["user_agent"], newest["ip"]) == ("Firefox/120 (X11)", "203.0.113.5")
    assert newest["device_info"] == {"model": "Pixel 8", "os": 15}


def test_with_an_optional_second_factor_the_password_is_enough(make_world) -> None:
    world = make_world(mfa_policy="optional")
    person = world.person().sign_up()
    answer = person.ask_signin(device_info={"app": "web"})
    assert (answer.status, answer["status"]) == (200, "complete")
    assert world.count(OtpChallenge) == 1


@pytest.mark.covers("asvs 11.4.2", "nist N11", "asvs 11.2.2")
def test_a_hash_of_an_older_cost_is_renewed_at_sign_in(make_world) -> None:
    person = make_world().person().sign_up()
    world = make_world(keep=True, argon2_time_cost=2)  # the same database under a dearer setting
    before = world.rows(User)[0].password_hash
    world.person(email=person.email).sign_in()
    after = world.rows(User)[0].password_hash
    assert "t=1" in before
    assert "t=2" in after


def test_refusals_name_the_masked_identifier_and_nothing_more(world: World, person: Person) -> None:
    person.api.post("/api/auth/login", {"identifier": person.email, "password": "wrong horse 7"})
    [row] = world.audit(event="signin.refused")
    assert (row.success, row.reason, row.subject) == (
        False,
        "invalid_credentials",
        f"p***@{person.email.split('@')[1]}",
    )
    assert (row.ip, row.request_id != "") == ("203.0.113.5", True)
    for row in world.rows(AuditLog):
        assert person.email not in repr(vars(row))
        assert PASSWORD not in repr(vars(row))


def test_a_wrong_code_says_how_many_guesses_remain(world: World, person: Person) -> None:
    asked = person.ask_signin().ok()
    answer = person.verify_signin(asked["challenge_id"], wrong(person.code()))
    assert (answer.status, answer.code, answer["attempts_left"]) == (400, "invalid_code", 2)
    [row] = world.audit(event="code.refused")
    assert row.facts == {"purpose": "signin", "attempts_left": 2}
    assert world.count(Throttle) >= 2


@pytest.mark.one_copy
@pytest.mark.covers("attack A31")
def test_a_hash_of_an_older_cost_does_not_show_a_right_password_that_is_hidden(make_world, monkeypatch) -> None:
    """While the account's own budget is spent, a right password looks wrong: in the work it makes, too."""
    made = make_world().person(username="jane.gray").sign_up()
    world = make_world(keep=True, argon2_time_cost=2)
    for _ in range(5):
        made.api.post("/api/auth/login", {"identifier": "jane.gray", "password": "wrong horse 7"})
    before = world.rows(User)[0].password_hash
    assert world.person(email=made.email).ask_signin().code == "invalid_credentials"
    assert world.rows(User)[0].password_hash == before
    counted, real = [], world.kit.hasher._made
    monkeypatch.setattr(world.kit.hasher, "_made", lambda *hash_of: counted.append(hash_of[1]) or real(*hash_of))
    right, wrong = made.password, "wrong horse 7"
    for password in (right, wrong):
        assert world.person(email=made.email, password=password).ask_signin().code == "invalid_credentials"
    assert counted == [right.encode(), wrong.encode()]  # what the older hash lacks, and nothing else


@pytest.mark.one_copy
def test_the_old_password_is_dead_also_while_its_hash_is_renewed(make_world) -> None:
    """The password changes in the moment in which, after a sign-in, the old one is hashed at today's cost."""
    first = make_world(mfa_policy="optional").person().sign_up()
    world = make_world(keep=True, mfa_policy="optional", argon2_time_cost=2)
    owner = world.person(email=first.email)

    class Slow:
        def __init__(self, real) -> None:
            self.real = real

        def __getattr__(self, name: str):
            return getattr(self.real, name)

        def hash(self, password: bytes) -> str:
            object.__setattr__(world.kit, "hasher", self.real)
            asked = owner.api.post("/api/auth/forgot-password", {"email": owner.email}).ok()
            body = {"challenge_id": asked["challenge_id"], "otp": owner.code(), "new_password": "a new horse 42"}
            owner.api.post("/api/auth/reset-password", body).ok()
            return self.real.hash(password)

    object.__setattr__(world.kit, "hasher", Slow(world.kit.hasher))
    token = owner.ask_signin().ok()["access_token"]
    assert owner.api.get("/api/auth/me", token).code == "token_revoked"
    assert owner.ask_signin().code == "invalid_credentials"
    assert world.person(email=first.email, password="a new horse 42").ask_signin().status == 200


@pytest.mark.parametrize("right", [True, False])
def test_a_sign_in_under_way_names_nobody_who_is_erased_meanwhile(world: World, person: Person, right: bool) -> None:
    person.password = PASSWORD if right else "wrong horse 7"
    token = person.token
    with while_hashing(world, lambda: person.api.delete("/api/auth/me", token).ok()):
        assert person.ask_signin().code == "invalid_credentials"
    assert {(row.subject, row.ip) for row in world.audit(user_id=id_of(person))} == {(None, None)}


@pytest.mark.parametrize("act", ["sign in", "change the password"])
def test_a_password_is_right_also_while_another_sign_in_renews_its_hash(make_world: Any, act: str) -> None:
    world: World = make_world(mfa_policy="optional")
    person = world.person().sign_up()
    older = Hasher(memory_kib=64, time_cost=1, slots=1, queue=1).hash(PASSWORD.encode())
    with world.engine.begin() as connection:
        connection.execute(sa.update(User).values(password_hash=older))
    given = {"identifier": person.email, "password": PASSWORD}
    with while_hashing(world, lambda: world.api().post("/api/auth/login", given).ok()):
        if act == "sign in":
            world.api().post("/api/auth/login", given).ok()
        else:
            change = {"current_password": PASSWORD, "new_password": "another horse 9"}
            person.api.post("/api/auth/change-password", change, person.token).ok()
    assert world.rows(User)[0].password_hash != older
