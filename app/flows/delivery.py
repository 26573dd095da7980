"""What becomes of messages: what providers report of them, and those that are sent once more by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.core import audit, challenges, sessions
from app.core.audit import Event
from app.delivery import compose, listing, outbox, reported, tally, whose
from app.delivery.reports import Report, Said
from app.errors import Conflict, NotFound
from app.models import OutboxMessage
from app.models.outbox import CODE, State
from app.work import Work

MOST_COPIES = 3  # messages a code may cost because providers lost them


def note(work: Work, reports: Sequence[Report]) -> None:
    """Take reports in, in whatever order and however often they come. Those of unknown messages are ignored. A report
    moves a message forward and proves nothing about its reader.
    """
    for report in reports:
        row = reported.find(work, report)
        if row is not None:
            _note(work, row, report)


def _note(work: Work, row: OutboxMessage, report: Report) -> None:
    if report.said in (Said.SENT, Said.DELIVERED):
        if reported.move_forward(work, row, report):
            tally.note_report(work, row, report)
    elif report.provider_id == row.provider_id or row.provider_id is None:
        others = set(work.settings.sms_route(row.country or "")) - {report.provider}
        copies = row.attempts - row.facts.get(outbox.UNSENT, 0)
        again = report.said is Said.LOST and others and copies < MOST_COPIES and _still_wanted(work, row)
        if reported.fall_back(work, row, report, State.QUEUED if again else State.FAILED) and not again:
            facts: dict[str, Any] = {
                "kind": row.kind,
                "channel": row.channel,
                "why": f"{report.provider} {report.code}".strip(),
            }
            audit.record(work, Event.MESSAGE_DROPPED, **whose.named(row), reason="reported", **facts)
            tally.note_dropped(work, row.channel, "reported")


def _still_wanted(work: Work, row: OutboxMessage) -> bool:
    """True if its code would still be accepted when another provider has sent it."""
    challenge = challenges.find(work, row.challenge_id) if row.challenge_id else None
    soon = work.now + timedelta(seconds=5)
    return challenge is not None and compose.asks_for(work, row, challenge) and challenge.expires_at > soon


def retry(work: Work, message_id: UUID) -> OutboxMessage:
    """Send a message that failed or was dropped once more: a notice, or a code that would still be accepted.

    Raises NotFound, Conflict for any other.
    """
    row = listing.hold(work, message_id)
    with audit.recording(work, Event.MESSAGE_REFUSED):
        sessions.must_last(work)  # whoever was waited for may have ended the caller
        if row is None:
            raise NotFound()
    before = row.state
    facts: dict[str, Any] = {"message_id": str(row.id), "kind": row.kind, "channel": row.channel, "before": before}
    late = row.expires_at is not None and row.expires_at <= work.now
    closed = row.kind.startswith(CODE) and not _still_wanted(work, row)
    if late or closed or not outbox.again(work, row):
        raise audit.refusal(work, Event.MESSAGE_REFUSED, refused=Conflict(), **whose.named(row), **facts)
    audit.record(work, Event.MESSAGE_RETRIED, **whose.named(row), **facts, after=row.state)
    return row
