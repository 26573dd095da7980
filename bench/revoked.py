"""Somebody is locked, demoted, disabled or signed out: their very next requests, to any worker, are refused.

gunicorn with four workers, on each database that can be had. Before the act a connection to each worker is opened, and
afterwards each worker is asked over its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import psutil
import sqlalchemy as sa

from app.models import User
from bench.report import Report
from bench.rig import PASSWORD, Rig, address, rig, soon
from tests import lanes
from tests.service import Service

# What is done, by whom, and what undoes it.
ACTS: dict[str, tuple[str, str, str, Any, tuple[str, str, Any] | None]] = {
    "lock": ("admin", "POST", "/lock", {}, ("POST", "/unlock", {})),
    "role": ("admin", "PUT", "/role", {"role": "doctor"}, ("PUT", "/role", {"role": "user"})),
    "disable": ("admin", "PATCH", "", {"disabled": True}, ("PATCH", "", {"disabled": False})),
    "revoke-sessions": ("admin", "POST", "/revoke-sessions", {}, None),
    "logout": ("self", "POST", "/api/auth/logout", {}, None),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help="on each database (1,000; short: 20)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.rounds = given.rounds or (20 if given.short else 1000)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        with rig(database, "revoked", step_up_max_age=3600, jwt_access_ttl=3600, mfa_policy="optional") as opened:
            told, slowest = _rounds(opened, given.rounds)
        report.tables[f"{database}, {given.rounds} rounds of a request to each worker"] = [
            {"act": name, "answers": dict(told[name])} for name in ACTS
        ]
        asked = sum(seen.total() for seen in told.values())
        wanted = given.rounds * opened.settings["web_concurrency"]
        report.check(f"{database}: requests, one to each worker a round", asked, str(wanted), asked == wanted)
        let_in = sum(count for seen in told.values() for answer, count in seen.items() if answer != "401 token_revoked")
        report.check(f"{database}: requests that were not refused", let_in, "0", let_in == 0)
        report.check(f"{database}: seconds from the act to the last refusal", slowest, "below 1", slowest < 1)
    return report


def _rounds(opened: Rig, count: int) -> tuple[dict[str, Counter[str]], float]:
    """Act after act. What each worker answered after each, and the longest time it took for all answers to be there."""
    admin, victim = address(), address()
    for email in (admin, victim):
        opened.account(email=email)
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).where(User.email == admin).values(role="admin"))
    ours = opened.ask("/api/auth/login", {"identifier": admin, "password": PASSWORD})["access_token"]
    told: dict[str, Counter[str]] = {name: Counter() for name in ACTS}
    slowest = 0.0
    for number in range(count):
        name = list(ACTS)[number % len(ACTS)]
        who, method, path, body, undo = ACTS[name]
        theirs = opened.ask("/api/auth/login", {"identifier": victim, "password": PASSWORD})
        root = f"/api/admin/users/{theirs['user']['id']}"
        by, where = (ours, root + path) if who == "admin" else (theirs["access_token"], path)
        with _a_line_to_each(opened.service) as lines:
            assert _call(_line(opened.service), method, where, by, body) == "200", name
            started = time.monotonic()
            told[name].update(_call(line, "GET", "/api/auth/me", theirs["access_token"]) for line in lines)
            slowest = max(slowest, time.monotonic() - started)
        if undo:
            assert _call(_line(opened.service), undo[0], root + undo[1], ours, undo[2]) == "200", name
    return told, slowest


def _line(service: Service) -> HTTPConnection:
    line = HTTPConnection(urlsplit(service.base).netloc, timeout=60)
    line.connect()
    return line


@contextmanager
def _a_line_to_each(service: Service) -> Iterator[list[HTTPConnection]]:
    """A connection to each worker, which takes it because all others are held still meanwhile."""
    lines: list[HTTPConnection] = []
    try:
        workers = service.workers()
        for worker in workers:
            others = [each for each in workers if each.pid != worker.pid]
            for other in others:
                other.suspend()
            try:
                lines.append(_line(service))
                soon(partial(_has, worker, lines[-1]))
            finally:
                for other in others:
                    other.resume()
        yield lines
    finally:
        for line in lines:
            line.close()


def _has(worker: psutil.Process, line: HTTPConnection) -> bool:
    ours = line.sock.getsockname()[1]
    return any(at.raddr and at.raddr.port == ours for at in worker.net_connections("tcp"))


def _call(line: HTTPConnection, method: str, path: str, token: str, body: Any = None) -> str:
    """Status and code of an answer. The connection ends with it."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    line.request(method, path, None if body is None else json.dumps(body), headers)
    answer = line.getresponse()
    said = json.loads(answer.read())
    line.close()
    return f"{answer.status} {said.get('code', '')}".strip()
