"""Audit rows as clients get them: of a device to its server, of people to administration."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from app.models import AuditLog
from app.web.present import instant


class EventReply(TypedDict):
    id: str
    at: str
    event: str
    success: bool
    reason: str | None
    actor_id: str | None
    ip: str | None
    request_id: str | None
    facts: dict[str, Any]


class AuditReply(EventReply):
    user_id: str | None
    session_id: str | None
    subject: str | None
    user_agent: str | None


class AuditPage(TypedDict):
    items: list[AuditReply]
    next_cursor: str | None


def event(row: AuditLog) -> EventReply:
    return {
        "id": str(row.id),
        "at": instant(row.at),
        "event": row.event,
        "success": row.success,
        "reason": row.reason,
        "actor_id": str(row.actor_id) if row.actor_id else None,
        "ip": row.ip,
        "request_id": row.request_id,
        "facts": row.facts,
    }


def audit(row: AuditLog) -> AuditReply:
    return {
        **event(row),
        "user_id": str(row.user_id) if row.user_id else None,
        "session_id": str(row.session_id) if row.session_id else None,
        "subject": row.subject,
        "user_agent": row.user_agent,
    }
