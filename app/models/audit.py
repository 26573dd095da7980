"""What happened: one row an act or refusal, written with it, never updated. Identifiers only masked."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Id, UtcDateTime


class AuditLog(Base):
    __tablename__ = "audit_logs"
    __table_args__ = (Index(None, "user_id", "at"), Index(None, "event", "at"), Base.__table_args__)

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
