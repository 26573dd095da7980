"""One person's codes and messages in the order of time, for whoever is asked why none arrived."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from typing_extensions import TypedDict

from app import errors
from app.core import timeline
from app.core.roles import Permission
from app.core.timeline import Happening
from app.models import AuditLog, OtpChallenge, OutboxMessage
from app.web import events, paging
from app.web.admin.deliveries import MessageReply, message
from app.web.admin.surface import admin
from app.web.admin.users import found
from app.web.events import AuditReply
from app.web.guards import MAY
from app.web.paging import Page
from app.web.present import instant, maybe
from app.work import Work


class AskedQuestion(TypedDict):
    id: str
    purpose: str
    channel: str
    destination: str
    state: str
    attempts: int
    max_attempts: int
    sends: int
    created_at: str
    last_sent_at: str
    expires_at: str
    used_at: str | None


class HappeningReply(TypedDict):
    id: str
    at: str
    kind: Literal["challenge", "message", "event"]
    challenge: AskedQuestion | None
    message: MessageReply | None
    event: AuditReply | None


class TimelineReply(TypedDict):
    items: list[HappeningReply]
    next_cursor: str | None


@admin.add("GET", "/users/<uuid:user_id>/timeline", query=Page, reply=TimelineReply,
           guard=MAY(Permission.DELIVERIES_READ), reads=True, refusals=(errors.NotFound,))  # fmt: skip
def show_timeline(work: Work, page: Page, user_id: UUID) -> Any:
    """Why a code did not arrive: what was asked of somebody, what was sent and by whom, what the provider said of it,
    right and wrong guesses, and refusals, newest first. Addresses are masked, and no code is shown."""
    user = found(work, user_id)
    return paging.answer(
        page,
        lambda limit, before: timeline.page(work, user.id, limit, before),
        lambda row: _happening(work, row),
    )


def _happening(work: Work, row: Happening) -> HappeningReply:
    reply: HappeningReply = {
        "id": str(row.id),
        "at": instant(row.at if isinstance(row, AuditLog) else row.created_at),
        "kind": "event",
        "challenge": None,
        "message": None,
        "event": None,
    }
    if isinstance(row, OtpChallenge):
        reply["kind"], reply["challenge"] = "challenge", _question(row, work.now)
    elif isinstance(row, OutboxMessage):
        reply["kind"], reply["message"] = "message", message(row)
    else:
        reply["event"] = events.audit(row)
    return reply


def _question(row: OtpChallenge, now: datetime) -> AskedQuestion:
    return {
        "id": str(row.id),
        "purpose": row.purpose,
        "channel": row.channel,
        "destination": row.shown,
        "state": _state(row, now),
        "attempts": row.attempts,
        "max_attempts": row.max_attempts,
        "sends": row.sends,
        "created_at": instant(row.created_at),
        "last_sent_at": instant(row.last_sent_at),
        "expires_at": instant(row.expires_at),
        "used_at": maybe(row.used_at),
    }


def _state(row: OtpChallenge, now: datetime) -> str:
    """How a question ended, in the order in which it can."""
    ends = {
        "answered": row.used_at is not None,
        "taken_back": row.void_at is not None,
        "used_up": row.attempts >= row.max_attempts,
        "expired": row.expires_at <= now,
    }
    return next((state for state, is_so in ends.items() if is_so), "open")
