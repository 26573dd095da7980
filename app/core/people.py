"""Finding people: by the beginning of a name or an address, by role, by state; newest first, in pages. And what the
audit log says of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, false, func, not_, or_, select, union
from sqlalchemy.orm import InstrumentedAttribute

from app.core import identifiers, locks
from app.crypto.ids import earliest
from app.errors import ValidationFailed
from app.models import User
from app.work import Work

LONGEST_KEY = 100
NUMBER = re.compile(r"\+?[0-9][0-9 ().\-/]*")  # the beginning of one
LAST = "\U0010ffff"  # no character sorts behind it
SLICE = 200  # accounts that are read by their ids at once
FEW = 1000  # of so many matches it is cheaper to sort than to read accounts until a page is full
LONGEST_SIGNUP = timedelta(days=1)  # an account's id is its sign-up's, which may be so much older

Column = InstrumentedAttribute[Any]


class Status(StrEnum):
    ACTIVE = "active"
    LOCKED = "locked"  # by administration; what wrong guesses lock ends by itself
    DISABLED = "disabled"


RARE = {Status.LOCKED: User.locked_at, Status.DISABLED: User.disabled_at}


@dataclass(frozen=True, slots=True)
class Search:
    """Who is looked for. What is None does not matter."""

    text: str | None = None
    role: str | None = None
    status: Status | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A column, and how what is looked for begins there."""

    column: Column
    text: str

    @property
    def range(self) -> ColumnElement[bool]:
        """The matches as a piece of the column's index."""
        return (self.column >= self.text) & (self.column < self.text + LAST)

    @property
    def seen(self) -> ColumnElement[bool]:
        """The matches among accounts that are read anyway. Of no use to an index, or a database would prefer to sort
        all of them."""
        return func.substr(self.column, 1, len(self.text)) == self.text


def folded(name: str | None) -> str | None:
    """The form by which a name is found: capitals, widths and runs of blanks make no difference."""
    key = " ".join(unicodedata.normalize("NFKC", name or "").casefold().split())
    return key[:LONGEST_KEY].rstrip() or None


def status(user: User, now: datetime) -> Status:
    """What an account is now; of a disabled one that is locked too, the former."""
    if user.disabled_at:
        return Status.DISABLED
    return Status.LOCKED if locks.is_locked(user, now) else Status.ACTIVE


def page(work: Work, search: Search, limit: int, before: UUID | None) -> list[User]:
    """Accounts that fit, newest first, made before a given one. Whoever signs up meanwhile moves no page.

    A text or a state with few matches is answered from the indexes of its columns; one with many by reading accounts
    from the newest on, of which many fit. Which it is, is counted first, so no database has to guess it.
    """
    fitting = [*_conditions(work, search), *([User.id < before] if before else [])]
    few = _few(work, search)
    if few is None:
        return _read(work, fitting, limit)
    left = sorted((each for each in few if before is None or each < before), reverse=True)
    found: list[User] = []
    while left and len(found) < limit:
        found += _read(work, [*fitting, User.id.in_(left[:SLICE])], limit - len(found))
        del left[:SLICE]
    return found


def _read(work: Work, fitting: list[ColumnElement[bool]], limit: int) -> list[User]:
    return list(work.db.scalars(select(User).where(*fitting).order_by(User.id.desc()).limit(limit)))


def _few(work: Work, search: Search) -> set[UUID] | None:
    """Whom a text and a state leave, if either leaves few."""
    looks: list[list[ColumnElement[bool]]] = []
    if search.status in RARE:
        looks.append([RARE[search.status].is_not(None)])
    if search.text is not None:
        looks.append([*_ids(search.text), *(start.range for start in _starts(work, search.text))])
    known = [found for each in looks if (found := _counted(work, each)) is not None]
    return set.intersection(*known) if known else None


def _counted(work: Work, looks: list[ColumnElement[bool]]) -> set[UUID] | None:
    """Who fits any of these conditions, each answered by an index; None if they are many."""
    if not looks:
        return set()
    each = [select(select(User.id).where(look).limit(FEW + 1).subquery()) for look in looks]
    found = set(work.db.scalars(union(*each).limit(FEW + 1)))
    return found if len(found) <= FEW else None


def _conditions(work: Work, search: Search) -> Iterator[ColumnElement[bool]]:
    """What is asked of each account that is read. Of states and texts no index is to be used: see `_few`."""
    if search.role is not None:
        yield User.role == search.role
    if search.status is not None:
        yield case((_is(search.status, work.now), 1), else_=0) == 1
    if search.text is not None:
        yield or_(false(), *_ids(search.text), *(start.seen for start in _starts(work, search.text)))
    if search.created_after:  # the ids narrow it down, by their index
        yield User.created_at >= search.created_after
        yield User.id >= earliest(search.created_after - LONGEST_SIGNUP)
    if search.created_before:
        yield User.created_at < search.created_before
        yield User.id < earliest(search.created_before + timedelta(milliseconds=1))


def _is(state: Status, now: datetime) -> ColumnElement[bool]:
    """`status` as a condition."""
    if state is Status.ACTIVE:
        return locks.unlocked(now)
    disabled = User.disabled_at.is_not(None)
    return disabled if state is Status.DISABLED else and_(locks.locked(now), not_(disabled))


def _ids(text: str) -> Iterator[ColumnElement[bool]]:
    with suppress(ValueError):
        yield User.id == UUID(text)


def _starts(work: Work, text: str) -> Iterator[Start]:
    if key := folded(text):
        yield Start(User.name_key, key)
    bare = text.strip().lower()
    if bare and bare.isascii() and " " not in bare:
        yield Start(User.email, bare)
        yield Start(User.username, bare)
    if "@" in bare and not bare.isascii():
        with suppress(ValidationFailed):  # one with letters of its own in the domain, whole
            yield Start(User.email, identifiers.email(text).value)
    if NUMBER.fullmatch(bare):
        yield Start(User.phone, "+" + re.sub("^00|[^0-9]", "", bare))
        with suppress(ValidationFailed):  # one typed without its country, whole
            yield Start(User.phone, identifiers.phone(bare, work.settings.default_phone_region).value)


def shown(user: User, names: Any, now: datetime | None = None) -> dict[str, Any]:
    """What the audit log says of an account: nothing by which to know a person."""
    told: dict[str, Any] = {}
    for name in names:
        if name == "disabled_at":
            told["disabled"] = user.disabled_at is not None
        elif name == "status" and now:
            told["status"] = status(user, now).value
        else:
            value = getattr(user, name)
            told[name] = value.isoformat() if isinstance(value, datetime) else _masked(name, value)
    return told


def _masked(name: str, value: str | None) -> str | None:
    return "***" if value and name in ("name", "username") else value
