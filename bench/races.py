"""Many at the same instant: of 200 uses of one code or token exactly one wins; 50 requests with one key are one.

gunicorn with four workers, on each database that can be had. Threads with open connections wait at a barrier.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from app.models import OtpChallenge, OutboxMessage, Session, User
from bench.report import Report, spread
from bench.rig import PASSWORD, Connection, Rig, address, number, rig, soon
from tests import lanes

USES, REPEATS = 200, 50
SEND, VERIFY, REGISTER = (f"/api/v1/auth/{name}" for name in ("send-otp", "verify-otp", "complete-registration"))
SIGN_UP, RESEND, FORGOT = (f"/api/auth/{name}" for name in ("signup", "resend-otp", "forgot-password"))
SECOND_S = 0.5  # in which a second message would come, were there one


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help="of each race on each database (20; short: 2)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


@dataclass
class Race:
    """What was answered at the same instant, and what is wrong about that: nothing, if all is well."""

    answers: list[tuple[int, bytes]]
    took: float  # seconds from the barrier to the last answer
    wrong: list[str]


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.rounds = given.rounds or (2 if given.short else 20)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        with rig(database, "races", sms_shield="off") as opened:
            rows = report.tables[f"{database}, {given.rounds} rounds"] = []
            for name, race in RACES.items():
                races = [race(opened) for _ in range(given.rounds)]
                wrong = [each for one in races for each in one.wrong]
                answers = Counter(_short(*answer) for one in races for answer in one.answers)
                took = spread([one.took for one in races])
                rows.append({"race": name, "of each round": len(races[0].answers), "answers": dict(answers), "s": took})
                report.check(f"{database}: {name}", "; ".join(wrong[:3]) or "as it must be", "every round", not wrong)
            log = opened.service.log.read_text()
        faults = log.count("Traceback") + log.count("status=500")
        report.check(f"{database}: tracebacks and 500s in the log", faults, "0", faults == 0)
    return report


def _short(status: int, body: bytes) -> str:
    return f"{status} {json.loads(body).get('code', '')}".strip()


def _at_once(opened: Rig, count: int, path: str, body: Any, **headers: str) -> Race:
    """One request so many times, each on a connection of its own that is open already."""
    barrier, started = threading.Barrier(count), []

    def one(_: int) -> tuple[int, bytes]:
        line = Connection(opened.service.base)
        barrier.wait(30)
        started.append(time.monotonic())
        try:
            return line.post(path, body, **headers)
        finally:
            line.close()

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(one, range(count)))
    return Race(answers, time.monotonic() - min(started), [])


def _one_wins(race: Race, good: int, *rest: str) -> Race:
    """One good answer; the others are all refusals of these kinds."""
    seen = Counter(_short(*answer) for answer in race.answers)
    if seen[str(good)] != 1 or seen.keys() - {str(good), *rest}:
        race.wrong.append(f"answers {dict(seen)}")
    return race


def _must(race: Race, what: str, measured: Any, right: Any) -> Race:
    if measured != right:
        race.wrong.append(f"{what}: {measured}, not {right}")
    return race


def _proof(opened: Rig, phone: str) -> dict[str, str]:
    opened.ask(SEND, {"mobile_number": phone})
    return {"mobile_number": phone, "otp": opened.handset.code(phone)}


def code_of_a_new_number(opened: Rig) -> Race:
    return _one_wins(_at_once(opened, USES, VERIFY, _proof(opened, number())), 200, "410 challenge_closed")


def registration_token(opened: Rig) -> Race:
    phone = number()
    token = opened.ask(VERIFY, _proof(opened, phone))["registration_token"]
    race = _at_once(opened, USES, REGISTER, {"registration_token": token, "name": "Asha", "consent": True})
    _must(race, "accounts", opened.count(User.phone == phone), 1)
    _must(race, "sessions", opened.count(Session.user_id == User.id, User.phone == phone), 1)
    return _one_wins(race, 201, "401 token_invalid", "410 challenge_closed")


def code_of_an_account(opened: Rig) -> Race:
    phone = number()
    token = opened.ask(VERIFY, _proof(opened, phone))["registration_token"]
    opened.ask(REGISTER, {"registration_token": token, "name": "Asha", "consent": True})
    opened.handset.got.clear()
    race = _at_once(opened, USES, VERIFY, _proof(opened, phone))
    _must(race, "sessions", opened.count(Session.user_id == User.id, User.phone == phone), 2)
    return _one_wins(race, 200, "410 challenge_closed")


def _repeated(opened: Rig, path: str, body: Any, to: str) -> Race:
    """Fifty with one Idempotency-Key: all get the one answer, and one message leaves."""

    def came() -> int:
        return len(opened.mailbox.to(to)) + sum(sms.number == to for sms in opened.handset.got)

    queued, arrived = opened.count(OutboxMessage.recipient == to), came()
    race = _at_once(opened, REPEATS, path, body, Idempotency_Key=uuid4().hex)
    _must(race, "statuses", {status // 100 for status, _ in race.answers}, {2})
    _must(race, "different answers", len(set(race.answers)), 1)
    _must(race, "messages queued", opened.count(OutboxMessage.recipient == to) - queued, 1)
    soon(lambda: came() > arrived)
    time.sleep(SECOND_S)
    return _must(race, "messages come", came() - arrived, 1)


def repeated_signup(opened: Rig) -> Race:
    email = address()
    return _repeated(opened, SIGN_UP, {"email": email, "password": PASSWORD}, email)


def repeated_send_otp(opened: Rig) -> Race:
    phone = number()
    return _repeated(opened, SEND, {"mobile_number": phone}, phone)


def repeated_resend_otp(opened: Rig) -> Race:
    phone = number()
    asked = opened.ask(SEND, {"mobile_number": phone})
    opened.handset.code(phone)
    row = OtpChallenge.id == UUID(asked["challenge_id"])
    [[sent_at]] = opened.rows(sa.select(OtpChallenge.last_sent_at).where(row))
    with opened.engine.begin() as connection:  # in place of waiting for OTP_RESEND_IN
        connection.execute(sa.update(OtpChallenge).where(row).values(last_sent_at=sent_at - timedelta(minutes=1)))
    return _repeated(opened, RESEND, {"challenge_id": asked["challenge_id"]}, phone)


def repeated_forgot_password(opened: Rig) -> Race:
    email = address()
    opened.account(email=email)
    return _repeated(opened, FORGOT, {"email": email}, email)


RACES: dict[str, Callable[[Rig], Race]] = {
    "code of a new number": code_of_a_new_number,
    "registration token": registration_token,
    "code of an account": code_of_an_account,
    "one key: signup": repeated_signup,
    "one key: send-otp": repeated_send_otp,
    "one key: resend-otp": repeated_resend_otp,
    "one key: forgot-password": repeated_forgot_password,
}
