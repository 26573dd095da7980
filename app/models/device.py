"""A machine that holds a key and shows its codes by time. The key is nowhere: it is derived when it is needed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, Id, UtcDateTime


class Device(Base):
    __tablename__ = "devices"

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    device_id: Mapped[str] = mapped_column(String(128), unique=True)  # what its owner calls it
    owner: Mapped[str] = mapped_column(String(255))  # free text of the server that registered it; gives no rights
    salt: Mapped[str] = mapped_column(String(32))  # of this registration or rotation
    key_version: Mapped[int]  # how many keys it has had
    master_id: Mapped[str] = mapped_column(String(8))  # which MASTER_SECRET its key comes from
    key_digest: Mapped[str] = mapped_column(Digest)  # SHA-256 of the key
    digits: Mapped[int]
    interval_s: Mapped[int]
    last_step: Mapped[int]  # the newest time step that was used; nothing at or before it counts again
    usage_count: Mapped[int]
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failures: Mapped[int]  # wrong codes since the last right one
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deactivated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
