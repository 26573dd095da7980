"""The API keys of servers: made and revoked by administration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.core import api_keys, audit, sessions
from app.core.api_keys import Scope
from app.core.audit import Event
from app.errors import NotFound, ValidationFailed
from app.models import ApiKey
from app.work import Work


def create(work: Work, name: str, scopes: Sequence[Scope], expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """A key that may do what it is told, until then. The key itself is returned here and never again.

    Raises ValidationFailed without a scope, and for an end that has passed.
    """
    with audit.recording(work, Event.KEY_REFUSED):
        if not scopes:
            raise ValidationFailed.field("scopes", "required", f"One or more of {', '.join(Scope)}.")
        if expires_at and expires_at <= work.now:
            raise ValidationFailed.field("expires_at", "past", "This has passed.")
    row, key = api_keys.make(work, name, scopes, expires_at=expires_at, created_by=work.caller.user_id)
    after = {"scopes": row.scopes.split(), "expires_at": expires_at.isoformat() if expires_at else None}
    audit.record(work, Event.KEY_CREATED, row.prefix, user_id=row.id, before=None, after=after)
    return row, key


def revoke(work: Work, key_id: UUID) -> None:
    """End a key at once, in every process. Again is as good as once. Raises NotFound."""
    row = api_keys.hold(work, key_id)
    with audit.recording(work, Event.KEY_REFUSED):
        sessions.must_last(work)  # whoever was waited for may have ended the caller
        if row is None:
            raise NotFound()
    if api_keys.revoke(work, key_id):
        before, after = {"revoked": False}, {"revoked": True}
        audit.record(work, Event.KEY_REVOKED, row.prefix, user_id=row.id, before=before, after=after)
