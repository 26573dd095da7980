"""What may be used once: how a race for it went, and what the database says of it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select

from app.core.audit import Event
from app.delivery.outbox import Notice
from app.models import AuditLog, OtpChallenge, OutboxMessage, Session, User
from bench.holders import LOGIN
from bench.rig import Rig
from bench.volley import Answer, Volley

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


def of(person: dict[str, Any]) -> UUID:
    return UUID(person["user"]["id"])


def events(opened: Rig, person: dict[str, Any], event: Event) -> int:
    return opened.count(AuditLog.user_id == of(person), AuditLog.event == event)


def notices(opened: Rig, person: dict[str, Any], notice: Notice) -> int:
    return opened.count(OutboxMessage.user_id == of(person), OutboxMessage.kind == notice)


def came_in(opened: Rig, race: Race, person: dict[str, Any], times: int) -> None:
    """Somebody has signed in so often in all, their sign-up among it."""
    race.must("sessions", opened.count(Session.user_id == of(person)), times)
    race.must("sign-ins that are recorded", events(opened, person, Event.SIGNIN_COMPLETED), times)


def joined(opened: Rig, race: Race, whose: ColumnElement[bool]) -> None:
    """One account has this address, with one session, and each is recorded once."""
    race.must("accounts", opened.count(whose), 1)
    race.must("sessions", opened.count(Session.user_id == User.id, whose), 1)
    for event in (Event.SIGNUP_COMPLETED, Event.SIGNIN_COMPLETED):
        race.must(event, opened.count(AuditLog.user_id == User.id, AuditLog.event == event, whose), 1)


def changed(opened: Rig, race: Race, person: dict[str, Any], theirs: ColumnElement[bool], challenge_id: str) -> Race:
    """Somebody has one new address by one request."""
    race.must("whose address it is", opened.rows(select(User.id).where(theirs)), [(of(person),)])
    race.must("changes that are recorded", events(opened, person, Event.CONTACT_CHANGED), 1)
    race.must("notices", notices(opened, person, Notice.CONTACT_CHANGED), 2)  # to the address of before, and to this
    burned(opened, race, challenge_id)
    return race.one_wins(CLOSED)


def burned(opened: Rig, race: Race, challenge_id: str) -> None:
    """A challenge was answered once, rightly, and nobody counted a guess at it after that."""
    row = (OtpChallenge.id == UUID(challenge_id), OtpChallenge.used_at.is_not(None), OtpChallenge.attempts == 1)
    race.must("challenges that are used", opened.count(*row), 1)


def another(n: int) -> str:
    """The new password that a request brings."""
    return f"another horse {n}"


def has_one_password(opened: Rig, race: Race, email: str, won: Sequence[int]) -> None:
    """That of the request that won, if one did, and of no other."""
    for n in (*won, *[n for n in (0, 1) if n not in won][:1]):
        status, _ = opened.post(LOGIN, {"identifier": email, "password": another(n)})
        race.must("a sign-in with a new password", status, 200 if n in won else 401)


def recovered(opened: Rig, race: Race, person: dict[str, Any], email: str) -> None:
    """Somebody has got a new password by one request, and the sessions of before have ended."""
    has_one_password(opened, race, email, race.won)
    race.must("recoveries", events(opened, person, Event.RECOVERY_COMPLETED), 1)
    race.must("notices", notices(opened, person, Notice.PASSWORD_CHANGED), 1)
    race.must("sessions", opened.count(Session.user_id == of(person), Session.revoked_at.is_(None)), 0)
