"""What happened: one row an act or refusal, written with it; and the seals over those rows. Identifiers only masked.

Two things of a written row ever change: the seal that covers it, and, when a person is erased, what says who it was.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, Id, UtcDateTime


class AuditLog(Base):
    __tablename__ = "audit_logs"
    __table_args__ = (
        Index(None, "user_id", "at"),
        Index(None, "event", "at"),
        Index(None, "seal", "id"),
        Base.__table_args__,
    )

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    event: Mapped[str] = mapped_column(String(40))
    success: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(String(40))  # the code of the refusal
    user_id: Mapped[UUID | None] = mapped_column(Id)  # whom it happened to, or which device
    actor_id: Mapped[UUID | None] = mapped_column(Id)  # who did it: a user, or an API key
    session_id: Mapped[UUID | None] = mapped_column(Id)
    subject: Mapped[str | None] = mapped_column(String(254))  # a masked identifier, or a device's own id
    ip: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(String(255))
    request_id: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    salt: Mapped[str | None] = mapped_column(String(32))  # goes with the person; without it nobody can be guessed
    person: Mapped[str | None] = mapped_column(Digest)  # a salted digest of subject, ip and user_agent
    key_id: Mapped[str | None] = mapped_column(String(8))
    mac: Mapped[str | None] = mapped_column(Digest)  # over all columns but those a person and a seal may change
    seal: Mapped[int | None]  # the sequence number of the seal that covers the row


class AuditSeal(Base):
    """A batch of rows, proven as it was. The last one purged stays as the anchor of the chain."""

    __tablename__ = "audit_seals"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int]
    first_id: Mapped[UUID] = mapped_column(Id)
    last_id: Mapped[UUID] = mapped_column(Id)
    newest_at: Mapped[datetime] = mapped_column(UtcDateTime)  # of its rows
    adopted: Mapped[bool]  # its rows are from before rows were signed
    digest: Mapped[str] = mapped_column(Digest)  # over the ids and MACs of its rows, by id
    previous: Mapped[str | None] = mapped_column(Digest)  # the MAC of the seal before
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    key_id: Mapped[str] = mapped_column(String(8))
    mac: Mapped[str] = mapped_column(Digest)
    members: Mapped[bytes | None] = mapped_column(LargeBinary)  # the ids of its rows, until they are purged
    purged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    purge_key_id: Mapped[str | None] = mapped_column(String(8))
    purge_mac: Mapped[str | None] = mapped_column(Digest)
