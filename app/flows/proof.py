"""Proof by code or password: the answer to a challenge, settled and burned. The only engine for every purpose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from app.core import (
    accounts,
    audit,
    backup_codes,
    basis,
    challenges,
    factors,
    lockout,
    locks,
    passkeys,
    passwords,
    policy,
    sends,
)
from app.core.audit import Event
from app.core.challenges import Outcome, Purpose
from app.core.identifiers import Identifier
from app.core.lockout import Budget
from app.delivery import outbox, tally
from app.delivery.outbox import Notice
from app.errors import (
    AccountLocked,
    ChallengeClosed,
    Conflict,
    InvalidCode,
    InvalidCredentials,
    Refusal,
    ValidationFailed,
)
from app.flows import asking
from app.models import OtpChallenge, Passkey, User
from app.work import Work

Given = str | dict[str, Any]  # a code, or what an authenticator has signed


@dataclass(frozen=True, slots=True)
class Proven:
    """A right answer, burned."""

    challenge: OtpChallenge
    budget: Budget
    method: str

    @property
    def destination(self) -> Identifier:
        return challenges.destination(self.challenge)


def check(
    work: Work,
    asked: UUID | OtpChallenge | None,
    code: str,
    fits: Callable[[OtpChallenge], bool],
    accept: Callable[[OtpChallenge], None] = lambda _: None,
    *,
    holder: bool = True,
) -> Proven:
    """Settle a guess and, if it is right, burn the challenge `asked`: by its id, or as it was read in this unit.

    `holder`: whether the caller has the challenge itself; whoever names an identifier alone leaves its last guess to
    the holder, and the one that a lock leaves. `fits`: whether this route may answer it; one made for another purpose
    loses an attempt and is closed here. `accept`: called with the challenge of a right code before it is burned; what
    it refuses costs an attempt, not the code. Raises ValidationFailed, ChallengeClosed, AccountLocked, InvalidCode.
    """
    if not re.fullmatch(rf"[0-9]{{{work.settings.otp_length}}}", code, re.ASCII):
        message = f"The code is {work.settings.otp_length} digits."
        raise audit.refusal(work, Event.CODE_REFUSED, None, ValidationFailed.field("otp", "invalid_format", message))
    row = _asked(work, asked, fits)
    right = challenges.is_right(work, row, code)
    recovered = row.user if right and row.purpose == Purpose.RECOVERY else None
    forgiven = lockout.keys_of(recovered) if recovered else ()
    return _settle(work, row, lambda _: right, row.channel, accept=accept, holder=holder, beside=forgiven)


def check_any(
    work: Work,
    challenge_id: UUID | None,
    code: Given,
    fits: Callable[[OtpChallenge], bool],
    method: str | None = None,
    *,
    holder: bool = True,
) -> Proven:
    """Settle an answer by any method that a sign-in or step-up takes: a code that was sent, an app's, a backup code, or
    what a passkey signed.

    `method`: which it is; without it, the form of the code and what the challenge asks for first tell. A right code of
    a factor is used up with the challenge, under the locks of its budget. Raises as `check` does.
    """
    if not isinstance(code, str):
        row = _asked(work, challenge_id, fits)
        return _settle(work, row, partial(_used, work, row, policy.PASSKEY, code), policy.PASSKEY, holder=holder)
    if not factors.has_form(code, method, work.settings.otp_length):
        no_code = ValidationFailed.field("otp", "invalid_format", "This cannot be a code.")
        raise audit.refusal(work, Event.CODE_REFUSED, None, no_code)
    row = _asked(work, challenge_id, fits)
    chosen = method or (policy.BACKUP_CODE if backup_codes.is_one(code) else _asks(row))
    if chosen in policy.CONTACTS:
        sent = challenges.goes_out(row) and challenges.is_right(work, row, code)
        return _settle(work, row, lambda _: sent, row.channel, holder=holder)
    proven = _settle(work, row, partial(_used, work, row, chosen, code), chosen, holder=holder)
    if chosen == policy.BACKUP_CODE and row.user:
        _tell_of_backup_code(work, row.user)
    return proven


def _asks(row: OtpChallenge) -> str:
    """The method of digits that came without its name."""
    return row.channel if challenges.goes_out(row) else policy.TOTP


def _used(work: Work, row: OtpChallenge, method: str, given: Given, cap: int | None) -> bool:
    """True if it is of a factor that may answer this, and now it is used. What is closed uses none up."""
    current = challenges.hold(work, row.id, cap)
    if current is None or current.user is None or not basis.stands(work, current):
        return False
    if method not in asking.methods_of(current, current.user):
        return False
    if isinstance(given, str):
        return factors.use(work, current.user, method, given)
    passkey = passkeys.find(work, given)
    return passkey is not None and passkeys.use(work, current, passkey, given)


def _tell_of_backup_code(work: Work, user: User) -> None:
    left = backup_codes.left(work, user.id)
    outbox.tell(work, user, Notice.BACKUP_CODE_USED, left=left)
    audit.record(work, Event.BACKUP_CODE_USED, user_id=user.id, left=left)


def check_discovered(work: Work, challenge_id: UUID, given: dict[str, Any]) -> User:
    """Settle an answer to a challenge that was put to nobody in particular, and say whose passkey it is from. No budget
    of guesses is asked: there is nothing to guess, and a lock would only let strangers close this way in.

    Raises ChallengeClosed, InvalidCredentials for whatever is not right, a disabled account among it.
    """
    row = _asked(work, challenge_id, lambda row: row.purpose == Purpose.PASSKEY)
    passkey = passkeys.find(work, given)
    user = accounts.by_id(work, passkey.user_id) if passkey else None

    def opens(cap: int | None) -> bool:
        can = challenges.hold(work, row.id, cap) is not None
        return can and passkey is not None and passkeys.use(work, row, passkey, given)

    active = user is not None and locks.may_enter(user, work.now)
    _settle(work, row, lambda cap: active and opens(cap), policy.PASSKEY, wrong=InvalidCredentials, guessed=False)
    assert user is not None
    return user


def check_new_passkey(work: Work, challenge_id: UUID, given: dict[str, Any]) -> Passkey:
    """Settle what an authenticator made for the caller in this session. Raises ChallengeClosed, InvalidCode; Conflict
    for a credential that is somebody's already, and for one too many.
    """
    mine = (Purpose.NEW_PASSKEY, work.caller.session_id)
    row = _asked(work, challenge_id, lambda row: (row.purpose, row.session_id) == mine)
    made = passkeys.made(work, row, given)

    def accept(_: OtpChallenge) -> None:
        if made and not passkeys.can_bind(work, made):
            raise Conflict()

    _settle(work, row, lambda _: made is not None, policy.PASSKEY, accept=accept, guessed=False)
    assert made is not None
    return made


def check_password(work: Work, challenge_id: UUID, password: str) -> Proven:
    """Settle a guess at the password that policy asks after a code, and burn the challenge if it is right.

    Raises ChallengeClosed, AccountLocked, InvalidCredentials, Overloaded.
    """
    row = _asked(work, challenge_id, lambda row: row.channel == policy.PASSWORD)
    if not challenges.is_open(work, row):
        raise asking.refusal(work, row, ChallengeClosed())
    stored = row.user.password_hash if row.user else None
    right = passwords.matches(work, stored, password)
    challenges.find(work, row.id)  # as it is now: hashing took a while
    sending = sends.keys_of(accounts.contacts(row.user)) if row.user else ()
    proven = _settle(work, row, lambda _: right, policy.PASSWORD, wrong=InvalidCredentials, beside=sending)
    if row.user:
        passwords.renew(work, row.user, password)
    return proven


def _asked(work: Work, asked: UUID | OtpChallenge | None, fits: Callable[[OtpChallenge], bool]) -> OtpChallenge:
    row = challenges.find(work, asked) if isinstance(asked, UUID) else asked
    if row is None:
        raise asking.refusal(work, None, ChallengeClosed())
    if not fits(row):
        challenges.answer(work, row, False)
        raise asking.refusal(work, row, ChallengeClosed())
    return row


def _settle(
    work: Work,
    row: OtpChallenge,
    is_right: Callable[[int | None], bool],
    method: str,
    *,
    accept: Callable[[OtpChallenge], None] = lambda _: None,
    wrong: type[Refusal] = InvalidCode,
    holder: bool = True,
    guessed: bool = True,
    beside: Iterable[str] = (),
) -> Proven:
    """`beside`: other throttles to lock with the budget's."""
    budget = _budget(work, row, beside) if guessed else lockout.unbounded(work)
    spared = holder and _is_spared(row, budget)
    if budget.wait and not spared:
        raise asking.refusal(work, row, AccountLocked(retry_after=budget.wait))
    # A lock that shows closes after the one guess; a silent one makes each later guess wrong, and shows nothing.
    cap = 1 if spared and budget.wait else None if holder else row.max_attempts - 1
    refused = budget.silent or (_is_alone(row) and budget.stopped)
    right = (spared or not refused) and is_right(1 if spared else cap)
    # To hold reads the user anew, whose password or address may be another since the budget was waited for.
    right = right and (not spared or challenges.hold(work, row.id, 1) is not None) and basis.stands(work, row)
    objection = _objection(accept, row) if right else None
    outcome = challenges.answer(work, row, right, burn=objection is None, cap=cap)
    if outcome is Outcome.CLOSED:
        raise _closed(work, row, budget)
    if outcome is Outcome.WRONG:
        lockout.count_wrong(work, budget)
        raise asking.refusal(work, row, wrong(attempts_left=challenges.attempts_left(work, row)))
    if objection:
        raise asking.refusal(work, row, objection)
    tally.note_proof(work, row, method)
    return Proven(row, budget, method)


def _budget(work: Work, row: OtpChallenge, beside: Iterable[str]) -> Budget:
    if row.purpose == Purpose.STEP_UP and row.user_id:
        return lockout.hold_signed_in(work, row.user_id, beside=beside)
    # A new address has no account yet: counted at the asker's, a guess would tell that nobody else has it.
    about = None if row.asked_by else challenges.subject(row)
    is_account = about is not None and about == row.user_id
    rebinding = row.purpose == Purpose.RECOVERY or _is_alone(row)
    return lockout.hold(work, row.budget_key, about, is_account=is_account, rebinding=rebinding, beside=beside)


def _closed(work: Work, row: OtpChallenge, budget: Budget) -> Refusal:
    if challenges.find(work, row.id) is None:  # its subject was erased meanwhile, and is nobody now
        return asking.refusal(work, None, ChallengeClosed())
    is_locked = budget.wait and challenges.is_open(work, row)
    return asking.refusal(work, row, AccountLocked(retry_after=budget.wait) if is_locked else ChallengeClosed())


def _is_alone(row: OtpChallenge) -> bool:
    """True for a code to a number that has no password beside it, or no account, and for the factor that is asked after
    it: they are what binds the number again.
    """
    return row.purpose in (Purpose.PHONE, Purpose.FACTOR) and not (row.user and row.user.password_hash)


def _is_spared(row: OtpChallenge, budget: Budget) -> bool:
    """True if a budget that is spent leaves this challenge its first guess, or a stranger could keep the owner from the
    way back: each recovery and, after a hundred wrong guesses in a row, each answer for a number alone.
    """
    if row.purpose == Purpose.RECOVERY:
        return bool(budget.wait or budget.silent)
    return _is_alone(row) and budget.stopped and not (budget.wait or budget.silent)


def _objection(accept: Callable[[OtpChallenge], None], row: OtpChallenge) -> Refusal | None:
    try:
        accept(row)
    except Refusal as objection:
        return objection
    return None
