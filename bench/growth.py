"""What each request costs beside ten million accounts, sessions, refresh tokens and audit rows, against a thousand.

Two services as `bench speed` has them, each on a database of its own, take turns in blocks. The crowd is written
straight into its tables: accounts with a session, a token and an audit row each, ids in the order of time.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from app.core import stats
from app.db import Base
from app.models import HourlyCount
from bench import speed
from bench.report import Report, ratio
from bench.rig import tend
from tests import lanes

SMALL, BATCH = 1_000, 500_000
MOST = 1.15
TOKENS_S = 3600
DAYS = 30  # over which the audit rows lie


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, help="of each table (10,000,000; short: 20,000)")
    speed.block_options(parser)


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.rows = given.rows or (20_000 if given.short else 10_000_000)
    speed.settle_blocks(given)
    report = Report()
    with ExitStack() as stack:
        both = [_grown(stack, report, size, given.requests) for size in (SMALL, given.rows)]
        rows = [_compared(report, given, name, both) for name in both[0][1]]
    report.tables[f"{given.rows} against {SMALL}, {given.blocks} blocks of {given.requests}"] = rows
    return report


def _grown(stack: ExitStack, report: Report, size: int, clients: int) -> tuple[sa.Engine, dict[str, Any]]:
    """The database of a service beside a crowd of this size, and the acts at it."""
    folder = Path(stack.enter_context(TemporaryDirectory()))
    url = stack.enter_context(lanes.database("postgresql", f"bench_growth_{size}_{os.getpid()}"))
    lanes.migrate(url)
    # Whoever is signed in waits for the crowd, which takes longer than an access token's usual quarter of an hour.
    acts = stack.enter_context(speed.house(folder, url, clients, **lanes.CHEAP, jwt_access_ttl=TOKENS_S))
    engine = lanes.engine(url, poolclass=sa.NullPool)
    began = time.monotonic()
    _counted(engine)
    crowd(engine, size)
    with engine.connect() as connection:
        weight = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
    report.tables[f"a crowd of {size}"] = [{"made in s": time.monotonic() - began, "MiB": round(weight / 2**20)}]
    return engine, acts


def _uuid(kind: int) -> str:
    return f"('01a00000-000{kind}-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"


# What differs from row to row; all else is as in a row that the service wrote.
CROWD = {
    "users": {"id": _uuid(1), "email": "'crowd' || n || '@example.org'", "username": "NULL", "phone": "NULL"},
    "sessions": {"id": _uuid(2), "user_id": _uuid(1), "cookie_digest": "NULL"},
    "refresh_tokens": {"id": _uuid(3), "session_id": _uuid(2), "digest": "encode(sha256(('r' || n)::bytea), 'hex')"},
    "audit_logs": {
        "id": _uuid(4), "user_id": _uuid(1), "actor_id": _uuid(1), "session_id": _uuid(2), "seal": "1",
        "at": f"now() - interval '{DAYS} days' * random()",
    },
}  # fmt: skip


def _counted(engine: sa.Engine) -> None:
    """The hours of the past are in the statistics. Otherwise the courier would count each anew from the whole crowd."""
    hour = stats.floor(datetime.now(UTC)) - stats.HOUR - stats.SETTLED
    with engine.begin() as connection:
        marker = {"hour": hour, "metric": stats.Metric.ROLLED, "channel": "", "country": "", "count": 1}
        connection.execute(sa.insert(HourlyCount), [marker])


def crowd(engine: sa.Engine, size: int) -> None:
    """So many rows more in each table, on PostgreSQL."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SET session_replication_role = replica"))  # each row's foreign keys are right
        for name, differing in CROWD.items():
            columns = [column.name for column in Base.metadata.tables[name].columns]
            values = ", ".join(differing.get(column, f"one.{column}") for column in columns)
            for start in range(1, size + 1, BATCH):
                numbers = f"generate_series({start}, {min(start + BATCH - 1, size)})"
                copied = f"SELECT {values} FROM (SELECT * FROM {name} LIMIT 1) AS one, {numbers} AS n"
                connection.execute(sa.text(f"INSERT INTO {name} ({', '.join(columns)}) {copied}"))
    tend(engine)


def _compared(
    report: Report, given: argparse.Namespace, name: str, both: list[tuple[sa.Engine, dict[str, Any]]]
) -> dict[str, Any]:
    small, large = (acts[name] for _, acts in both)
    for side in (*small, *large):
        side.spends(max(50, given.requests // 5))  # warm
    for engine, _ in both:
        tend(engine)
    blocks = []
    for turn in range(given.blocks):
        order = (small, large) if turn % 2 else (large, small)
        spent = {id(sides): sum(sum(side.spends(given.requests)) for side in sides) for sides in order}
        blocks.append(([spent[id(small)]], [spent[id(large)]]))
    times, (low, high) = ratio(blocks)
    report.check(
        f"{name}: cost beside the crowd", f"{times:.2f} x ({low:.2f} to {high:.2f})", f"at most {MOST} x", times <= MOST
    )
    medians = [sorted(block[side][0] for block in blocks)[len(blocks) // 2] for side in (0, 1)]
    return {
        "act": name,
        f"CPU ms beside {SMALL}": medians[0],
        "beside the crowd": medians[1],
        "ratio": times,
        "95 %": f"{low:.2f} to {high:.2f}",
    }
