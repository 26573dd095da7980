"""Many at the same instant: of 1,000 uses of one code or token exactly one wins; 50 requests with one key are one.

gunicorn with four workers, on each database that can be had. Every request lies at the service but for its last byte,
and then these follow.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import pyotp
import sqlalchemy as sa

from app.models import OutboxMessage
from app.models.outbox import State
from bench.browser_once import IN_A_BROWSER
from bench.claimed_once import CLAIMED, SECOND_S
from bench.held_once import HELD
from bench.holders import an_admin, bearer, with_app
from bench.report import Report, no_faults, spread
from bench.rig import PASSWORD, Rig, address, number, rig, soon
from bench.sent_once import SENT, due_for_a_resend
from bench.session_once import IN_SESSION
from bench.single_use import Race
from bench.volley import fire
from tests import lanes

T = TypeVar("T")
USES: dict[str, Callable[[Rig, int], Race]] = {**SENT, **IN_A_BROWSER, **HELD, **IN_SESSION, **CLAIMED}
REPEATS = 50
MOST_AGAIN = 0.1
WORKERS = 4
THREADS = {True: 4, False: 8}  # of a worker, if short or not: each has a connection to the database
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uses", type=int, help="of one thing at the same instant (1,000; short: 60)")
    parser.add_argument("--rounds", type=int, help="of each race on each database (3; short: 1)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")
    parser.add_argument("--only", default="", metavar="TEXT", help="the races whose names contain this")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.uses = given.uses or (60 if given.short else 1000)
    given.rounds = given.rounds or (1 if given.short else 3)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        crew = {"web_concurrency": WORKERS, "web_threads": THREADS[given.short]}
        with rig(database, "races", sms_shield="off", **crew) as opened:
            title = f"{database}, {given.rounds} rounds"
            used = report.tables[f"{title} of {given.uses} uses of one"] = []
            for name, use in _chosen(USES, given.only):
                used.append(_row(report, database, name, [use(opened, given.uses) for _ in range(given.rounds)]))
            repeated = report.tables[f"{title} of {REPEATS} requests with one Idempotency-Key"] = []
            for name, repeat in _chosen(KEYS, given.only):
                repeated.append(_row(report, database, name, [repeat(opened) for _ in range(given.rounds)]))
            _told_by_the_service(report, database, opened)
        if not given.short:
            _settle_spread(report, database, used)
    return report


def _chosen(races: dict[str, T], part: str) -> list[tuple[str, T]]:
    return [(name, race) for name, race in races.items() if part in name]


def _row(report: Report, database: str, name: str, races: Sequence[Race]) -> dict[str, Any]:
    """The line of a thing in the table, and whether each of its rounds was as it must be."""
    wrong = [each for race in races for each in race.wrong]
    report.check(f"{database}: {name}", "; ".join(wrong[:3]) or "as it must be", "every round", not wrong)
    volleys = [race.volley for race in races]
    return {
        "thing": name,
        "rounds": len(races),
        "uses": sum(len(volley.answers) for volley in volleys),
        "successes": sum(race.successes for race in races),
        "answers": dict(sum((Counter(a.short for a in volley.answers) for volley in volleys), Counter[str]())),
        "sent again unheard": dict(sum((volley.unheard for volley in volleys), Counter[str]())),
        "sent within ms": round(1000 * max(volley.within for volley in volleys)),
        "fewest at a worker": min(volley.fewest for volley in volleys),
        "s": spread([volley.took for volley in volleys]),
    }


def _settle_spread(report: Report, database: str, used: Sequence[dict[str, Any]]) -> None:
    """Whether they met, at all workers and at once."""
    alone = [row["thing"] for row in used if row["fewest at a worker"] < 1]
    report.check(f"{database}: races that a worker took no part in", ", ".join(alone) or 0, "0", not alone)
    again, uses = sum(sum(row["sent again unheard"].values()) for row in used), sum(row["uses"] for row in used)
    share = again / max(uses, 1)
    report.check(f"{database}: share sent again unheard", share, f"at most {MOST_AGAIN}", share <= MOST_AGAIN)


def _told_by_the_service(report: Report, database: str, opened: Rig) -> None:
    """What went wrong and shows in no answer. Ends the service: a connection tells of its deadlocks at its end."""
    opened.service.stop()
    no_faults(report, opened.service.log, f"{database}: ")
    if causes := Counter(re.findall(r" cause=(.+)$", opened.service.log.read_text(), re.MULTILINE)):
        report.tables[f"{database}: what the database said when it failed a request"] = [dict(causes)]
    if database == "postgresql":  # the others count those of the whole server, or have none
        soon(lambda: not opened.rows(sa.text(OTHERS))[0][0])
        met = opened.rows(sa.text(DEADLOCKS))[0][0]
        report.check(f"{database}: deadlocks", met, "0", met == 0)


def _repeated(opened: Rig, path: str, body: Any, to: str, **headers: str) -> Race:
    """Fifty with one Idempotency-Key: all get the one answer, and one message leaves."""

    def came() -> int:
        return len(opened.mailbox.to(to)) + sum(sms.number == to for sms in opened.handset.got)

    queued, arrived = opened.count(OutboxMessage.recipient == to), came()
    race = Race(fire(opened.service, path, [body] * REPEATS, Idempotency_Key=uuid4().hex, **headers))
    race.must("statuses", {answer.status // 100 for answer in race.volley.answers}, {2})
    race.successes = len(set(race.volley.answers))
    race.must("different answers", race.successes, 1)
    race.must("messages queued", opened.count(OutboxMessage.recipient == to) - queued, 1)
    soon(lambda: came() > arrived)
    time.sleep(SECOND_S)
    race.must("messages come", came() - arrived, 1)
    return race


def repeated_signup(opened: Rig) -> Race:
    email = address()
    return _repeated(opened, "/api/auth/signup", {"email": email, "password": PASSWORD}, email)


def repeated_send_otp(opened: Rig) -> Race:
    phone = number()
    return _repeated(opened, "/api/v1/auth/send-otp", {"mobile_number": phone}, phone)


def repeated_resend_otp(opened: Rig) -> Race:
    phone = number()
    return _repeated(opened, "/api/auth/resend-otp", due_for_a_resend(opened, phone), phone)


def repeated_forgot_password(opened: Rig) -> Race:
    email = address()
    opened.account(email=email)
    return _repeated(opened, "/api/auth/forgot-password", {"email": email}, email)


def repeated_change_email(opened: Rig) -> Race:
    email, person = address(), opened.account(email=address())
    return _repeated(opened, "/api/auth/change-email", {"email": email}, email, **bearer(person))


def repeated_invitation(opened: Rig) -> Race:
    email, admin = address(), an_admin(opened)
    return _repeated(opened, "/api/admin/users", {"email": email, "invite": True}, email, **bearer(admin))


def repeated_factor(opened: Rig) -> Race:
    """The first code of an app: all are told the same backup codes."""
    email = address()
    person = opened.account(email=email)
    begun = opened.ask("/api/auth/factors/totp", {}, **bearer(person))
    confirm, body = f"/api/auth/factors/totp/{begun['factor_id']}/confirm", {"otp": pyotp.TOTP(begun["secret"]).now()}
    return _repeated(opened, confirm, body, email, **bearer(person))


def repeated_backup_codes(opened: Rig) -> Race:
    email = address()
    person = opened.account(email=email)
    with_app(opened, person)
    soon(lambda: not opened.count(OutboxMessage.recipient == email, OutboxMessage.state != State.SENT))
    return _repeated(opened, "/api/auth/factors/backup-codes", {}, email, **bearer(person))


def repeated_form(opened: Rig) -> Race:
    """In the browser's dialect, where the answer sets a cookie."""
    email = address()
    return _repeated(opened, "/signup", {"name": "Jane", "email": email, "password": PASSWORD}, email)


KEYS: dict[str, Callable[[Rig], Race]] = {
    "signup": repeated_signup,
    "send-otp": repeated_send_otp,
    "resend-otp": repeated_resend_otp,
    "forgot-password": repeated_forgot_password,
    "change-email": repeated_change_email,
    "invitation": repeated_invitation,
    "app in setup": repeated_factor,
    "new backup codes": repeated_backup_codes,
    "sign-up in a form": repeated_form,
}
