"""Messages on their way, for administration. A code is never among what is shown."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from app import errors
from app.core.roles import Permission
from app.delivery import listing, outbox
from app.delivery.listing import Wanted
from app.flows import delivery
from app.models import OutboxMessage
from app.models.outbox import State
from app.web import paging
from app.web.admin.surface import admin
from app.web.fields import Channel, Word
from app.web.guards import MAY
from app.web.paging import Page
from app.web.present import instant, maybe
from app.work import Work


class DeliveriesQuery(Page):
    status: State | None = None
    channel: Channel | None = None
    provider: Word | None = None
    user_id: UUID | None = None


class MessageReply(TypedDict):
    id: str
    kind: str
    channel: str
    recipient: str
    country: str | None
    language: str
    status: str
    attempts: int
    provider: str | None
    last_error: str | None
    challenge_id: str | None
    user_id: str | None
    created_at: str
    next_attempt_at: str | None
    expires_at: str | None
    settled_at: str | None


class DeliveriesReply(TypedDict):
    items: list[MessageReply]
    next_cursor: str | None


@admin.add("GET", "/deliveries", query=DeliveriesQuery, reply=DeliveriesReply, guard=MAY(Permission.DELIVERIES_READ),
           reads=True)  # fmt: skip
def list_deliveries(work: Work, page: DeliveriesQuery) -> Any:
    """Messages, newest first, with how often each was tried and why it was not sent. Recipients are masked; of requests
    for addresses that are nobody's there is none."""
    wanted = Wanted(page.status, page.channel, page.provider, page.user_id)
    return paging.answer(page, lambda limit, before: listing.page(work, wanted, limit, before), message)


@admin.add("POST", "/deliveries/<uuid:message_id>/retry", reply=MessageReply,
           guard=MAY(Permission.DELIVERIES_WRITE, recent=True), repeatable=True,
           refusals=(errors.NotFound, errors.Conflict))  # fmt: skip
def retry_delivery(work: Work, message_id: UUID) -> Any:
    """Send a message that failed or was dropped once more. A code must still be open; after that, 409: let the person
    ask for another."""
    return message(delivery.retry(work, message_id))


def message(row: OutboxMessage) -> MessageReply:
    """A message without its code, to a masked address."""
    waits = row.state == State.QUEUED
    return {
        "id": str(row.id),
        "kind": row.kind,
        "channel": row.channel,
        "recipient": outbox.recipient(row).masked,
        "country": row.country,
        "language": row.language,
        "status": row.state,
        "attempts": row.attempts,
        "provider": row.provider,
        "last_error": row.last_error,
        "challenge_id": str(row.challenge_id) if row.challenge_id else None,
        "user_id": str(row.user_id) if row.user_id else None,
        "created_at": instant(row.created_at),
        "next_attempt_at": instant(row.next_attempt_at) if waits else None,
        "expires_at": maybe(row.expires_at),
        "settled_at": maybe(row.settled_at),
    }
