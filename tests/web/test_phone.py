"""The mobile dialect: passwordless by phone. The contract's rows, and that a stolen SIM alone opens nothing."""

from __future__ import annotations

from typing import Any

import bcrypt
import pytest

from app.delivery import compose, outbox
from app.models import Consent, OtpChallenge, Session, Signup, User
from app.work import run
from tests.authenticator import enrol
from tests.conftest import World
from tests.people import PASSWORD, Answer, Api, Person, wrong
from tests.web.test_sameness import statements

NUMBER = "+919876543210"
AGREED = {"terms": True, "privacy": True, "version": "2026-01"}


class Phone:
    """Somebody with a phone and no password."""

    def __init__(self, world: World, number: str = NUMBER) -> None:
        self.world, self.number, self.api = world, number, world.api()

    def ask(self, **more: Any) -> Answer:
        return self.api.post("/api/v1/auth/send-otp", {"mobile_number": self.number} | more)

    def code(self) -> str:
        return self.world.read("sms", self.number)

    def answer(self, code: str | None = None, **more: Any) -> Answer:
        body = {"mobile_number": self.number, "otp": code or self.code(), **more}
        return self.api.post("/api/v1/auth/verify-otp", body)

    def prove(self) -> str:
        self.ask().ok()
        return self.answer().ok()["registration_token"]

    def register(self, token: str, **more: Any) -> Answer:
        body = {"registration_token": token, "name": "Asha", "consent": AGREED, **more}
        return self.api.post("/api/v1/auth/complete-registration", body)

    def sign_up(self, **more: Any) -> Answer:
        return self.register(self.prove(), **more).ok()


@pytest.fixture
def phone(world: World) -> Phone:
    return Phone(world)


@pytest.mark.covers("nist N30")
@pytest.mark.parametrize("known", [True, False])
def test_a_hundred_wrong_guesses_at_a_number_alone_leave_each_code_its_first_guess(
    world: World, phone: Phone, known: bool
) -> None:
    """The code is all that binds such an account again: it must not be off for good."""
    if known:
        phone.sign_up()
    made = 0
    while made < 100:
        answer = world.api().post("/api/auth/login", {"identifier": NUMBER, "password": "wrong horse 7"})
        made += answer.status == 401
        world.clock.advance(seconds=answer.body.get("retry_after", 0))
    world.clock.advance(days=2)
    for _ in range(2):
        phone.ask().ok()
        assert phone.answer(wrong(phone.code())).code == "invalid_code"
        if known:
            assert phone.answer().code == "invalid_code"
        world.clock.advance(minutes=20)
    phone.ask().ok()
    assert phone.answer().ok()["is_new_user"] is not known


@pytest.mark.covers("nist N30")
def test_a_hundred_wrong_guesses_leave_the_factor_after_a_number_alone_its_first_guess(
    world: World, phone: Phone
) -> None:
    person = Person(phone.api, world.read, phone=NUMBER, tokens=phone.sign_up().body)
    app = enrol(world, person)
    made = 0
    while made < 100:
        answer = world.api().post("/api/auth/login", {"identifier": NUMBER, "password": "wrong horse 7"})
        made += answer.status == 401
        world.clock.advance(seconds=answer.body.get("retry_after", 0))
    world.clock.advance(days=2)

    def asked() -> str:
        phone.ask().ok()
        return phone.answer().ok()["challenge_id"]

    backup = app.backup_codes[0]
    first = asked()
    assert person.verify_signin(first, "000000").code == "invalid_code"
    assert person.verify_signin(first, backup).code == "invalid_code"
    world.clock.advance(minutes=20)
    assert person.verify_signin(asked(), backup).status == 200, "it was not used up where it was not taken"


def test_a_new_number_is_proven_registers_and_is_in(world: World, phone: Phone) -> None:
    asked = phone.ask().ok()
    assert (asked["channel"], asked["destination"]) == ("sms", "+91******3210")
    assert 0 < asked["expires_in"] <= 180
    proven = phone.answer(challenge_id=asked["challenge_id"]).ok()
    assert proven["is_new_user"] is True
    assert 0 < proven["expires_in"] <= 600
    assert "access_token" not in proven.body
    assert world.count(User) == 0
    done = phone.register(proven["registration_token"], device_info={"model": "Pixel 8"})
    assert done.status == 201
    assert (done["user"]["name"], done["user"]["phone"], done["user"]["email"]) == ("Asha", NUMBER, None)
    assert phone.api.get("/api/v1/auth/me", done["access_token"])["id"] == done["user"]["id"]
    [session] = phone.api.get("/api/auth/sessions", done["access_token"])["items"]
    assert (session["device_info"], session["amr"]) == ({"model": "Pixel 8"}, ["sms"])


def test_a_known_number_is_signed_in(phone: Phone) -> None:
    user = phone.sign_up()["user"]
    phone.world.clock.advance(minutes=2)
    phone.ask().ok()
    answer = phone.answer(device_info={"model": "Pixel 9"}).ok()
    assert (answer["is_new_user"], answer["status"], answer["user"]["id"]) == (False, "complete", user["id"])


@pytest.mark.covers("attack A37")
def test_a_stolen_sim_alone_opens_no_account_that_has_a_password(world: World) -> None:
    owner = world.person(phone=NUMBER).sign_up(channel="sms")
    thief = Phone(world)
    thief.ask().ok()
    asked = thief.answer().ok()
    assert (asked["status"], asked["methods"]) == ("factor_required", ["password"])
    assert "access_token" not in asked.body
    body = {"challenge_id": asked["challenge_id"]}
    for _ in range(3):
        refused = thief.api.post("/api/auth/login/verify", body | {"password": "wrong horse 7"})
        assert (refused.status, refused.code) == (401, "invalid_credentials")
    assert thief.api.post("/api/auth/login/verify", body | {"password": owner.password}).code == "challenge_closed"
    assert world.count(Session) == 1


def test_the_owner_gives_the_password_after_the_code(world: World) -> None:
    world.person(phone=NUMBER).sign_up(channel="sms")
    phone = Phone(world)
    phone.ask().ok()
    asked = phone.answer().ok()
    body = {"challenge_id": asked["challenge_id"], "password": PASSWORD, "device_info": {"model": "Pixel 8"}}
    done = phone.api.post("/api/auth/login/verify", body).ok()
    [session] = [s for s in world.rows(Session) if str(s.id) == done["session_id"]]
    assert (session.amr, session.device_info) == ("sms pwd", {"model": "Pixel 8"})
    assert phone.api.post("/api/auth/login/verify", body).code == "challenge_closed"


def test_the_password_step_sends_no_code_and_takes_none(world: World) -> None:
    world.person(phone=NUMBER).sign_up(channel="sms")
    phone = Phone(world)
    phone.ask().ok()
    code = phone.code()
    asked = phone.answer(code).ok()
    before = len(world.senders["sms"].messages)
    assert phone.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).code == "challenge_closed"
    answer = phone.api.post("/api/auth/login/verify", {"challenge_id": asked["challenge_id"], "otp": code})
    assert answer.code == "challenge_closed"
    world.deliver()
    assert len(world.senders["sms"].messages) == before


def test_a_password_is_no_answer_to_a_code(world: World, person: Person) -> None:
    asked = person.ask_signin().ok()
    body = {"challenge_id": asked["challenge_id"], "password": PASSWORD}
    assert person.api.post("/api/auth/login/verify", body).code == "challenge_closed"
    neither = person.api.post("/api/auth/login/verify", {"challenge_id": asked["challenge_id"]})
    both = person.api.post("/api/auth/login/verify", body | {"otp": "123456"})
    assert {neither.code, both.code} == {"validation_failed"}


def test_a_changed_password_ends_the_step_before_it(world: World) -> None:
    owner = world.person(phone=NUMBER).sign_up(channel="sms")
    phone = Phone(world)
    phone.ask().ok()
    asked = phone.answer().ok()
    body = {"current_password": PASSWORD, "new_password": "another horse 8"}
    owner.api.post("/api/auth/change-password", body, owner.token).ok()
    answer = phone.api.post(
        "/api/auth/login/verify", {"challenge_id": asked["challenge_id"], "password": "another horse 8"}
    )
    assert answer.code == "challenge_closed"


@pytest.mark.covers("attack A60")
def test_three_sends_a_minute_for_one_number_in_any_spelling(world: World, phone: Phone) -> None:
    spellings = ["+919876543210", "+91 98765 43210", "0091 98765-43210", "+91 (98765) 43210"]
    answers = [Phone(world, s).ask() for s in spellings]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert answers[3].code == "rate_limited"
    assert len({a["challenge_id"] for a in answers[:3]}) == 1, "the same challenge while it is alive"
    codes = {m.code for m in world.senders["sms"].messages}
    assert len(codes) == 1
    world.clock.advance(seconds=61)
    assert Phone(world).ask().status == 200


def test_a_resend_brings_no_fresh_guesses(world: World, phone: Phone) -> None:
    phone.ask().ok()
    code = phone.code()
    assert [phone.answer(wrong(code))["attempts_left"] for _ in range(2)] == [2, 1]
    left = [row.attempts for row in world.rows(OtpChallenge)]
    phone.ask().ok()
    assert [row.attempts for row in world.rows(OtpChallenge)] == left
    assert phone.answer(wrong(code)).code == "invalid_code"
    assert phone.answer(code).code == "challenge_closed"


def test_the_code_lives_three_minutes(world: World, phone: Phone) -> None:
    phone.ask().ok()
    code = phone.code()
    world.clock.advance(seconds=181)
    assert phone.answer(code).code == "challenge_closed"


def test_without_a_challenge_there_is_nothing_to_answer(phone: Phone) -> None:
    assert phone.answer("123456").code == "challenge_closed"


def test_another_number_s_challenge_is_closed_here(world: World, phone: Phone) -> None:
    other = Phone(world, "+919876543211")
    asked = other.ask().ok()
    phone.ask().ok()
    assert phone.answer(other.code(), challenge_id=asked["challenge_id"]).code == "challenge_closed"


def test_five_wrong_guesses_lock_the_number_here_and_at_every_other_door(world: World) -> None:
    owner = world.person(phone=NUMBER).sign_up(channel="sms")
    phone = Phone(world)
    for _ in range(5):
        world.clock.advance(seconds=61)
        phone.ask()
        phone.answer(wrong(phone.code()))
    asked = phone.ask()
    assert (asked.status, asked.code) == (423, "account_locked")
    login = owner.api.post("/api/auth/login", {"phone": NUMBER, "password": PASSWORD})
    assert login.code == "account_locked"


@pytest.mark.covers("attack A31")
def test_known_and_unknown_numbers_look_alike(world: World) -> None:
    Phone(world).sign_up()
    world.clock.advance(minutes=2)
    known, unknown = Phone(world).ask().ok(), Phone(world, "+919876543211").ask().ok()
    assert {k: v for k, v in known.body.items() if k not in ("challenge_id", "destination")} == {
        k: v for k, v in unknown.body.items() if k not in ("challenge_id", "destination")
    }


@pytest.mark.one_copy
@pytest.mark.covers("attack A31")
def test_known_and_unknown_numbers_cost_the_same_statements(world: World) -> None:
    known, unknown = Phone(world), Phone(world, "+919876543211")
    known.sign_up()
    unknown.prove()
    for phone in (known, unknown):
        phone.ask().ok()
    for wait, what in ((1, "again"), (4, "anew")):
        world.clock.advance(minutes=wait)
        assert statements(world, known.ask) == statements(world, unknown.ask), what


def test_a_disabled_account_s_number_gets_no_code_and_the_same_answer(world: World, phone: Phone) -> None:
    user = phone.sign_up()["user"]
    with world.kit.writes() as db:
        db.query(User).update({"disabled_at": world.clock.now})
        db.commit()
    world.clock.advance(minutes=4)
    before = len(world.senders["sms"].messages)
    asked = phone.ask().ok()
    world.deliver()
    assert len(world.senders["sms"].messages) == before
    assert phone.answer("123456").code == "invalid_code"
    assert phone.api.get(f"/api/auth/challenges/{asked['challenge_id']}")["delivery"] == "sent"
    assert user["phone"] == NUMBER


def test_a_token_registers_once(world: World, phone: Phone) -> None:
    token = phone.prove()
    phone.register(token).ok()
    again = phone.register(token)
    assert (again.status, again.code) == (401, "token_invalid")
    assert world.count(User) == 1


def test_a_token_lasts_ten_minutes(world: World, phone: Phone) -> None:
    token = phone.prove()
    world.clock.advance(minutes=10)
    assert phone.register(token).code == "token_expired"
    assert world.count(User) == 0


def test_a_sign_up_that_is_over_is_begun_anew(world: World, phone: Phone) -> None:
    phone.ask().ok()
    world.clock.advance(hours=24, minutes=5)
    assert phone.register(phone.prove()).status == 201


def test_signing_out_ends_this_session_alone(world: World, phone: Phone) -> None:
    first = phone.sign_up()
    world.clock.advance(minutes=2)
    phone.ask().ok()
    second = phone.answer().ok()
    phone.api.post("/api/v1/auth/logout", {}, second["access_token"]).ok()
    assert phone.api.get("/api/v1/auth/me", second["access_token"]).code == "token_revoked"
    assert phone.api.get("/api/v1/auth/me", first["access_token"]).status == 200


def test_the_newer_token_is_the_one_that_counts(world: World, phone: Phone) -> None:
    first = phone.prove()
    world.clock.advance(minutes=4)
    second = phone.prove()
    assert phone.register(first).code == "token_invalid"
    assert phone.register(second).status == 201


@pytest.mark.parametrize("consent", [None, False, {"terms": False}, {"privacy": True}, {}])
def test_without_consent_there_is_no_account(world: World, phone: Phone, consent: Any) -> None:
    token = phone.prove()
    answer = phone.register(token, consent=consent)
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert answer["errors"][0]["field"].startswith("consent")
    assert world.count(User) == 0
    assert phone.register(token).status == 201


def test_consent_is_kept_with_version_time_and_address(world: World, phone: Phone) -> None:
    phone.sign_up()
    [row] = world.rows(Consent)
    assert (row.terms, row.privacy, row.version, row.ip) == (True, True, "2026-01", "203.0.113.5")
    assert abs((row.given_at - world.clock.now).total_seconds()) < 5


def test_consent_is_given_anew_withdrawn_and_stays_in_the_history(phone: Phone) -> None:
    token = phone.sign_up()["access_token"]
    newer = phone.api.post("/api/auth/me/consents", {"terms": True, "version": "2026-02"}, token).ok()
    gone = phone.api.delete(f"/api/auth/me/consents/{newer['id']}", token).ok()
    assert gone["withdrawn_at"]
    assert phone.api.delete(f"/api/auth/me/consents/{newer['id']}", token).code == "not_found"
    history = phone.api.get("/api/auth/me/consents", token)["items"]
    assert [(c["version"], c["withdrawn_at"] is not None) for c in history] == [("2026-02", True), ("2026-01", False)]
    exported = phone.api.get("/api/auth/me/export", token)["consents"]
    assert [c["version"] for c in exported] == ["2026-01", "2026-02"]
    assert exported[1]["withdrawn_at"]


def test_consents_come_in_pages(phone: Phone) -> None:
    token, path = phone.sign_up()["access_token"], "/api/auth/me/consents"
    for version in ("2", "3", "4", "5"):
        phone.api.post(path, {"terms": True, "version": version}, token).ok()
    seen, cursor = [], ""
    while cursor is not None:
        page = phone.api.get(f"{path}?limit=2{cursor}", token).ok()
        seen.append([item["version"] for item in page["items"]])
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == [["5", "4"], ["3", "2"], ["2026-01"]]
    assert phone.api.get(f"{path}?limit=201", token).code == "validation_failed"


def test_nobody_withdraws_another_s_consent(world: World, phone: Phone) -> None:
    phone.sign_up()
    [row] = world.rows(Consent)
    stranger = world.person().sign_up()
    assert stranger.api.delete(f"/api/auth/me/consents/{row.id}", stranger.token).code == "not_found"
    assert world.rows(Consent)[0].withdrawn_at is None


def test_an_address_given_at_registration_is_proven_by_its_own_code(world: World, phone: Phone) -> None:
    done = phone.sign_up(email="asha@example.com")
    assert done["user"]["email"] is None
    code = world.read("email", "asha@example.com")
    body = {"challenge_id": done["pending"]["challenge_id"], "otp": code}
    assert phone.api.post("/api/auth/verify-otp", body).ok()["user"]["email"] == "asha@example.com"


def test_tokens_are_refreshed_and_end_at_sign_out(phone: Phone) -> None:
    tokens = phone.sign_up()
    fresh = phone.api.post("/api/v1/auth/refresh-token", {"refresh_token": tokens["refresh_token"]}).ok()
    phone.api.post("/api/v1/auth/logout", token=fresh["access_token"]).ok()
    assert phone.api.get("/api/v1/auth/me", fresh["access_token"]).code == "token_revoked"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("+911123456789", "no_sms"),  # a landline in Delhi
        ("+18005550199", "no_sms"),  # toll-free
        ("+449098790000", "no_sms"),  # premium
        ("+12", "invalid_phone"),
        ("9876543210", "invalid_phone"),  # no country
        ("call me", "invalid_phone"),
        ("+91987654321x5", "invalid_phone"),
        ("\u0967\u0968\u0969", "invalid_phone"),
    ],
)
def test_what_gets_no_sms_is_refused_before_money_is_spent(world: World, number: str, code: str) -> None:
    answer = Phone(world, number).ask()
    assert (answer.status, answer["errors"][0]["field"], answer["errors"][0]["code"]) == (422, "mobile_number", code)
    assert world.count(OtpChallenge) == world.count(Signup) == 0


def test_the_default_region_reads_a_number_without_its_country(make_world: Any) -> None:
    world = make_world(default_phone_region="IN")
    for typed in ("9876543210", "098765 43210"):
        assert Phone(world, typed).ask().ok()["destination"] == "+91******3210"


def test_a_primary_sign_up_that_waits_is_not_shadowed_by_a_stranger_s_send_otp(world: World) -> None:
    """Whoever signed up with number and password can still go on by password after somebody asked for a code."""
    pending = world.person(phone=NUMBER)
    pending.ask_signup(channel="sms").ok()
    world.clock.advance(minutes=2)
    Phone(world).ask().ok()
    world.clock.advance(minutes=2)
    asked = pending.api.post("/api/auth/login", {"phone": NUMBER, "password": PASSWORD}).ok()
    assert asked["status"] == "otp_required"


def test_a_number_that_was_registered_meanwhile_is_signed_in(world: World) -> None:
    """The code was asked for while the number was new; its owner finished elsewhere; the code is still theirs."""
    first, second = Phone(world), Phone(world)
    token = first.prove()
    world.clock.advance(minutes=4)
    second.ask().ok()
    first.register(token).ok()
    answer = second.answer().ok()
    assert answer["is_new_user"] is False


@pytest.mark.covers("asvs 16.2.5")
def test_masked_numbers_in_audit_and_logs(world: World, phone: Phone, caplog: pytest.LogCaptureFixture) -> None:
    phone.ask().ok()
    phone.answer(wrong(phone.code()))
    phone.answer().ok()
    for row in world.audit():
        assert NUMBER[3:] not in str((row.subject, row.facts, row.reason))
    assert "9876543210" not in caplog.text


def test_the_primary_dialect_takes_phones_too(world: World) -> None:
    api: Api = world.api()
    asked = api.post("/api/auth/signup", {"phone": NUMBER, "password": PASSWORD, "name": "Asha"}).ok()
    done = api.post(
        "/api/auth/verify-otp", {"challenge_id": asked["challenge_id"], "otp": world.read("sms", NUMBER)}
    ).ok()
    assert done["user"]["phone"] == NUMBER
    moved = api.post("/api/auth/change-phone", {"phone": "+919876543211"}, done["access_token"]).ok()
    body = {"challenge_id": moved["challenge_id"], "otp": world.read("sms", "+919876543211")}
    assert api.post("/api/auth/verify-otp", body).ok()["user"]["phone"] == "+919876543211"
    assert "notice.contact_changed" in world.inbox(NUMBER, "sms")
    world.clock.advance(minutes=2)
    login = api.post("/api/auth/login", {"phone": "+919876543211", "password": PASSWORD, "channel": "sms"}).ok()
    assert (login["channel"], login["methods"]) == ("sms", ["sms"])


def by_recovery(world: World, phone: Phone) -> str:
    """Set a new password with nothing but the phone."""
    world.clock.advance(minutes=2)
    asked = phone.api.post("/api/auth/forgot-password", {"phone": phone.number}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": phone.code(), "new_password": "thief horse 99"}
    phone.api.post("/api/auth/reset-password", body).ok()
    world.clock.advance(minutes=2)
    return "thief horse 99"


def owner_with_both(world: World, number: str = NUMBER) -> Person:
    owner = world.person(phone=number).sign_up()
    body = {"challenge_id": owner.tokens["pending"]["challenge_id"], "otp": world.read("sms", number)}
    owner.api.post("/api/auth/verify-otp", body).ok()
    return owner


@pytest.mark.covers("attack A37")
@pytest.mark.parametrize("policy", ["required", "optional"])
def test_a_stolen_sim_opens_nothing_by_recovery_either(make_world: Any, policy: str) -> None:
    """Where the account has an e-mail address: the password that a code to the phone has set counts for nothing
    beside another code to that phone.
    """
    world = make_world(mfa_policy=policy)
    owner = owner_with_both(world)
    thief = Phone(world)
    password = by_recovery(world, thief)
    login = thief.api.post("/api/auth/login", {"phone": NUMBER, "password": password, "channel": "sms"}).ok()
    assert (login["status"], login["methods"], login["channel"]) == ("otp_required", ["email"], "email")
    world.clock.advance(seconds=31)
    resent = {"challenge_id": login["challenge_id"], "channel": "sms"}
    assert thief.api.post("/api/auth/resend-otp", resent).ok()["channel"] == "email"
    thief.ask().ok()
    step = thief.answer().ok()
    answer = thief.api.post("/api/auth/login/verify", {"challenge_id": step["challenge_id"], "password": password})
    assert (answer["status"], answer["channel"], answer["methods"]) == ("otp_required", "email", ["email"])
    assert "access_token" not in answer.body
    body = {"challenge_id": answer["challenge_id"], "otp": world.read("email", owner.email)}
    assert owner.api.post("/api/auth/login/verify", body).status == 200, "its owner gets in by mail"
    world.clock.advance(minutes=2)
    again = owner.api.post("/api/auth/login", {"phone": NUMBER, "password": password, "channel": "sms"}).ok()
    before = ["email", "sms"] if policy == "required" else None
    assert again.body.get("methods") == before, "and then all is as before"


def test_strangers_asking_for_codes_leave_half_a_day_to_who_has_the_password(world: World) -> None:
    owner = world.person(phone=NUMBER).sign_up(channel="sms")
    world.clock.advance(minutes=2)
    stranger = Phone(world)
    for _ in range(12):
        stranger.ask()
        world.clock.advance(seconds=25)
    world.clock.advance(minutes=5)
    assert owner.api.post("/api/auth/login", {"phone": NUMBER, "password": PASSWORD}).status == 200


def test_codes_again_for_a_decoy_leave_that_half_too(world: World) -> None:
    """Beyond the strangers' half a question is a decoy, and what is sent again for one is nobody's invitation."""
    owner = world.person(phone=NUMBER).sign_up(channel="sms")
    stranger = Phone(world)
    for _ in range(4):
        world.clock.advance(minutes=4)
        asked = stranger.ask().ok()["challenge_id"]
        for _ in range(4):
            world.clock.advance(seconds=31)
            stranger.api.post("/api/auth/resend-otp", {"challenge_id": asked}).ok()
    assert world.inbox(NUMBER, "sms").count("code.phone") == 4, "half a day's, less the sign-up's"
    world.clock.advance(minutes=2)
    assert owner.api.post("/api/auth/login", {"phone": NUMBER, "password": PASSWORD}).status == 200


def test_the_account_s_language_is_that_of_who_proved_the_number(world: World) -> None:
    world.api(**{"Accept-Language": "hi"}).post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}).ok()
    world.clock.advance(minutes=4)
    owner = Phone(world)
    owner.api = world.api(**{"Accept-Language": "en"})
    assert owner.sign_up()["user"]["language"] == "en"


def test_a_token_is_worth_nothing_once_the_number_has_an_owner(world: World, phone: Phone) -> None:
    token = phone.prove()
    world.clock.advance(minutes=2)
    world.person(phone=NUMBER).sign_up(channel="sms")
    assert phone.register(token, email="thief@example.com").code == "challenge_closed"
    [row] = [row for row in world.rows(Signup) if row.password_hash is None and row.completed_at is None]
    assert (row.name, row.email, row.consent) == (None, None, None)


@pytest.mark.parametrize(
    "consent", [1, "true", {"terms": 1}, {"terms": "true"}, [True], {"terms": True, "privacy": "x"}]
)
def test_consent_is_true_and_nothing_like_it(phone: Phone, consent: Any) -> None:
    assert phone.register(phone.prove(), consent=consent).status == 422


def test_a_code_that_was_used_meanwhile_is_not_sent(world: World, phone: Phone) -> None:
    phone.ask().ok()
    code = phone.code()
    world.sends_at_once = False
    world.clock.advance(seconds=5)
    phone.ask().ok()
    ids = run(world.kit, lambda work: outbox.due(work, "sms", 5), reads=True)
    claimed = run(world.kit, lambda work: compose.claim(work, ids))
    phone.answer(code).ok()
    world.clock.advance(seconds=2)  # of which the courier spent some on others
    before = len(world.senders["sms"].messages)
    for message in claimed:
        world.courier._deliver(message)
    assert len(world.senders["sms"].messages) == before


def test_an_old_hash_is_renewed_also_where_the_password_comes_second(world: World) -> None:
    world.person(phone=NUMBER).sign_up(channel="sms")
    with world.kit.writes.begin() as db:
        db.query(User).update({"password_hash": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()})
    phone = Phone(world)
    phone.ask().ok()
    body = {"challenge_id": phone.answer().ok()["challenge_id"], "password": PASSWORD}
    phone.api.post("/api/auth/login/verify", body).ok()
    assert world.rows(User)[0].password_hash.startswith("$argon2id$")


@pytest.mark.covers("attack A27", "nist N56")
def test_a_number_that_somebody_wrote_down_is_not_theirs(world: World, phone: Phone) -> None:
    """One signs up with another's number beside their own address; the number's holder comes by phone alone."""
    stranger = world.person(phone=NUMBER).sign_up(channel="email")
    world.clock.advance(minutes=2)
    phone.ask().ok()
    proven = phone.answer().ok()
    assert proven["is_new_user"] is True
    world.clock.advance(minutes=2)
    holder = phone.register(proven["registration_token"]).ok()
    assert (holder["user"]["phone"], holder["user"]["email"]) == (NUMBER, None)
    assert holder["user"]["id"] != stranger.tokens["user"]["id"]
    assert stranger.me()["phone"] is None
    assert stranger.api.post("/api/auth/forgot-password", {"phone": NUMBER}).ok()
    assert world.inbox(stranger.email)[-1] == "code.signup", "nothing about that number concerns them"


def test_what_remains_after_a_code_by_phone_is_told_in_the_document_s_words(world: World) -> None:
    world.person(phone=NUMBER, email="").sign_up(channel="sms")
    world.clock.advance(minutes=5)
    phone = Phone(world)
    phone.ask().ok()
    left = phone.answer().ok()
    assert phone.api.get(f"/api/auth/challenges/{left['challenge_id']}").ok()["channel"] == "password"
