"""Passkeys: which keys are whose, and what counts as their use.

A credential is somebody's from the moment it is bound, and one account's only. Its counter is kept by the write that
notes a use, so of two answers with one counter one is right.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update

from app.core import identifiers
from app.crypto import passkeys
from app.crypto.ids import uuid7
from app.crypto.passkeys import Credential, Holder, NotAccepted, Party, Stored
from app.models import OtpChallenge, Passkey, User
from app.work import Work

MOST = 20  # passkeys of one account: every device and spare key of a person, and no store of bytes for strangers


@dataclass(frozen=True, slots=True)
class Ceremony:
    """A challenge, and what a browser is to ask an authenticator for in answer to it."""

    challenge: OtpChallenge
    options: dict[str, Any]


def are_on(work: Work) -> bool:
    """True where passkeys are for a domain and some page of it may ask for them."""
    return bool(work.settings.rp_id and work.settings.rp_origins)


def can_ask(work: Work, row: OtpChallenge) -> bool:
    """False for a challenge whose key has left the ring."""
    return row.key_id in work.kit.keys.ids


def making(work: Work, row: OtpChallenge, user: User) -> Ceremony:
    """How a browser has a passkey made for this user."""
    name = identifiers.of_user(user)[0].value
    holder = Holder(user.id, name, user.name or name)
    known = [_credential(passkey) for passkey in of_user(work, user.id)]
    options = passkeys.creation_options(_party(work), _asked(work, row), holder, known, _seconds(work, row))
    return Ceremony(row, options)


def showing(work: Work, row: OtpChallenge) -> Ceremony:
    """How a browser has a passkey used: one of the challenge's user, or where it has none any that is found."""
    allowed = [_credential(passkey) for passkey in of_user(work, row.user_id)] if row.user_id else []
    return Ceremony(row, passkeys.request_options(_party(work), _asked(work, row), allowed, _seconds(work, row)))


def _party(work: Work) -> Party:
    return Party(work.settings.rp_id, work.settings.brand_name, work.settings.rp_origins)


def _asked(work: Work, row: OtpChallenge) -> bytes:
    return passkeys.challenge(work.kit.keys, row.key_id, row.id)


def _seconds(work: Work, row: OtpChallenge) -> int:
    return max(1, int((row.expires_at - work.now).total_seconds()))


def _credential(passkey: Passkey) -> Credential:
    return Credential(passkey.credential_id, tuple(passkey.transports.split()))


def made(work: Work, row: OtpChallenge, given: dict[str, Any]) -> Passkey | None:
    """The passkey that an authenticator made in answer to a challenge, still nobody's; None if it is not right."""
    if not can_ask(work, row):
        return None
    try:
        found = passkeys.verify_registration(_party(work), _asked(work, row), given)
    except NotAccepted:
        return None
    return Passkey(
        id=uuid7(work.now),
        user_id=row.user_id,
        name=row.shown,
        credential_digest=_digest(found.credential_id),
        credential_id=passkeys.to_text(found.credential_id),
        public_key=passkeys.to_text(found.public_key),
        sign_count=found.sign_count,
        aaguid=found.aaguid,
        transports=" ".join(found.transports),
        synced=found.synced,
        created_at=work.now,
    )


def can_bind(work: Work, passkey: Passkey) -> bool:
    """False for a credential that is somebody's already, or if its user has as many as one may have."""
    return _by_digest(work, passkey.credential_digest) is None and has_room(work, passkey.user_id)


def bind(work: Work, passkey: Passkey, name: str | None) -> bool:
    """Give a new passkey to its user. False if its credential is somebody's already."""
    passkey.name = name or passkey.name
    return work.insert_once(passkey)


def _digest(credential_id: bytes) -> str:
    return hashlib.sha256(credential_id).hexdigest()


def of_user(work: Work, user_id: UUID) -> list[Passkey]:
    """A user's passkeys, oldest first."""
    return list(work.db.scalars(select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id)))


def has_room(work: Work, user_id: UUID) -> bool:
    """False once a user has as many passkeys as one may have."""
    held = work.db.scalar(select(func.count()).select_from(Passkey).where(Passkey.user_id == user_id)) or 0
    return held < MOST


def find(work: Work, given: dict[str, Any]) -> Passkey | None:
    """The passkey that an answer says it is from. Whether it is, `use` says."""
    try:
        return _by_digest(work, _digest(passkeys.id_of(given)))
    except NotAccepted:
        return None


def _by_digest(work: Work, digest: str) -> Passkey | None:
    return work.db.scalar(select(Passkey).where(Passkey.credential_digest == digest))


def use(work: Work, row: OtpChallenge, passkey: Passkey, given: dict[str, Any]) -> bool:
    """True if this passkey gave a right answer to a challenge, whose counter is kept now. Where the challenge has a
    user, only a passkey of theirs is right; where it has none, the answer must name its user.
    """
    if row.user_id not in (None, passkey.user_id) or not can_ask(work, row):
        return False
    stored = Stored(passkeys.to_bytes(passkey.public_key), passkey.sign_count, passkey.user_id, passkey.synced)
    try:
        asked = _asked(work, row)
        risen = passkeys.verify_assertion(_party(work), asked, given, stored, discovered=row.user_id is None)
    except NotAccepted:
        return False
    return note_use(work, passkey, risen)


def note_use(work: Work, passkey: Passkey, sign_count: int) -> bool:
    """Keep the counter of a right answer. False if another with this counter or a later one came first."""
    risen = Passkey.sign_count < sign_count if sign_count else Passkey.sign_count == 0
    values = {"sign_count": sign_count, "last_used_at": work.now}
    return work.changes(update(Passkey).where(Passkey.id == passkey.id, risen).values(**values)) == 1


def rename(work: Work, user_id: UUID, row_id: UUID, name: str) -> bool:
    """Call one of the user's otherwise. False if it is not theirs."""
    mine = (Passkey.id == row_id, Passkey.user_id == user_id)
    return work.changes(update(Passkey).where(*mine).values(name=name)) == 1


def remove(work: Work, user_id: UUID, row_id: UUID) -> bool:
    """Delete one of the user's: no answer of it is right any more. False if it is not theirs."""
    return work.changes(delete(Passkey).where(Passkey.id == row_id, Passkey.user_id == user_id)) == 1


def forget_all(work: Work, user_id: UUID) -> None:
    """Delete all of the user's."""
    work.changes(delete(Passkey).where(Passkey.user_id == user_id))
