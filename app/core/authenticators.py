"""Authenticator apps: secrets that a phone holds and shows codes of by time (RFC 6238). Sealed at rest."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update

from app.crypto import sealing, totp
from app.crypto.ids import uuid7
from app.crypto.keys import Purpose
from app.models import Authenticator
from app.work import Work

WINDOW = 1  # steps each way, for slow people and clocks
SETUP = timedelta(minutes=15)  # in which the first code must come
TRIES = 5  # wrong first codes that end a setup
MOST = 10  # of one user, those in setup among them

log = logging.getLogger("latchkey.factors")


def start(work: Work, user_id: UUID, name: str) -> tuple[Authenticator, bytes] | None:
    """A new one with its secret, which counts for nothing until `confirm`. None if the user has too many."""
    standing = or_(Authenticator.confirmed_at.is_not(None), Authenticator.created_at > work.now - SETUP)
    if (work.db.scalar(select(func.count()).where(Authenticator.user_id == user_id, standing)) or 0) >= MOST:
        return None
    secret, row_id = totp.new_secret(), uuid7(work.now)
    row = Authenticator(
        id=row_id,
        user_id=user_id,
        name=name,
        secret=sealing.seal(work.kit.keys, Purpose.FACTORS, secret, row_id.hex, user_id.hex),
        created_at=work.now,
        failures=0,
        last_step=0,
        drift=0,
    )
    work.db.add(row)
    return row, secret


def in_setup(work: Work, user_id: UUID, row_id: UUID) -> Authenticator | None:
    """One of the user's that waits for its first code, and has not had too many wrong ones."""
    waiting = (Authenticator.confirmed_at.is_(None), Authenticator.created_at > work.now - SETUP)
    mine = (Authenticator.id == row_id, Authenticator.user_id == user_id)
    return work.db.scalar(select(Authenticator).where(*mine, *waiting, Authenticator.failures < TRIES))


def confirm(work: Work, row: Authenticator, code: str) -> int | None:
    """Take an authenticator into use with its first code, which is used by that: None. For a wrong code, which is
    counted, or if another request was faster: how many tries are left.
    """
    step, waiting = _match(work, row, code), (Authenticator.id == row.id, Authenticator.confirmed_at.is_(None))
    if step is None:
        work.changes(update(Authenticator).where(*waiting).values(failures=Authenticator.failures + 1))
        return max(0, TRIES - row.failures - 1)
    values = {"confirmed_at": work.now, **_used(work, step)}
    return None if work.changes(update(Authenticator).where(*waiting).values(**values)) else 0


def use(work: Work, user_id: UUID, code: str) -> bool:
    """True if one of the user's shows this code now, and no such step was used before. The write decides."""
    for row in of_user(work, user_id):
        step = _match(work, row, code)
        later = (Authenticator.id == row.id, Authenticator.last_step < (step or 0))
        if step is not None and work.changes(update(Authenticator).where(*later).values(**_used(work, step))):
            return True
    return False


def _match(work: Work, row: Authenticator, code: str) -> int | None:
    try:
        secret = sealing.unseal(work.kit.keys, Purpose.FACTORS, row.secret, row.id.hex, row.user_id.hex)
    except (KeyError, ValueError):
        log.error("the secret of authenticator %s cannot be opened; was SECRET_KEY changed?", row.id)
        return None
    return totp.match(secret, code, work.now, window=WINDOW, after=row.last_step)


def reseal(work: Work, row: Authenticator) -> bool:
    """Seal a secret with the key in force, if another one did. False if there was nothing to do, somebody else has
    changed it meanwhile, or its key is lost.
    """
    if sealing.key_of(row.secret) == work.kit.keys.current:
        return False
    try:
        secret = sealing.unseal(work.kit.keys, Purpose.FACTORS, row.secret, row.id.hex, row.user_id.hex)
    except (KeyError, ValueError):
        return False
    sealed = sealing.seal(work.kit.keys, Purpose.FACTORS, secret, row.id.hex, row.user_id.hex)
    unchanged = (Authenticator.id == row.id, Authenticator.secret == row.secret)
    return work.changes(update(Authenticator).where(*unchanged).values(secret=sealed)) == 1


def _used(work: Work, step: int) -> dict[str, object]:
    return {"last_step": step, "last_used_at": work.now, "drift": step - totp.step_at(work.now)}


def all_of_user(work: Work, user_id: UUID) -> list[Authenticator]:
    """Every stored one of a user, those in setup among them."""
    return list(work.db.scalars(select(Authenticator).where(Authenticator.user_id == user_id)))


def of_user(work: Work, user_id: UUID) -> list[Authenticator]:
    """Those in use, oldest first."""
    mine = (Authenticator.user_id == user_id, Authenticator.confirmed_at.is_not(None))
    return list(work.db.scalars(select(Authenticator).where(*mine).order_by(Authenticator.id)))


def rename(work: Work, user_id: UUID, row_id: UUID, name: str) -> bool:
    """Call one of the user's otherwise. False if it is not theirs."""
    mine = (Authenticator.id == row_id, Authenticator.user_id == user_id, Authenticator.confirmed_at.is_not(None))
    return work.changes(update(Authenticator).where(*mine).values(name=name)) == 1


def remove(work: Work, user_id: UUID, row_id: UUID) -> bool:
    """Delete one of the user's that is in use. False if it is not theirs."""
    mine = (Authenticator.id == row_id, Authenticator.user_id == user_id, Authenticator.confirmed_at.is_not(None))
    return work.changes(delete(Authenticator).where(*mine)) == 1


def end_setups(work: Work, user_id: UUID) -> None:
    """Delete those of the user's that wait for their first code."""
    work.changes(delete(Authenticator).where(Authenticator.user_id == user_id, Authenticator.confirmed_at.is_(None)))


def forget_all(work: Work, user_id: UUID) -> None:
    """Delete all of the user's, those in setup among them."""
    work.changes(delete(Authenticator).where(Authenticator.user_id == user_id))
