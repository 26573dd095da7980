"""Trusted devices: browsers and phones that were remembered after a code was given on them.

One skips the code, never the password, for thirty days. And it has a budget of guesses of its own, so a stranger who
locks an identifier does not lock out its owner (OWASP Authentication Cheat Sheet, device cookies).
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update

from app.crypto.ids import NOBODY, uuid7
from app.crypto.keys import new_token, token_digest
from app.models import TrustedDevice, User
from app.work import Work

LIFE = timedelta(days=30)
MOST = 20  # of one user; the oldest is forgotten for a new one


def remember(work: Work, user_id: UUID) -> str:
    """A token for the device that asks; only its digest is stored."""
    _make_room(work, user_id)
    token = new_token()
    row = TrustedDevice(
        id=uuid7(work.now),
        user_id=user_id,
        digest=token_digest(token),
        user_agent=work.client.user_agent,
        ip=work.client.address,
        created_at=work.now,
        last_used_at=work.now,
        expires_at=work.now + LIFE,
    )
    work.db.add(row)
    return token


def _make_room(work: Work, user_id: UUID) -> None:
    newest = select(TrustedDevice.id).where(TrustedDevice.user_id == user_id).order_by(TrustedDevice.id.desc())
    too_many = list(work.db.scalars(newest.offset(MOST - 1).limit(MOST)))
    if too_many:
        work.changes(delete(TrustedDevice).where(TrustedDevice.id.in_(too_many)))


def find(work: Work, token: str, user: User | None) -> TrustedDevice | None:
    """The user's device of this token, if it is still trusted. The same work where there is no user."""
    known = (TrustedDevice.digest == token_digest(token), TrustedDevice.user_id == (user.id if user else NOBODY))
    return work.db.scalar(select(TrustedDevice).where(*known, _lasting(work)))


def note_use(work: Work, device: TrustedDevice) -> bool:
    """Stamp a sign-in. False if the device was forgotten since it was read."""
    mine = update(TrustedDevice).where(TrustedDevice.id == device.id)  # alone: MariaDB locks entries of other indexes
    return work.changes(mine.values(last_used_at=work.now)) == 1


def _lasting(work: Work) -> ColumnElement[bool]:
    return TrustedDevice.expires_at > work.now


def page_of_user(work: Work, user_id: UUID, limit: int, before: UUID | None) -> list[TrustedDevice]:
    """Those that are still trusted, newest first, older than a given one."""
    older = [TrustedDevice.id < before] if before else []
    mine = select(TrustedDevice).where(TrustedDevice.user_id == user_id, _lasting(work), *older)
    return list(work.db.scalars(mine.order_by(TrustedDevice.id.desc()).limit(limit)))


def all_of_user(work: Work, user_id: UUID) -> list[TrustedDevice]:
    """Every stored one of a user."""
    return list(work.db.scalars(select(TrustedDevice).where(TrustedDevice.user_id == user_id)))


def forget(work: Work, user_id: UUID, device_id: UUID) -> bool:
    """Forget one of the user's. False if it is not theirs."""
    mine = (TrustedDevice.id == device_id, TrustedDevice.user_id == user_id)
    return work.changes(delete(TrustedDevice).where(*mine)) == 1


def hold_all(work: Work, user_id: UUID) -> None:
    """Lock all of the user's: `credentials.hold` says when."""
    work.begin_writing()
    mine = select(TrustedDevice.id).where(TrustedDevice.user_id == user_id)
    work.db.execute(mine.order_by(TrustedDevice.id).with_for_update())


def forget_all(work: Work, user_id: UUID) -> int:
    """Forget every device of a user. Returns how many."""
    return work.changes(delete(TrustedDevice).where(TrustedDevice.user_id == user_id))
