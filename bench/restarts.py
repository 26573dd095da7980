"""The service is stopped by SIGTERM and started again, over and over, under 100 requests a second: none fails.

In three ways. `socket`: one service whose listening socket is kept by its starter, as systemd keeps it for a socket
unit; no request is tried twice. `balanced`: two services, restarted in turn; a refused connection, and nothing else, is
tried at the other one, as every load balancer does. `alone`: one service with nothing around it; it has no bound.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.load import Ask, Load, failed, until
from bench.report import Report, spread
from bench.rig import PASSWORD, WIDE, address, soon
from tests import lanes
from tests.people import Person
from tests.service import Service, launch

WAYS = ("socket", "balanced", "alone")
BACKLOG = 2048
SETTLE_S = 0.5  # of load between two restarts
PEOPLE = 8


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--restarts", type=int, help="in each way (100; short: 10)")
    parser.add_argument("--minutes", type=float, default=60, help="no restart begins after this, in each way")
    parser.add_argument("--way", choices=WAYS, help="this one alone")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="postgresql")
    parser.add_argument("--rate", type=int, default=100, help="requests a second")
    parser.add_argument("--workers", type=int, default=2, help="of each service")
    parser.add_argument("--new", action="store_true", help="a new connection for each request")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.restarts = given.restarts or (10 if given.short else 100)
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        for way in [given.way] if given.way else WAYS:
            for kept in (False,) if given.new else (False, True):
                with lanes.database(given.database, "bench_restarts") as url:
                    lanes.migrate(url)
                    _way(report, way, _Place(url, folder, given.workers), given, kept)
    return report


@dataclass(frozen=True)
class _Place:
    url: str
    folder: Path
    workers: int


def _way(report: Report, way: str, place: _Place, given: argparse.Namespace, kept: bool) -> None:
    with _services(way, place) as (services, again):
        load = Load(_mix(services[0]), [int(s.base.rsplit(":", 1)[1]) for s in services], given.rate, kept=kept)
        with load.running():
            began = time.monotonic()
            done = 0
            while done < given.restarts and time.monotonic() < began + 60 * given.minutes:
                time.sleep(SETTLE_S)
                again(done % len(services))
                answered = len(load.told)
                until(lambda seen=answered: len(load.told) > seen)
                done += 1
            lasted = time.monotonic() - began
    bad = failed(load.told)
    title = f"{way}, {'kept' if kept else 'new'} connections"
    report.tables[f"{title}: {done} restarts in {lasted:.0f} s"] = [
        {
            "asked": len(load.told),
            "answers": dict(Counter(told.status for told in load.told)),
            "without": dict(Counter(told.why for told in bad)),
            "refused and tried elsewhere": sum(told.retried for told in load.told),
            **{f"s, {name}": value for name, value in spread([told.took for told in load.told]).items()},
        }
    ]
    if way != "alone":
        report.check(f"{title}: failed requests", len(bad), "0", not bad)
        report.check(f"{title}: requests", len(load.told), "10 a second and more", len(load.told) > 10 * lasted)


@contextmanager
def _services(way: str, place: _Place) -> Iterator[tuple[list[Service], Callable[[int], None]]]:
    """Running services, and what restarts one of them."""
    settings = {"web_concurrency": place.workers, "mfa_policy": "optional", **WIDE}
    with ExitStack() as stack:
        count = 2 if way == "balanced" else 1
        listeners = [stack.enter_context(_listener()) for _ in range(count)] if way == "socket" else [None] * count
        services = [launch(place.url, place.folder, listener, **settings) for listener in listeners]
        stack.callback(lambda: [service.stop() for service in services])
        for service in services:
            service.wait()

        def again(number: int) -> None:
            old = services[number]
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(60) == 0
            same = {"port": old.base.rsplit(":", 1)[1]}
            services[number] = launch(place.url, place.folder, listeners[number], **(settings | same))
            services[number].base = old.base
            if way == "socket":  # nobody asks whether it is ready: requests wait for it
                until(services[number].workers)
            else:
                services[number].wait()

        yield services, again


@contextmanager
def _listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        yield listener


def _mix(service: Service) -> Callable[[], Ask]:
    """Eight in ten `me`, one a sign-in, one a recovery: reads, and writes that nobody may send twice."""
    people = []
    for _ in range(PEOPLE):
        codes = len(service.codes())
        person = Person(service.api(), lambda *_, seen=codes: soon(lambda: service.codes()[seen:])[-1], email=address())
        people.append(person.sign_up())
    turn = itertools.count()

    def ask() -> Ask:
        number = next(turn)
        person = people[number // 10 % PEOPLE]
        if number % 10 == 0:
            return Ask("POST", "/api/auth/login", {"identifier": person.email, "password": PASSWORD})
        if number % 10 == 5:
            return Ask("POST", "/api/auth/forgot-password", {"identifier": person.email})
        return Ask("GET", "/api/auth/me", token=person.token)

    return ask
