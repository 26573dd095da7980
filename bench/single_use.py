"""What may be used once: how a race for it went, and what the database says of it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.core.audit import Event
from app.delivery.outbox import Notice
from app.models import AuditLog, OtpChallenge, OutboxMessage, Session
from bench.rig import Rig
from bench.volley import Answer, Volley

AUTH = "/api/auth"
LOGIN, ANSWER = f"{AUTH}/login", f"{AUTH}/login/verify"
CLOSED = "410 challenge_closed"


def succeeded(answer: Answer) -> bool:
    return answer.status in (200, 201)


@dataclass
class Race:
    """What was answered at the same instant, and what is wrong about that: nothing, if all is well."""

    volley: Volley
    good: Callable[[Answer], bool] = succeeded
    wrong: list[str] = field(default_factory=list)
    successes: int = 0

    def __post_init__(self) -> None:
        self.successes = len(self.won)

    @property
    def won(self) -> list[int]:
        """Which of the requests succeeded."""
        return [n for n, answer in enumerate(self.volley.answers) if self.good(answer)]

    @property
    def lost(self) -> Counter[str]:
        return Counter(answer.short for answer in self.volley.answers if not self.good(answer))

    def must(self, what: str, measured: Any, right: Any) -> None:
        if measured != right:
            self.wrong.append(f"{what}: {measured}, not {right}")

    def one_wins(self, *rest: str) -> Race:
        """One succeeded; all others are refusals of these kinds."""
        if self.successes != 1 or self.lost.keys() - {*rest}:
            self.wrong.append(f"{self.successes} successes, others {dict(self.lost)}")
        return self


def sessions(opened: Rig, person: dict[str, Any]) -> int:
    return opened.count(Session.user_id == UUID(person["user"]["id"]))


def events(opened: Rig, person: dict[str, Any], event: Event) -> int:
    return opened.count(AuditLog.user_id == UUID(person["user"]["id"]), AuditLog.event == event)


def notices(opened: Rig, person: dict[str, Any], notice: Notice) -> int:
    return opened.count(OutboxMessage.user_id == UUID(person["user"]["id"]), OutboxMessage.kind == notice)


def burned(opened: Rig, race: Race, challenge_id: str) -> None:
    """A challenge was answered once, rightly, and nobody counted a guess at it after that."""
    row = (OtpChallenge.id == UUID(challenge_id), OtpChallenge.used_at.is_not(None), OtpChallenge.attempts == 1)
    race.must("challenges that are used", opened.count(*row), 1)


def bearer(person: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {person['access_token']}"}
