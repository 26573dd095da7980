"""Reading the audit log: by filters, in pages for people, and in batches for a whole export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select

from app.core import sessions
from app.models import AuditLog
from app.work import ANONYMOUS, Caller, Kit, Work, in_batches


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows. What is None does not matter; `since` is included and `until` is not."""

    event: str | None = None
    user_id: UUID | None = None
    actor_id: UUID | None = None
    ip: str | None = None
    success: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def names(self) -> list[str]:
        """Which of them are given."""
        return [name for name, value in asdict(self).items() if value is not None]


def page(work: Work, which: Filters, limit: int, before: UUID | None) -> list[AuditLog]:
    """Rows, newest first, older than a given row."""
    older = []
    if before:
        at = select(AuditLog.at).where(AuditLog.id == before).scalar_subquery()
        older = [AuditLog.at <= at, or_(AuditLog.at < at, and_(AuditLog.at == at, AuditLog.id < before))]
    newest = select(AuditLog).where(*_conditions(which), *older).order_by(AuditLog.at.desc(), AuditLog.id.desc())
    return list(work.db.scalars(newest.limit(limit)))


def batches(kit: Kit, which: Filters, caller: Caller = ANONYMOUS) -> Iterator[list[AuditLog]]:
    """All rows, oldest first, some at a time. Raises Unavailable, and TokenRevoked once the caller's session ended."""
    return in_batches(kit, partial(_batch, which=which), caller=caller)


def _batch(work: Work, which: Filters, after: AuditLog | None, most: int) -> list[AuditLog]:
    sessions.must_last(work)
    later: list[ColumnElement[bool]] = []
    if after:
        same = and_(AuditLog.at == after.at, AuditLog.id > after.id)
        later = [AuditLog.at >= after.at, or_(AuditLog.at > after.at, same)]
    query = select(AuditLog).where(*_conditions(which), *later).order_by(AuditLog.at, AuditLog.id)
    return list(work.db.scalars(query.limit(most)))


def _conditions(which: Filters) -> list[Any]:
    equal = (AuditLog.event, AuditLog.user_id, AuditLog.actor_id, AuditLog.ip, AuditLog.success)
    found: list[Any] = [column == value for column in equal if (value := getattr(which, column.key)) is not None]
    found += [AuditLog.at >= which.since] if which.since else []
    found += [AuditLog.at < which.until] if which.until else []
    return found
