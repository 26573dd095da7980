"""What stands behind one person: sessions, and what happened to them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app import errors
from app.core import sessions, trail
from app.core.roles import Permission
from app.core.trail import Filters
from app.web import events, paging, present
from app.web.admin.surface import admin
from app.web.admin.users import found
from app.web.events import AuditPage
from app.web.guards import MAY
from app.web.paging import Page
from app.web.present import SessionsReply
from app.work import Work


@admin.add("GET", "/users/<uuid:user_id>/sessions", query=Page, reply=SessionsReply, guard=MAY(Permission.USERS_READ),
           reads=True, refusals=(errors.NotFound,))  # fmt: skip
def list_user_sessions(work: Work, page: Page, user_id: UUID) -> Any:
    """Where somebody is signed in, newest first. `current` is true for the session that asks."""
    user = found(work, user_id)
    return paging.answer(
        page,
        lambda limit, before: sessions.page_of_user(work, user.id, limit, before),
        lambda row: present.session(work, row),
    )


@admin.add("GET", "/users/<uuid:user_id>/audit-logs", query=Page, reply=AuditPage, guard=MAY(Permission.AUDIT_READ),
           reads=True)  # fmt: skip
def list_user_audit(work: Work, page: Page, user_id: UUID) -> Any:
    """What happened to somebody, newest first; also to one whose account is gone, without the person."""
    which = Filters(user_id=user_id)
    return paging.answer(page, lambda limit, before: trail.page(work, which, limit, before), events.audit)
