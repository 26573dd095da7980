"""Statistics: what happened in each hour, counted once when the hour is over and has settled, live until then.

Acts are counted from the audit log, messages by the hour in which they were queued. An hour settles for a while, for
reports of delivery come late; what comes later still is not counted.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, case, delete, func, literal, or_, select

from app.core.audit import Event
from app.core.challenges import Purpose
from app.crypto.ids import earliest
from app.errors import AccountLocked, Forbidden, InvalidCode, InvalidCredentials
from app.models import AuditLog, HourlyCount, OtpChallenge, OutboxMessage, Session
from app.models.outbox import CODE, TAKEN, State
from app.work import Work

HOUR = timedelta(hours=1)
SETTLED = timedelta(hours=2)  # after an hour's end
MOST_LIVE = 48  # hours that a request counts itself; before them, what is not rolled up yet reads as nothing


class Metric(StrEnum):
    SIGNUPS = "signups"
    SIGNINS = "signins"
    REFUSED = "signins_refused"
    LOCKOUTS = "lockouts"
    SESSIONS = "sessions"  # that had not ended when the hour did: the one figure that is not to be added up
    SENT = "codes_sent"
    DELIVERED = "codes_delivered"
    VERIFIED = "codes_verified"
    ROLLED = "rolled"  # the hour is counted


METRICS = {metric.value: metric for metric in Metric}
COUNTED = {
    Event.SIGNUP_COMPLETED: Metric.SIGNUPS,
    Event.SIGNIN_COMPLETED: Metric.SIGNINS,
    Event.IDENTIFIER_LOCKED: Metric.LOCKOUTS,
}
AT_SIGNIN = (Purpose.SIGNIN, Purpose.PHONE, Purpose.FACTOR, Purpose.PASSKEY)  # where an answer is a try to sign in
TRIED = tuple(refusal.code for refusal in (InvalidCredentials, InvalidCode, AccountLocked, Forbidden))  # not: too often
Key = tuple[Metric, str, str]  # with channel and country, where they matter
Counts = dict[datetime, dict[Key, int]]


def floor(at: datetime) -> datetime:
    """The beginning of the hour."""
    return at.replace(minute=0, second=0, microsecond=0)


def roll_next(work: Work) -> bool:
    """Count the first hour that is over and not counted. False if there is none, or another process was faster.

    Hours that were counted and are not over are taken back: the clock was put forward and back, and they come again.
    """
    last = _last(work)
    if last and not _is_over(work, last):
        work.changes(delete(HourlyCount).where(HourlyCount.hour > work.now - HOUR - SETTLED))
    hour = _next(work)
    if hour is None or not _is_over(work, hour):
        return False
    marker = HourlyCount(hour=hour, metric=Metric.ROLLED, channel="", country="", count=1)
    if not work.insert_once(marker):
        return False
    for (metric, channel, country), count in _count(work, hour).items():
        work.db.add(HourlyCount(hour=hour, metric=metric, channel=channel, country=country, count=count))
    return True


def _is_over(work: Work, hour: datetime) -> bool:
    return hour + HOUR + SETTLED <= work.now


def _last(work: Work) -> datetime | None:
    return work.db.scalar(select(func.max(HourlyCount.hour)).where(HourlyCount.metric == Metric.ROLLED))


def _next(work: Work) -> datetime | None:
    """The hour after the last one counted, or the one of the first act at all."""
    last = _last(work)
    first = work.db.scalar(select(func.min(AuditLog.at))) if last is None else None
    return last + HOUR if last else floor(first) if first else None


def between(work: Work, since: datetime, until: datetime) -> Counts:
    """The counts of the hours from one to before another, of each that was counted, also if nothing happened in it."""
    found: Counts = defaultdict(dict)
    # Asked first: an hour that is rolled up in this moment is counted here once more, and not missed.
    live = max(filter(None, (_next(work), floor(since), floor(work.now) - HOUR * (MOST_LIVE - 1))))
    rolled = (HourlyCount.hour >= floor(since), HourlyCount.hour < until)
    row = HourlyCount.__table__.c  # plain columns: a month may be some ten thousand rows
    query = select(row.hour, row.metric, row.channel, row.country, row["count"]).where(*rolled)
    for hour, metric, channel, country, count in work.db.execute(query):
        found[hour] |= {} if metric == Metric.ROLLED else {(METRICS[metric], channel, country): count}
    while live < min(until, work.now):
        found[live] = _count(work, live)
        live += HOUR
    return found


def _count(work: Work, hour: datetime) -> dict[Key, int]:
    counts = {**_acts(work, hour), **_codes(work, hour)}
    counts[Metric.SESSIONS, "", ""] = _sessions(work, min(hour + HOUR, work.now))
    return {key: count for key, count in counts.items() if count}


def _acts(work: Work, hour: datetime) -> dict[Key, int]:
    then = (AuditLog.at >= hour, AuditLog.at < hour + HOUR)
    grouped = select(AuditLog.event, func.count()).where(AuditLog.event.in_(COUNTED), *then).group_by(AuditLog.event)
    counts: dict[Key, int] = {}
    for event, count in work.db.execute(grouped):
        counts[COUNTED[Event(event)], "", ""] = count
    asked_for = AuditLog.facts["purpose"].as_string()
    at_signin = or_(AuditLog.event == Event.SIGNIN_REFUSED, asked_for.in_(AT_SIGNIN))
    refusals = (AuditLog.event.in_((Event.SIGNIN_REFUSED, Event.CODE_REFUSED)), AuditLog.reason.in_(TRIED))
    refused = select(func.count()).where(*refusals, at_signin, *then)
    return counts | {(Metric.REFUSED, "", ""): work.db.scalar(refused) or 0}


def _codes(work: Work, hour: datetime) -> dict[Key, int]:
    """Codes by channel and country. One that was verified counts for the last message that carried it."""
    country = func.coalesce(OutboxMessage.country, literal(""))
    is_last = OutboxMessage.created_at == OtpChallenge.last_sent_at
    is_verified = and_(OtpChallenge.used_at.is_not(None), is_last)
    query = (
        select(
            OutboxMessage.channel,
            country,
            func.count(),
            func.sum(case((OutboxMessage.state == State.DELIVERED, 1), else_=0)),
            func.sum(case((is_verified, 1), else_=0)),
        )
        .join(OtpChallenge, OtpChallenge.id == OutboxMessage.challenge_id)
        .where(OutboxMessage.id >= earliest(hour), OutboxMessage.id < earliest(hour + HOUR))
        .where(OutboxMessage.kind.like(f"{CODE}%"), OutboxMessage.state.in_(TAKEN))
        .group_by(OutboxMessage.channel, country)
    )
    counts: dict[Key, int] = {}
    for channel, where, *figures in work.db.execute(query):
        for metric, figure in zip((Metric.SENT, Metric.DELIVERED, Metric.VERIFIED), figures, strict=True):
            counts[metric, channel, where] = int(figure)
    return counts


def _sessions(work: Work, at: datetime) -> int:
    lasting = (
        Session.created_at < at,
        Session.expires_at > at,
        or_(Session.revoked_at.is_(None), Session.revoked_at > at),
    )
    query: Any = select(func.count()).select_from(Session).where(*lasting)
    return work.db.scalar(query) or 0
