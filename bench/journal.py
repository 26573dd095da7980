"""What clients did and were told, written down as they saw it: the one witness that no fault of the service reaches."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

UNKNOWN = (0, 502, 503)  # an act that was answered so may have been done


@dataclass(frozen=True)
class Act:
    """One request. `status` 0: there was no answer."""

    what: str
    began: float
    took: float
    status: int
    code: str = ""
    waits: int = 0  # the seconds of Retry-After
    why: str = ""
    earned: bool = False  # who asked knew of a reason to be refused with this code

    @property
    def failed(self) -> bool:
        return self.status == 0 or self.status >= 500

    @property
    def refused(self) -> bool:
        return 400 <= self.status < 500


@dataclass
class Held:
    """Something of an account: the value that was acknowledged last, and those asked for since that may have come."""

    sure: str
    perhaps: list[str] = field(default_factory=list)

    def note(self, value: str, status: int) -> None:
        """What a request to change it was answered."""
        if status == 200:
            self.sure, self.perhaps = value, []
        elif status in UNKNOWN:
            self.perhaps.append(value)

    def allows(self, value: str | None) -> bool:
        return value in (self.sure, *self.perhaps)


@dataclass(eq=False)
class Somebody:
    """An account as its owner knows it. `id`: once its sign-up was acknowledged."""

    email: Held
    phone: Held
    password: Held
    network: str
    role: Held = field(default_factory=lambda: Held("user"))
    id: UUID | None = None
    over: bool = False  # nothing more is asked for it
    fumbled: bool = False  # a wrong code was tried once
    tokens: dict[str, Any] = field(default_factory=dict)
    opened: float = 0.0  # when its session was asked for; monotonic
    ended: list[str] = field(default_factory=list)  # access tokens of sessions whose end was acknowledged
    lived: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # each session: since when, its last tokens
    sure: Counter[str] = field(default_factory=Counter)  # acknowledged acts, by their event in the audit log
    perhaps: Counter[str] = field(default_factory=Counter)  # those that may have been done

    def note(self, event: str, status: int) -> bool:
        """Count an act; True if it was acknowledged."""
        if status in (200, 201):
            self.sure[event] += 1
            return True
        if status in UNKNOWN:
            self.perhaps[event] += 1
        return False


@dataclass
class Journal:
    """`sends`: challenges whose sending was acknowledged, and when. `twice`: what was accepted a second time."""

    acts: list[Act] = field(default_factory=list)
    people: list[Somebody] = field(default_factory=list)
    sends: dict[UUID, datetime] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)  # passwords, codes, tokens: they may be nowhere else
    twice: list[str] = field(default_factory=list)
    retried: int = 0  # things used up that were offered again
    unsure: Counter[str] = field(default_factory=Counter)  # codes offered again after no answer: the last answers
    guesses: dict[str, Counter[str]] = field(default_factory=dict)  # by the address that was guessed at: answers
    tries: dict[UUID, Counter[str]] = field(default_factory=dict)  # wrong codes by the challenge they were offered to
    ends: Counter[str] = field(default_factory=Counter)  # of sessions, acknowledged: by what ended them
    coups: list[str] = field(default_factory=list)  # of two admins at once that both succeeded
    fights: Counter[str] = field(default_factory=Counter)  # of admins: the answers
    killed: Counter[str] = field(default_factory=Counter)  # processes, by the failpoint at which they ended
    seeds: dict[UUID, str] = field(default_factory=dict)  # of authenticator apps: what their owners were shown
    unfair: list[str] = field(default_factory=list)  # refusals that came too early
    errors: list[str] = field(default_factory=list)  # whole answers that were errors
    lock: threading.Lock = field(default_factory=threading.Lock)

    def since(self, moment: float) -> list[Act]:
        """The acts that were answered, or given up, after a moment."""
        with self.lock:
            return [act for act in self.acts if act.began + act.took >= moment]


@dataclass
class Caller:
    """Asks over a connection for each request, and writes down what became of it."""

    base: str
    journal: Journal
    patience: float
    network: str = "203.0.113.1"

    def ask(
        self, method: str, path: str, body: Any = None, token: str = "", *, earned: Collection[str] = ()
    ) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer; 0 if there was none. `earned`: codes with which it may be refused."""
        began, status, why, read = time.monotonic(), 0, "", b""
        told: dict[str, Any] = {}
        waits = 0
        try:
            with self._line() as line:
                headers = {"Content-Type": "application/json", "X-Forwarded-For": self.network}
                headers |= {"Authorization": f"Bearer {token}"} if token else {}
                line.request(method, path, None if body is None else json.dumps(body), headers)
                answer = line.getresponse()
                read = answer.read()
                waits = int(answer.headers.get("Retry-After", 0))
                told = json.loads(read) if "json" in answer.headers.get("Content-Type", "") else {}
                status = answer.status
        except (OSError, HTTPException) as error:
            why = type(error).__name__
        code, took = told.get("code", ""), time.monotonic() - began
        act = Act(f"{method} {path}", began, took, status, code, waits, why, code in earned)
        with self.journal.lock:
            self.journal.acts.append(act)
            if status >= 400:
                self.journal.errors.append(f"{answer.headers}{read.decode(errors='replace')}")
            self.journal.secrets.update(
                told[name] for name in ("access_token", "refresh_token", "registration_token") if name in told
            )
            if "challenge_id" in told and status in (200, 201):
                self.journal.sends[UUID(told["challenge_id"])] = datetime.now(UTC)
        return status, told

    @contextmanager
    def _line(self) -> Iterator[HTTPConnection]:
        line = HTTPConnection(urlsplit(self.base).netloc, timeout=self.patience)
        try:
            yield line
        finally:
            line.close()
