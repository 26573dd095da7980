"""A stored question: for one purpose, one destination, one subject; or a decoy, which no code answers."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, Digest, Id, UtcDateTime
from app.models.user import User


class OtpChallenge(Base):
    __tablename__ = "otp_challenges"
    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    purpose: Mapped[str] = mapped_column(String(24))
    channel: Mapped[str] = mapped_column(String(8))
    destination: Mapped[str] = mapped_column(String(254), index=True)
    shown: Mapped[str] = mapped_column(String(254))  # what the caller may see of the destination
    user_id: Mapped[UUID | None] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    signup_id: Mapped[UUID | None] = mapped_column(Id, ForeignKey("signups.id", ondelete="CASCADE"), index=True)
    asked_by: Mapped[UUID | None] = mapped_column(Id)  # the user who asked for a change of address, decoy or not
    session_id: Mapped[UUID | None] = mapped_column(Id)  # and the session in which
    budget_key: Mapped[str] = mapped_column(
        Digest, index=True
    )  # the throttle of the identifier that wrong guesses raise
    stands_on: Mapped[datetime | None] = mapped_column(UtcDateTime)  # since when the user had the password of then
    methods: Mapped[str] = mapped_column(String(64))  # proven before this question, space separated
    language: Mapped[str] = mapped_column(String(16))  # of its messages
    key_id: Mapped[str] = mapped_column(String(8))
    factor: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(Digest)
    attempts: Mapped[int]
    max_attempts: Mapped[int]
    sends: Mapped[int]
    last_sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # answered rightly
    void_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # taken back before it was answered
    begun_by: Mapped[str | None] = mapped_column(Digest)  # the kind of browser and network, where a browser asked
    grant_digest: Mapped[str | None] = mapped_column(Digest, unique=True)  # of what a right answer was exchanged for
    grant_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decoy: Mapped[bool] = mapped_column(default=False, server_default=false())  # in place of one that would tell
    user: Mapped[User | None] = relationship(viewonly=True, lazy="raise")  # read with the challenge, by `find`
