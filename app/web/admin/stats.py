"""Figures over time."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.core import stats
from app.core.roles import Permission
from app.core.stats import Counts, Key, Metric
from app.errors import ValidationFailed
from app.web.admin.surface import admin
from app.web.fields import Body, Moment
from app.web.guards import MAY
from app.web.present import instant
from app.work import Work

STEP = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
USUAL = {"hour": timedelta(days=1), "day": timedelta(days=30)}
LONGEST = {"hour": timedelta(days=31), "day": timedelta(days=366)}
CODES = {"sent": Metric.SENT, "delivered": Metric.DELIVERED, "verified": Metric.VERIFIED}


class StatsQuery(Body):
    since: Annotated[Moment | None, Field(alias="from", description="the interval of this time is the first")] = None
    until: Annotated[Moment | None, Field(alias="to", description="before this time; usually now")] = None
    interval: Literal["hour", "day"] = "hour"

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From when to when, beginning with a whole interval. Raises ValidationFailed."""
        until = min(self.until or now, now)
        since = stats.floor(self.since or until - USUAL[self.interval] + STEP[self.interval])
        since = since.replace(hour=0) if self.interval == "day" else since
        if since >= until:
            raise ValidationFailed.field("from", "invalid", "This must be in the past, and before `to`.")
        if until - since > LONGEST[self.interval]:
            raise ValidationFailed.field("from", "too_long", f"At most {LONGEST[self.interval].days} days.")
        return since, until


class CodesReply(TypedDict):
    channel: str
    country: str | None
    sent: int
    delivered: int
    verified: int


class SigninsReply(TypedDict):
    ok: int
    refused: int


class BucketReply(TypedDict):
    at: str
    signups: int
    signins: SigninsReply
    lockouts: int
    active_sessions: int
    codes: list[CodesReply]


StatsReply = TypedDict(
    "StatsReply", {"from": str, "to": str, "interval": str, "series": list[BucketReply]}
)  # `from` cannot stand in a class


@admin.add("GET", "/stats", query=StatsQuery, reply=StatsReply, guard=MAY(Permission.STATS_READ), reads=True)
def show_stats(work: Work, query: StatsQuery) -> Any:
    """Sign-ups, sign-ins, lockouts, sessions and codes in each hour or day (UTC). Codes stand at the hour in which they
    were queued; `delivered` is known by SMS providers' reports alone. `active_sessions` are those at the end of the
    interval; a locked identifier counts whether or not it has an account."""
    since, until = query.span(work.now)
    series = _series(stats.between(work, since, until), since, until, STEP[query.interval])
    return {"from": instant(since), "to": instant(until), "interval": query.interval, "series": series}


def _series(counts: Counts, since: datetime, until: datetime, step: timedelta) -> list[BucketReply]:
    buckets: list[Counter[Key]] = [Counter() for _ in range(-((since - until) // step))]
    for hour in sorted(counts):
        bucket = buckets[(hour - since) // step]
        bucket[Metric.SESSIONS, "", ""] = 0  # the last hour's stands
        bucket.update(counts[hour])
    return [_bucket(since + number * step, bucket) for number, bucket in enumerate(buckets)]


def _bucket(at: datetime, counts: Counter[Key]) -> BucketReply:
    places = sorted({(channel, country) for metric, channel, country in counts if metric in CODES.values()})
    return {
        "at": instant(at),
        "signups": counts[Metric.SIGNUPS, "", ""],
        "signins": {"ok": counts[Metric.SIGNINS, "", ""], "refused": counts[Metric.REFUSED, "", ""]},
        "lockouts": counts[Metric.LOCKOUTS, "", ""],
        "active_sessions": counts[Metric.SESSIONS, "", ""],
        "codes": [_codes(counts, *place) for place in places],
    }


def _codes(counts: Counter[Key], channel: str, country: str) -> CodesReply:
    sent, delivered, verified = (counts[metric, channel, country] for metric in CODES.values())
    return {"channel": channel, "country": country or None, "sent": sent, "delivered": delivered, "verified": verified}
