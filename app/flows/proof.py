"""Proof by code: ask for one, send it again, check it. The only engine for codes, for every purpose."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from app.core import accounts, audit, challenges, lockout, passwords, policy, sends, sessions, signups
from app.core.audit import Event
from app.core.challenges import Outcome, Purpose, Question
from app.core.identifiers import Identifier, Kind
from app.core.lockout import Budget
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import (
    AccountLocked,
    ChallengeClosed,
    InvalidCode,
    InvalidCredentials,
    RateLimited,
    Refusal,
    ResendTooSoon,
    ValidationFailed,
)
from app.models import OtpChallenge, User
from app.work import Work


@dataclass(frozen=True, slots=True)
class Proven:
    """A right answer, burned."""

    challenge: OtpChallenge
    budget: Budget

    @property
    def destination(self) -> Identifier:
        return challenges.destination(self.challenge)


def ask_leave(work: Work, event: Event, typed: Identifier, to: Identifier | None = None) -> None:
    """Take one message from the budget of what was typed, before anything else is changed. `to`: where the message
    goes, if that is another address. Raises RateLimited.
    """
    wait = sends.ask(work, typed, to)
    if wait:
        raise audit.refusal(work, event, typed.masked, RateLimited(retry_after=wait))


def ask_in_turn(work: Work, question: Question, event: Event) -> OtpChallenge:
    """Ask somebody who has proven something already: if the destination's budget is spent for this minute, the
    code waits its turn rather than being refused. Raises RateLimited if its turn would come too late.
    """
    destination = question.destination
    wait = sends.charge(work, destination)
    if wait >= challenges.life(work, question).total_seconds():
        late = RateLimited(retry_after=wait)
        raise audit.refusal(work, event, destination.masked, late, user_id=question.user_id)
    challenge = challenges.issue(work, question)
    outbox.code(work, challenge, wait)
    return challenge


def ask(
    work: Work, question: Question, owner: User | None = None, warning: Notice | None = None, *, invited: bool = False
) -> OtpChallenge:
    """Store the question and queue its code; over the destination's budget it waits its turn, perhaps in vain, and
    nothing tells. The caller has taken leave (`ask_leave`).

    If the destination is an account's already (`owner`), the question is a decoy that no code answers, and
    the owner gets `warning` in place of the code.
    """
    wait = sends.charge(work, question.destination, invited=invited)
    if owner is None or warning is None:
        challenge = challenges.issue(work, question)
        outbox.code(work, challenge, wait)
        return challenge
    challenge = challenges.issue(work, replace(question, user_id=None, signup_id=None))
    outbox.warn(work, warning, owner, challenge, wait)
    return challenge


def ask_silently(work: Work, question: Question) -> OtpChallenge:
    """Store a question that no message carries: what is asked, the person knows or has. No code answers it."""
    return challenges.issue(work, replace(question, purpose=Purpose.FACTOR))


def ask_contact(work: Work, user_id: UUID, session_id: UUID, address: Identifier) -> OtpChallenge:
    """Ask for the proof of an address that shall become the user's. The caller has taken leave."""
    purpose = Purpose.CHANGE_PHONE if address.kind is Kind.PHONE else Purpose.CHANGE_EMAIL
    question = Question(
        purpose, address, lockout.key(address), user_id=user_id, asked_by=user_id, session_id=session_id
    )
    owner = accounts.by_identifier(work, address)
    challenge = ask(work, question, owner, Notice.CHANGE_TRIED)
    audit.record(
        work, Event.CONTACT_CHANGE_STARTED, address.masked,
        user_id=user_id, channel=challenge.channel, decoy=owner is not None,
    )  # fmt: skip
    return challenge


def ask_again(work: Work, challenge_id: UUID | None, channel: str | None = None) -> OtpChallenge:
    """Send the code of an open challenge again: the same digits while it lives, so the first to arrive works.

    In a sign-in, with another `channel`, to the person's other address. Raises ChallengeClosed, ResendTooSoon,
    RateLimited.
    """
    row = challenges.find(work, challenge_id) if challenge_id else None
    if row is None or not challenges.is_open(work, row) or row.purpose == Purpose.FACTOR:
        raise _refused(work, row, ChallengeClosed())
    wait = challenges.resend_in(work, row)
    if wait:
        raise _refused(work, row, ResendTooSoon(retry_after=wait))
    if row.sends >= challenges.MAX_SENDS:
        left = int((row.expires_at - work.now).total_seconds()) + 1
        raise _refused(work, row, RateLimited(retry_after=left))
    return _send_again(work, row, _other(row, channel) or challenges.destination(row), paced=True)


def repeat(work: Work, row: OtpChallenge) -> OtpChallenge:
    """Send the code of an open challenge again for somebody who has taken leave (`ask_leave`), which is pace enough.

    Raises ChallengeClosed.
    """
    return _send_again(work, row, challenges.destination(row), paced=False)


def _send_again(work: Work, row: OtpChallenge, destination: Identifier, *, paced: bool) -> OtpChallenge:
    shown = row.shown if destination.value == row.destination else destination.masked
    wait = sends.charge(work, destination, invited=_is_invited(row))
    if not challenges.sent_again(work, row, destination, shown, paced=paced):
        soon = ResendTooSoon(retry_after=max(1, challenges.resend_in(work, row)))
        raise _refused(work, row, soon if paced else ChallengeClosed())
    outbox.code(work, row, wait)
    about = challenges.filed_under(row)
    audit.record(work, Event.CODE_SENT_AGAIN, row.shown, user_id=about, purpose=row.purpose, channel=row.channel)
    return row


def _is_invited(row: OtpChallenge) -> bool:
    """True if the owner's password or phone asked for it: half of a day's messages are for those alone. By phone
    anybody can ask, and it is the owner's only way in where there is no password.
    """
    if row.purpose == Purpose.PHONE:
        return row.user is None or row.user.password_hash is None
    return row.purpose == Purpose.SIGNIN


def _other(row: OtpChallenge, channel: str | None) -> Identifier | None:
    """The other address that a sign-in's code may go to: proven, and the same person's.

    What a sign-up or a change asks about is fixed, because a code that reached one address must not prove
    another; and a recovery would tell whether there is another.
    """
    if channel in (None, row.channel) or row.purpose != Purpose.SIGNIN or row.user is None:
        return None
    step = policy.next_step(accounts.standing(row.user), frozenset(row.methods.split()), "required")
    return accounts.contact(row.user, channel or "") if channel in step.methods else None


def check(
    work: Work,
    challenge_id: UUID | None,
    code: str,
    fits: Callable[[OtpChallenge], bool],
    accept: Callable[[OtpChallenge], None] = lambda _: None,
    *,
    holder: bool = True,
) -> Proven:
    """Settle a guess and, if it is right, burn the challenge.

    `holder`: whether the caller has the challenge itself; whoever names an identifier alone leaves its last guess to
    the holder, and the one that a lock leaves. `fits`: whether this route may answer it; one made for another purpose
    loses an attempt and is closed here. `accept`: called with the challenge of a right code before it is burned; what
    it refuses costs an attempt, not the code. Raises ValidationFailed, ChallengeClosed, AccountLocked, InvalidCode.
    """
    if not re.fullmatch(rf"[0-9]{{{work.settings.otp_length}}}", code, re.ASCII):
        message = f"The code is {work.settings.otp_length} digits."
        raise audit.refusal(work, Event.CODE_REFUSED, None, ValidationFailed.field("otp", "invalid_format", message))
    row = _asked(work, challenge_id, fits)
    return _settle(work, row, challenges.is_right(work, row, code), accept, holder=holder)


def check_password(work: Work, challenge_id: UUID, password: str) -> Proven:
    """Settle a guess at the password that policy asks after a code, and burn the challenge if it is right.

    Raises ChallengeClosed, AccountLocked, InvalidCredentials, Overloaded.
    """
    row = _asked(work, challenge_id, lambda row: row.purpose == Purpose.FACTOR)
    if not challenges.is_open(work, row):
        raise _refused(work, row, ChallengeClosed())
    stored = row.user.password_hash if row.user else None
    right = passwords.matches(work, stored, password)
    renewed = passwords.renewed(work, stored, password) if right else None
    challenges.find(work, row.id)  # as it is now: hashing took a while
    proven = _settle(work, row, right, wrong=InvalidCredentials)
    if renewed and row.user and not accounts.refresh_hash(work, row.user, renewed):
        raise _refused(work, row, InvalidCredentials())  # the password was changed while it was being hashed
    return proven


def _asked(work: Work, challenge_id: UUID | None, fits: Callable[[OtpChallenge], bool]) -> OtpChallenge:
    row = challenges.find(work, challenge_id) if challenge_id else None
    if row is None:
        raise _refused(work, None, ChallengeClosed())
    if not fits(row):
        challenges.answer(work, row, False)
        raise _refused(work, row, ChallengeClosed())
    return row


def _settle(
    work: Work,
    row: OtpChallenge,
    right: bool,
    accept: Callable[[OtpChallenge], None] = lambda _: None,
    wrong: type[Refusal] = InvalidCode,
    *,
    holder: bool = True,
) -> Proven:
    recovers = row.purpose == Purpose.RECOVERY
    budget = lockout.hold(work, row.budget_key, challenges.subject(row), rebinding=recovers)
    # A lock leaves each recovery one guess, or a stranger could keep the owner from the way back.
    cap = 1 if recovers and (budget.wait or budget.silent) else None
    if budget.wait and not (cap and holder):
        raise _refused(work, row, AccountLocked(retry_after=budget.wait))
    right = right and (cap == 1 or not budget.silent) and stands(work, row)
    objection = _objection(accept, row) if right else None
    if right and recovers and row.user:
        lockout.hold_all(work, row.user)  # in their order, before the challenge: they will be forgiven
    if not holder:
        cap = row.max_attempts - 1
    outcome = challenges.answer(work, row, right, burn=objection is None, cap=cap)
    if outcome is Outcome.CLOSED:
        locked = AccountLocked(retry_after=budget.wait) if budget.wait and challenges.is_open(work, row) else None
        raise _refused(work, row, locked or ChallengeClosed())
    if outcome is Outcome.WRONG:
        lockout.count_wrong(work, budget)
        raise _refused(work, row, wrong(attempts_left=challenges.attempts_left(work, row)))
    if objection:
        raise _refused(work, row, objection)
    return Proven(row, budget)


def stands(work: Work, row: OtpChallenge) -> bool:
    """False if what the question stands on is gone: the session that asked, the password or the address of then, an
    old sign-up.
    """
    if row.session_id:
        return sessions.live_account(work, row.session_id) is not None
    if row.user:
        changed = row.stands_on != row.user.password_changed_at
        still_theirs = challenges.destination(row) in accounts.contacts(row.user)
        return row.user.disabled_at is None and still_theirs and not changed
    if row.purpose == Purpose.PHONE:  # the number is proven, whoever has it by now
        return row.signup_id is not None
    return bool(row.signup_id and signups.find_open(work, row.signup_id))


def _objection(accept: Callable[[OtpChallenge], None], row: OtpChallenge) -> Refusal | None:
    try:
        accept(row)
    except Refusal as objection:
        return objection
    return None


def _refused(work: Work, row: OtpChallenge | None, refused: Refusal) -> Refusal:
    facts = {"purpose": row.purpose} if row else {}
    if "attempts_left" in refused.extra:
        facts |= {"attempts_left": refused.extra["attempts_left"]}
    shown, about = (row.shown, challenges.filed_under(row)) if row else (None, None)
    return audit.refusal(work, Event.CODE_REFUSED, shown, refused, user_id=about, **facts)
