"""What a report of a provider changes of a message: it is believed once, and only while the message is still theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from app.delivery import outbox
from app.delivery.reports import Report, Said
from app.models import OutboxMessage
from app.models.outbox import State
from app.work import Work


def find(work: Work, report: Report) -> OutboxMessage | None:
    """The message that a report is about: by our own id or the provider's, and to the number that it names."""
    same = (OutboxMessage.provider == report.provider, OutboxMessage.provider_id == report.provider_id)
    query = select(OutboxMessage).where(OutboxMessage.channel == "sms")
    row = work.db.scalar(query.where(OutboxMessage.id == report.message_id)) if report.message_id else None
    row = row or work.db.scalar(query.where(*same).limit(1))
    return row if row and report.number in ("", row.recipient.lstrip("+")) else None


def move_forward(work: Work, row: OutboxMessage, report: Report) -> bool:
    """Note that a message is sent or delivered, unless that or more is known. Whoever holds it loses its lease."""
    delivered = report.said is Said.DELIVERED
    if not delivered and row.provider_id == report.provider_id:
        return False  # it has told more since: out of order
    before = (State.QUEUED, State.SENDING, *((State.SENT, State.FAILED) if delivered else ()))
    known = {"provider": report.provider, "provider_id": report.provider_id, "last_error": None}
    return _reported(work, row, before, State.DELIVERED if delivered else State.SENT, **known)


def fall_back(work: Work, row: OutboxMessage, report: Report, state: State) -> bool:
    """Note that a provider lost a message: `state` says whether it is queued for another one or has failed."""
    said = f"{report.provider} reported {report.said} {report.code}".strip()
    known = {"provider": report.provider, "provider_id": report.provider_id, "avoid": report.provider}
    return _reported(work, row, _losable(row, report), state, next_attempt_at=work.now, last_error=said, **known)


def _losable(row: OutboxMessage, report: Report) -> Sequence[State]:
    """In which states a message is still with the provider that says that it is lost."""
    # Of a message that it took, a provider says this once: what is queued or on its way again is another's by now.
    if row.provider_id == report.provider_id:
        return (State.SENT,)
    # So is what goes out again after its answer was lost: whoever has it now says what comes of it.
    return (State.QUEUED,) if row.avoid == report.provider else (State.QUEUED, State.SENDING)


def _reported(work: Work, row: OutboxMessage, before: Sequence[State], state: State, **values: Any) -> bool:
    if state is State.QUEUED:
        work.wakes.add(row.channel)
    return outbox.become(work, row, OutboxMessage.state.in_(before), state, **values)
