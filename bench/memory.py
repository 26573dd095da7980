"""How much memory the service takes, idle and under 500 sign-ins at once, and what becomes of those it cannot serve.

gunicorn as production runs it, with real password hashes, on PostgreSQL. Memory is the proportional set size (PSS) of
its master and workers together: what they share counts once. The bound is a small host's 512 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import psutil

from bench.load import Ask, Load, Told
from bench.report import Report, quantile
from bench.rig import PASSWORD, WIDE, address, soon
from tests import lanes
from tests.people import Person
from tests.service import Service, running

MIB = 2**20
BOUND_MIB = 512e6 / MIB
IDLE_MIB, LOADED_MIB = 130, 350
START_S, OTHERS_MS = 1.5, 250  # until the first 200, and `me` in 99 of 100; the long form asserts them
PRODUCTION = {
    "environment": "production",
    "allow_console_delivery": "true",
    "argon2_memory_kib": 19_456,
    "argon2_time_cost": 2,
    "mfa_policy": "optional",
    "web_concurrency": 2,
    "web_patience": 1,
    **WIDE,
}
PEOPLE = 20
OTHERS = 5  # requests a second of somebody who is signed in


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, help="that sign in at once (500; short: 100)")
    parser.add_argument("--seconds", type=float, help="(30; short: 6)")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.clients = given.clients or (100 if given.short else 500)
    given.seconds = given.seconds or (6 if given.short else 30)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        url = stack.enter_context(lanes.database("postgresql", "bench_memory"))
        lanes.migrate(url)
        began = time.monotonic()
        service = stack.enter_context(running(url, folder, **PRODUCTION))
        ready, cpu = time.monotonic() - began, cpu_of(service)
        sizes = {"idle": pss(service)}
        people = [person(service) for _ in range(PEOPLE)]
        with _watched(service) as seen:
            crowd = Crowd(people, urlsplit(service.base).port or 0)
            crowd.rush(given.clients, given.seconds)
        sizes |= {"most under load": max(seen), "after": pss(service)}
    return _told(given, crowd, sizes, {"seconds to the first 200": ready, "cpu seconds until then": cpu})


def _told(given: argparse.Namespace, crowd: Crowd, sizes: dict[str, float], start: dict[str, float]) -> Report:
    report = Report()
    report.tables["start"] = [start]
    report.tables[f"PSS of all processes, MiB; {given.clients} clients"] = [sizes]
    answers = Counter(told.status for told in crowd.told)
    shed = [told for told in crowd.told if told.status == 503]
    others = [told.took for told in crowd.others]
    late = 1000 * quantile(others, 0.99)
    report.tables[f"sign-ins of {given.seconds:.0f} s; the refused come again after Retry-After"] = [
        {
            "answers": dict(answers),
            "signed in a second": answers[200] / given.seconds,
            "s until 200, p95": quantile([told.took for told in crowd.told if told.status == 200], 0.95),
            "s until 503, p95": quantile([told.took for told in shed], 0.95),
            "`me` ms, median": 1000 * quantile(others, 0.5),
            "`me` ms, p99": late,
        }
    ]
    loaded = sizes["most under load"]
    report.check("PSS idle, MiB", sizes["idle"], f"at most {IDLE_MIB}", sizes["idle"] <= IDLE_MIB)
    report.check("PSS under load, MiB", loaded, f"at most {LOADED_MIB}", loaded <= LOADED_MIB)
    report.check("PSS ever, MiB", max(sizes.values()), f"below {BOUND_MIB:.0f}", max(sizes.values()) < BOUND_MIB)
    report.check("answers", dict(answers), "200 and 503, no other", set(answers) == {200, 503})
    unsaid = [told for told in shed if not told.headers.get("retry-after", "").isdigit()]
    report.check("503 without Retry-After", len(unsaid), "0", not unsaid)
    if not given.short:
        ready = start["seconds to the first 200"]
        report.check("seconds to the first 200", ready, f"at most {START_S}", ready <= START_S)
        report.check("`me` ms, p99", late, f"below {OTHERS_MS}", late < OTHERS_MS)
    return report


class Crowd:
    """Clients that sign in over and over, and one that asks who it is meanwhile."""

    def __init__(self, people: list[Person], port: int) -> None:
        self._people, self._port = people, port
        self.told: list[Told] = []
        self.others: list[Told] = []

    def rush(self, clients: int, seconds: float) -> None:
        other = Load(lambda: Ask("GET", "/api/auth/me", token=self._people[0].token), [self._port], OTHERS)
        with other.running():
            asyncio.run(self._rush(clients, time.monotonic() + seconds))
        self.others = other.told

    async def _rush(self, clients: int, until: float) -> None:
        await asyncio.gather(*(self._client(number, until) for number in range(clients)))

    async def _client(self, number: int, until: float) -> None:
        person = self._people[number % len(self._people)]
        ask = Ask("POST", "/api/auth/login", {"identifier": person.email, "password": PASSWORD})
        line = Load(lambda: ask, [self._port], 1)
        while time.monotonic() < until:
            await line.one(ask)
            told = line.told[-1]
            if told.status == 503:
                await asyncio.sleep(float(told.headers.get("retry-after", 1)))
        self.told += line.told


def person(service: Service) -> Person:
    email, seen = address(), len(service.codes())
    return Person(service.api(), lambda *_: soon(lambda: service.codes()[seen:])[-1], email=email).sign_up()


def pss(service: Service) -> float:
    """MiB of all processes of a service."""
    master = psutil.Process(service.process.pid)
    return sum(each.memory_full_info().pss for each in (master, *master.children(recursive=True))) / MIB


def cpu_of(service: Service) -> float:
    """CPU seconds of all processes of a service."""
    master = psutil.Process(service.process.pid)
    return sum(sum(each.cpu_times()[:2]) for each in (master, *master.children(recursive=True)))


@contextmanager
def _watched(service: Service) -> Iterator[list[float]]:
    """What the service took, looked at all the while."""
    seen, over = [pss(service)], threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            seen.append(pss(service))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
