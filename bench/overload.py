"""Four times the sign-ins that the service can bear: how many it serves all the same, and how soon the rest is told.

gunicorn as production runs it, with real password hashes, on PostgreSQL. First so many clients sign in over and over
that no hash slot rests: the most it can serve. Then four times as many a second are sent, whatever becomes of them, and
somebody who is signed in asks who they are. The two take turns in blocks.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from app.config import Settings
from app.crypto.passwords import PATIENCE_S
from app.start import processors
from bench.load import Ask, Load, Told
from bench.memory import PEOPLE, PRODUCTION, person
from bench.report import Report, quantile, ratio, spread
from bench.rig import PASSWORD
from tests import lanes
from tests.people import Person
from tests.service import running

AT_ONCE = 2  # clients for each hash slot: one is hashed for while the other is answered
TIMES = 4
OTHERS = 20  # requests a second of somebody who is signed in
USUAL = Settings.model_fields["web_patience"].default
LEAST, MOST_S, MOST_MS = 0.9, 1.0, 250


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--blocks", type=int, help="of each kind (5; short: 1)")
    parser.add_argument("--seconds", type=float, help="of a block (8; short: 4)")
    parser.add_argument("--patience", type=float, default=USUAL, help=f"WEB_PATIENCE of the service ({USUAL})")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.blocks = given.blocks or (1 if given.short else 5)
    given.seconds = given.seconds or (4.0 if given.short else 8.0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        url = stack.enter_context(lanes.database("postgresql", f"bench_overload_{os.getpid()}"))
        lanes.migrate(url)
        service = stack.enter_context(running(url, folder, **{**PRODUCTION, "web_patience": given.patience}))
        people = [person(service) for _ in range(PEOPLE)]
        crowd = Crowd(people, urlsplit(service.base).port or 0)
        crowd.most(given.seconds / 2)  # warm
        blocks = []
        for _ in range(given.blocks):
            most = crowd.most(given.seconds)
            blocks.append(crowd.flood(TIMES * most, given.seconds, Block(most)))
            time.sleep(PATIENCE_S + 0.5)
    return _told(given, blocks)


@dataclass
class Block:
    most: float  # sign-ins a second that were served when no more were asked for
    served: float = 0.0  # and when four times as many were
    sent: float = 0.0
    told: list[Told] = field(default_factory=list)
    others: list[Told] = field(default_factory=list)


class Crowd:
    """Everybody who signs in, and somebody who has done so."""

    def __init__(self, people: list[Person], port: int) -> None:
        self._token, self._port = people[0].token, port
        bodies = [{"identifier": each.email, "password": PASSWORD} for each in people]
        self._turns = itertools.cycle([Ask("POST", "/api/auth/login", body) for body in bodies])

    def most(self, seconds: float) -> float:
        """The sign-ins a second of clients who wait for each answer before they come again."""
        until, line = time.monotonic() + seconds, self._load(1)

        async def client() -> None:
            while time.monotonic() < until:
                await line.one(next(self._turns))

        async def all_of_them() -> None:
            await asyncio.gather(*(client() for _ in range(AT_ONCE * processors())))

        asyncio.run(all_of_them())
        return _served(line.told, until - seconds, until)

    def flood(self, rate: float, seconds: float, block: Block) -> Block:
        """So many sign-ins a second, whatever the answers do."""
        flood, began = self._load(rate), time.monotonic()
        other = Load(lambda: Ask("GET", "/api/auth/me", token=self._token), [self._port], OTHERS)
        with flood.running(), other.running():
            time.sleep(seconds)
        block.told, block.others = flood.told, other.told
        block.sent = sum(told.began < began + seconds for told in flood.told) / seconds
        block.served = _served(flood.told, began + PATIENCE_S, began + seconds)  # once the queue is full
        return block

    def _load(self, rate: float) -> Load:
        return Load(lambda: next(self._turns), [self._port], rate)


def _served(told: list[Told], since: float, until: float) -> float:
    """Sign-ins a second that were answered in a time."""
    return sum(one.status == 200 and since <= one.began + one.took <= until for one in told) / (until - since)


def _told(given: argparse.Namespace, blocks: list[Block]) -> Report:
    report = Report()
    told, others = ([one for block in blocks for one in getattr(block, kind)] for kind in ("told", "others"))
    answers = Counter(one.status for one in told)
    shed = [one.took for one in told if one.status == 503]
    share, (low, high) = ratio([([block.most], [block.served]) for block in blocks])
    late, slow = quantile(shed, 0.99), 1000 * quantile([one.took for one in others], 0.99)
    report.tables[f"sign-ins, {given.blocks} blocks of {given.seconds:.0f} s"] = [
        {
            "most a second": statistics.median(block.most for block in blocks),
            "sent a second": statistics.median(block.sent for block in blocks),
            "served a second": statistics.median(block.served for block in blocks),
            "answers": dict(answers),
        }
    ]
    report.tables["how long they took"] = [
        {"answer": "503, s", **spread(shed), "p99": late},
        {"answer": "200, s", **spread([one.took for one in told if one.status == 200])},
        {"answer": "`me`, ms", **spread([1000 * one.took for one in others]), "p99": slow},
    ]
    report.check("answers", dict(answers), "200 and 503 only", set(answers) == {200, 503})
    wrong = Counter(one.status for one in others if one.status != 200)
    report.check("`me` not answered with 200", dict(wrong), "none", not wrong)
    if given.short:  # some seconds say nothing of times
        return report
    report.check("served, of the most", f"{share:.2f} ({low:.2f} to {high:.2f})", f"at least {LEAST}", share >= LEAST)
    report.check("s until 503, p99", late, f"at most {MOST_S}", late <= MOST_S)
    report.check("`me` ms, p99", slow, f"below {MOST_MS}", slow < MOST_MS)
    return report
