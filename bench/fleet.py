"""Places where the service runs, behind a front that takes turns; each can be given other settings, one by one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.service import Service, running


@dataclass
class Place:
    service: Service
    leave: ExitStack  # stops it
    in_hand: int = 0


@dataclass
class Fleet:
    """A request goes to the next place in turn. A place is left only when its last request was answered."""

    url: str
    folder: Path
    usual: dict[str, Any]
    places: list[Place] = field(default_factory=list)
    turn: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Status and body of an answer."""
        with self.changed:
            self.turn += 1
            place = self.places[self.turn % len(self.places)]
            place.in_hand += 1
        try:
            return _call(place.service.base, method, path, body, token)
        finally:
            with self.changed:
                place.in_hand -= 1
                self.changed.notify_all()

    def start(self, settings: dict[str, Any]) -> None:
        """One place more."""
        stack = ExitStack()
        service = stack.enter_context(running(self.url, self.folder, **{**self.usual, **settings}))
        with self.changed:
            self.places.append(Place(service, stack))

    def replace(self, settings: dict[str, Any]) -> None:
        """Every place once: another one with these settings takes its turn, then it is left and stopped."""
        for old in list(self.places):
            self.start(settings)
            with self.changed:
                self.places.remove(old)
                self.changed.wait_for(lambda old=old: old.in_hand == 0, 60)
            old.leave.close()

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("service-*.log")))


def _call(base: str, method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
    line = HTTPConnection(urlsplit(base).netloc, timeout=60)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    line.request(method, path, None if body is None else json.dumps(body), headers)
    answer = line.getresponse()
    said = json.loads(answer.read())
    line.close()
    return answer.status, said


@contextmanager
def fleet(url: str, folder: Path, size: int, usual: dict[str, Any], settings: dict[str, Any]) -> Iterator[Fleet]:
    """So many places on one migrated database; stopped at the end."""
    found = Fleet(url, folder, usual)
    try:
        for _ in range(size):
            found.start(settings)
        yield found
    finally:
        for place in found.places:
            place.leave.close()
