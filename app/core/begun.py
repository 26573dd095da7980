"""What anybody may begin for an account: a recovery, a code by phone. Whoever began one may be a stranger who watches.
So whatever ends it, it stays open to the eye, and no code of it is right any more.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, or_, select, update

from app.core import challenges
from app.core.challenges import ANYBODYS
from app.crypto import codes
from app.models import OtpChallenge, User
from app.work import Work

ENDED = datetime(1970, 1, 1, tzinfo=UTC)  # no password is of then: what stands on it, stands no more


def hold(work: Work, user_id: UUID) -> None:
    """Lock what `end` ends. Before any other challenge of the user: a right answer to one of these has it locked when
    it comes to the others.
    """
    work.begin_writing()
    mine = list(work.db.scalars(select(OtpChallenge.id).where(*lasting(user_id, work.now))))
    held = select(OtpChallenge.id).where(OtpChallenge.id.in_(mine))  # by these alone: MariaDB locks what it looks at
    work.db.execute(held.order_by(OtpChallenge.id).with_for_update())


def end(work: Work, user_id: UUID) -> None:
    """Make every open one right for nobody, and take the grants of those that were proven."""
    mine = update(OtpChallenge).where(*lasting(user_id, work.now))
    work.changes(mine.values(stands_on=ENDED, grant_digest=None))


def lasting(user_id: UUID | SQLColumnExpression[UUID], now: datetime) -> list[ColumnElement[bool]]:
    """Which of them may still come to something, of a user by id or by the column of another statement."""
    unanswered = and_(OtpChallenge.used_at.is_(None), OtpChallenge.void_at.is_(None), OtpChallenge.expires_at > now)
    open_yet = and_(unanswered, OtpChallenge.stands_on.is_distinct_from(ENDED))
    granted = and_(OtpChallenge.grant_digest.is_not(None), OtpChallenge.grant_expires_at > now)
    return [OtpChallenge.user_id == user_id, OtpChallenge.purpose.in_(ANYBODYS), or_(open_yet, granted)]


def ask_anew(work: Work, row: OtpChallenge, user: User) -> None:
    """Let an open question stand on the password of now, for it is asked again. One that was ended gets another code
    first: who knows the old one may be whom it was ended for.
    """
    if row.stands_on == user.password_changed_at:
        return
    renewed: dict[str, Any] = {"stands_on": user.password_changed_at}
    if row.stands_on == ENDED:
        about = challenges.subject(row)
        renewed |= codes.fresh(work.kit.keys, work.settings.otp_length, row.id, row.purpose, about)
    as_read = (OtpChallenge.id == row.id, OtpChallenge.stands_on.is_not_distinct_from(row.stands_on))
    work.changes(update(OtpChallenge).where(*as_read).values(**renewed))
