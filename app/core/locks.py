"""Who is kept out: accounts that administration disabled, or locked for a while. To a stranger either is as if there
were nobody; the lock that too many wrong guesses bring is another thing, and is in `lockout`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sqlalchemy import BindParameter, ColumnElement, and_, or_

from app.models import User


class Kept(Protocol):
    """What of an account says whether it is kept out: its row, or these columns of it."""

    @property
    def disabled_at(self) -> datetime | None: ...
    @property
    def locked_at(self) -> datetime | None: ...
    @property
    def locked_until(self) -> datetime | None: ...


COLUMNS = (User.disabled_at, User.locked_at, User.locked_until)


def is_locked(user: Kept, now: datetime) -> bool:
    """True while a lock of administration lasts; one without an end lasts until it is lifted."""
    return user.locked_at is not None and (user.locked_until is None or user.locked_until > now)


def may_enter(user: Kept, now: datetime) -> bool:
    """True for an account that is neither disabled nor locked."""
    return user.disabled_at is None and not is_locked(user, now)


def locked(now: datetime) -> ColumnElement[bool]:
    """`is_locked` as a condition."""
    return and_(User.locked_at.is_not(None), or_(User.locked_until.is_(None), User.locked_until > now))


def unlocked(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    """`may_enter` as a condition; of a prepared statement, with a parameter for the moment. Nearly everybody fits. A
    join by it would read them all on a PostgreSQL that has not counted them yet, so a join reads `COLUMNS` instead.
    """
    return and_(User.disabled_at.is_(None), or_(User.locked_at.is_(None), User.locked_until <= now))
