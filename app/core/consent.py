"""Consent: what was agreed to, in which version, when and from where (GDPR art. 7)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from app.crypto.ids import uuid7
from app.models import Consent
from app.work import Work


def given(work: Work, *, terms: bool, privacy: bool, version: str) -> dict[str, Any]:
    """A consent as it was given just now, to be kept beside the sign-up until there is an account."""
    return {
        "terms": terms,
        "privacy": privacy,
        "version": version,
        "at": work.now.isoformat(),
        "ip": work.client.address,
    }


def record(work: Work, user_id: UUID, given: dict[str, Any]) -> Consent:
    """Keep a consent on the account, with the time and address at which it was given."""
    row = Consent(
        id=uuid7(work.now),
        user_id=user_id,
        terms=given["terms"],
        privacy=given["privacy"],
        version=given["version"],
        given_at=datetime.fromisoformat(given["at"]),
        ip=given["ip"],
    )
    work.db.add(row)
    return row


def all_of_user(work: Work, user_id: UUID) -> list[Consent]:
    """The whole history, oldest first."""
    return list(work.db.scalars(select(Consent).where(Consent.user_id == user_id).order_by(Consent.given_at)))


def page_of_user(work: Work, user_id: UUID, limit: int, before: UUID | None) -> list[Consent]:
    """Newest first, older than a given one."""
    older = [Consent.id < before] if before else []
    mine = select(Consent).where(Consent.user_id == user_id, *older)
    return list(work.db.scalars(mine.order_by(Consent.id.desc()).limit(limit)))


def withdraw(work: Work, user_id: UUID, consent_id: UUID) -> Consent | None:
    """Take a consent back. It stays in the history, with when. None if it is not theirs or was taken back before."""
    standing = (Consent.id == consent_id, Consent.user_id == user_id, Consent.withdrawn_at.is_(None))
    if work.changes(update(Consent).where(*standing).values(withdrawn_at=work.now)) != 1:
        return None
    return work.db.get(Consent, consent_id, populate_existing=True)
