"""What one has agreed to: more of it, and taking it back."""

from __future__ import annotations

from uuid import UUID

from app.core import audit, consent
from app.core.audit import Event
from app.errors import NotFound
from app.models import Consent
from app.work import Work


def give(work: Work, *, terms: bool, privacy: bool, version: str) -> Consent:
    """Agree, to a new version for example. Earlier consents stay in the history."""
    assert work.caller.user_id is not None
    audit.record(work, Event.CONSENT_GIVEN, terms=terms, privacy=privacy, version=version)
    return consent.record(work, work.caller.user_id, consent.given(work, terms=terms, privacy=privacy, version=version))


def withdraw(work: Work, consent_id: UUID) -> Consent:
    """Take a consent back (GDPR art. 7.3). Raises NotFound for one that is not the caller's or was taken back."""
    assert work.caller.user_id is not None
    row = consent.withdraw(work, work.caller.user_id, consent_id)
    if row is None:
        raise audit.refusal(work, Event.CONSENT_REFUSED, None, NotFound())
    audit.record(work, Event.CONSENT_WITHDRAWN, version=row.version)
    return row
