"""The rows behind every budget: found or made, and locked until the unit ends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from app.db import write_rows
from app.models import Throttle
from app.work import Work

DAY = timedelta(days=1)


def key(*parts: str) -> str:
    """The row of a counter. Not keyed by a secret: a rotated SECRET_KEY must not empty a budget."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(slots=True)
class Counter:
    """A row of the table, locked until the unit ends; what becomes of it is written with the commit."""

    key: str
    count: int  # the columns are told in the model
    window_ends_at: datetime
    day_count: int
    day_ends_at: datetime
    level: int
    streak: int
    locked_until: datetime | None
    touched_at: datetime


COLUMNS = tuple(field.name for field in fields(Counter))


def held(work: Work, keys: Iterable[str]) -> dict[str, Counter]:
    """The rows of these keys, locked until the unit ends; those that were missing are new and empty.

    One statement, and the same one whether or not they were there: what has been counted before must not be
    told by time. Locks are taken in the order of the keys, and once in a unit.
    """
    wanted = set(keys)
    missing = [_values(empty(work, at)) for at in sorted(wanted - work.held.keys())]
    if missing:
        if not work.held:
            work.closing.append(partial(write, work))
        found = [Counter(**row._mapping) for row in work.lock_rows(Throttle, missing)]
        work.held |= {row.key: (row, replace(row)) for row in found}
    return {at: work.held[at][0] for at in wanted}


def write(work: Work) -> None:
    """Write what has become of the rows that this unit holds. It is done with the commit; before that, only for a
    question that the unit itself asks. Whole rows in one statement: which columns changed must not be told by time.
    """
    changed = [row for row, before in work.held.values() if row != before]
    if changed:
        write_rows(work.db, Throttle, [_values(row) for row in changed])
        work.held |= {row.key: (row, replace(row)) for row in changed}


def _values(row: Counter) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COLUMNS}


def empty(work: Work, at: str = "") -> Counter:
    """A counter that has counted nothing; one without a key is never stored."""
    return Counter(at, 0, work.now, 0, work.now + DAY, 0, 0, None, work.now)
