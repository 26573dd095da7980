"""Many at the same moment at second factors, against four gunicorn workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from uuid import UUID

import pyotp
import pytest
import sqlalchemy as sa

from app.core import sessions
from app.crypto.ids import uuid7
from app.models import Authenticator, BackupCode, Session, User
from tests.people import Answer, Person
from tests.races.conftest import Arena
from tests.service import at_once

pytestmark = [pytest.mark.slow, pytest.mark.row_locks]
STEP = 30


def codes(answers: Iterable[Answer]) -> Counter[str | None]:
    return Counter("ok" if a.status in (200, 201) else a.code for a in answers)


def begin(person: Person) -> tuple[pyotp.TOTP, str]:
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    return pyotp.TOTP(begun["secret"]), f"/api/auth/factors/totp/{begun['factor_id']}/confirm"


def enrol(person: Person) -> tuple[pyotp.TOTP, list[str]]:
    """An app, confirmed by the step before this one, so that this one is still unused."""
    app, path = begin(person)
    codes = person.api.post(path, {"otp": app.at(time.time() - STEP)}, person.token).ok()["backup_codes"]
    return app, codes


def challenges(person: Person, count: int) -> list[str]:
    def ask(_: int) -> str:
        answer = person.ask_signin()
        while answer.code in ("overloaded", "unavailable"):
            time.sleep(answer["retry_after"])
            answer = person.ask_signin()
        return answer.ok()["challenge_id"]

    return at_once(count, ask)


def sessions_of(arena: Arena, person: Person) -> int:
    return arena.scalar(sa.select(sa.func.count()).where(Session.user_id == UUID(person.tokens["user"]["id"])))


@pytest.mark.covers("attack A13", "attack A20", "asvs 6.5.1")
@pytest.mark.parametrize("kind", ["totp", "backup_code"])
def test_of_200_uses_of_one_code_one_is_accepted(arena: Arena, kind: str) -> None:
    person = arena.person().sign_up()
    app, backups = enrol(person)
    asked = challenges(person, 50)
    code = app.now() if kind == "totp" else backups[0]

    def use(n: int) -> Answer:
        return person.api.post("/api/auth/login/verify", {"challenge_id": asked[n % 50], "otp": code})

    seen = codes(at_once(200, use))
    assert seen.pop("ok") == 1
    assert seen.pop("invalid_code") <= 5
    assert set(seen) <= {"challenge_closed", "account_locked", "unavailable"}
    assert sessions_of(arena, person) == 2
    mine = BackupCode.user_id == UUID(person.tokens["user"]["id"])
    assert arena.scalar(sa.select(sa.func.count()).where(mine, BackupCode.used_at.is_not(None))) == (kind != "totp")


def test_whoever_signs_in_many_times_at_once_has_no_more_sessions_than_may_be(arena: Arena) -> None:
    person = arena.person().sign_up()
    _, backups = enrol(person)
    mine = Session.user_id == UUID(person.tokens["user"]["id"])
    with arena.engine.begin() as connection:
        held = dict(connection.execute(sa.select(Session).where(mine)).mappings().one())
        rows = [{**held, "id": uuid7(held["created_at"])} for _ in range(sessions.MOST - 3)]
        connection.execute(sa.insert(Session), rows)
    asked = challenges(person, 10)

    def use(n: int) -> Answer:
        return person.api.post("/api/auth/login/verify", {"challenge_id": asked[n], "otp": backups[n]})

    assert codes(at_once(10, use, threads=10)) == {"ok": 10}
    lasting = sa.select(sa.func.count()).where(mine, Session.revoked_at.is_(None))
    assert arena.scalar(lasting) == sessions.MOST


@pytest.mark.covers("attack A13")
def test_one_challenge_takes_one_of_many_backup_codes(arena: Arena) -> None:
    person = arena.person().sign_up()
    _, backups = enrol(person)
    [asked] = challenges(person, 1)
    bodies = [{"challenge_id": asked, "otp": code} for code in backups]
    answers = at_once(10, lambda n: person.api.post("/api/auth/login/verify", bodies[n]), threads=10)
    assert codes(answers) == {"ok": 1, "challenge_closed": 9}
    left = sa.select(sa.func.count()).where(
        BackupCode.user_id == UUID(person.tokens["user"]["id"]), BackupCode.used_at.is_(None)
    )
    assert arena.scalar(left) == 9, "the others are not used up in vain"


def test_of_many_confirmations_of_one_app_one_counts(arena: Arena) -> None:
    person = arena.person().sign_up()
    app, path = begin(person)
    body = {"otp": app.now()}
    answers = at_once(20, lambda _: person.api.post(path, body, person.token), threads=20)
    assert codes(answers) == {"ok": 1, "not_found": 19}
    assert sum(len(a["backup_codes"]) for a in answers if a.status == 200) == 10


def test_factors_that_come_and_go_at_once_leave_the_right_note(arena: Arena) -> None:
    """Of four apps in setup one is confirmed: a changed credential ends what was begun before it."""
    person = arena.person().sign_up()
    for _ in range(2):
        begun = [begin(person) for _ in range(4)]
        told = at_once(4, lambda n: person.api.post(begun[n][1], {"otp": begun[n][0].now()}, person.token), threads=4)  # noqa: B023 (used before the next round)
        assert sorted(answer.status for answer in told) == [200, 404, 404, 404]
        for _ in range(3):
            app, path = begin(person)
            person.api.post(path, {"otp": app.now()}, person.token).ok()
        ids = [item["id"] for item in person.api.get("/api/auth/factors", person.token)["items"]]
        assert (len(ids), person.me()["mfa"]) == (4, ["totp", "backup_code"])
        at_once(4, lambda n: person.api.delete(f"/api/auth/factors/{ids[n]}", person.token).ok(), threads=4)  # noqa: B023 (as above)
        assert person.me()["mfa"] == []
    assert arena.scalar(sa.select(sa.func.count()).where(Authenticator.user_id == UUID(person.me()["id"]))) == 0


@pytest.mark.covers("attack A36")
def test_no_sign_in_slips_past_a_factor_that_is_being_enrolled(arena: Arena) -> None:
    for _ in range(4):
        person = arena.person().sign_up()
        asked = person.ask_signin().ok()
        code = arena.mailbox.new_code(person.email, seen=1)
        app, path = begin(person)
        thief = {"challenge_id": asked["challenge_id"], "otp": code}
        tries = [
            lambda: person.api.post(path, {"otp": app.now()}, person.token),  # noqa: B023 (called in this round)
            lambda: person.api.post("/api/auth/login/verify", thief),  # noqa: B023 (as above)
        ]
        enrolled, entered = at_once(2, lambda n: tries[n](), threads=2)  # noqa: B023 (as above)
        assert enrolled.status == 200
        if entered.status == 200:  # it came first: then enrolling ended it
            assert person.api.get("/api/auth/me", entered["access_token"]).code == "token_revoked"
        live = sa.select(sa.func.count()).where(
            Session.user_id == UUID(person.tokens["user"]["id"]), Session.revoked_at.is_(None)
        )
        assert arena.scalar(live) == 1
        assert arena.scalar(sa.select(User.mfa).where(User.email == person.email)) == "totp backup_code"


@pytest.mark.covers("attack A10")
def test_a_thousand_failures_of_a_stranger_do_not_keep_the_owner_s_device_out(arena: Arena) -> None:
    person = arena.person().sign_up()
    asked = person.ask_signin().ok()
    answer = {"challenge_id": asked["challenge_id"], "otp": arena.mailbox.new_code(person.email, seen=1)}
    token = person.api.post("/api/auth/login/verify", {**answer, "remember_device": True}).ok()["device_token"]
    guess = {"identifier": person.email, "password": "wrong horse 7"}
    seen = codes(at_once(1000, lambda _: person.api.post("/api/auth/login", guess)))
    while shed := seen.pop("overloaded", 0) + seen.pop("unavailable", 0):  # turned away before any guess: tried again
        seen += codes(at_once(shed, lambda _: person.api.post("/api/auth/login", guess)))
    assert seen == {"invalid_credentials": 5, "account_locked": 995}
    assert person.ask_signin().code == "account_locked"
    started = time.monotonic()
    assert person.ask_signin(device_token=token).ok()["status"] == "complete"
    assert time.monotonic() - started < 60
