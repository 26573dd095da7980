"""Second methods of one's own: authenticator apps, backup codes, remembered devices.

A changed factor ends every other session. A recovery of the password removes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.core import (
    accounts,
    audit,
    authenticators,
    backup_codes,
    challenges,
    credentials,
    factors,
    identifiers,
    lockout,
    passkeys,
    policy,
    trusted_devices,
)
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.passkeys import Ceremony
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import Conflict, InvalidCode, NotFound, ValidationFailed
from app.flows import proof
from app.models import Authenticator, Passkey, User
from app.work import Work


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An authenticator app that waits for its first code; the one moment in which its secret is seen."""

    authenticator: Authenticator
    secret: bytes
    account: str  # what the app shows beside the brand


def start_totp(work: Work, name: str) -> Enrolment:
    """Begin an authenticator app. It counts for nothing until its first code came. Raises Conflict if there are too
    many.
    """
    user = accounts.own(work, held=True)
    begun = authenticators.start(work, user.id, name)
    if begun is None:
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, Conflict(), type=policy.TOTP)
    audit.record(work, Event.FACTOR_STARTED, type=policy.TOTP)
    return Enrolment(*begun, user.email or user.username or user.phone or "")


def confirm_totp(work: Work, factor_id: UUID, code: str) -> list[str]:
    """Take an authenticator app into use with its first code. Returns backup codes if it is the user's first factor.

    Raises ValidationFailed, NotFound if there is none in setup or it had too many wrong codes, InvalidCode.
    """
    if not factors.has_form(code, policy.TOTP, 0):
        no_code = ValidationFailed.field("otp", "invalid_format", "The code is 6 digits.")
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, no_code, type=policy.TOTP)
    user = _held(work)
    row = authenticators.in_setup(work, user.id, factor_id)
    if row is None:
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, NotFound(), type=policy.TOTP)
    left = authenticators.confirm(work, row, code)
    if left is not None:
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, InvalidCode(attempts_left=left), type=policy.TOTP)
    return added(work, user, policy.TOTP)


def _held(work: Work) -> User:
    """The caller's row and what a changed factor ends, locked. Raises TokenRevoked as `accounts.own`."""
    credentials.hold(work, accounts.own(work).id)
    return accounts.own(work, held=True)


def start_passkey(work: Work, name: str) -> Ceremony:
    """Ask the caller's browser for a passkey. Raises NotFound where there are none, Conflict if there are too many."""
    user = accounts.own(work)
    if not passkeys.are_on(work):
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, NotFound(), type=policy.PASSKEY)
    if not passkeys.has_room(work, user.id):
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, Conflict(), type=policy.PASSKEY)
    question = Question(
        Purpose.NEW_PASSKEY,
        None,
        lockout.key(identifiers.of_user(user)[0]),
        asks=policy.PASSKEY,
        user_id=user.id,
        session_id=work.caller.session_id,
        shown=name,
        language=user.language,
    )
    challenge = challenges.issue(work, question)
    audit.record(work, Event.FACTOR_STARTED, type=policy.PASSKEY)
    return passkeys.making(work, challenge, user)


def confirm_passkey(
    work: Work, challenge_id: UUID, given: dict[str, Any], name: str | None
) -> tuple[Passkey, list[str]]:
    """Bind what the browser got, and give backup codes if it is the user's first factor.

    Raises NotFound where there are no passkeys, ChallengeClosed, InvalidCode, Conflict.
    """
    if not passkeys.are_on(work):
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, NotFound(), type=policy.PASSKEY)
    passkey = proof.check_new_passkey(work, challenge_id, given)
    user = _held(work)
    if not passkeys.bind(work, passkey, name):  # somebody else did, a moment ago
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, Conflict(), type=policy.PASSKEY)
    return passkey, added(work, user, policy.PASSKEY)


def rename(work: Work, factor_id: UUID, name: str) -> None:
    """Call one of the caller's factors otherwise. Raises NotFound."""
    user = accounts.own(work)
    kind = factors.rename(work, user.id, factor_id, name)
    if kind is None:
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, NotFound())
    audit.record(work, Event.FACTOR_RENAMED, type=kind)


def added(work: Work, user: User, kind: str) -> list[str]:
    """What follows a new factor of any kind, the user's row being held. Returns backup codes if it is the first."""
    codes = [] if user.mfa else backup_codes.make(work, user.id)
    factors.note(work, user)
    _changed(work, user, Event.FACTOR_ADDED, Notice.FACTOR_ADDED, kind)
    return codes


def remove(work: Work, factor_id: UUID) -> None:
    """Take a factor away, and with the last one the backup codes. Raises NotFound."""
    user = _held(work)
    kind = factors.remove(work, user, factor_id)
    if kind is None:
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, NotFound())
    _changed(work, user, Event.FACTOR_REMOVED, Notice.FACTOR_REMOVED, kind)


def _changed(work: Work, user: User, event: Event, notice: Notice, kind: str) -> None:
    ended = credentials.changed(work, user.id, "factor_changed", keep=work.caller.session_id)
    outbox.tell(work, user, notice, type=kind)
    audit.record(work, event, type=kind, sessions_ended=ended)


def renew_backup_codes(work: Work) -> list[str]:
    """Ten new backup codes; the old ones are void. Raises Conflict for a user without a factor that they could stand
    in for.
    """
    user = _held(work)
    if not user.mfa:
        raise audit.refusal(work, Event.FACTOR_REFUSED, None, Conflict(), type=policy.BACKUP_CODE)
    codes = backup_codes.make(work, user.id)
    factors.note(work, user)
    ended = credentials.changed(work, user.id, "factor_changed", keep=work.caller.session_id)
    outbox.tell(work, user, Notice.BACKUP_CODES_MADE)
    audit.record(work, Event.BACKUP_CODES_MADE, sessions_ended=ended)
    return codes


def forget_device(work: Work, device_id: UUID) -> None:
    """Ask for the code again on a remembered device. Raises NotFound for one that is not the caller's."""
    user = accounts.own(work)
    if not trusted_devices.forget(work, user.id, device_id):
        raise audit.refusal(work, Event.TRUSTED_DEVICE_REFUSED, None, NotFound())
    audit.record(work, Event.TRUSTED_DEVICE_FORGOTTEN, count=1)


def forget_devices(work: Work) -> int:
    """Ask for the code again everywhere. Returns how many devices were remembered."""
    user = accounts.own(work)
    trusted_devices.hold_all(work, user.id)  # in their order, as `credentials.hold` does
    count = trusted_devices.forget_all(work, user.id)
    audit.record(work, Event.TRUSTED_DEVICE_FORGOTTEN, count=count)
    return count
