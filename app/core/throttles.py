"""The rows behind every budget: found or made, and locked until the unit ends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta

from app.models import Throttle
from app.work import Work

DAY = timedelta(days=1)


def key(*parts: str) -> str:
    """The row of a counter. Not keyed by a secret: a rotated SECRET_KEY must not empty a budget."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def held(work: Work, keys: Iterable[str]) -> dict[str, Throttle]:
    """The rows of these keys, locked until the unit ends; those that were missing are new and empty.

    One statement, and the same one whether or not they were there: what has been counted before must not be
    told by time. Locks are taken in the order of the keys, and once in a unit.
    """
    wanted = set(keys)
    missing = [_empty(work, at) for at in sorted(wanted - work.held.keys())]
    if missing:
        work.held |= {row.key: row for row in work.lock_rows(Throttle, missing)}
    return {at: work.held[at] for at in wanted}


def empty(work: Work) -> Throttle:
    """A row that is never stored."""
    return Throttle(**_empty(work, ""))


def _empty(work: Work, at: str) -> dict[str, object]:
    return {
        "key": at,
        "count": 0,
        "window_ends_at": work.now,
        "day_count": 0,
        "day_ends_at": work.now + DAY,
        "level": 0,
        "streak": 0,
        "touched_at": work.now,
    }
