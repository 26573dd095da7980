"""Whether an account exists: no answer tells, in status, header, body, limit or time, idle or at half load.

First every story of `bench/stories.py` in this process with a clock that stands: nothing may differ but random ids.
Then the six routes that take an identifier over HTTP, known and unknown ones in pairs in random order, against gunicorn
with four workers: rank tests on the time, and a classifier on everything.
"""

from __future__ import annotations

import argparse
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from app.crypto.ids import uuid7
from app.crypto.passwords import Hasher
from app.models import OutboxMessage, User
from app.models.outbox import SETTLED
from bench.report import Report, quantile
from bench.rig import Connection, Rig, rig, tend
from bench.stories import AUTH, MOBILE, ROUTES, STORIES, WRONG, Line, Who, in_process, over_http
from bench.telling import Told, by_classifier, by_pairs, by_rank
from bench.world import world
from tests import lanes
from tests.conftest import World

BOUND = 0.52
# Accounts of every kind look like nobody's.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "disabled": {"disabled_at": datetime(2026, 1, 1, tzinfo=UTC)},
    "locked": {"locked_at": datetime(2026, 1, 1, tzinfo=UTC)},
    "without a password": {"password_hash": None},
}
SETTINGS: dict[str, Any] = {"ratelimit": False}  # limits by address count the asker, whoever is asked about
TENDED = 500  # pairs until the database is tended again
WARM = 100  # pairs before those that count: what is made at first use, and rows in every table
# What each request of a route is answered. So must 99 of 100 be, or it is told of errors that nobody is told apart.
ANSWERED: dict[str, tuple[int, ...]] = {
    "login": (401,),
    "signup": (201,),
    "forgot-password": (200,),
    "send-otp": (200,),
    "resend": (200, 200),
    "verify": (200, 400),
}
LOADS = ("idle", "half load")
REST_S = 1.0  # longest wait for the courier between two people
AS_EXPECTED, OF_THE_RATE = 0.99, 0.4
CALIBRATION_S, CLIENTS = 3, 4  # how long and with how many clients it is found out what the service can take
# A dear hash may hide differences, as it does in production; one that costs next to nothing shows them.
HASHES: dict[str, dict[str, int]] = {
    "cheap": {"memory_kib": 8, "time_cost": 1},
    "real": {"memory_kib": 19_456, "time_cost": 2},
}
HASHED = {how: Hasher(**cost, slots=1, queue=1).hash(b"a secret horse 9") for how, cost in HASHES.items()}
_couples, _strangers = itertools.count(1), itertools.count(1)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, help="a route and load (10,000; short: 40)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="postgresql")
    parser.add_argument("--route", choices=ROUTES, action="append", help="this one; may be given again")
    parser.add_argument("--load", choices=LOADS, action="append", help="this one; may be given again")
    parser.add_argument("--hashes", choices=HASHES, default="cheap", help="what a password's hash costs")


def run(given: argparse.Namespace) -> Report:
    report = Report()
    with world(label="stories", **SETTINGS) as opened:
        _settle_stories(report, opened)
    given.pairs = given.pairs or (40 if given.short else 10_000)
    given.database = _had(given.database)
    shown = {"otp_resend_in": 0, "sends_per_minute": 3, "sends_per_day_email": 30, "sends_per_day_sms": 10}
    costs = {f"argon2_{name}": value for name, value in HASHES[given.hashes].items()}
    with rig(given.database, "enumeration", sms_shield="off", **shown, **costs) as opened_rig:
        for load in given.load or LOADS:
            with _half_loaded(report, opened_rig, given) if load == "half load" else nullcontext():
                rows = [_measure(report, opened_rig, given, name, load) for name in given.route or ROUTES]
            report.tables[
                f"{given.database}, {load}, {given.hashes} hashes, {given.pairs} pairs a route; AUC with 95 % interval"
            ] = rows
    return report


def _had(database: str) -> str:
    """That database, or the first that can be had."""
    lanes.look_for_servers()
    return database if database in lanes.wanted() else lanes.wanted()[0]


def couple() -> tuple[Who, Who]:
    """Somebody who shall have an account, and somebody who shall not; what answers show of them is the same."""
    n = next(_couples)
    tail = n % 997 + n // 50_000 * 1000  # of the phone, which is shown
    people = (
        Who(
            known,
            f"j{n:07d}{'ab'[known]}@example.com",
            f"+91{900_000 + (2 * n + known) % 100_000}{tail:04d}",
            f"j.{n:07d}{'ab'[known]}",
        )
        for known in (True, False)
    )
    known, unknown = people
    return known, unknown


def account(who: Who, now: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "id": uuid7(now), "name": "Jane", "name_key": "jane", "role": "user", "email": who.email, "phone": who.phone,
        "username": who.username, "password_hash": HASHED["cheap"], "created_at": now,
        "password_changed_at": now, **changes,
    }  # fmt: skip


def _settle_stories(report: Report, opened: World) -> None:
    rows = []
    for n, name in enumerate(STORIES):
        kinds = ["plain", list(KINDS)[1 + n % (len(KINDS) - 1)]]
        differing = [each for kind in kinds for each in differences(opened, name, kind, deliver=n % 2 == 0)]
        rows.append({"story": name, "kinds of account": ", ".join(kinds), "differences": len(differing)})
        report.check(f"{name}: answers that differ", differing[:2] or 0, "0", not differing)
    report.tables["stories in this process, one pair each"] = rows


def differences(opened: World, name: str, kind: str, *, deliver: bool = True) -> list[str]:
    """Tell a story of somebody with an account of some kind, and of nobody, in an order that changes. What differs."""
    opened.clock.advance(days=3)
    pair = couple()
    with opened.engine.begin() as connection:
        connection.execute(sa.insert(User), [account(pair[0], opened.kit.clock(), **KINDS[kind])])
    lines = {who.known: in_process(opened, deliver=deliver) for who in pair}
    for who in pair if next(_strangers) % 2 else pair[::-1]:
        STORIES[name](lines[who.known], who)
        opened.clock.advance(days=3)
    both = zip(lines[True].seen, lines[False].seen, strict=True)
    return [f"{kind}, request {n}: {a.shape} / {b.shape}" for n, (a, b) in enumerate(both) if a.shape != b.shape]


def _measure(report: Report, opened: Rig, given: argparse.Namespace, name: str, load: str) -> dict[str, Any]:
    """Pairs of known and unknown on one route, in random order, each with identifiers of its own."""
    dice = random.Random(f"{name} {load}")
    warm, pairs = ([couple() for _ in range(count)] for count in (WARM, given.pairs))
    _keep(opened, [known for known, _ in (*warm, *pairs)], HASHED[given.hashes])
    http = HTTPConnection(urlsplit(opened.service.base).netloc, timeout=60)
    found: list[dict[bool, Line]] = []
    for n, pair in enumerate([*warm, *pairs]):
        if n in (len(warm) // 2, len(warm)) or n % TENDED == 0:
            tend(opened.engine)
            http.close()  # it is opened anew: the service ends what was idle so long
        lines = {who.known: over_http(http) for who in pair}
        for who in dice.sample(pair, 2):
            if load == "idle":
                _come_to_rest(opened)
            ROUTES[name](lines[who.known], who)
        found.append(lines)
    http.close()
    return _judged(report, name, load, found[len(warm) :], given)


def _come_to_rest(opened: Rig) -> None:
    """Wait until no message is on its way: what the courier does for one of a pair would slow down the other."""
    waiting = sa.select(OutboxMessage.id).where(OutboxMessage.state.not_in(SETTLED)).limit(1)
    until = time.monotonic() + REST_S
    while time.monotonic() < until:
        with opened.engine.connect() as connection:
            if connection.scalar(waiting) is None:
                return
        time.sleep(0.002)


def _judged(
    report: Report, name: str, load: str, found: Sequence[dict[bool, Line]], given: argparse.Namespace
) -> dict[str, Any]:
    """The best of all that can be made of it. Times count for the bound in the long form alone: 40 pairs say little.
    Without them nothing tells the two apart, however few they are.
    """
    features = {known: [lines[known].features for lines in found] for known in (True, False)}
    timeless = {
        known: [
            {name: value for name, value in each.items() if not isinstance(value, float)} for each in features[known]
        ]
        for known in features
    }
    seconds = {known: [sum(seen.seconds for seen in lines[known].seen) for lines in found] for known in (True, False)}
    told: dict[str, Told] = {
        "time, by rank": by_rank(seconds[True], seconds[False]),
        "time, in pairs": by_pairs(list(zip(seconds[True], seconds[False], strict=True))),
        "everything, classified": by_classifier(features[True], features[False]),
        "all but time, classified": by_classifier(timeless[True], timeless[False]),
    }
    if len(found[0][True].seen) > 1:  # what comes before might hide it
        last = {known: [lines[known].seen[-1].seconds for lines in found] for known in (True, False)}
        told["time of the last request, by rank"] = by_rank(last[True], last[False])
    best = max(told.values(), key=lambda each: each.apart)
    still = told["all but time, classified"].apart
    report.check(f"{name}, {load}: AUC of all but time", f"{still:.3f}", f"at most {BOUND}", still <= BOUND)
    if not given.short:
        report.check(f"{name}, {load}: AUC of the best", f"{best.apart:.3f}", f"at most {BOUND}", best.apart <= BOUND)
    statuses = Counter(str(seen.status) for lines in found for line in lines.values() for seen in line.seen)
    expected = sum(
        tuple(seen.status for seen in line.seen) == ANSWERED[name] for each in found for line in each.values()
    )
    share = expected / (2 * len(found))
    bound = f"{', '.join(map(str, ANSWERED[name]))} to at least {AS_EXPECTED}"
    report.check(f"{name}, {load}: answers", dict(statuses), bound, share >= AS_EXPECTED)
    ms = {known: 1000 * quantile(seconds[known], 0.5) for known in seconds}
    shown = {way: str(each) for way, each in told.items()}
    return {"route": name, "median ms, known": ms[True], "unknown": ms[False], "answers": dict(statuses), **shown}


def _keep(opened: Rig, people: Sequence[Who], hashed: str) -> None:
    """Write their accounts."""
    with opened.engine.begin() as connection:
        for start in range(0, len(people), 5000):
            now = datetime.now(UTC)
            connection.execute(
                sa.insert(User), [account(who, now, password_hash=hashed) for who in people[start : start + 5000]]
            )


@contextmanager
def _half_loaded(report: Report, opened: Rig, given: argparse.Namespace) -> Iterator[None]:
    """Others ask for codes and try passwords meanwhile, half as often as the service can take. It is told whether they
    did; of the short form's seconds not how often.
    """
    most = _offered(opened, None, lambda began: time.monotonic() < began + CALIBRATION_S).total() / CALIBRATION_S
    over, began = threading.Event(), time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(_offered, opened, most / 2, lambda _: not over.is_set())
        try:
            yield
        finally:
            over.set()
        told, seconds = load.result(), time.monotonic() - began
    well = told["200"] + told["401"]
    row = {
        "calibrated, a second": most,
        "asked": told.total(),
        "answers": dict(told),
        "answered well, a second": well / seconds,
    }
    report.tables["the half load"] = [row]
    share = well / max(told.total(), 1)
    report.check("half load: answered well", share, f"at least {AS_EXPECTED}", share >= AS_EXPECTED)
    if not given.short:
        of_it = well / seconds / most
        report.check("half load: of the calibrated rate", of_it, f"at least {OF_THE_RATE}", of_it >= OF_THE_RATE)


def _offered(opened: Rig, rate: float | None, goes_on: Callable[[float], bool]) -> Counter[str]:
    """Requests by several clients, so many a second, or as fast as they are answered. Returns the answers."""
    began = time.monotonic()

    def client(_: int) -> Counter[str]:
        line, done, told = Connection(opened.service.base), 0, Counter[str]()
        while goes_on(began):
            n = next(_strangers)
            path, body = [
                (f"{AUTH}/login", {"identifier": f"s{n}@example.com", "password": WRONG}),
                (f"{MOBILE}/send-otp", {"mobile_number": f"+447400{n % 10**6:06d}"}),
                (f"{AUTH}/forgot-password", {"identifier": f"s{n}@example.com"}),
            ][done % 3]
            told[str(line.post(path, body)[0])] += 1
            done += 1
            if rate:
                time.sleep(max(0.0, began + done * CLIENTS / rate - time.monotonic()))
        line.close()
        return told

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS)), Counter[str]())
