"""Many at the same moment, against four gunicorn workers."""

from __future__ import annotations

import time
from collections import Counter
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from app.core import lockout
from app.core.identifiers import Identifier, Kind
from app.models import OtpChallenge, OutboxMessage, RefreshToken, Session, Throttle, User
from tests.people import PASSWORD, Answer, Person, wrong
from tests.races.conftest import Arena
from tests.service import at_once

pytestmark = pytest.mark.slow


def codes(answers: list[Answer]) -> Counter[str | None]:
    return Counter("ok" if a.status in (200, 201) else a.code for a in answers)


@pytest.mark.covers("attack A13", "asvs 2.3.4", "asvs 6.5.1", "asvs 15.4.2")
def test_of_200_right_verifications_one_wins(arena: Arena) -> None:
    person = arena.person().sign_up()
    asked = person.ask_signin().ok()
    code = arena.mailbox.new_code(person.email, seen=1)
    body = {"challenge_id": asked["challenge_id"], "otp": code}
    answers = at_once(200, lambda _: person.api.post("/api/auth/login/verify", body))
    assert codes(answers) == {"ok": 1, "challenge_closed": 199}
    assert arena.scalar(sa.select(sa.func.count()).where(Session.user_id == UUID(person.tokens["user"]["id"]))) == 2


@pytest.mark.covers("attack A13")
def test_of_200_right_recoveries_one_wins(arena: Arena) -> None:
    person = arena.person().sign_up()
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    code = arena.mailbox.new_code(person.email, seen=1)
    body = {"challenge_id": asked["challenge_id"], "otp": code, "new_password": "a new horse 42"}
    answers = at_once(200, lambda _: person.api.post("/api/auth/reset-password", body))
    assert codes(answers) == {"ok": 1, "challenge_closed": 199}


@pytest.mark.covers("attack A01", "asvs 6.6.3")
def test_of_200_wrong_guesses_exactly_the_cap_is_evaluated(arena: Arena) -> None:
    person = arena.person().sign_up()
    asked = person.ask_signin().ok()
    code = arena.mailbox.new_code(person.email, seen=1)
    body = {"challenge_id": asked["challenge_id"], "otp": wrong(code)}
    answers = at_once(200, lambda _: person.api.post("/api/auth/login/verify", body))
    assert codes(answers) == {"invalid_code": 3, "challenge_closed": 197}
    assert sorted(a["attempts_left"] for a in answers if a.code == "invalid_code") == [0, 1, 2]
    assert arena.scalar(sa.select(OtpChallenge.attempts).where(OtpChallenge.id == UUID(asked["challenge_id"]))) == 3


@pytest.mark.covers("attack A01", "attack A02")
def test_of_200_wrong_passwords_exactly_five_are_evaluated(arena: Arena) -> None:
    person = arena.person().sign_up()
    for identifier in (person.email, "nobody@example.com"):
        body = {"identifier": identifier, "password": "wrong horse 7"}
        answers = at_once(200, lambda _, body=body: person.api.post("/api/auth/login", body))
        seen = codes(answers)
        while shed := seen.pop("overloaded", 0):  # turned away before any guess: tried again
            seen += codes(at_once(shed, lambda _, body=body: person.api.post("/api/auth/login", body)))
        assert seen == {"invalid_credentials": 5, "account_locked": 195}
    assert arena.scalar(sa.select(sa.func.max(Throttle.streak))) == 5


@pytest.mark.covers("attack A11", "attack A70")
def test_100_honest_sign_ins_at_once_all_pass(arena: Arena) -> None:
    person = arena.person().sign_up()

    def ask(_: int) -> Answer:
        answer = person.ask_signin()
        while answer.code == "overloaded":
            time.sleep(answer["retry_after"])
            answer = person.ask_signin()
        return answer

    asked = at_once(100, ask)
    assert codes(asked) == {"ok": 100}
    deadline = time.monotonic() + 30
    while len(arena.mailbox.to(person.email)) < 101 and time.monotonic() < deadline:
        time.sleep(0.1)
    proofs = [{"challenge_id": a["challenge_id"], "otp": arena.code_of(a["challenge_id"], person.email)} for a in asked]
    answers = at_once(100, lambda n: person.api.post("/api/auth/login/verify", proofs[n]))
    assert codes(answers) == {"ok": 100}


@pytest.mark.covers("attack A46")
def test_20_refreshes_of_one_token_leave_one_lineage(arena: Arena) -> None:
    person = arena.person().sign_up()
    answers = at_once(20, lambda _: person.refresh(), threads=20)
    assert codes(answers) == {"ok": 20}
    assert len({a["refresh_token"] for a in answers}) == 1
    session = UUID(person.tokens["session_id"])
    unspent = sa.select(sa.func.count()).where(RefreshToken.session_id == session, RefreshToken.used_at.is_(None))
    assert arena.scalar(unspent) == 1


@pytest.mark.covers("asvs 2.3.4", "attack A25")
def test_many_proofs_of_one_address_make_one_account(arena: Arena) -> None:
    people = [arena.person(email="crowd@example.com", password=f"crowd horse {n}") for n in range(20)]
    asked = [p.ask_signup().ok()["challenge_id"] for p in people]
    deadline = time.monotonic() + 20
    while len(arena.mailbox.to("crowd@example.com")) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    proofs = [(c, arena.code_of(c, "crowd@example.com")) for c in asked]
    answers = at_once(20, lambda n: people[n].verify_signup(*proofs[n]), threads=20)
    assert codes(answers) == {"ok": 1, "challenge_closed": 19}
    assert arena.scalar(sa.select(sa.func.count()).where(User.email == "crowd@example.com")) == 1


def test_one_username_goes_to_one_of_many(arena: Arena) -> None:
    people = [arena.person(username="the.one") for _ in range(30)]
    answers = at_once(30, lambda n: people[n].ask_signup(), threads=30)
    seen = codes(answers)
    assert seen["ok"] == 1
    assert seen["username_taken"] + seen["overloaded"] == 29


def test_changes_of_an_account_at_once_undo_none_that_was_answered(arena: Arena) -> None:
    person = arena.person().sign_up()
    for n in range(20):
        told = {"name": f"Jane {n}", "username": f"jane.{uuid4().hex[:12]}", "language": ("en", "hi")[n % 2]}
        changes = [{field: value} for field, value in told.items()]
        answers = at_once(3, lambda i, changes=changes: person.api.patch("/api/auth/me", changes[i], person.token))
        assert codes(answers) == {"ok": 3}
        language = arena.scalar(sa.select(User.language).where(User.id == UUID(person.tokens["user"]["id"])))
        assert {"language": language, **{field: person.me()[field] for field in ("name", "username")}} == told


def test_a_challenge_is_resent_once_however_many_ask(arena: Arena) -> None:
    person = arena.person()
    asked = person.ask_signup().ok()
    arena.let_resend(asked["challenge_id"])
    answers = at_once(40, lambda _: person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}))
    assert codes(answers) == {"ok": 1, "resend_too_soon": 39}


def test_recoveries_beside_sign_ins_by_username_all_finish(arena: Arena) -> None:
    """A recovery forgives every identifier of the account while others lock them one by one."""
    person = arena.person().sign_up()
    username = first_to_lock(person)
    person.api.patch("/api/auth/me", {"username": username}, person.token).ok()
    asked = [
        person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()["challenge_id"] for _ in range(6)
    ]
    codes_of = [arena.code_that_comes(c, person.email) for c in asked]
    before = arena.deadlocks()

    def act(n: int) -> Answer:
        if n % 10 == 0:
            body = {"challenge_id": asked[n // 10], "otp": codes_of[n // 10], "new_password": f"busy horse {n}"}
            return person.api.post("/api/auth/reset-password", body)
        return person.api.post("/api/auth/login", {"username": username, "password": "wrong horse 7"})

    seen = codes(at_once(60, act))
    assert set(seen) <= {
        "ok",
        "invalid_credentials",
        "account_locked",
        "invalid_code",
        "challenge_closed",
        "overloaded",
    }
    assert seen["ok"] >= 1
    assert arena.deadlocks() == before


def first_to_lock(person: Person) -> str:
    """A username whose counter is locked before the account's own: a sign-in by it holds it while it waits for that."""
    account = UUID(person.tokens["user"]["id"])
    while True:
        name = f"busy{uuid4().hex[:12]}"
        own, whole = lockout.keys(lockout.key(Identifier(Kind.USERNAME, name)), account)
        if own < whole:
            return name


def send_otp(arena: Arena, number: str, **headers: str) -> Answer:
    return arena.service.api().post("/api/v1/auth/send-otp", {"mobile_number": number}, **headers)


@pytest.mark.covers("attack A13")
def test_of_200_right_answers_by_phone_one_wins_and_one_account_is_made(arena: Arena) -> None:
    number, api = arena.number(), arena.service.api()
    send_otp(arena, number).ok()
    body = {"mobile_number": number, "otp": arena.sms_code(number)}
    answers = at_once(200, lambda _: api.post("/api/v1/auth/verify-otp", body))
    assert codes(answers) == {"ok": 1, "challenge_closed": 199}
    [proven] = [a for a in answers if a.status == 200]
    body = {"registration_token": proven["registration_token"], "name": "Asha", "consent": True}
    answers = at_once(40, lambda _: api.post("/api/v1/auth/complete-registration", body))
    seen = codes(answers)
    assert seen["ok"] == 1
    assert seen["token_invalid"] + seen["challenge_closed"] == 39  # spent, or the number has an owner by now
    assert arena.scalar(sa.select(sa.func.count()).where(User.phone == number)) == 1


def test_send_otp_at_once_makes_one_challenge_and_keeps_to_its_budget(arena: Arena) -> None:
    number = arena.number()
    answers = at_once(40, lambda _: send_otp(arena, number))
    assert codes(answers) == {"ok": 40}
    assert len({a["challenge_id"] for a in answers}) == 1


@pytest.mark.parametrize("other", ["signup", "forgot-password", "login"])
def test_every_way_to_ask_for_a_message_takes_its_locks_in_one_order(arena: Arena, other: str) -> None:
    if arena.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    api, before = arena.service.api(), arena.deadlocks()
    for _ in range(4):
        number = arena.number()

        def act(n: int, number: str = number) -> Answer:
            if n % 2:
                return api.post("/api/v1/auth/send-otp", {"mobile_number": number})
            password = {} if other == "forgot-password" else {"password": PASSWORD}
            return api.post(f"/api/auth/{other}", {"phone": number} | password)

        seen = codes(at_once(60, act))
        assert set(seen) <= {"ok", "invalid_credentials", "account_locked", "overloaded"}, seen
    assert arena.deadlocks() == before


REPEATED = {
    "/api/auth/signup": lambda _: {"email": f"{uuid4().hex}@example.com", "password": PASSWORD},
    "/api/auth/forgot-password": lambda _: {"email": f"{uuid4().hex}@example.com"},
    "/api/v1/auth/send-otp": lambda arena: {"mobile_number": arena.number()},
}


@pytest.mark.parametrize("path", REPEATED)
def test_50_requests_with_one_key_make_one_message_and_one_answer(arena: Arena, path: str) -> None:
    key, body, api = {"Idempotency-Key": uuid4().hex}, REPEATED[path](arena), arena.service.api()
    before = arena.scalar(sa.select(sa.func.count()).select_from(OutboxMessage))
    answers = at_once(50, lambda _: api.post(path, body, **key), threads=50)
    assert codes(answers) == {"ok": 50}
    assert len({str(sorted(a.body.items())) for a in answers}) == 1
    assert arena.scalar(sa.select(sa.func.count()).select_from(OutboxMessage)) == before + 1


def test_50_resends_with_one_key_are_one(arena: Arena) -> None:
    person = arena.person()
    asked = person.ask_signup().ok()
    arena.let_resend(asked["challenge_id"])
    body, key = {"challenge_id": asked["challenge_id"]}, {"Idempotency-Key": uuid4().hex}
    answers = at_once(50, lambda _: person.api.post("/api/auth/resend-otp", body, **key), threads=50)
    assert codes(answers) == {"ok": 50}
    sends = sa.select(OtpChallenge.sends).where(OtpChallenge.id == UUID(asked["challenge_id"]))
    assert arena.scalar(sends) == 2


@pytest.mark.covers("attack A46")
def test_a_refresh_token_used_again_after_the_grace_ends_its_session(arena: Arena) -> None:
    if arena.engine.dialect.name != "sqlite":
        pytest.skip("ten seconds of wall time, on one lane")
    person = arena.person().sign_up()
    spent = person.tokens["refresh_token"]
    fresh = person.refresh(spent).ok()
    time.sleep(10.5)
    assert person.refresh(spent).code == "token_reused"
    assert person.refresh(fresh["refresh_token"]).code == "token_revoked"


@pytest.mark.covers("attack A70")
def test_nothing_failed_on_the_way(arena: Arena) -> None:
    """No 5xx but shedding, no dead worker, no traceback, no locked database in the log of all the above and of forty
    who write at once.
    """
    people = [arena.person() for _ in range(40)]
    answers = at_once(40, lambda n: people[n].ask_signup())
    assert set(codes(answers)) <= {"ok", "overloaded"}
    text = arena.service.log.read_text()
    assert text.count("status=201") >= codes(answers)["ok"] > 0
    assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:4000]
    assert "status=500" not in text
    assert "SQLITE_BUSY" not in text
