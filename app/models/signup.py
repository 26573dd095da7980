"""What somebody said about themselves before anything of it was proven. Lives for a day."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, Id, UtcDateTime


class Signup(Base):
    __tablename__ = "signups"
    __table_args__ = (
        Index(None, "email", "created_at"),
        Index(None, "phone", "created_at"),
        Index(None, "username", "created_at"),
        Base.__table_args__,
    )

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    email: Mapped[str | None] = mapped_column(String(254))
    phone: Mapped[str | None] = mapped_column(String(16))
    username: Mapped[str | None] = mapped_column(String(32))
    name: Mapped[str | None] = mapped_column(String(100))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    consent: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    language: Mapped[str | None] = mapped_column(String(16))
    challenge_id: Mapped[UUID | None] = mapped_column(Id)  # the newest, also where it is a decoy
    grant_digest: Mapped[str | None] = mapped_column(Digest, unique=True)  # of the token that may complete it
    grant_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    given_up_by: Mapped[UUID | None] = mapped_column(Id, index=True)  # whose address it had, until they took another


class UsernameHold(Base):
    """A username that a sign-up has asked for. `claimant` is the digest of the addresses that may have it."""

    __tablename__ = "username_holds"

    username: Mapped[str] = mapped_column(String(32), primary_key=True)
    claimant: Mapped[str] = mapped_column(Digest)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
