"""Backup codes: what lets somebody in who lost their phone. Shown once, kept as keyed digests, each works once.

Look-up secrets of NIST SP 800-63B-4, section 3.1.2.
"""

from __future__ import annotations

import re
import secrets
from uuid import UUID

from sqlalchemy import delete, func, select, update

from app.crypto.ids import uuid7
from app.crypto.keys import Purpose
from app.models import BackupCode
from app.work import Work

COUNT = 10
FEW = 2  # so many left, and the owner is asked to make new ones
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no letter that reads like a digit
LENGTH, GROUP = 16, 4  # 16 times 5 bits: 80
READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})
FORM = re.compile(rf"[{ALPHABET}]{{{LENGTH}}}", re.ASCII)
LONGEST = 2 * LENGTH  # as somebody may type it


def make(work: Work, user_id: UUID) -> list[str]:
    """New codes in place of all that there were."""
    forget_all(work, user_id)
    plain = ["".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for _ in range(COUNT)]
    key_id = work.kit.keys.current
    for code in plain:
        digest = _digest(work, user_id, code, key_id)
        row = BackupCode(id=uuid7(work.now), user_id=user_id, digest=digest, key_id=key_id, created_at=work.now)
        work.db.add(row)
    return [_grouped(code) for code in plain]


def _grouped(code: str) -> str:
    return "-".join(code[at : at + GROUP] for at in range(0, LENGTH, GROUP))


def is_one(text: str) -> bool:
    """True for what has a backup code's form, however it is grouped and cased."""
    return text.isascii() and len(text) <= LONGEST and FORM.fullmatch(_plain(text)) is not None


def _plain(text: str) -> str:
    return text.upper().translate(READ_AS)


def use(work: Work, user_id: UUID, text: str) -> bool:
    """True if it is one of the user's that was not used, and now it is. One statement decides. All are locked first: of
    the last two at once, one sees that none is left.
    """
    mine = BackupCode.user_id == user_id
    work.db.execute(select(BackupCode.id).where(mine).order_by(BackupCode.id).with_for_update())
    digests = [_digest(work, user_id, _plain(text), key_id) for key_id in work.kit.keys.ids]
    unused = (mine, BackupCode.digest.in_(digests), BackupCode.used_at.is_(None))
    return work.changes(update(BackupCode).where(*unused).values(used_at=work.now)) == 1


def _digest(work: Work, user_id: UUID, code: str, key_id: str) -> str:
    return work.kit.keys.mac(Purpose.BACKUP_CODES, user_id.hex, code, key_id=key_id).hex()


def left(work: Work, user_id: UUID) -> int:
    """How many were not used."""
    unused = (BackupCode.user_id == user_id, BackupCode.used_at.is_(None))
    return work.db.scalar(select(func.count()).where(*unused)) or 0


def of_user(work: Work, user_id: UUID) -> list[BackupCode]:
    return list(work.db.scalars(select(BackupCode).where(BackupCode.user_id == user_id).order_by(BackupCode.id)))


def forget_all(work: Work, user_id: UUID) -> None:
    work.changes(delete(BackupCode).where(BackupCode.user_id == user_id))
