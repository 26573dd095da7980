"""Signing in and up by phone alone: a code by SMS, then what policy asks of the account, or a new one's details."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.core import accounts, audit, begun, challenges, consent, lockout, locks, policy, sends, signups
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier, Kind
from app.errors import AccountLocked, ChallengeClosed, TokenExpired, TokenInvalid
from app.flows import asking, door, proof, signin
from app.flows.door import DeviceInfo, SignedIn
from app.flows.proof import Proven
from app.flows.signin import Asked
from app.models import OtpChallenge
from app.work import Work


@dataclass(frozen=True, slots=True)
class Registration:
    """A number was proven that has no account yet: with this token its bearer may open one."""

    token: str
    expires_in: int  # seconds


def send(work: Work, number: Identifier) -> OtpChallenge:
    """Send a code to a number; while one is alive, the same one again. Known and unknown numbers get the same answer
    after the same work. Raises AccountLocked, RateLimited.
    """
    user = accounts.by_identifier(work, number)
    at = lockout.key(number)
    user_id = user.id if user else None
    budget = lockout.hold(work, at, user_id, is_account=user is not None, beside=sends.keys(number))
    if budget.wait:
        locked = AccountLocked(retry_after=budget.wait)
        raise audit.refusal(work, Event.SIGNIN_REFUSED, number.masked, locked, user_id=user_id)
    waiting, alive = signups.of_number(work, number), challenges.newest(work, Purpose.PHONE, number)
    about = user_id or (waiting.id if waiting else None)
    asking.ask_leave(work, Event.SIGNIN_REFUSED, number, user_id=about)
    if alive and challenges.is_open(work, alive):
        if user and alive.user_id == user.id:  # it proves the number alone; the password of now is asked after it
            begun.ask_anew(work, alive, user)
        return asking.repeat(work, alive)
    signup = waiting or signups.start_by_phone(work, number)  # whether or not there is an account: the same work
    question = Question(Purpose.PHONE, number, at, signup_id=signup.id)
    if user:  # the question to one that is kept out is a decoy
        whose = user.id if locks.may_enter(user, work.now) else None
        question = Question(
            Purpose.PHONE, number, at, user_id=whose, stands_on=user.password_changed_at, language=user.language
        )
    challenge = asking.ask(work, question, invited=user is None or user.password_hash is None)
    audit.record(work, Event.SIGNIN_STARTED, number.masked, user_id=question.subject, channel=challenge.channel)
    return challenge


def verify(
    work: Work, number: Identifier, code: str, challenge_id: UUID | None = None, device_info: DeviceInfo = None
) -> SignedIn | Asked | Registration:
    """The code came back. A known number is signed in or, if its account has a password, asked for it; a new one may
    register. Raises ChallengeClosed, InvalidCode, AccountLocked.
    """
    asked = challenge_id or challenges.newest(work, Purpose.PHONE, number)
    proven = proof.check(
        work, asked, code, lambda row: row.purpose == Purpose.PHONE and row.destination == number.value
    )
    user = proven.challenge.user or accounts.by_identifier(work, number)
    if user:
        return signin.advance(work, user, (policy.SMS,), proven.budget, device_info=device_info)
    return _may_register(work, proven)


def _may_register(work: Work, proven: Proven) -> Registration:
    signup_id = proven.challenge.signup_id
    signup = signups.find_open(work, signup_id) if signup_id else None
    if signup is None:
        raise audit.refusal(work, Event.SIGNIN_REFUSED, proven.challenge.shown, ChallengeClosed(), user_id=signup_id)
    audit.record(work, Event.NUMBER_PROVEN, proven.challenge.shown, user_id=signup.id)
    return Registration(signups.grant(work, signup), int(signups.GRANT_LIFE.total_seconds()))


def register(
    work: Work,
    token: str,
    *,
    name: str,
    email: Identifier | None,
    agreed: dict[str, Any],
    device_info: DeviceInfo = None,
) -> SignedIn:
    """Open the account of a proven number. An e-mail address is asked for its own proof.

    Raises TokenInvalid for a token that is unknown or was used, TokenExpired, ChallengeClosed if the number has got
    an owner in the meantime.
    """
    signup = signups.granted(work, token)
    if signup is None or signup.phone is None or signup.grant_expires_at is None:
        raise audit.refusal(work, Event.SIGNUP_REFUSED, None, TokenInvalid())
    number = Identifier(Kind.PHONE, signup.phone)
    if signup.grant_expires_at <= work.now:
        raise audit.refusal(work, Event.SIGNUP_REFUSED, number.masked, TokenExpired(), user_id=signup.id)
    budget = lockout.hold(work, lockout.key(number), signup.id, is_account=False)
    if accounts.by_identifier(work, number):
        raise audit.refusal(work, Event.SIGNUP_REFUSED, number.masked, ChallengeClosed(), user_id=signup.id)
    said = consent.given(work, **agreed)
    if not signups.spend_grant(work, signup, name=name, email=email, consent=said):
        raise audit.refusal(work, Event.SIGNUP_REFUSED, None, TokenInvalid())  # of nobody: they may be erased by now
    return door.open_account(work, signup, number, (policy.SMS,), budget, device_info=device_info)
