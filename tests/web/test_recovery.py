"""Getting back in with a code."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.crypto import codes
from app.models import OtpChallenge, OutboxMessage, Session, User
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person, wrong
from tests.web.test_phone import Phone

NEW = "a brand new horse"


def forgot(person: Person, **body: str) -> Answer:
    return person.api.post("/api/auth/forgot-password", body or {"identifier": person.email})


def reset(person: Person, challenge_id: str, code: str, password: str = NEW) -> Answer:
    body = {"challenge_id": challenge_id, "otp": code, "new_password": password}
    return person.api.post("/api/auth/reset-password", body)


@pytest.mark.covers("nist N58", "attack A45")
def test_a_person_resets_the_password_and_every_session_ends(world: World, person: Person) -> None:
    asked = forgot(person).ok()
    assert (asked["channel"], asked["expires_in"]) == ("email", 600)
    reset(person, asked["challenge_id"], person.code()).ok()
    assert person.me().code == "token_revoked"
    assert person.refresh().code == "token_revoked"
    assert person.ask_signin().code == "invalid_credentials"
    assert world.inbox(person.email)[-1] == "notice.password_changed"
    person.password = NEW
    person.sign_in()
    assert {s.revoked_why for s in world.rows(Session)} == {"password_reset", None}


@pytest.mark.covers("asvs 6.3.8", "attack A31")
def test_known_and_unknown_get_the_same_answer(world: World, person: Person) -> None:
    known, unknown = forgot(person), forgot(person, identifier="person@example.com")
    assert known.status == unknown.status == 200
    for answer in (known, unknown):
        assert answer.body.pop("challenge_id")
    assert known.body == unknown.body
    assert len(world.rows(OutboxMessage, kind="decoy")) == 1
    assert [row.facts["decoy"] for row in world.audit(event="recovery.started")] == [False, True], "for the operator"


def test_a_decoy_behaves_like_a_challenge_and_never_succeeds(world: World) -> None:
    stranger = world.person(email="nobody@example.com")
    asked = forgot(stranger).ok()
    path = f"/api/auth/challenges/{asked['challenge_id']}"
    assert stranger.api.get(path)["delivery"] == "sent"
    assert world.inbox("nobody@example.com") == []
    soon = stranger.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]})
    assert soon.code == "resend_too_soon"
    world.clock.advance(seconds=31)
    again = stranger.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).ok()
    assert again["challenge_id"] == asked["challenge_id"]
    left = [reset(stranger, asked["challenge_id"], f"{n:06}")["attempts_left"] for n in range(3)]
    assert left == [2, 1, 0]
    assert reset(stranger, asked["challenge_id"], "000009").code == "challenge_closed"
    assert stranger.api.get(path).code == "challenge_closed"


def test_even_the_derived_digits_do_not_open_a_decoy(world: World) -> None:
    stranger = world.person(email="nobody@example.com")
    asked = forgot(stranger).ok()
    [row] = world.rows(OtpChallenge)
    digits = codes.derive(world.kit.keys, row.key_id, row.factor, 6)
    assert reset(stranger, asked["challenge_id"], digits).code == "invalid_code"


@pytest.mark.covers("attack A02")
def test_a_code_that_reaches_no_mailbox_is_right_for_nobody(world: World, person: Person) -> None:
    """A stranger asks for more codes than a day has messages: each challenge has guesses, and none of those counts."""
    asked = []
    for _ in range(20):
        world.clock.advance(minutes=2)
        asked.append(forgot(person).ok()["challenge_id"])
    sent = world.inbox(person.email).count("code.recovery")
    assert sent == 14  # half a day's, less the sign-up's
    [row] = world.rows(OtpChallenge, id=UUID(asked[-1]))
    digits = codes.derive(world.kit.keys, row.key_id, row.factor, 6)
    assert reset(person, asked[-1], digits).code == "invalid_code"
    world.clock.advance(seconds=30)
    person.api.post("/api/auth/resend-otp", {"challenge_id": asked[-1]}).ok()
    world.clock.advance(days=1)
    assert world.inbox(person.email).count("code.recovery") == sent
    [row] = world.rows(User, email=person.email)
    assert [drop.user_id for drop in world.audit(event="message.dropped")] == [row.id] * 6


def test_the_delivery_of_a_recovery_always_reads_sent(world: World, person: Person) -> None:
    world.sends_at_once = False
    known, unknown = forgot(person).ok(), forgot(person, identifier="nobody@example.com").ok()
    for asked in (known, unknown):
        assert person.api.get(f"/api/auth/challenges/{asked['challenge_id']}")["delivery"] == "sent"


def test_by_username_nothing_of_the_address_is_shown(world: World) -> None:
    person = world.person(username="jane").sign_up()
    known, unknown = forgot(person, identifier="jane"), forgot(person, identifier="spook")
    for answer in (known, unknown):
        assert answer.body.pop("challenge_id")
        assert answer["destination"] == "***"
    assert known.body == unknown.body
    assert world.inbox(person.email)[-1] == "code.recovery"


def test_another_channel_reaches_the_proven_phone_and_shows_nothing(world: World) -> None:
    person = world.person(phone="+919876543210")
    asked = person.ask_signup().ok()
    pending = person.verify_signup(asked["challenge_id"], person.code()).ok()["pending"]
    person.api.post("/api/auth/verify-otp", {"challenge_id": pending["challenge_id"], "otp": person.code("sms")}).ok()
    asked = forgot(person, identifier=person.email, channel="sms").ok()
    assert (asked["channel"], asked["destination"]) == ("sms", "***")
    reset(person, asked["challenge_id"], person.code("sms")).ok()
    stranger = forgot(person, identifier="nobody@example.com", channel="sms").ok()
    assert (stranger["channel"], stranger["destination"]) == ("sms", "***")


def test_a_spent_budget_answers_the_same_for_known_and_unknown(world: World, person: Person) -> None:
    world.clock.advance(minutes=2)
    for identifier in (person.email, "nobody@example.com", "spook"):
        statuses = [forgot(person, identifier=identifier).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


@pytest.mark.covers("attack A60")
def test_another_identifier_does_not_get_more_messages_to_an_address(world: World) -> None:
    person = world.person(username="jane").sign_up()
    world.clock.advance(minutes=2)
    for _ in range(3):
        forgot(person, identifier=person.email).ok()
    before = len(world.inbox(person.email))
    assert [forgot(person, identifier="jane").status for _ in range(3)] == [200, 200, 200]
    assert len(world.inbox(person.email)) == before


def test_a_weak_new_password_costs_a_guess_not_the_code(world: World) -> None:
    person = world.person(name="Jonathan Livingston").sign_up()
    asked = forgot(person).ok()
    code = person.code()
    refused = reset(person, asked["challenge_id"], code, "livingston12")
    assert (refused.status, refused["errors"][0]["code"]) == (422, "contains_identifier")
    assert refused["errors"][0]["field"] == "new_password"
    reset(person, asked["challenge_id"], code).ok()


def test_a_weak_new_password_with_a_wrong_code_tells_nothing_of_the_person(world: World) -> None:
    person = world.person(name="Jonathan Livingston").sign_up()
    asked = forgot(person).ok()
    assert reset(person, asked["challenge_id"], wrong(person.code()), "livingston12").code == "invalid_code"


def test_a_reset_lifts_the_lock(world: World, person: Person) -> None:
    asked = forgot(person).ok()
    code = person.code()
    for _ in range(4):
        person.api.post("/api/auth/login", {"email": person.email, "password": "wrong horse 7"})
    reset(person, asked["challenge_id"], code).ok()
    person.password = NEW
    for _ in range(4):
        person.api.post("/api/auth/login", {"email": person.email, "password": "wrong horse 7"})
    person.sign_in()


def test_a_reset_closes_what_was_begun_with_the_old_password(world: World, person: Person) -> None:
    signin = person.ask_signin().ok()
    signin_code = person.code()
    asked = forgot(person).ok()
    reset(person, asked["challenge_id"], person.code()).ok()
    assert person.verify_signin(signin["challenge_id"], signin_code).code == "challenge_closed"


def test_somebody_without_a_password_gets_one_by_recovery(world: World, person: Person) -> None:
    with world.kit.writes.begin() as db:
        db.query(User).update({"password_hash": None})
    assert person.ask_signin().code == "invalid_credentials"
    asked = forgot(person).ok()
    reset(person, asked["challenge_id"], person.code()).ok()
    person.password = NEW
    person.sign_in()


def test_passwords_are_checked_before_the_code_is_looked_at(world: World, person: Person) -> None:
    asked = forgot(person).ok()
    for password, code in (
        ("short", "too_short"),
        ("12345678", "too_common"),
        ("latchkey1", "too_common"),
        ("x" * 257, "too_long"),
    ):
        refused = reset(person, asked["challenge_id"], "123456", password)
        assert (refused.status, refused["errors"][0]["code"]) == (422, code)
    assert reset(person, asked["challenge_id"], person.code()).status == 200
    assert person.api.post("/api/auth/login", {"email": person.email, "password": PASSWORD}).status == 401


def test_a_resend_answers_the_same_for_known_and_unknown(world: World) -> None:
    person = world.person(phone="+919876543210", username="jane")
    asked = person.ask_signup().ok()
    pending = person.verify_signup(asked["challenge_id"], person.code()).ok()["pending"]
    person.api.post("/api/auth/verify-otp", {"challenge_id": pending["challenge_id"], "otp": person.code("sms")}).ok()
    world.clock.advance(minutes=2)
    for known, unknown in ((person.email, "pobody@example.com"), ("jane", "spook")):
        answers = []
        for identifier in (known, unknown):
            asked = forgot(person, identifier=identifier).ok()
            for channel in ("sms", "email", None):
                world.clock.advance(seconds=61)
                body = {"challenge_id": asked["challenge_id"], **({"channel": channel} if channel else {})}
                again = person.api.post("/api/auth/resend-otp", body)
                again.body.pop("challenge_id")
                answers.append((identifier == known, channel, again.status, again.body))
        assert [a[1:] for a in answers if a[0]] == [a[1:] for a in answers if not a[0]]


def test_an_older_recovery_ends_with_a_newer_one_also_where_there_was_no_password(world: World) -> None:
    phone = Phone(world)
    phone.sign_up()
    world.clock.advance(minutes=2)
    proofs = []
    for _ in range(2):
        asked = phone.api.post("/api/auth/forgot-password", {"phone": phone.number}).ok()
        proofs.append({"challenge_id": asked["challenge_id"], "otp": phone.code(), "new_password": "another horse 8"})
    phone.api.post("/api/auth/reset-password", proofs[1]).ok()
    assert phone.api.post("/api/auth/reset-password", proofs[0]).status == 400


@pytest.mark.covers("attack A02")
def test_by_however_many_names_it_is_asked_no_more_codes_count_than_are_sent(world: World) -> None:
    """What waits for its minute has its place in the day, and it is in the strangers' half."""
    person = world.person(username="jane").sign_up()
    for _ in range(6):
        world.clock.advance(seconds=61)
        for body in ({"email": person.email}, {"identifier": "jane", "channel": "email"}):
            for _ in range(3):
                person.api.post("/api/auth/forgot-password", body).ok()
    world.clock.advance(minutes=5)
    live = [row for row in world.rows(OtpChallenge, purpose="recovery") if row.user_id]
    assert len(live) == world.inbox(person.email).count("code.recovery") == 14, "half a day's, less the sign-up's"


@pytest.mark.covers("attack A02")
def test_the_last_minutes_of_a_day_bring_no_codes_of_the_next_one(world: World, person: Person) -> None:
    """The day of the messages ends within the life of these codes, which is not to have guesses without messages."""
    for _ in range(14):
        world.clock.advance(minutes=2)
        forgot(person).ok()
    world.clock.advance(days=1, minutes=-33)
    late = [forgot(person).ok()["challenge_id"] for _ in range(3)]
    [row] = world.rows(OtpChallenge, id=UUID(late[-1]))
    digits = codes.derive(world.kit.keys, row.key_id, row.factor, 6)
    assert reset(person, late[-1], digits).code == "invalid_code"
    world.clock.advance(minutes=9)
    assert world.inbox(person.email).count("code.recovery") == 14, "and a code that is right for nobody is not sent"
    forgot(person).ok()
    assert world.inbox(person.email).count("code.recovery") == 15, "the next day has its own"


def test_a_code_by_phone_that_is_sent_again_after_a_recovery_is_right(world: World) -> None:
    """The one that was open stood on the password of before: its digits came, and were wrong."""
    phone = Phone(world)
    phone.sign_up()
    world.clock.advance(minutes=5)
    phone.ask().ok()
    world.clock.advance(seconds=40)
    asked = phone.api.post("/api/auth/forgot-password", {"phone": phone.number}).ok()
    new = {"otp": world.read("sms", phone.number), "new_password": "another horse 8"}
    phone.api.post("/api/auth/reset-password", {"challenge_id": asked["challenge_id"], **new}).ok()
    world.clock.advance(seconds=40)
    phone.ask().ok()
    assert phone.answer()["status"] == "factor_required"


def test_a_browser_s_recovery_by_a_username_reaches_a_phone_that_is_all(world: World) -> None:
    person = world.person(username="jane", email="", phone="+919876543210").sign_up(channel="sms")
    before = len(world.inbox(person.phone, "sms"))
    person.api.post("/forgot-password", {"identifier": "jane", "channel": "sms"}).ok()
    assert len(world.inbox(person.phone, "sms")) == before + 1
