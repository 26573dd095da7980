"""What a sign-up, a sign-in, a refresh and `me` cost: CPU of the service, the database and Redis, and bytes a row.

The figures behind `docs/scaling.md`. gunicorn with two workers and couriers, real password hashes, PostgreSQL, limits
in Redis, mail by SMTP to a stand-in. CPU seconds hold on a busy machine too, but for a fifth or so.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import redis
import sqlalchemy as sa

from app.db import Base
from bench.load import until
from bench.memory import PRODUCTION, cpu_of
from bench.report import Report
from bench.rig import WIDE, address
from tests import lanes
from tests.mail import Mailbox, smtp_server
from tests.people import Api, Person, http_transport
from tests.service import Service, running

AT_ONCE = 4
BIG = ("users", "sessions", "refresh_tokens", "audit_logs", "otp_challenges", "outbox_messages", "throttles", "signups")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--people", type=int, help="(500; short: 60)")
    parser.add_argument("--rows", type=int, help="of each table, for its size (50,000; short: 5,000)")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.people = given.people or (60 if given.short else 500)
    given.rows = given.rows or (5_000 if given.short else 50_000)
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        name = f"bench_costs_{os.getpid()}"
        url = stack.enter_context(lanes.database("postgresql", name))
        lanes.migrate(url)
        mailbox, mail, _ = stack.enter_context(smtp_server(folder))
        counts = {"ratelimit": "true", "redis_url": lanes.available()["redis"]}
        given_settings = {**PRODUCTION, **mail, **WIDE, **counts, "mfa_policy": "required", "trusted_proxies": 1}
        service = stack.enter_context(running(url, folder, **given_settings))
        people = [_person(service, mailbox, number) for number in range(given.people)]
        cost = _Meter(service, str(sa.make_url(url).database), str(counts["redis_url"]))
        rows = [
            cost.of("sign-up: two requests, one hash, one mail", people, lambda person: person.sign_up()),
            cost.of("sign-in: two requests, one hash, one mail", people, lambda person: sign_in(person, mailbox)),
            cost.of("refresh", people, lambda person: person._keep(person.refresh()).ok()),
            cost.of("`me`", people, lambda person: person.me().ok()),
        ]
        sizes = _sizes(url, given.rows)
    report.tables[f"CPU milliseconds of each, {given.people} of them"] = rows
    report.tables["bytes a row on disk, indexes and all"] = sizes
    measured = all(row["service"] > 0 and row["database"] > 0 for row in rows)
    report.check("each was measured", measured, "True", measured)
    return report


def _person(service: Service, mailbox: Mailbox, number: int) -> Person:
    """Somebody with an address of their own: limits are counted by address."""
    sent_by = {"X-Forwarded-For": f"198.51.{number // 250}.{number % 250 + 1}"}
    return Person(Api(http_transport(service.base), **sent_by), mailbox.code, email=address())


def sign_in(person: Person, mailbox: Mailbox) -> None:
    """By password and code; the code of this sign-in, not one that came before."""
    seen = len(mailbox.to(person.email))
    asked = person.ask_signin().ok()
    until(lambda: len(mailbox.to(person.email)) > seen)
    person.verify_signin(asked["challenge_id"], person.code()).ok()


class _Meter:
    def __init__(self, service: Service, database: str, redis_url: str) -> None:
        self._service, self._database = service, database
        self._redis = redis.Redis.from_url(redis_url)

    def of(self, what: str, people: list[Person], act: Callable[[Person], object]) -> dict[str, float | str]:
        """The CPU milliseconds of one act, over all people."""
        before = self._now()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(act, people))
        spent = [1000 * (now - then) / len(people) for now, then in zip(self._now(), before, strict=True)]
        return {"what": what, "service": spent[0], "database": spent[1], "Redis": spent[2]}

    def _now(self) -> tuple[float, float, float]:
        backends = [p for p in psutil.process_iter(["cmdline"]) if self._database in " ".join(p.info["cmdline"] or [])]
        database = sum(sum(p.cpu_times()[:2]) for p in backends if p.name() == "postgres")
        cpu = self._redis.info("cpu")
        return cpu_of(self._service), database, float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _sizes(url: str, most: int) -> list[dict[str, object]]:
    """Of the rows that the people left, each many times over: a few hundred would weigh what the emptiness around them
    weighs.
    """
    found = []
    with sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        for name in BIG:
            table = Base.metadata.tables[name]
            rows = connection.scalar(sa.select(sa.func.count()).select_from(table)) or 1
            columns = ", ".join(column.name for column in table.columns)
            values = ", ".join(_another(column) for column in table.columns)
            copies = f"SELECT {values} FROM {name}, generate_series(1, {most // rows}) AS n"
            connection.execute(sa.text(f"INSERT INTO {name} ({columns}) {copies}"))
            connection.execute(sa.text(f"VACUUM FULL ANALYZE {name}"))
            rows = connection.scalar(sa.select(sa.func.count()).select_from(table)) or 1
            size = connection.scalar(sa.text("SELECT pg_total_relation_size(:name)"), {"name": name})
            found.append({"table": name, "rows": rows, "bytes a row": round(size / rows)})
    return found


def _another(column: sa.Column[object]) -> str:
    """A column's value in a copy of its row: another one of the same form where it must be unique."""
    table = column.table
    alone = [c for c in table.constraints if isinstance(c, (sa.UniqueConstraint, sa.PrimaryKeyConstraint))]
    if not any(list(constraint.columns) == [column] for constraint in alone):
        return column.name
    if isinstance(column.type, sa.Uuid):
        return "gen_random_uuid()"
    if column.type.length == 64:  # type: ignore[attr-defined]
        return f"CASE WHEN {column.name} IS NOT NULL THEN encode(sha256(random()::text::bytea), 'hex') END"
    return f"{column.name} || n"
