"""A key by which a server calls: what it may do and until when. Only its digest is kept."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, Id, UtcDateTime


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))  # for people
    prefix: Mapped[str] = mapped_column(String(16))  # how the key begins, to tell keys apart
    digest: Mapped[str] = mapped_column(Digest, unique=True)
    scopes: Mapped[str] = mapped_column(String(255))  # space separated
    created_by: Mapped[UUID | None] = mapped_column(Id)  # the admin who made it
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
