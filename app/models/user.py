"""The account row. `email` and `phone` hold proven values only."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Id, UtcDateTime


class User(Base):
    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    name: Mapped[str | None] = mapped_column(String(100))
    username: Mapped[str | None] = mapped_column(String(32), unique=True)
    email: Mapped[str | None] = mapped_column(String(254), unique=True)
    phone: Mapped[str | None] = mapped_column(String(16), unique=True)
    role: Mapped[str] = mapped_column(String(32), index=True)
    password_hash: Mapped[str | None] = mapped_column(String(255))
    language: Mapped[str | None] = mapped_column(String(16))  # of the messages to this person
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    recovered_by: Mapped[str | None] = mapped_column(String(8))  # the channel of a recovery, until the next sign-in
    password_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
