"""Factors: the enrolled second methods of a user, whatever their kind; and the note of them in the user's row.

The note (`users.mfa`) is what policy reads, so that a sign-in asks no other table. Whoever changes factors holds the
user's row first (`accounts.own`), so that of two changes at once the second sees the first.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm.attributes import set_committed_value

from app.core import authenticators, backup_codes, passkeys, policy
from app.crypto import totp
from app.models import Authenticator, BackupCode, Passkey, User
from app.work import Work

KINDS = {policy.TOTP: authenticators, policy.PASSKEY: passkeys}  # preferred first; each a module of one noun


def note(work: Work, user: User) -> None:
    """Write which methods the user has by now; backup codes count beside a factor, and while any is left."""
    work.db.flush()
    kinds = _kinds(work, user.id)
    if kinds and backup_codes.left(work, user.id):
        kinds.append(policy.BACKUP_CODE)
    mfa = " ".join(kinds)
    work.changes(update(User).where(User.id == user.id).values(mfa=mfa))
    set_committed_value(user, "mfa", mfa)


def _kinds(work: Work, user_id: UUID) -> list[str]:
    """Those that stand by themselves."""
    return [kind for kind, rows in KINDS.items() if rows.of_user(work, user_id)]


def of_user(work: Work, user_id: UUID) -> list[tuple[str, Authenticator | Passkey]]:
    """Those in use with their kinds, the oldest first."""
    found = [(kind, row) for kind, rows in KINDS.items() for row in rows.of_user(work, user_id)]
    return sorted(found, key=lambda pair: pair[1].id)


def has_form(code: str, method: str | None, length: int) -> bool:
    """True for what can be a code by this method, or by any. `length`: of the digits that messages carry."""
    if method != policy.BACKUP_CODE and code.isascii() and code.isdigit():
        usual = totp.DIGITS if method == policy.TOTP else length
        return len(code) in ({usual} if method else {usual, totp.DIGITS})
    return method in (None, policy.BACKUP_CODE) and backup_codes.is_one(code)


def use(work: Work, user: User, method: str, code: str) -> bool:
    """True if the code is right by this method and was not used: now it is."""
    if method == policy.TOTP:
        return authenticators.use(work, user.id, code)
    if method != policy.BACKUP_CODE or not backup_codes.use(work, user.id, code):
        return False
    if not backup_codes.left(work, user.id):
        note(work, user)
    return True


def remove(work: Work, user: User, factor_id: UUID) -> str | None:
    """Delete one of the user's, and with the last one the backup codes. Its kind, or None if it is not theirs."""
    kind = next((kind for kind, rows in KINDS.items() if rows.remove(work, user.id, factor_id)), None)
    if kind is None:
        return None
    if not _kinds(work, user.id):
        backup_codes.forget_all(work, user.id)
    note(work, user)
    return kind


def hold_all(work: Work, user_id: UUID) -> None:
    """Lock all of the user's, and the backup codes: `credentials.hold` says when."""
    work.begin_writing()
    for row in (Authenticator, Passkey, BackupCode):
        work.db.execute(select(row.id).where(row.user_id == user_id).order_by(row.id).with_for_update())


def remove_all(work: Work, user: User) -> list[str]:
    """Delete all of the user's, and the backup codes. Returns the methods that there were."""
    before = user.mfa.split()
    for rows in (*KINDS.values(), backup_codes):
        rows.forget_all(work, user.id)
    note(work, user)
    return before


def rename(work: Work, user_id: UUID, factor_id: UUID, name: str) -> str | None:
    """Call one of the user's otherwise. Its kind, or None if it is not theirs."""
    return next((kind for kind, rows in KINDS.items() if rows.rename(work, user_id, factor_id, name)), None)
