"""The application in this process, on an empty database of its own, with clock and mailbox in the program's hands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app import create_app
from tests import lanes
from tests.conftest import World
from tests.lanes import Lane
from tests.people import Clock, MemorySender


@contextmanager
def world(database: str = "sqlite", label: str = "world", **settings: Any) -> Iterator[World]:
    """As the suite has it, for a program. SQLite needs no server."""
    with lanes.database(database, f"bench_{label}_{os.getpid()}") as url:
        lanes.migrate(url)
        lane, clock = Lane(database, url, None), Clock()
        senders = {channel: MemorySender(channel) for channel in ("email", "sms")}
        app = create_app(lane.settings(**settings), clock=clock, senders=senders)
        made = World(app, lane, clock, senders)
        yield made
        made.engine.dispose()
