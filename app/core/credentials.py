"""What a change of any credential ends: password, address, factor alike; and, for everybody, what a leak does."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import exists, or_, select

from app.core import authenticators, begun, challenges, factors, sessions, trusted_devices
from app.models import OtpChallenge, Session, TrustedDevice, User
from app.work import Work


def hold(work: Work, user_id: UUID) -> None:
    """Lock what a sign-in takes before it comes to the user's row, in its order (`docs/adr/0001`): open challenges,
    then factors, then remembered devices. To be called before that row is written or held; else the two would wait for
    each other.
    """
    challenges.hold_all(work, user_id)
    factors.hold_all(work, user_id)
    trusted_devices.hold_all(work, user_id)


def changed(work: Work, user_id: UUID, why: str, *, keep: UUID | None = None) -> int:
    """End what was begun with the old credential: open challenges, apps in setup, remembered devices and every session
    but the one to keep. Returns how many sessions ended.
    """
    challenges.void_all(work, user_id)
    authenticators.end_setups(work, user_id)
    trusted_devices.forget_all(work, user_id)
    return sessions.revoke_all(work, user_id, why, keep=keep)


def hold_everything(work: Work, user_id: UUID) -> None:
    """Lock what `everything_ended` ends, as `hold` does."""
    begun.hold(work, user_id)
    hold(work, user_id)


def everything_ended(work: Work, user_id: UUID, why: str) -> int:
    """End all that was begun, by whomever: after an act of administration nothing of before opens the account. Returns
    how many sessions ended.
    """
    begun.end(work, user_id)
    return changed(work, user_id, why)


def with_something_begun(work: Work, *, after: UUID | None, most: int) -> list[UUID]:
    """Whoever has a session, a remembered device, an open challenge or the grant of one: ids in order, `most` of those
    `after` one.
    """
    lasting = (
        exists().where(Session.user_id == User.id, Session.revoked_at.is_(None), Session.expires_at > work.now),
        exists().where(TrustedDevice.user_id == User.id),
        exists().where(*challenges.voidable(User.id), OtpChallenge.expires_at > work.now),
        exists().where(*begun.lasting(User.id, work.now)),
    )
    later = [User.id > after] if after else []
    return list(work.db.scalars(select(User.id).where(or_(*lasting), *later).order_by(User.id).limit(most)))
