"""The account row. `email` and `phone` hold proven values only."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Id, UtcDateTime


def exact(length: int) -> String:
    """Text in the order of its code points, in which an index finds prefixes; only PostgreSQL has to be told."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class User(Base):
    __tablename__ = "users"
    __table_args__ = (Index(None, "role", "id"), Base.__table_args__)

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    name: Mapped[str | None] = mapped_column(String(100))
    username: Mapped[str | None] = mapped_column(exact(32), unique=True)
    email: Mapped[str | None] = mapped_column(exact(254), unique=True)
    phone: Mapped[str | None] = mapped_column(exact(16), unique=True)
    role: Mapped[str] = mapped_column(String(32))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    language: Mapped[str | None] = mapped_column(String(16))  # of the messages to this person
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    recovered_by: Mapped[str | None] = mapped_column(String(8))  # the channel of a recovery, until the next sign-in
    password_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Enrolled second methods, preferred first.
    mfa: Mapped[str] = mapped_column(String(64), default="", server_default="")
    name_key: Mapped[str | None] = mapped_column(exact(100), index=True)  # the name, folded to be found by
    locked_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)  # by administration
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)  # None: until it is lifted
