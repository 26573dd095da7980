"""Revocations: sessions that ended while tokens of theirs may still be about, for backends that verify by themselves.

A row is seen when it is committed, and carries the time at which its unit began. So whoever asks for what is new gets
the last two minutes again: an end may come twice, and none is missed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import and_, insert, literal, or_, select

from app.models import ErasedSession, Session
from app.work import Work

MOST = 10_000  # of one answer
OVERLAP = timedelta(minutes=2)  # units of work take less, and the clocks of hosts differ by less
PLACE = re.compile(r"(\d{1,17})(?:-([0-9a-f]{32})-(\d{1,17}))?", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Place:
    """How far somebody has read. `last` and `began` only in the middle of several answers: the session that was told
    last, and when the first of them was asked for.
    """

    at: datetime
    last: UUID | None = None
    began: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    session_id: UUID
    refused_until: datetime  # tokens issued up to then are refused


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Ended]
    next: Place
    more: bool  # there are others to be had at once


def told(place: Place) -> str:
    """A place as text."""
    at = str((place.at - EPOCH) // MICROSECOND)
    return f"{at}-{place.last.hex}-{(place.began - EPOCH) // MICROSECOND}" if place.last and place.began else at


def place(text: str) -> Place:
    """The place that `told` has told. Raises ValueError for another text."""
    found = PLACE.fullmatch(text)
    if found is None:
        raise ValueError("not a place in the feed")
    at, last, began = found.groups()
    return Place(_time(at), UUID(last) if last else None, _time(began) if began else None)


def _time(microseconds: str) -> datetime:
    try:
        return EPOCH + int(microseconds) * MICROSECOND
    except OverflowError:
        raise ValueError("no time of ours") from None


def page(work: Work, since: Place | None) -> Page:
    """Sessions that have ended, oldest first, in so far as a token of theirs may still be within its life; after
    `since`, what is new or was told lately.

    None of them comes back. So `refused_until` may lie after the end: a token that was being signed in that moment, and
    says a later time, is refused too.
    """
    if since is None or since.at > work.now + OVERLAP:  # the latter was never told
        since = Place(EPOCH)
    began = min(since.began or work.now, work.now)
    oldest = work.now - timedelta(seconds=work.settings.jwt_access_ttl) - OVERLAP
    start = since if since.last else Place(max(since.at - OVERLAP, EPOCH))
    if start.at < oldest:
        start = Place(oldest)
    found = _after(work, start)
    rows = found[:MOST]
    newest = rows[-1][1] if rows else max(since.at, start.at)
    more = len(found) > MOST
    following = Place(newest, rows[-1][0], began) if more else Place(min(newest, began))
    return Page([Ended(session_id, at + OVERLAP) for session_id, at in rows], following, more)


def _after(work: Work, start: Place) -> list[tuple[UUID, datetime]]:
    """What ended from a place on, one more than are told. In this order: a session that is erased between the two
    statements is in the second."""
    found: list[Any] = []
    for ended, at in ((Session.id, Session.revoked_at), (ErasedSession.session_id, ErasedSession.erased_at)):
        later: Any = and_(at >= start.at, or_(at > start.at, ended > (start.last or FIRST)))
        query = select(ended, at).where(later).order_by(at, ended).limit(MOST + 1)
        found += work.db.execute(query)
    return sorted(found, key=itemgetter(1, 0))[: MOST + 1]


def note_erased(work: Work, user_id: UUID) -> None:
    """Keep the ids of a user's sessions whose tokens may still be about, before they are deleted."""
    lately = work.now - timedelta(seconds=work.settings.jwt_access_ttl) - OVERLAP
    lasting = and_(Session.revoked_at.is_(None), Session.expires_at > lately)
    mine = select(Session.id, literal(work.now, ErasedSession.erased_at.type)).where(
        Session.user_id == user_id, or_(lasting, Session.revoked_at > lately)
    )
    work.changes(insert(ErasedSession).from_select(["session_id", "erased_at"], mine))
