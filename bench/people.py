"""A million accounts: how much longer the hundredth page of a list takes than the first, for each way to look.

On each database that can be had. Pages of 50, as `GET /api/admin/users` reads them; the two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from app import create_app
from app.config import Settings
from app.core import people
from app.core.people import Search, Status
from app.crypto.ids import uuid7
from app.models import User
from app.work import Kit
from app.work import run as once
from bench.report import Report
from bench.rig import tend
from tests import lanes

BATCH = 5000
PAGE, HUNDREDTH = 50, 100
TURNS = 15
MOST_RATIO = 3
MOST_MS = 250
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--users", type=int, help="accounts (1,000,000; short: 20,000)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.users = given.users or (20_000 if given.short else 1_000_000)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        with lanes.database(database, "bench_people") as url:
            lanes.migrate(url)
            app = create_app(Settings(_env_file=None, database_url=url, **lanes.SECRETS, **lanes.CHEAP))
            kit: Kit = app.extensions["courier"].kit
            took = fill(kit, given.users)
            title = f"{database}, {given.users} accounts (made in {took:.0f} s); ms a page, medians of {TURNS}"
            report.tables[title] = [measure(report, database, kit, *way) for way in ways(given.users).items()]
            kit.writes.kw["bind"].dispose()
    return report


def fill(kit: Kit, users: int) -> float:
    """Accounts a second apart; one in 1,000 locked, one in 500 disabled, one in 10 a doctor, 20 of them admins."""
    began, engine = time.monotonic(), kit.writes.kw["bind"]
    for start in range(0, users, BATCH):
        rows = [account(n, users) for n in range(start, min(start + BATCH, users))]
        with engine.begin() as connection:
            connection.execute(sa.insert(User), rows)
    tend(engine)
    return time.monotonic() - began


def account(n: int, users: int) -> dict[str, Any]:
    at = NOW - timedelta(seconds=users - n)
    name = f"{'Zoe' if n % 5000 == 0 else 'Jane'} Number {n}"
    return {
        "id": uuid7(at),
        "name": name,
        "name_key": people.folded(name),
        "email": f"person{n}@example.com",
        "username": f"user.{n * 7919 % users:07d}",
        "phone": f"+9198{n * 10_007 % 10**8:08d}",
        "role": "admin" if n % (users // 20) == 7 else "doctor" if n % 10 == 0 else "user",
        "disabled_at": at if n % 500 == 3 else None,
        "locked_at": at if n % 1000 == 5 else None,
        "created_at": at,
    }


def ways(users: int) -> dict[str, Search]:
    """Ways to look that fill a hundred pages, and some that fill few."""
    middle = NOW - timedelta(seconds=users // 2)
    return {
        "everybody": Search(),
        "role=doctor": Search(role="doctor"),
        "role=admin": Search(role="admin"),
        "status=active": Search(status=Status.ACTIVE),
        "status=locked": Search(status=Status.LOCKED),
        "status=disabled": Search(status=Status.DISABLED),
        "created_before=(the middle)": Search(created_before=middle),
        "query=jane (nearly all)": Search("jane"),
        "query=person1 (one in nine)": Search("person1"),
        "query=zoe (one in 5000)": Search("zoe"),
        "query=person123@ (one)": Search("person123@"),
        "query=+9198 (all)": Search("+9198"),
        "query=nobody": Search("nobody"),
        "query=jane, role=admin": Search("jane", role="admin"),
        "query=zoe, status=locked": Search("zoe", status=Status.LOCKED),
    }


def measure(report: Report, database: str, kit: Kit, name: str, search: Search) -> dict[str, Any]:
    """Walk to the last page, at most the hundredth, and time it and the first in turn."""
    cursors: list[UUID | None] = [None]
    ids: list[UUID] = []
    for rows in walk(kit, search):
        ids += rows
        cursors.append(rows[-1])
    reached = min(len(cursors) - 1, HUNDREDTH)
    last = cursors[max(0, reached - 1)]
    times: dict[UUID | None, list[float]] = {None: [], last: []}
    for _ in range(TURNS):
        for cursor in (None, last):
            times[cursor].append(timed(kit, search, cursor))
    first, end = (statistics.median(times[cursor]) for cursor in (None, last))
    whole = ids == sorted(set(ids), reverse=True)
    report.check(f"{database}: {name}: page {reached}, ms", end, f"< {MOST_RATIO} x the first, or < {MOST_MS}",
                 whole and (end < MOST_RATIO * first or end < MOST_MS))  # fmt: skip
    return {"way": name, "first": first, f"page {HUNDREDTH} or last": end, "page": reached, "ratio": end / first}


def walk(kit: Kit, search: Search) -> Iterator[list[UUID]]:
    cursor: UUID | None = None
    for _ in range(HUNDREDTH):
        rows = [user.id for user in page(kit, search, cursor)]
        if not rows:
            return
        yield rows
        cursor = rows[-1]


def timed(kit: Kit, search: Search, cursor: UUID | None) -> float:
    began = time.perf_counter()
    page(kit, search, cursor)
    return (time.perf_counter() - began) * 1000


def page(kit: Kit, search: Search, cursor: UUID | None) -> list[User]:
    return once(kit, lambda work: people.page(work, search, PAGE, cursor), reads=True)
