"""Why did my code not arrive? What was asked of a person, what was sent, and what became of it, by time."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import or_, select

from app.crypto.ids import made_at
from app.models import AuditLog, OtpChallenge, OutboxMessage
from app.work import Work

Happening = OtpChallenge | OutboxMessage | AuditLog


def page(work: Work, user_id: UUID, limit: int, before: UUID | None) -> list[Happening]:
    """Challenges, messages and audit rows of a user, newest first, before a given one. Ids sort by time, whichever
    table they are of.
    """
    mine = or_(OtpChallenge.user_id == user_id, OtpChallenge.signup_id == user_id)
    # Of an address that is not theirs yet.
    asked = select(OtpChallenge.id).where(OtpChallenge.user_id == user_id, OtpChallenge.decoy.is_(False))
    looks = (
        (OtpChallenge, [mine], OtpChallenge.id),
        (OutboxMessage, [OutboxMessage.user_id == user_id], OutboxMessage.id),
        (OutboxMessage, [OutboxMessage.user_id.is_(None), OutboxMessage.challenge_id.in_(asked)], OutboxMessage.id),
        (AuditLog, [AuditLog.user_id == user_id, *_until(before)], AuditLog.at),
    )
    found: list[Happening] = []
    for table, where, newest in looks:
        older = [table.id < before] if before else []
        query = select(table).where(*where, *older).order_by(newest.desc(), table.id.desc())
        found += work.db.scalars(query.limit(limit))
    return sorted(found, key=lambda row: row.id.bytes, reverse=True)[:limit]


def _until(before: UUID | None) -> list[object]:
    """The same bound in the words of the audit log's index."""
    return [AuditLog.at <= made_at(before) + timedelta(milliseconds=1)] if before else []
