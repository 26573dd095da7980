"""A message on its way. It names its challenge and never holds the code."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import Base, Id, UtcDateTime
from app.models.otp import OtpChallenge

LONGEST_NAME, LONGEST_ID = 32, 128  # of a provider, and its own of a message
CODE = "code."  # how the kinds of messages begin that carry one


class State(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"  # the provider has it
    DELIVERED = "delivered"  # a report says that it arrived
    FAILED = "failed"  # the provider will not have it
    DROPPED = "dropped"  # not sent, because it would have come too late or to nobody


TAKEN = (State.SENT, State.DELIVERED)  # a provider took it
SETTLED = (*TAKEN, State.FAILED, State.DROPPED)  # nobody sends it any more


class OutboxMessage(Base):
    __tablename__ = "outbox_messages"
    __table_args__ = (
        Index(None, "channel", "state", "next_attempt_at"),  # what a courier looks for
        Index(None, "state", "next_attempt_at"),  # since when the longest waits, whatever its channel
        Index(None, "provider", "provider_id"),
        Index(None, "country", "created_at"),
        Base.__table_args__,
    )

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    channel: Mapped[str] = mapped_column(String(8))
    recipient: Mapped[str] = mapped_column(String(254))
    language: Mapped[str] = mapped_column(String(16))
    country: Mapped[str | None] = mapped_column(String(3))  # of a number
    challenge_id: Mapped[UUID | None] = mapped_column(
        Id, ForeignKey("otp_challenges.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[UUID | None] = mapped_column(Id, index=True)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(10))
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lease: Mapped[str | None] = mapped_column(String(32), index=True)
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    provider: Mapped[str | None] = mapped_column(String(LONGEST_NAME))
    provider_id: Mapped[str | None] = mapped_column(String(LONGEST_ID))
    avoid: Mapped[str | None] = mapped_column(String(LONGEST_NAME))  # a provider that may have sent it, or could not
    last_error: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    challenge: Mapped[OtpChallenge | None] = relationship(viewonly=True, lazy="raise")  # read when it is claimed
