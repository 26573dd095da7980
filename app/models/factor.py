"""What somebody has beside a password: authenticator apps, backup codes, and browsers that were remembered."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, Id, UtcDateTime


class Authenticator(Base):
    __tablename__ = "authenticators"

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))  # for its owner
    secret: Mapped[str] = mapped_column(String(255))  # sealed
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # its first code came; before, it counts nothing
    failures: Mapped[int]  # wrong first codes
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_step: Mapped[int]  # the newest time step that was used; nothing at or before it counts again
    drift: Mapped[int]  # steps by which its clock was ahead when it was last used


class BackupCode(Base):
    __tablename__ = "backup_codes"
    __table_args__ = (Index(None, "user_id", "digest"), Base.__table_args__)

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(Digest)  # keyed, and bound to the user
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    key_id: Mapped[str | None] = mapped_column(String(8))  # of the digest; None: from before it was noted


class TrustedDevice(Base):
    __tablename__ = "trusted_devices"

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str] = mapped_column(Digest, unique=True)  # of the token that the browser or phone keeps
    user_agent: Mapped[str] = mapped_column(String(255))
    ip: Mapped[str] = mapped_column(String(45))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)  # when a code was given there
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
