"""A month of a large audit log: how long statistics take to read and to count, and a seal and a check of every row.

The log is written straight into the tables; then the hours are counted, the rows sealed and verified by the commands of
the service, and the statistics asked for through its front door.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from tempfile import TemporaryFile
from typing import Any

import sqlalchemy as sa

from app import create_app
from app.config import Settings
from app.core.roles import ADMIN
from app.delivery import upkeep
from app.models import User
from bench import history
from bench.import_users import ROOT
from bench.report import Report, spread
from tests import lanes
from tests.conftest import World
from tests.lanes import CHEAP, SECRETS
from tests.people import MemorySender, Person

MOST_SECONDS, MOST_MIB = 1.0, 200
ASKED = 15


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, help="of the audit log (1,000,000; short: 20,000)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.rows = given.rows or (20_000 if given.short else 1_000_000)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        title = f"{database}, {given.rows} audit rows and {given.rows // 5} codes in {history.DAYS} days"
        report.tables[title] = list(measure(report, database, given.rows))
    return report


def measure(report: Report, database: str, rows: int) -> Iterator[dict[str, Any]]:
    with lanes.database(database, f"bench_stats_{os.getpid()}") as url:
        lanes.migrate(url)
        until = history.end()
        senders = {channel: MemorySender(channel) for channel in ("email", "sms")}
        settings = Settings(_env_file=None, database_url=url, ratelimit=False, **SECRETS, **CHEAP)
        app = create_app(settings, senders=senders)
        logging.getLogger("latchkey").setLevel(logging.WARNING)
        world = World(app, lanes.Lane(database, url, None), None, senders, sends_at_once=False)  # type: ignore[arg-type]  # by the real clock
        yield {"step": "write it", "s": _took(lambda: history.write(world.engine, rows, rows // 5, until))[0]}
        admin = _admin(world)
        took, counted = _took(lambda: sum(iter(partial(upkeep.count, world.kit), 0)))
        yield {"step": "count the hours", "s": took, "hours": counted}
        ask = partial(app.test_client().get, headers={"Authorization": f"Bearer {admin.token}"})
        yield from _ask(report, database, ask, rows)
        for words in (["audit-seal"], ["audit-verify", "--json"]):
            seconds, mib, said = _command(url, words)
            yield {"step": f"flask {words[0]}", "s": seconds, "peak MiB": mib, "rows a second": round(rows / seconds)}
            report.check(f"{database}: {words[0]}, peak MiB", mib, f"< {MOST_MIB}", mib < MOST_MIB)
        found = json.loads(said)
        report.check(f"{database}: findings", found["findings"], "0", found["ok"] and found["rows"] >= rows)
        world.engine.dispose()


def _admin(world: World) -> Person:
    person = world.person().sign_up()
    with world.engine.begin() as connection:
        connection.execute(sa.update(User.__table__).values(role=ADMIN))
    return person.sign_in()


def _ask(report: Report, database: str, ask: Callable[[str], Any], rows: int) -> Iterator[dict[str, Any]]:
    since = history.end() - timedelta(days=history.DAYS)
    for interval in ("hour", "day"):
        path = f"/api/admin/stats?from={since:%Y-%m-%dT%H:%M:%SZ}&interval={interval}"
        cpu = time.process_time()
        asked = [_took(partial(ask, path)) for _ in range(ASKED)]
        cpu = (time.process_time() - cpu) / ASKED
        took, series = [each for each, _ in asked], asked[-1][1].json["series"]
        yield {"step": f"30 days by {interval}", "s": spread(took), "cpu s": cpu, "points": len(series)}
        usual = statistics.median(took)
        report.check(f"{database}: 30 days by {interval}, median s", usual, f"< {MOST_SECONDS}", usual < MOST_SECONDS)
        if interval == "hour":
            codes = sum(place["sent"] for bucket in series for place in bucket["codes"])
            report.check(f"{database}: codes counted", codes, "every code", codes >= rows // 5)


def _took(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    answer = act()
    return time.monotonic() - began, answer


def _command(url: str, words: list[str]) -> tuple[float, float, str]:
    """Seconds from start to end of a command, the most memory it had, and what it said."""
    environment = {**os.environ, **{name.upper(): value for name, value in SECRETS.items()}, "DATABASE_URL": url}
    began = time.monotonic()
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None
        with process.stdout:
            said = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        assert process.returncode == 0, said + errors.read().decode()
    return time.monotonic() - began, used.ru_maxrss / 1024, said
