"""Consent: what was agreed to, in which version, when and from where (GDPR art. 7)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

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


def record(work: Work, user_id: UUID, given: dict[str, Any]) -> None:
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


def of_user(work: Work, user_id: UUID) -> list[Consent]:
    return list(work.db.scalars(select(Consent).where(Consent.user_id == user_id).order_by(Consent.given_at)))
