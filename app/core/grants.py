"""Grants: what a right answer is exchanged for, where the next step comes later."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import joinedload

from app.crypto.keys import new_token, token_digest
from app.models import OtpChallenge
from app.work import Work

LIFE = timedelta(minutes=5)


def make(work: Work, row: OtpChallenge) -> str:
    """What a right answer is exchanged for, where the next step comes later: a token for a few minutes, used once."""
    token = new_token()
    row.grant_digest, row.grant_expires_at = token_digest(token), work.now + LIFE
    return token


def find(work: Work, token: str) -> OtpChallenge | None:
    """The challenge of a grant, with its user. None if it is unknown, used or has expired."""
    lasting = (OtpChallenge.grant_digest == token_digest(token), OtpChallenge.grant_expires_at > work.now)
    return work.db.scalar(select(OtpChallenge).options(joinedload(OtpChallenge.user)).where(*lasting))


def spend(work: Work, row: OtpChallenge, token: str) -> bool:
    """Use a grant up, by its token: the row may have been read again since. False if another request did."""
    mine = (OtpChallenge.id == row.id, OtpChallenge.grant_digest == token_digest(token))
    return work.changes(update(OtpChallenge).where(*mine).values(grant_digest=None)) == 1
