"""Being signed in: one row a session, one row for each refresh token it ever had."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, Id, UtcDateTime


class Session(Base):
    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "user_id", "client_key"),
        Index(None, "user_id", "id"),
        Index(None, "revoked_at", "id"),
        Base.__table_args__,
    )

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"))
    amr: Mapped[str] = mapped_column(String(64))  # the methods by which it was proven, space separated
    ip: Mapped[str] = mapped_column(String(45))
    user_agent: Mapped[str] = mapped_column(String(255))
    device_info: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    client_key: Mapped[str] = mapped_column(Digest)  # to know a browser or phone again
    cookie_digest: Mapped[str | None] = mapped_column(Digest, unique=True)  # of a browser's cookie, in place of tokens
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    auth_time: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_why: Mapped[str | None] = mapped_column(String(32))


class RefreshToken(Base):
    __tablename__ = "refresh_tokens"

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    session_id: Mapped[UUID] = mapped_column(Id, ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str] = mapped_column(Digest, unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ErasedSession(Base):
    """A session whose account was erased: all that is kept of it, while tokens of it may be about."""

    __tablename__ = "erased_sessions"

    session_id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    erased_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
