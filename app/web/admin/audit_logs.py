"""The audit log, for people who look into something."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from app import errors
from app.core import trail
from app.core.roles import Permission
from app.core.trail import Filters
from app.flows import records
from app.web import audit_export, events, guards, paging
from app.web.admin.surface import admin
from app.web.events import AuditPage
from app.web.fields import Address, Moment
from app.web.guards import MAY
from app.web.paging import Page
from app.web.streamed import CSV, NDJSON, Streamed
from app.work import Work


class AuditQuery(Page):
    event: Annotated[str, Field(pattern="^[a-z_]+[.][a-z_]+$", max_length=40)] | None = None
    user_id: Annotated[UUID, Field(description="whom, or which device, it happened to")] | None = None
    actor_id: Annotated[UUID, Field(description="who did it: a user, or an API key")] | None = None
    ip: Address | None = None
    success: bool | None = None
    since: Annotated[Moment | None, Field(alias="from", description="from this time on")] = None
    until: Annotated[Moment | None, Field(alias="to", description="before this time")] = None
    format: Annotated[
        Literal["ndjson", "csv"] | None, Field(description="all rows in a file, oldest first; `limit` is not asked")
    ] = None

    @property
    def filters(self) -> Filters:
        return Filters(self.event, self.user_id, self.actor_id, self.ip, self.success, self.since, self.until)


@admin.add("GET", "/audit-logs", query=AuditQuery, reply=AuditPage, guard=MAY(Permission.AUDIT_READ),
           streams=(NDJSON, CSV), refusals=(errors.InsufficientUserAuthentication,))  # fmt: skip
def list_audit_logs(work: Work, query: AuditQuery) -> Any:
    """What happened, newest first. With `format` all of it as a file, which asks for a recent sign-in and is itself
    recorded: it goes as far as that row, and is cut off where the session ends meanwhile. In CSV, cells that a
    spreadsheet would run have an apostrophe before them."""
    if query.format:
        return _export(work, query.filters, query.format)
    return paging.answer(query, lambda limit, before: trail.page(work, query.filters, limit, before), events.audit)


def _export(work: Work, which: Filters, kind: str) -> Streamed:
    guards.need_recent(work, work.caller.auth_time)
    fixed = records.note_export(work, which, kind)
    chunks = audit_export.chunks(work.kit, fixed, kind, work.caller)
    return Streamed(audit_export.MEDIA[kind], f"audit-logs.{kind}", chunks)
