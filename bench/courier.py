"""How many messages a second one courier takes from the outbox, and what each costs, if its senders take no time.

Codes of real challenges, half by mail and half by SMS, wait in PostgreSQL; one `flask courier` with instant senders
empties the queue. It takes turns with `bench/updates.py`: as many guarded updates, each with a commit of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from app import create_app
from app.config import Settings
from app.core import challenges, throttles
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier, Kind
from app.delivery import outbox
from app.delivery.courier import BATCH, Courier, new_bells
from app.models import OtpChallenge, OutboxMessage, User
from app.work import Kit, Work
from app.work import run as once
from bench import instant, people
from bench.clients import Meter
from bench.report import Report, ratio
from bench.rig import soon, tend
from tests import lanes
from tests.service import ROOT, Service

LEAST_RATE = 400
WARM = 0.1  # of the messages of each channel: settled before the measurement begins
UNIT = 250  # challenges that are made in one unit
SETTINGS = {"email_provider": "instant.Mail", "sms_provider": "instant.Sms"}
LIFE = timedelta(minutes=10)
CHANNELS = {"email": Kind.EMAIL, "sms": Kind.PHONE}
OURS, BESIDE, BARE = "the courier", "the other checkout", "bare updates"
COLUMNS = ("messages a second", "CPU ms of the courier", "of the database")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, help="that wait (3,000; short: 400)")
    parser.add_argument("--blocks", type=int, help="(5; short: 1)")
    parser.add_argument(
        "--beside", type=Path, metavar="FOLDER", help="another checkout, whose courier takes turns, too"
    )


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.messages = given.messages or (400 if given.short else 3000)
    given.blocks = given.blocks or (1 if given.short else 5)
    logging.getLogger("latchkey").setLevel(logging.WARNING)  # here; the courier that is measured writes its lines
    report = Report()
    with _yard(given.messages) as yard:
        report.tables["statements and commits a message"] = counts = _counts(yard)
        for row in counts:
            what, most = f"commits of {row['in a round']} ({row['channel']})", 2 / row["in a round"]
            report.check(what, row["commits"], f"at most {most}", row["commits"] <= most)
        roots = {OURS: ROOT} | ({BESIDE: given.beside.resolve()} if given.beside else {})
        blocks = []
        for turn in range(given.blocks):
            order = list(roots.items())[:: 1 if turn % 2 else -1]
            block = {name: yard.drained(root) for name, root in order}
            blocks.append({**{name: block[name] for name in roots}, BARE: yard.bare()})
    _told(report, given, blocks)
    return report


@dataclass
class Yard:
    """Where messages wait, and who takes them."""

    url: str
    engine: sa.Engine
    kit: Kit
    folder: Path
    messages: int

    def queue(self, each: int) -> None:
        """So many messages of each channel wait for their first try. All the others are done."""
        row, now = OutboxMessage, datetime.now(UTC)
        fresh = {"created_at": now, "expires_at": now + LIFE}
        blank = {"attempts": 0, "next_attempt_at": now, "lease": None, "provider": None, "settled_at": None}
        with self.engine.begin() as connection:
            connection.execute(sa.update(OtpChallenge).values(fresh))
            connection.execute(sa.update(row).values(fresh | blank | {"state": "dropped"}))
            for channel in CHANNELS:
                some = sa.select(row.id).where(row.channel == channel).order_by(row.id.desc()).limit(each)
                connection.execute(sa.update(row).where(row.id.in_(some)).values(state="queued"))
        tend(self.engine)

    def settled(self, channel: str) -> int:
        mine = (OutboxMessage.channel == channel, OutboxMessage.state == "sent")
        return int(self._ask(sa.select(sa.func.count()).where(*mine))[0])

    def drained(self, root: Path) -> list[float]:
        """One courier of a checkout takes all that wait: messages a second, and CPU ms of it and of the database."""
        most = self.messages // 2
        self.queue(most)
        with self._courier(root) as process:
            soon(lambda: all(self.settled(channel) > WARM * most for channel in CHANNELS))
            meter = Meter(process, self.url)
            before, began = meter.read(), datetime.now(UTC)
            soon(lambda: all(self.settled(channel) == most for channel in CHANNELS), 300)
            spent = [1000 * (after - then) for after, then in zip(meter.read(), before, strict=True)]
        late = sa.select(sa.func.count(), sa.func.max(OutboxMessage.settled_at)).where(OutboxMessage.settled_at > began)
        count, last = self._ask(late)
        return [count / (last - began).total_seconds(), *(each / count for each in spent)]

    def bare(self) -> list[float]:
        """As many guarded updates, each with its commit, by psycopg2 alone."""
        self.queue(self.messages // 2)
        dsn = sa.make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        words = [sys.executable, "-m", "bench.updates", dsn, str(self.messages)]
        told = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout)
        return [told["rate"], 1000 * told["cpu"], 1000 * told["database"]]

    @contextmanager
    def _courier(self, root: Path) -> Iterator[Service]:
        given = {**lanes.SECRETS, **lanes.CHEAP, **SETTINGS, "database_url": self.url, "environment": "development"}
        environment = {name.upper(): str(value) for name, value in given.items()}
        log = self.folder / "courier.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "flask", "courier"], cwd=root, stdout=out, stderr=out,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.folder), **environment},
            )  # fmt: skip
        service = Service("", process, log)
        try:
            yield service
        finally:
            service.stop()

    def _ask(self, query: sa.Select[Any]) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(query).one()


@contextmanager
def _yard(messages: int) -> Iterator[Yard]:
    """A database with so many challenges of accounts, each with its message; commits wait for the disk."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        shutil.copy(instant.__file__, folder)  # also for a checkout that has none
        url = stack.enter_context(lanes.database("postgresql", f"bench_courier_{os.getpid()}"))
        lanes.migrate(url)
        engine = lanes.engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {engine.url.database} SET synchronous_commit = on"))
            connection.execute(sa.insert(User), [people.account(n, messages) for n in range(messages // 2)])
        app = create_app(Settings(_env_file=None, database_url=url, **lanes.SECRETS, **lanes.CHEAP))
        courier: Courier = app.extensions["courier"]
        users = sa.select(User.id, User.email, User.phone)
        with engine.connect() as connection:
            whom = connection.execute(users).all()
        for start in range(0, len(whom), UNIT):
            once(courier.kit, partial(_ask_codes, whom=whom[start : start + UNIT]))
        yield Yard(url, engine, courier.kit, folder, messages)
        courier.kit.writes.kw["bind"].dispose()


def _ask_codes(work: Work, whom: Sequence[Any]) -> None:
    """A code by mail and one by SMS for each."""
    for user_id, *addresses in whom:
        for kind, value in zip(CHANNELS.values(), addresses, strict=True):
            key = throttles.key("guess", kind, value)
            question = Question(Purpose.SIGNIN, Identifier(kind, value), key, user_id=user_id)
            outbox.code(work, challenges.issue(work, question))


def _counts(yard: Yard) -> list[dict[str, Any]]:
    """Of a round in this process with one message, and with as many as a round takes."""
    senders = {"email": instant.Mail(None), "sms": instant.Sms(None)}
    courier, rows = Courier(yard.kit, senders, new_bells()), []
    for channel in CHANNELS:
        for each in (1, BATCH):
            yard.queue(each)
            with counted(yard.kit.writes.kw["bind"]) as spent:
                courier.round(channel)
            found = {what: spent[what] / each for what in ("statements", "commits")}
            rows.append({"channel": channel, "in a round": each, **found})
    return rows


def _writes(line: sa.Connection) -> bool:
    return line.get_execution_options().get("isolation_level") != "AUTOCOMMIT"


@contextmanager
def counted(engine: sa.Engine) -> Iterator[Counter[str]]:
    """The statements and commits of whatever happens meanwhile."""
    spent: Counter[str] = Counter()
    listened: list[tuple[str, Callable[..., None]]] = [
        ("before_cursor_execute", lambda *_: spent.update(["statements"])),
        ("commit", lambda line: spent.update(["commits"] if _writes(line) else [])),
    ]
    for name, listener in listened:
        sa.event.listen(engine, name, listener)
    try:
        yield spent
    finally:
        for name, listener in listened:
            sa.event.remove(engine, name, listener)


def _told(report: Report, given: argparse.Namespace, blocks: list[dict[str, list[float]]]) -> None:
    names = list(blocks[0])
    middle = {
        name: [statistics.median(column) for column in zip(*(b[name] for b in blocks), strict=True)] for name in names
    }
    title = f"{given.messages} messages, half by mail and half by SMS, {given.blocks} blocks"
    report.tables[title] = [{"who": name, **dict(zip(COLUMNS, middle[name], strict=True))} for name in names]
    for name in names[1:]:
        rates = ratio([([block[name][0]], [block[OURS][0]]) for block in blocks])
        costs = ratio([([sum(block[name][1:])], [sum(block[OURS][1:])]) for block in blocks])
        report.tables[f"the courier as a multiple of {name}"] = [
            {"of": what, "ratio": times, "95 %": f"{low:.2f} to {high:.2f}"}
            for what, (times, (low, high)) in (("messages a second", rates), ("CPU", costs))
        ]
    if not given.short:  # which is over before anything is warm
        rate = middle[OURS][0]
        report.check("messages a second", rate, f"at least {LEAST_RATE}", rate >= LEAST_RATE)
