"""Messages as somebody looks at them: the inbox of development, administration, whose they are, and who waits for one.
Decoys are nobody's to see.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import or_, select

from app.core import challenges
from app.delivery.outbox import DECOY, SHIELD
from app.models import OtpChallenge, OutboxMessage
from app.models.outbox import State
from app.work import Work

SHOWN = {State.SENT: "sent", State.DELIVERED: "delivered", State.FAILED: "failed", State.DROPPED: "failed"}


def newest(work: Work, limit: int) -> list[OutboxMessage]:
    """The last messages to somebody, newest first."""
    query = select(OutboxMessage).where(OutboxMessage.kind != DECOY)
    return list(work.db.scalars(query.order_by(OutboxMessage.id.desc()).limit(limit)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are looked for. What is None does not matter."""

    state: State | None = None
    channel: str | None = None
    provider: str | None = None
    user_id: UUID | None = None


def page(work: Work, wanted: Wanted, limit: int, before: UUID | None) -> list[OutboxMessage]:
    """Messages to somebody that fit, newest first, made before a given one."""
    fitting = [getattr(OutboxMessage, name) == value for name, value in asdict(wanted).items() if value is not None]
    older = [OutboxMessage.id < before] if before else []
    query = select(OutboxMessage).where(OutboxMessage.kind != DECOY, *fitting, *older)
    return list(work.db.scalars(query.order_by(OutboxMessage.id.desc()).limit(limit)))


def how_far(work: Work, challenge: OtpChallenge) -> str:
    """How far the last message of a challenge has got: `queued`, `sent`, `delivered` or `failed`. Before a proof always
    `sent`, for a decoy's message and the notice to an owner would stand out; and where nothing has to be sent.
    """
    if challenge.purpose not in challenges.PROVEN or not challenges.goes_out(challenge):
        return State.SENT
    query = select(OutboxMessage.state, OutboxMessage.last_error).where(OutboxMessage.challenge_id == challenge.id)
    last = work.db.execute(query.order_by(OutboxMessage.id.desc()).limit(1)).one_or_none()
    state, why = last or (State.QUEUED, None)
    if state == State.DROPPED and str(why).startswith(SHIELD):
        return State.SENT  # that the shield is up is not the caller's to know
    return SHOWN.get(State(state), State.QUEUED)


def of_user(work: Work, user_id: UUID) -> list[OutboxMessage]:
    """The messages to a user; of their sign-up's codes those to an address that they proved, or some would lack."""
    unproven = select(OtpChallenge.id).where(OtpChallenge.signup_id == user_id, OtpChallenge.used_at.is_(None))
    told = or_(OutboxMessage.challenge_id.is_(None), OutboxMessage.challenge_id.not_in(unproven))
    query = select(OutboxMessage).where(OutboxMessage.user_id == user_id, told)
    return list(work.db.scalars(query.order_by(OutboxMessage.created_at)))


def hold(work: Work, message_id: UUID) -> OutboxMessage | None:
    """A message to somebody as it is now, its row locked until the unit ends."""
    work.begin_writing()
    row = work.db.get(OutboxMessage, message_id, with_for_update=True)
    return row if row and row.kind != DECOY else None
