"""What happened in each hour, counted once it is over, so that a month is read from some hundred rows."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, UtcDateTime


class HourlyCount(Base):
    __tablename__ = "hourly_counts"

    hour: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)  # its first moment
    metric: Mapped[str] = mapped_column(String(16), primary_key=True)
    channel: Mapped[str] = mapped_column(String(8), primary_key=True)  # empty where it does not matter
    country: Mapped[str] = mapped_column(String(3), primary_key=True)
    count: Mapped[int]
