"""Two admins take the office from each other in the same moment, a thousand times: one of them always keeps it.

gunicorn with four workers, on each database that can be had.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import sqlalchemy as sa

from app.core import locks
from app.models import User
from bench.report import Report, no_faults
from bench.rig import Rig, address, rig
from tests import lanes

WAYS: tuple[tuple[str, str, Any], ...] = (
    ("PUT", "/role", {"role": "user"}),
    ("PATCH", "", {"disabled": True}),
    ("POST", "/lock", {}),
    ("PATCH", "", {"role": "doctor"}),
)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help="on each database (1,000; short: 20)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.rounds = given.rounds or (20 if given.short else 1000)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        with rig(database, "last_admin", step_up_max_age=3600, mfa_policy="optional") as opened:
            pair = [signed_up(opened), signed_up(opened)]
            rounds = [fight(opened, pair, number) for number in range(given.rounds)]
            answers = Counter(answer for answers, _ in rounds for answer in answers)
            left = Counter(admins for _, admins in rounds)
            report.tables[f"{database}, {given.rounds} rounds"] = [
                {"answers": dict(answers), "admins left": dict(left)}
            ]
            report.check(f"{database}: admins left in each round", dict(left), "1 or 2", not left.keys() - {1, 2})
            won = answers["200"]
            report.check(f"{database}: takings that succeeded", won, "some", won > 0)
            no_faults(report, opened.service.log, f"{database}: ")
    return report


def signed_up(opened: Rig) -> dict[str, str]:
    """Somebody with an account, and what they sign in with."""
    email = address()
    opened.account(email=email)
    return {"identifier": email, "password": "correct horse 7"}


def fight(opened: Rig, pair: list[dict[str, str]], number: int) -> tuple[list[str], int]:
    """Make both admins, let each take the office from the other at once, and count who is left."""
    emails = [one["identifier"] for one in pair]
    peace = {"role": "admin", "disabled_at": None, "locked_at": None, "locked_until": None}
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).where(User.email.in_(emails)).values(peace))
    tokens = [opened.ask("/api/auth/login", one) for one in pair]
    barrier = threading.Barrier(2)
    method, rest, body = WAYS[number % len(WAYS)]

    def take(attacker: int) -> str:
        victim = UUID(tokens[1 - attacker]["user"]["id"])
        line = HTTPConnection(urlsplit(opened.service.base).netloc, timeout=60)
        line.connect()
        barrier.wait(30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {tokens[attacker]['access_token']}"}
        line.request(method, f"/api/admin/users/{victim}{rest}", json.dumps(body), headers)
        answer = line.getresponse()
        said = json.loads(answer.read())
        line.close()
        return f"{answer.status} {said.get('code', '')}".strip()

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(take, range(2)))
    admins = opened.count(User.role == "admin", locks.unlocked(datetime.now(UTC)))
    return answers, admins
