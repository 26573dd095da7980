"""A counter that empties by itself: wrong guesses by identifier, messages by destination."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, UtcDateTime


class Throttle(Base):
    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(Digest, primary_key=True)
    count: Mapped[int]  # in the running window
    window_ends_at: Mapped[datetime] = mapped_column(UtcDateTime)  # of guesses: until when those in a row count
    day_count: Mapped[int]
    day_ends_at: Mapped[datetime] = mapped_column(UtcDateTime)
    level: Mapped[int]  # how often it locked; each doubles the next
    streak: Mapped[int]  # wrong guesses since the last success
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
