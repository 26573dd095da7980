"""The audit log: one row for every act and every refusal, in the transaction of the act itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import bindparam, func, insert, literal, select, update

from app import figures
from app.core import signatures
from app.crypto.ids import NOBODY, uuid7
from app.errors import Refusal
from app.models import AuditLog, Signup, User
from app.work import Work

FORGOTTEN_AT_ONCE = 5000  # rows in one statement

R = TypeVar("R", bound=Refusal)


class Event(StrEnum):
    """`noun.verb`. Beside each name: the facts that may stand in its row (nothing else is written)."""

    facts: frozenset[str]

    def __new__(cls, value: str, *facts: str) -> Event:
        member = str.__new__(cls, value)
        member._value_ = value
        member.facts = frozenset(facts)
        return member

    REQUEST_REFUSED = "request.refused", "route", "target"
    SIGNUP_STARTED = "signup.started", "channel", "decoy"
    SIGNUP_REFUSED = "signup.refused"
    SIGNUP_COMPLETED = "signup.completed", "channel", "password"
    SIGNUP_ERASED = "signup.erased"
    SIGNIN_STARTED = "signin.started", "channel"
    SIGNIN_REFUSED = "signin.refused"
    NUMBER_PROVEN = "number.proven"
    SIGNIN_COMPLETED = "signin.completed", "amr", "new_client"
    CODE_SENT_AGAIN = "code.sent_again", "purpose", "channel"
    CODE_REFUSED = "code.refused", "purpose", "attempts_left"
    RECOVERY_STARTED = "recovery.started", "channel", "decoy"
    RECOVERY_PROVEN = "recovery.proven"
    RECOVERY_REFUSED = "recovery.refused"
    RECOVERY_COMPLETED = "recovery.completed", "sessions_ended"
    STEP_UP_STARTED = "step_up.started", "channel"
    STEP_UP_REFUSED = "step_up.refused"
    STEP_UP_COMPLETED = "step_up.completed", "method"
    FACTOR_STARTED = "factor.started", "type"
    FACTOR_ADDED = "factor.added", "type", "sessions_ended"
    FACTOR_REMOVED = "factor.removed", "type", "sessions_ended"
    FACTOR_RENAMED = "factor.renamed", "type"
    FACTOR_REFUSED = "factor.refused", "type"
    BACKUP_CODES_MADE = "backup_codes.made", "sessions_ended"
    BACKUP_CODE_USED = "backup_code.used", "left"
    TRUSTED_DEVICE_ADDED = "trusted_device.added"
    TRUSTED_DEVICE_FORGOTTEN = "trusted_device.forgotten", "count"
    TRUSTED_DEVICE_REFUSED = "trusted_device.refused"
    SESSION_REFRESHED = "session.refreshed", "repeated"
    SESSION_REFUSED = "session.refused"
    TOKEN_EXCHANGED = "token.exchanged", "audience"
    SESSION_ENDED = "session.ended", "why", "count"
    PASSWORD_CHANGED = "password.changed", "sessions_ended"
    PASSWORD_REFUSED = "password.refused"  # noqa: S105 (the name of an event)
    CONTACT_CHANGE_STARTED = "contact.change_started", "channel", "decoy"
    CONTACT_CHANGED = "contact.changed", "channel", "sessions_ended"
    CONTACT_REFUSED = "contact.refused"
    ACCOUNT_CHANGED = "account.changed", "fields"
    ACCOUNT_REFUSED = "account.refused"
    ACCOUNT_EXPORTED = "account.exported"
    ACCOUNT_IMPORTED = "account.imported", "format", "role"
    CONSENT_GIVEN = "consent.given", "terms", "privacy", "version"
    CONSENT_WITHDRAWN = "consent.withdrawn", "version"
    CONSENT_REFUSED = "consent.refused"
    ACCOUNT_ERASED = "account.erased"
    USER_CREATED = "user.created", "before", "after"
    USER_CHANGED = "user.changed", "before", "after", "sessions_ended"
    USER_LOCKED = "user.locked", "before", "after", "sessions_ended"
    USER_UNLOCKED = "user.unlocked", "before", "after"
    USER_SIGNED_OUT = "user.signed_out", "before", "after"
    USER_SENT_RESET = "user.sent_reset", "before", "after"
    USER_FACTORS_RESET = "user.factors_reset", "before", "after", "sessions_ended"
    USER_DELETED = "user.deleted", "before", "after"
    USER_REFUSED = "user.refused", "act"
    KEY_CREATED = "key.created", "before", "after"
    KEY_REVOKED = "key.revoked", "before", "after"
    KEY_REFUSED = "key.refused"
    MESSAGE_RETRIED = "message.retried", "message_id", "kind", "channel", "before", "after"
    MESSAGE_REFUSED = "message.refused", "message_id", "kind", "channel", "before"
    DEVICE_REGISTERED = "device.registered", "version"
    DEVICE_REFUSED = "device.refused"
    DEVICE_VERIFIED = "device.verified"
    DEVICE_CODE_REFUSED = "device.code_refused"
    DEVICE_DEACTIVATED = "device.deactivated"
    DEVICE_REACTIVATED = "device.reactivated"
    DEVICE_KEY_ROTATED = "device.key_rotated", "version"
    MESSAGE_DROPPED = "message.dropped", "kind", "channel", "why"
    SHIELD_CLOSED = "shield.closed", "country", "sent", "verified", "until"
    SHIELD_SHADOWED = "shield.shadowed", "why"
    IDENTIFIER_LOCKED = "identifier.locked", "until"
    AUDIT_PURGED = "audit.purged", "before", "first", "last", "rows"
    KEYS_ROTATED = "keys.rotated", "key", "rows"
    AUDIT_EXPORTED = "audit.exported", "format", "filters"


_OF_EACH = [select(func.count()).where(kind.id == bindparam("id")).scalar_subquery() for kind in (User, Signup)]
KNOWN = select(sum(_OF_EACH, literal(0)))  # both are asked, whichever knows the id
OF_DEVICES = "device."  # events about what is nobody, and is never erased
ERASURES = (Event.ACCOUNT_ERASED, Event.SIGNUP_ERASED, Event.USER_DELETED)  # what alone takes the person out of rows


def record(
    work: Work,
    event: Event,
    subject: str | None = None,
    *,
    user_id: UUID | None = None,
    session_id: UUID | None = None,
    reason: str | None = None,
    **facts: Any,
) -> None:
    """Write one row. `subject` is a masked identifier. Raises ValueError for a fact that the event does not list."""
    values = _values(work, event, user_id, reason, facts) | {"subject": subject}
    if reason and not event.startswith(OF_DEVICES) and not _may_be_named(work, values["user_id"]):
        values |= dict.fromkeys(signatures.PERSONAL)
    if session_id:
        values["session_id"] = session_id
    work.insert(AuditLog, signatures.signed(work.kit.keys, values))
    work.count(figures.EVENTS, event.value)


def _may_be_named(work: Work, whom: UUID | None) -> bool:
    """False for the id of somebody who is not stored any more: who was erased is not named in the log again. What is
    refused may have begun long before; what is done has the row in hand. For nobody the same work is done.
    """
    known = work.db.scalar(KNOWN, {"id": whom or NOBODY})
    return whom is None or bool(known)


def record_each(work: Work, event: Event, about: Mapping[UUID, dict[str, Any]]) -> None:
    """Write a row about each of many users, in one statement. `about`: the facts by user. Raises as `record` does."""
    if about:
        each = (_values(work, event, user_id, None, facts) for user_id, facts in about.items())
        rows = [signatures.signed(work.kit.keys, values) for values in each]
        work.begin_writing()
        work.db.execute(insert(AuditLog), rows)
        work.count(figures.EVENTS, event.value, by=len(rows))


def _values(
    work: Work, event: Event, user_id: UUID | None, reason: str | None, facts: dict[str, Any]
) -> dict[str, Any]:
    if not event.facts.issuperset(facts):
        raise ValueError(f"{event} may not hold {sorted(facts.keys() - event.facts)}")
    return {
        "id": uuid7(work.now),
        "at": work.now,
        "event": event.value,
        "success": reason is None,
        "reason": reason,
        "user_id": user_id or work.caller.user_id,
        "actor_id": work.caller.user_id or work.caller.key_id,
        "session_id": work.caller.session_id,
        "ip": work.client.address,
        "user_agent": work.client.user_agent,
        "request_id": work.client.request_id,
        "facts": facts,
    }


def refusal(
    work: Work, event: Event, subject: str | None, refused: R, *, user_id: UUID | None = None, **facts: Any
) -> R:
    """Write the row of a refusal and hand it back: `raise audit.refusal(...)` lets none go unrecorded."""
    record(work, event, subject, user_id=user_id, reason=refused.code, **facts)
    refused.audited = True
    return refused


@contextmanager
def recording(
    work: Work, event: Event, subject: str | None = None, *, user_id: UUID | None = None, **facts: Any
) -> Iterator[None]:
    """What is refused inside gets its row, if it has none yet."""
    try:
        yield
    except Refusal as refused:
        if refused.audited:
            raise
        raise refusal(work, event, subject, refused, user_id=user_id, **facts) from None


def forget_person(work: Work, *ids: UUID) -> None:
    """Take the person out of the rows of their account and sign-ups: address, client and network go, the act stays, and
    so does its seal. Some rows at a time: strangers write rows about an account, and no statement may last too long.
    """
    work.db.flush()
    blank = dict.fromkeys((*signatures.PERSONAL, "salt"))
    for each in ids:
        rest = [AuditLog.user_id == each]
        while True:
            later = select(AuditLog.at).where(*rest).order_by(AuditLog.at).offset(FORGOTTEN_AT_ONCE - 1).limit(1)
            until = work.db.scalar(later)
            work.db.execute(update(AuditLog).where(*rest, *([AuditLog.at <= until] if until else [])).values(blank))
            if until is None:
                break
            rest = [AuditLog.user_id == each, AuditLog.at > until]
