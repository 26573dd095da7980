"""A request that came with an Idempotency-Key, and what it was answered."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, UtcDateTime


class Repeat(Base):
    __tablename__ = "repeats"

    key: Mapped[str] = mapped_column(Digest, primary_key=True)  # of route, caller and the key they sent
    body: Mapped[str] = mapped_column(Digest)  # keyed, for it may hold a password
    answer: Mapped[str | None] = mapped_column(JSON(none_as_null=True))  # sealed; None: it was never answered well
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
