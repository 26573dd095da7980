"""The worlds that tests live in. `world` runs on every lane; what needs no database asks for none of it."""

from __future__ import annotations

import itertools
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from app import create_app, models
from app.config import Settings
from app.delivery.courier import CHANNELS, Courier
from app.work import Kit
from tests import chromium, lanes, node
from tests.lanes import Lane
from tests.people import Answer, Api, Clock, MemorySender, Person, Transport, flask_transport

COPIES = int(os.environ.get("COPIES", "1"))  # of the service, over one database and Redis
MANY_CASES = 3  # of one test: they are shared among the databases, unless EVERY_CASE=true
EVERY_LANE = 3  # databases
OF_DATABASES = ("tests/races", "tests/faults", "tests/test_")  # locks, dialects and migrations are what these test
NEVER = datetime.min.replace(tzinfo=UTC)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        lanes.look_for_servers()


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.environ.get("CI") == "true" and lanes.missing():
        raise pytest.UsageError(f"CI needs every lane, and these servers are missing: {', '.join(lanes.missing())}")
    if os.environ.get("CI") == "true" and chromium.missing():
        raise pytest.UsageError("CI needs the tests in a browser, and Chromium or its driver is missing")
    if os.environ.get("CI") == "true" and node.missing():
        raise pytest.UsageError("CI needs the Next.js and Express examples, and Node.js 20.9 or npm is missing")


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    limits = ["memory limits", *(["Redis limits"] if "postgresql" in lanes.wanted() and not _no_redis() else [])]
    print(f"lanes that ran: {', '.join([*lanes.wanted(), *limits])}")  # noqa: T201
    for name in lanes.missing():
        print(f"*** NOT TESTED, no server found: {name} ***")  # noqa: T201
    if chromium.missing():
        print("*** NOT TESTED in a browser: Chromium or its driver is missing ***")  # noqa: T201
    if node.missing():
        print("*** NOT TESTED: the Next.js and Express examples, because Node.js 20.9 or npm is missing ***")  # noqa: T201


def _no_redis() -> bool:
    return "redis" in lanes.missing()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if COPIES > 1 and item.get_closest_marker("one_copy"):
            item.add_marker(pytest.mark.skip(reason="looks into one copy of the service"))
    if os.environ.get("EVERY_CASE") != "true":
        spared = _spared(items)
        config.hook.pytest_deselected(items=[item for item in items if item in spared])
        items[:] = [item for item in items if item not in spared]


def _spared(items: list[pytest.Item]) -> set[pytest.Item]:
    """Of a test of many cases, the databases take one case each in turn: every test runs on every database, and every
    case on one. Of one of a few cases each leaves out one database, in turn, but where they are what is tested.
    """
    cases: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        call = getattr(item, "callspec", None)
        if call and "lane" in call.params:
            test, _, ids = item.nodeid.partition("[")
            cases.setdefault(test, {}).setdefault(ids.removeprefix(call.params["lane"]), []).append(item)
    spared = set()
    for test, its_cases in cases.items():
        turn = zlib.crc32(test.encode())
        for n, on_lanes in enumerate(its_cases.values()):
            if len(its_cases) >= MANY_CASES:
                spared |= set(on_lanes) - {on_lanes[n % len(on_lanes)]}
            elif len(on_lanes) == EVERY_LANE and not test.startswith(OF_DATABASES):
                spared.add(on_lanes[(turn + n) % EVERY_LANE])
    return spared


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lane" in metafunc.fixturenames:
        names = lanes.wanted()
        if one := metafunc.definition.get_closest_marker("one_lane"):
            names = [name for name in names if name in one.args] or names[:1]
        metafunc.parametrize("lane", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def lane(request: pytest.FixtureRequest, worker: str) -> Iterator[Lane]:
    with lanes.open_lane(request.param, worker) as opened:
        yield opened


@dataclass
class World:
    """A running application with its clock, mailbox and database in the test's hands."""

    app: Flask
    lane: Lane
    clock: Clock
    senders: dict[str, MemorySender]
    copies: list[Flask] = field(default_factory=list)  # the same service once more; requests go to each in turn
    sends_at_once: bool = True
    sending: threading.RLock = field(default_factory=threading.RLock)
    looked_at: datetime = NEVER  # for messages that wait

    def __post_init__(self) -> None:
        self.turns = itertools.cycle([self.app, *self.copies])

    @property
    def courier(self) -> Courier:
        return self.app.extensions["courier"]

    @property
    def kit(self) -> Kit:
        return self.courier.kit

    @property
    def settings(self) -> Settings:
        return self.kit.settings

    @property
    def engine(self) -> sa.Engine:
        return self.kit.writes.kw["bind"]

    def api(self, address: str = "203.0.113.5", **headers: str) -> Api:
        transports = {id(app): flask_transport(app, address) for app in (self.app, *self.copies)}

        def in_turn(*request: Any) -> Answer:
            return transports[id(next(self.turns))](*request)

        return Api(self._sending(in_turn), **headers)

    def _sending(self, transport: Transport) -> Transport:
        """Messages leave right after the request that queued them, as the courier thread has it."""

        def send(*request: Any) -> Answer:
            answer = transport(*request)
            if self.sends_at_once and self._something_waits():
                self.deliver()
            return answer

        return send

    def _something_waits(self) -> bool:
        """True if a message was queued since the last look, or time has passed and another may be due by now."""
        bells = [b for app in (self.app, *self.copies) for b in app.extensions["courier"]._bells.values()]
        rung = any(bell.is_set() for bell in bells)
        for bell in bells:
            bell.clear()
        passed, self.looked_at = abs(self.clock.now - self.looked_at), self.clock.now
        return rung or passed >= timedelta(seconds=1)

    def person(self, address: str = "203.0.113.5", **details: Any) -> Person:
        return Person(self.api(address), self.read, **details)

    def read(self, channel: str, address: str) -> str:
        """The newest code that arrived at an address."""
        self.deliver()
        codes = [m.code for m in self.senders[channel].messages if m.recipient == address and m.code]
        assert codes, f"no code has arrived at {address}"
        return codes[-1]

    def deliver(self) -> None:
        """Let the courier send all that is due. A thread's own message may be in another thread's round: it waits."""
        with self.sending:
            while sum(next(self.turns).extensions["courier"].round(channel) for channel in CHANNELS):
                pass

    def stamp(self) -> None:
        """Let each copy write when sessions and keys were last used there."""
        for app in (self.app, *self.copies):
            app.extensions["courier"]._stamp()

    def let_go(self) -> None:
        """Close the connections that are not in use."""
        for app in (self.app, *self.copies):
            app.extensions["courier"].kit.writes.kw["bind"].dispose()

    def inbox(self, address: str, channel: str = "email") -> list[str]:
        """The kinds of all messages that arrived at an address, oldest first."""
        self.deliver()
        return [m.kind for m in self.senders[channel].messages if m.recipient == address]

    def rows(self, model: Any, **where: Any) -> list[Any]:
        with self.kit.writes() as db:
            return list(db.scalars(sa.select(model).filter_by(**where)))

    def audit(self, **where: Any) -> list[models.AuditLog]:
        return sorted(self.rows(models.AuditLog, **where), key=lambda row: (row.at, row.id))

    def events(self) -> list[str]:
        return [row.event for row in self.audit()]

    def count(self, model: Any) -> int:
        with self.kit.writes() as db:
            return db.scalar(sa.select(sa.func.count()).select_from(model)) or 0


@pytest.fixture(scope="session")
def _apps(lane: Lane) -> dict[Any, World]:
    return {}


@pytest.fixture
def make_world(lane: Lane, _apps: dict[Any, World]) -> Iterator[Callable[..., World]]:
    """Make a world with changed settings, emptied or with the rows kept. Those of the same settings share one app."""

    def make(*, keep: bool = False, **changes: Any) -> World:
        key = tuple(sorted(changes.items()))
        if key not in _apps:
            clock, senders = Clock(), {c: MemorySender(c) for c in ("email", "sms")}
            settings = lane.settings(**changes)
            app, *copies = (create_app(settings, clock=clock, senders=senders) for _ in range(COPIES))
            _apps[key] = World(app, lane, clock, senders, copies)
        fresh = _apps[key]
        fresh.sends_at_once, fresh.looked_at = True, NEVER
        fresh.clock.__init__()  # type: ignore[misc]
        for sender in fresh.senders.values():
            sender.messages.clear()
        if not keep:
            lanes.empty(fresh.engine)
        for app in (fresh.app, *fresh.copies):
            _forget(app, fresh.clock)
        return fresh

    yield make
    for changes, kept in _apps.items():
        if changes:  # an app of other settings may rest for long, and PostgreSQL has 100 connections
            kept.let_go()


def _forget(app: Flask, clock: Clock) -> None:
    """Take from an app what it kept in memory of the test before."""
    courier = app.extensions["courier"]
    for kept in (courier.kit.seen, courier.kit.seen_keys, courier.kit.proven):
        kept.clear()
    courier._stamped_at = clock.now
    for limiter in app.extensions.get("limiter", []):
        limiter.reset()
    app.extensions["edge"].__init__(courier.kit)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def person(world: World) -> Person:
    """Somebody with an account, signed in."""
    return world.person().sign_up()


__all__ = ["Answer", "World"]
