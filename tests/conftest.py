"""The worlds that tests live in. `world` runs on every lane; what needs no database asks for none of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from app import create_app, models
from app.config import Settings
from app.delivery.courier import CHANNELS, Courier
from app.work import Kit
from tests import lanes
from tests.lanes import Lane
from tests.people import Answer, Api, Clock, MemorySender, Person, Transport, flask_transport


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        lanes.look_for_servers()


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.environ.get("CI") == "true" and lanes.missing():
        raise pytest.UsageError(f"CI needs every lane, and these servers are missing: {', '.join(lanes.missing())}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    limits = ["memory limits", *(["Redis limits"] if "postgresql" in lanes.wanted() and not _no_redis() else [])]
    print(f"lanes that ran: {', '.join([*lanes.wanted(), *limits])}")  # noqa: T201
    for name in lanes.missing():
        print(f"*** NOT TESTED, no server found: {name} ***")  # noqa: T201


def _no_redis() -> bool:
    return "redis" in lanes.missing()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lane" in metafunc.fixturenames:
        metafunc.parametrize("lane", lanes.wanted(), indirect=True, scope="session")


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
    sends_at_once: bool = True

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
        return Api(self._sending(flask_transport(self.app, address)), **headers)

    def _sending(self, transport: Transport) -> Transport:
        """Messages leave right after the request that queued them, as the courier thread has it."""

        def send(*request: Any) -> Answer:
            answer = transport(*request)
            if self.sends_at_once:
                self.deliver()
            return answer

        return send

    def person(self, address: str = "203.0.113.5", **details: Any) -> Person:
        return Person(self.api(address), self.read, **details)

    def read(self, channel: str, address: str) -> str:
        """The newest code that arrived at an address."""
        self.deliver()
        codes = [m.code for m in self.senders[channel].messages if m.recipient == address and m.code]
        assert codes, f"no code has arrived at {address}"
        return codes[-1]

    def deliver(self) -> None:
        """Let the courier send all that is due."""
        while sum(self.courier.round(channel) for channel in CHANNELS):
            pass

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
            app = create_app(lane.settings(**changes), clock=clock, senders=senders)
            _apps[key] = World(app, lane, clock, senders)
        fresh = _apps[key]
        fresh.sends_at_once = True
        fresh.clock.__init__()  # type: ignore[misc]
        for sender in fresh.senders.values():
            sender.messages.clear()
        fresh.kit.seen.clear()
        fresh.kit.seen_keys.clear()
        fresh.courier._stamped_at = fresh.clock.now
        if not keep:
            lanes.empty(fresh.engine)
        for limiter in fresh.app.extensions.get("limiter", []):
            limiter.reset()
        fresh.app.extensions["edge"].__init__(fresh.kit)
        return fresh

    yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def person(world: World) -> Person:
    """Somebody with an account, signed in."""
    return world.person().sign_up()


__all__ = ["Answer", "World"]
