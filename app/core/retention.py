"""Retention: rows that nothing needs any more, found and deleted some at a time.

Only what has ended goes, and only after a while. What refers to it goes first, in batches of its own, so that no delete
cascades: a challenge stays while a message of it does, a session while it has refresh tokens. What stays for good is in
docs/privacy.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, inspect, or_, select

from app.core import authenticators
from app.crypto.ids import earliest
from app.db import Base
from app.models import (
    Authenticator,
    ErasedSession,
    OtpChallenge,
    OutboxMessage,
    RefreshToken,
    Repeat,
    Session,
    Signup,
    Throttle,
    TrustedDevice,
    UsernameHold,
)
from app.models.outbox import SETTLED
from app.work import Work

BATCH = 500  # rows in one unit of work
SHORT = timedelta(days=1)  # beside the life that a row has anyway
RESTED = timedelta(days=7)  # the longest memory of a counter is a day

Conditions = tuple[ColumnElement[bool], ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows of one table and when they may go; `old`: the conditions, at the time of a unit of work."""

    name: str
    model: type[Base]
    old: Callable[[Work], Conditions]


def _messages(work: Work) -> Conditions:
    bound = _outbox_bound(work)
    settled = and_(OutboxMessage.state.in_(SETTLED), OutboxMessage.settled_at < bound)
    return OutboxMessage.id < earliest(bound), settled


def _outbox_bound(work: Work) -> datetime:
    return work.now - timedelta(days=work.settings.retain_outbox_days)


def _challenges(work: Work) -> Conditions:
    carried = exists().where(OutboxMessage.challenge_id == OtpChallenge.id)
    granted = or_(OtpChallenge.grant_expires_at.is_(None), OtpChallenge.grant_expires_at < work.now - SHORT)
    return OtpChallenge.expires_at < _outbox_bound(work), granted, ~carried


def _signups(work: Work) -> Conditions:
    asked = exists().where(OtpChallenge.signup_id == Signup.id)
    granted = or_(Signup.grant_expires_at.is_(None), Signup.grant_expires_at < work.now - SHORT)
    return Signup.expires_at < work.now - SHORT, granted, ~asked


def _ended(work: Work) -> Conditions:
    """Sessions that are over for so long that no refresh token of theirs would tell of a theft that matters."""
    bound = work.now - timedelta(days=work.settings.retain_sessions_days)
    return Session.id < earliest(bound), or_(Session.revoked_at < bound, Session.expires_at < bound)


def _refresh_tokens(work: Work) -> Conditions:
    return (RefreshToken.session_id.in_(select(Session.id).where(*_ended(work))),)


def _sessions(work: Work) -> Conditions:
    return *_ended(work), ~exists().where(RefreshToken.session_id == Session.id)


def _erased_sessions(work: Work) -> Conditions:
    return (ErasedSession.erased_at < work.now - SHORT,)


def _repeats(work: Work) -> Conditions:
    return (Repeat.expires_at < work.now - SHORT,)


def _username_holds(work: Work) -> Conditions:
    return (UsernameHold.expires_at < work.now - SHORT,)


def _authenticators(work: Work) -> Conditions:
    """Apps whose first code never came."""
    return Authenticator.confirmed_at.is_(None), Authenticator.created_at < work.now - authenticators.SETUP - SHORT


def _trusted_devices(work: Work) -> Conditions:
    return (TrustedDevice.expires_at < work.now - SHORT,)


def _throttles(work: Work) -> Conditions:
    """Counters at rest. The window of wrong guesses in a row at an account has no end, and that of a remembered device
    ends with it.
    """
    times = (Throttle.touched_at, Throttle.window_ends_at, Throttle.day_ends_at)
    unlocked = or_(Throttle.locked_until.is_(None), Throttle.locked_until < work.now - RESTED)
    return unlocked, *(time < work.now - RESTED for time in times)


# In this order: what refers to a row goes before it.
KINDS = (
    Kind("messages", OutboxMessage, _messages),
    Kind("challenges", OtpChallenge, _challenges),
    Kind("signups", Signup, _signups),
    Kind("refresh_tokens", RefreshToken, _refresh_tokens),
    Kind("sessions", Session, _sessions),
    Kind("erased_sessions", ErasedSession, _erased_sessions),
    Kind("repeats", Repeat, _repeats),
    Kind("username_holds", UsernameHold, _username_holds),
    Kind("authenticators", Authenticator, _authenticators),
    Kind("trusted_devices", TrustedDevice, _trusted_devices),
    Kind("throttles", Throttle, _throttles),
)


def purge(work: Work, kind: Kind) -> int:
    """Delete up to BATCH rows that may go. Returns how many went; fewer than BATCH: there are no more."""
    key: Any = inspect(kind.model).primary_key[0]
    old = kind.old(work)
    chosen = list(work.db.scalars(select(key).where(*old).order_by(key).limit(BATCH)))
    # The conditions once more: a row may have come to life since it was chosen.
    return work.changes(delete(kind.model).where(key.in_(chosen), *old)) if chosen else 0


def count(work: Work, kind: Kind) -> int:
    """How many rows may go now. More may follow once what refers to them has gone."""
    return work.db.scalar(select(func.count()).select_from(kind.model).where(*kind.old(work))) or 0
