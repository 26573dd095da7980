"""Signing up, through the front door."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.crypto import codes
from app.models import OtpChallenge, Signup, User, UsernameHold
from tests.conftest import World
from tests.people import PASSWORD, wrong


def test_a_person_signs_up_and_is_in(world: World) -> None:
    person = world.person(name="Jane", username="jane.d")
    asked = person.ask_signup()
    assert asked.status == 201
    assert asked["destination"] == f"p***@{person.email.split('@')[1]}"
    assert (asked["channel"], asked["expires_in"], asked["resend_in"]) == ("email", 300, 30)
    tokens = person.verify_signup(asked["challenge_id"], person.code())
    assert tokens.status == 200
    assert (tokens["status"], tokens["token_type"], tokens["expires_in"]) == ("complete", "Bearer", 900)
    assert tokens["refresh_expires_in"] == 7 * 86400
    assert "pending" not in tokens.body
    me = person.me().ok()
    assert me.body == tokens["user"]
    assert (me["email"], me["username"], me["name"]) == (person.email, "jane.d", "Jane")
    assert (me["phone"], me["role"], me["mfa"]) == (None, "user", [])


def test_no_account_exists_before_the_proof(world: World) -> None:
    person = world.person()
    person.ask_signup().ok()
    assert world.count(User) == 0


def test_it_signs_up_by_phone_alone(world: World) -> None:
    person = world.person(email="", phone="+91 98765 43210").api.post(
        "/api/auth/signup", {"phone": "+91 (98765) 43-210", "password": PASSWORD}
    )
    assert (person.status, person["channel"], person["expires_in"]) == (201, "sms", 180)
    assert person["destination"] == "+91******3210"
    code = world.read("sms", "+919876543210")
    tokens = world.api().post("/api/auth/verify-otp", {"challenge_id": person["challenge_id"], "otp": code}).ok()
    assert (tokens["user"]["phone"], tokens["user"]["email"]) == ("+919876543210", None)


def test_a_second_address_is_proven_by_a_pending_challenge(world: World) -> None:
    person = world.person(phone="+919876543210")
    asked = person.ask_signup().ok()
    tokens = person.verify_signup(asked["challenge_id"], person.code()).ok()
    assert tokens["user"]["phone"] is None
    assert tokens["pending"]["channel"] == "sms"
    answer = {"challenge_id": tokens["pending"]["challenge_id"], "otp": person.code("sms")}
    done = person.api.post("/api/auth/verify-otp", answer).ok()
    assert done["user"]["phone"] == "+919876543210"
    assert person.me()["phone"] == "+919876543210"


def test_the_channel_says_which_address_is_proven_first(world: World) -> None:
    person = world.person(phone="+919876543210")
    asked = person.ask_signup(channel="sms").ok()
    assert asked["channel"] == "sms"
    tokens = person.verify_signup(asked["challenge_id"], person.code("sms")).ok()
    assert (tokens["user"]["email"], tokens["pending"]["channel"]) == (None, "email")


def test_a_spent_budget_of_the_second_address_does_not_stop_the_sign_up(world: World) -> None:
    for _ in range(3):
        world.api().post("/api/auth/forgot-password", {"phone": "+919876543210"}).ok()
    person = world.person(phone="+919876543210")
    asked = person.ask_signup().ok()
    assert person.verify_signup(asked["challenge_id"], person.code()).ok().body.get("pending") is None


def test_signing_up_with_a_taken_address_looks_the_same_and_tells_the_owner(world: World) -> None:
    owner = world.person().sign_up()
    free, taken = world.person(), world.person(email=owner.email, password="attacker pass 9")
    first, second = free.ask_signup(), taken.ask_signup()
    assert first.status == second.status == 201
    assert first.body.keys() == second.body.keys()
    assert second["expires_in"] == first["expires_in"]
    assert world.inbox(owner.email)[-1] == "notice.signup_tried"
    told = [row.facts["decoy"] for row in world.audit(event="signup.started")]
    assert told == [False, False, True], "for the operator alone"
    [row] = world.rows(OtpChallenge, id=UUID(second["challenge_id"]))
    derived = codes.derive(world.kit.keys, row.key_id, row.factor, 6)
    for guess in ("000000", derived):
        assert taken.verify_signup(second["challenge_id"], guess).code == "invalid_code"
    assert world.count(User) == 1
    owner.sign_in()
    assert owner.me()["email"] == owner.email


def test_somebody_who_signs_up_first_with_your_address_gains_nothing(world: World) -> None:
    attacker = world.person("198.51.100.7", email="victim@example.com", password="attacker pass 9", username="vic")
    victim = world.person(email="victim@example.com")
    trap = attacker.ask_signup().ok()
    asked = victim.ask_signup().ok()
    victim.verify_signup(asked["challenge_id"], victim.code()).ok()
    assert victim.me()["username"] is None
    late = attacker.verify_signup(trap["challenge_id"], "123456")
    assert late.code in ("invalid_code", "challenge_closed")
    again = attacker.ask_signin()
    assert again["methods"] == ["email"], "as if the address were free: and no code of it opens anything"
    assert attacker.verify_signin(again["challenge_id"], "123456").code in ("invalid_code", "challenge_closed")
    assert len(victim.api.get("/api/auth/sessions", victim.token)["items"]) == 1


def test_two_proven_sign_ups_of_one_address_make_one_account(world: World) -> None:
    first, second = (
        world.person(email="twin@example.com"),
        world.person(email="twin@example.com", password="other pass 1"),
    )
    one = first.ask_signup().ok()
    first_code = first.code()
    two = second.ask_signup().ok()
    second_code = second.code()
    second.verify_signup(two["challenge_id"], second_code).ok()
    assert first.verify_signup(one["challenge_id"], first_code).code == "challenge_closed"
    assert world.count(User) == 1


def test_a_sign_up_can_be_finished_within_a_day_with_its_password(world: World) -> None:
    person = world.person()
    person.ask_signup().ok()
    world.clock.advance(hours=23)
    asked = person.ask_signin().ok()
    assert (asked["status"], asked["methods"]) == ("otp_required", ["email"])
    person.verify_signin(asked["challenge_id"], person.code()).ok()
    assert person.me().status == 200


def test_signing_in_before_the_proof_sends_the_same_code_again(world: World) -> None:
    person = world.person()
    asked = person.ask_signup().ok()
    code = person.code()
    world.clock.advance(seconds=31)
    again = person.ask_signin().ok()
    assert again["challenge_id"] == asked["challenge_id"]
    assert person.code() == code
    assert world.inbox(person.email) == ["code.signup", "code.signup"]
    person.verify_signup(again["challenge_id"], code).ok()


def test_a_wrong_password_before_the_proof_is_refused_like_any(world: World) -> None:
    person = world.person()
    person.ask_signup().ok()
    assert (
        person.api.post("/api/auth/login", {"email": person.email, "password": "x" * 9}).code == "invalid_credentials"
    )


def test_a_sign_up_is_over_after_a_day(world: World) -> None:
    person = world.person()
    person.ask_signup().ok()
    world.clock.advance(hours=24, seconds=1)
    assert person.ask_signin().code == "invalid_credentials"


def test_a_taken_username_is_told(world: World) -> None:
    world.person(username="jane").sign_up()
    again = world.person(username="JANE").ask_signup()
    assert (again.status, again.code) == (409, "username_taken")


def test_a_username_is_held_by_a_sign_up_until_it_expires(world: World) -> None:
    world.person(username="jane").ask_signup().ok()
    assert world.person(username="jane").ask_signup().code == "username_taken"
    world.clock.advance(hours=24, seconds=1)
    world.person(username="jane").ask_signup().ok()


def test_the_same_person_may_ask_for_the_same_username_again(world: World) -> None:
    person = world.person(username="jane")
    person.ask_signup().ok()
    person.sign_up()
    assert person.me()["username"] == "jane"


def test_a_refused_username_holds_nothing(world: World) -> None:
    world.person(username="jane").sign_up()
    world.clock.advance(days=2)
    world.person(username="jane").ask_signup()
    assert world.count(UsernameHold) == 0
    assert world.count(Signup) == 1


def test_consent_is_kept_with_version_time_and_address(world: World) -> None:
    person = world.person().sign_up(consent={"terms": True, "privacy": True, "version": "2026-01"})
    [consent] = person.api.get("/api/auth/me/export", person.token)["consents"]
    assert (consent["terms"], consent["privacy"], consent["version"]) == (True, True, "2026-01")
    assert (consent["ip"], consent["given_at"]) == ("203.0.113.5", "2026-11-21T10:00:00Z")


def test_consent_may_be_true_but_not_false(world: World) -> None:
    world.person().sign_up(consent=True)
    refused = world.person().ask_signup(consent={"terms": False})
    assert refused.code == "validation_failed"


@pytest.mark.covers("asvs 15.3.3", "attack A32")
def test_a_role_in_the_body_is_not_bound(world: World) -> None:
    extra = {"role": "admin", "roles": ["admin"], "is_admin": True, "id": "1", "email_verified": True, "created_at": 1}
    person = world.person().sign_up(**extra)
    assert person.me()["role"] == "user"


@pytest.mark.covers("asvs 6.5.1", "nist N18", "nist N26")
def test_it_refuses_a_code_used_twice(world: World) -> None:
    person = world.person()
    asked = person.ask_signup().ok()
    code = person.code()
    person.verify_signup(asked["challenge_id"], code).ok()
    again = person.verify_signup(asked["challenge_id"], code)
    assert (again.status, again.code) == (410, "challenge_closed")


@pytest.mark.covers("asvs 6.5.5", "attack A21", "nist N17")
def test_a_code_works_until_its_last_second(make_world) -> None:
    for seconds, status in ((299, 200), (300, 410)):
        world = make_world()
        person = world.person()
        asked = person.ask_signup().ok()
        code = person.code()
        world.clock.advance(seconds=seconds)
        assert person.verify_signup(asked["challenge_id"], code).status == status


def test_three_wrong_guesses_close_a_challenge(world: World) -> None:
    person = world.person()
    asked = person.ask_signup().ok()
    code = person.code()
    left = [person.verify_signup(asked["challenge_id"], wrong(code))["attempts_left"] for _ in range(3)]
    assert left == [2, 1, 0]
    assert person.verify_signup(asked["challenge_id"], code).code == "challenge_closed"


@pytest.mark.covers("attack A23")
def test_a_resend_carries_the_same_code_and_expiry(world: World) -> None:
    person = world.person()
    asked = person.ask_signup().ok()
    code = person.code()
    soon = person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]})
    assert (soon.status, soon.code, soon["retry_after"]) == (429, "resend_too_soon", 30)
    world.clock.advance(seconds=30)
    again = person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).ok()
    assert (again["challenge_id"], again["expires_in"], again["resend_in"]) == (asked["challenge_id"], 270, 30)
    assert person.code() == code
    assert world.inbox(person.email) == ["code.signup", "code.signup"]


def test_a_challenge_is_sent_five_times_at_most(world: World) -> None:
    person = world.person()
    asked = person.ask_signup().ok()
    for _ in range(4):
        world.clock.advance(seconds=31)
        person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).ok()
    world.clock.advance(seconds=31)
    sixth = person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]})
    assert (sixth.status, sixth.code) == (429, "rate_limited")
    assert world.inbox(person.email) == ["code.signup"] * 5


def test_a_resend_of_a_sign_up_never_moves_to_an_address_it_did_not_ask(world: World) -> None:
    """The code that reached one address must not prove another."""
    person = world.person(phone="+919876543210")
    asked = person.ask_signup().ok()
    world.clock.advance(seconds=31)
    again = person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"], "channel": "sms"}).ok()
    assert again["channel"] == "email"
    assert world.inbox("+919876543210", "sms") == []


@pytest.mark.covers("asvs 11.7.2")
def test_no_code_is_at_rest(world: World) -> None:
    person = world.person()
    person.ask_signup().ok()
    code = person.code()
    for table in reversed(OtpChallenge.metadata.sorted_tables):
        with world.engine.connect() as connection:
            for row in connection.execute(table.select()):
                assert all(str(value) != code and f"'{code}'" not in str(value) for value in row)


def test_a_resend_for_a_taken_address_looks_like_any_other(world: World) -> None:
    owner = world.person().sign_up()
    shown = []
    for email in (owner.email, "free@example.com"):
        world.clock.advance(minutes=2)
        asked = world.person(email=email).ask_signup().ok()
        path = f"/api/auth/challenges/{asked['challenge_id']}"
        seen = [owner.api.get(path)["delivery"]]
        world.clock.advance(seconds=31)
        again = owner.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]})
        seen.append(owner.api.get(path)["delivery"])
        shown.append((seen, again.status, sorted(again.body)))
    assert shown[0] == shown[1]
    assert world.inbox(owner.email).count("notice.signup_tried") == 1


@pytest.mark.covers("attack A31", "asvs 6.3.8")
@pytest.mark.parametrize("by", ["email", "username"])
@pytest.mark.parametrize("later", [40, 400])
def test_signing_in_after_signing_up_does_not_tell_whether_the_address_was_taken(
    world: World, by: str, later: int
) -> None:
    """Within the life of the sign-up's code, and after it; by the address, and by a username of one's own."""
    owner = world.person().sign_up()
    world.clock.advance(minutes=5)
    seen = []
    for n, email in enumerate((owner.email, "pobody@example.com")):
        stranger = world.person(email=email, password="stranger horse 5", username=f"stranger{n}")
        asked = stranger.ask_signup().ok()
        world.clock.advance(seconds=later)
        who = email if by == "email" else f"stranger{n}"
        answers = [
            stranger.api.post("/api/auth/login", {"identifier": who, "password": p})
            for p in ("wrong horse 9", "stranger horse 5")
        ]
        again = answers[1]
        same_challenge = again["challenge_id"] == asked["challenge_id"]
        path = f"/api/auth/challenges/{again['challenge_id']}"
        world.clock.advance(seconds=31)
        resent = stranger.api.post("/api/auth/resend-otp", {"challenge_id": again["challenge_id"]})
        guess = stranger.verify_signin(again["challenge_id"], "000000")
        seen.append(
            (
                answers[0].status,
                again.status,
                again["methods"],
                again["destination"],
                same_challenge,
                stranger.api.get(path)["delivery"],
                resent.status,
                guess.code,
            )
        )
    assert seen[0] == seen[1]
    assert "code.signup" not in world.inbox(owner.email)[1:]


def test_a_username_given_up_is_free_for_its_former_owner_too(world: World) -> None:
    person = world.person(username="first").sign_up()
    person.api.patch("/api/auth/me", {"username": "second"}, person.token).ok()
    person.api.patch("/api/auth/me", {"username": "first"}, person.token).ok()


def test_a_proven_sign_up_keeps_no_password(world: World) -> None:
    world.person().sign_up()
    assert [row.password_hash for row in world.rows(Signup)] == [None]


def test_a_sign_up_finished_by_signing_in_asks_for_the_second_address_too(world: World) -> None:
    person = world.person(phone="+919876543210")
    person.ask_signup().ok()
    world.clock.advance(minutes=10)
    asked = person.ask_signin().ok()
    tokens = person.verify_signin(asked["challenge_id"], person.code()).ok()
    assert tokens["pending"]["channel"] == "sms"


def test_a_sign_up_that_another_proof_used_up_leaves_no_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is committed, and would commit the account with it."""
    person = world.person()
    asked = person.ask_signup().ok()["challenge_id"]
    monkeypatch.setattr("app.flows.door.signups.complete", lambda *_: False)
    assert person.verify_signup(asked, person.code()).code == "challenge_closed"
    assert world.count(User) == 0
