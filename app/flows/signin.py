"""Signing in: the password, then what policy asks, then the one door.

`finish` is the only way to a session, whichever dialect asks and however it was proven.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core import accounts, audit, challenges, consent, lockout, passwords, policy, sends, sessions, signups, tokens
from app.core.accounts import Claim
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier
from app.core.lockout import Budget
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import ChallengeClosed, Forbidden, InvalidCredentials
from app.flows import proof
from app.flows.proof import Proven
from app.models import OtpChallenge, Session, Signup, User
from app.work import Work

DeviceInfo = dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    user: User
    session: Session
    access_token: str = ""
    refresh_token: str = ""
    refresh_expires_at: datetime | None = None
    pending: OtpChallenge | None = None  # asks for the second address of a sign-up
    cookie: str = ""  # in place of the tokens, for a browser that keeps its session in one


@dataclass(frozen=True, slots=True)
class Asked:
    """A further step: one of these methods, answered to this challenge."""

    challenge: OtpChallenge
    methods: tuple[str, ...]


def start(
    work: Work, identifier: Identifier, password: str, *, channel: str | None = None, device_info: DeviceInfo = None
) -> Asked | SignedIn:
    """The password step. Unknown identifier, wrong password and disabled account are one and the same refusal.

    Raises InvalidCredentials, AccountLocked, RateLimited, Overloaded.
    """
    claim = accounts.look_up(work, identifier, lockout.key(identifier))
    user_right, signup_right = _compare(work, claim, password)
    renewed = passwords.renewed(work, claim.user_hash, password) if user_right else None
    budget = _settle(work, identifier, claim, user_right or signup_right)
    if claim.user and user_right:
        if renewed and not accounts.refresh_hash(work, claim.user, renewed):
            late = InvalidCredentials()  # the password was changed while it was being hashed
            raise audit.refusal(work, Event.SIGNIN_REFUSED, identifier.masked, late, user_id=claim.user.id)
        return advance(work, claim.user, (policy.PASSWORD,), budget, channel=channel, device_info=device_info)
    assert claim.signup is not None
    return _ask_signup_again(work, claim.signup, identifier)


def _compare(work: Work, claim: Claim, password: str) -> tuple[bool, bool]:
    """Whether it is the account's password, and whether it is the one of a sign-up that is not proven yet.

    Each is compared whether or not the other is there: whoever signs up with somebody's address and then signs
    in gets the same answer, after the same work, whether or not that somebody has an account.
    """
    if claim.locked:
        return False, False
    user_right = passwords.matches(work, claim.user_hash, password)
    return user_right, claim.signup is not None and passwords.matches(work, claim.signup.password_hash, password)


def _settle(work: Work, identifier: Identifier, claim: Claim, right: bool) -> Budget:
    """The verdict on a password, under the locks of its counters. Returns only if it was right and in time."""
    whose = claim.user or claim.signup
    unproven = signups.address(claim.signup, identifier) if claim.signup else identifier
    contacts = accounts.contacts(claim.user) if claim.user else [unproven]
    sending = [key for address in contacts for key in sends.keys(address)]
    budget = lockout.hold(work, lockout.key(identifier), whose.id if whose else None, beside=sending)
    if refused := lockout.judge(work, budget, right):
        user_id = whose.id if whose else None
        raise audit.refusal(work, Event.SIGNIN_REFUSED, identifier.masked, refused, user_id=user_id)
    return budget


def advance(
    work: Work,
    user: User,
    methods: tuple[str, ...],
    budget: Budget,
    *,
    channel: str | None = None,
    device_info: DeviceInfo = None,
) -> Asked | SignedIn:
    """The next step that policy asks of somebody who has proven `methods`, or the door.

    Raises Forbidden when there is no way on, RateLimited.
    """
    step = policy.next_step(accounts.standing(user), frozenset(methods), _rule(work, user))
    if step == policy.DONE:
        return finish(work, user, methods, budget, device_info=device_info)
    by_message = policy.PASSWORD not in step.methods
    chosen = channel if channel in step.methods else step.methods[0]
    destination = accounts.contact(user, chosen if by_message else methods[-1])
    if step == policy.NO_WAY or destination is None:
        raise audit.refusal(work, Event.SIGNIN_REFUSED, None, Forbidden(), user_id=user.id)
    question = Question(
        Purpose.SIGNIN,
        destination,
        budget.key,
        user_id=user.id,
        stands_on=user.password_changed_at,
        methods=methods,
        language=user.language,
    )
    in_turn = proof.ask_in_turn(work, question, Event.SIGNIN_REFUSED) if by_message else None
    challenge = in_turn or proof.ask_silently(work, question)
    audit.record(work, Event.SIGNIN_STARTED, destination.masked, user_id=user.id, channel=challenge.channel)
    return Asked(challenge, step.methods)


def _rule(work: Work, user: User) -> str:
    """What MFA_POLICY is for this user: some roles always give a code."""
    return "required" if user.role in work.settings.mfa_required_roles else work.settings.mfa_policy


def _ask_signup_again(work: Work, signup: Signup, identifier: Identifier) -> Asked:
    """Somebody who has not proven the address yet and knows the password: the sign-up's code again.

    If the address has an owner it is a decoy's that nobody gets, and all else is the same.
    """
    row = challenges.find(work, signup.challenge_id) if signup.challenge_id else None
    if row is None or not challenges.is_open(work, row):
        destination = signups.address(signup, identifier)
        proof.ask_leave(work, Event.SIGNIN_REFUSED, destination)
        question = Question(Purpose.SIGNUP, destination, lockout.key(destination), signup_id=signup.id)
        row = proof.ask(work, question, accounts.by_identifier(work, destination), Notice.SIGNUP_TRIED)
        signup.challenge_id = row.id
    elif not challenges.resend_in(work, row) and row.sends < challenges.MAX_SENDS:
        row = proof.ask_again(work, row.id)
    challenges.add_method(row, policy.PASSWORD)
    audit.record(work, Event.SIGNIN_STARTED, row.shown, user_id=signup.id, channel=row.channel)
    return Asked(row, (row.channel,))


def verify(
    work: Work, challenge_id: UUID | None, code: str, device_info: DeviceInfo = None, *, holder: bool = True
) -> SignedIn:
    """The code step: a sign-in's code, or a sign-up's whose password was just given.

    Raises ChallengeClosed, InvalidCode, AccountLocked.
    """
    proven = proof.check(work, challenge_id, code, _fits, holder=holder)
    return admit(work, proven, tuple(proven.challenge.methods.split()), device_info)


def verify_password(work: Work, challenge_id: UUID, password: str, device_info: DeviceInfo = None) -> SignedIn | Asked:
    """The password after a code by SMS. Raises ChallengeClosed, InvalidCredentials, AccountLocked, Overloaded."""
    proven = proof.check_password(work, challenge_id, password)
    user, before = proven.challenge.user, tuple(proven.challenge.methods.split())
    assert user is not None
    return advance(work, user, (*before, policy.PASSWORD), proven.budget, device_info=device_info)


def _fits(row: OtpChallenge) -> bool:
    finishes_signup = row.purpose == Purpose.SIGNUP and policy.PASSWORD in row.methods.split()
    return row.purpose == Purpose.SIGNIN or finishes_signup


def admit(work: Work, proven: Proven, before: tuple[str, ...], device_info: DeviceInfo) -> SignedIn:
    """Let in whoever gave a right answer: the user who was asked, or the account that a proven sign-up becomes now.

    `before`: the methods proven before this answer. Raises ChallengeClosed if the address has got an owner in
    the meantime.
    """
    row, methods = proven.challenge, (*before, proven.challenge.channel)
    signup = signups.find_open(work, row.signup_id) if row.signup_id else None
    if signup:
        return open_account(work, signup, proven.destination, methods, proven.budget, device_info=device_info)
    if row.user is None:
        raise audit.refusal(work, Event.CODE_REFUSED, row.shown, ChallengeClosed(), purpose=row.purpose)
    return finish(work, row.user, methods, proven.budget, device_info=device_info)


def open_account(
    work: Work,
    signup: Signup,
    proven: Identifier,
    methods: tuple[str, ...],
    budget: Budget,
    *,
    device_info: DeviceInfo = None,
) -> SignedIn:
    """The account that a sign-up becomes once an address of it is proven, and the way in; its second address is asked.

    Raises ChallengeClosed if the address has got an owner in the meantime.
    """
    user = _created(work, signup, proven)
    if user is None:
        raise audit.refusal(work, Event.SIGNUP_REFUSED, proven.masked, ChallengeClosed())
    signed_in = finish(work, user, methods, budget, device_info=device_info)
    second = signups.other_address(signup, proven)
    if second is None or sends.ask(work, second):
        return signed_in  # there is none, or its budget is spent: the account stands all the same
    pending = proof.ask_contact(work, user.id, signed_in.session.id, second)
    return replace(signed_in, pending=pending)


def _created(work: Work, signup: Signup, proven: Identifier) -> User | None:
    user = accounts.create(work, signup, proven)
    if user is None or not signups.complete(work, signup):
        return None
    if signup.consent:
        consent.record(work, user.id, signup.consent)
    channel = challenges.channel_of(proven)
    audit.record(work, Event.SIGNUP_COMPLETED, proven.masked, user_id=user.id, channel=channel)
    return user


def finish(
    work: Work, user: User, methods: tuple[str, ...], budget: Budget, *, device_info: DeviceInfo = None
) -> SignedIn:
    """The one door: opens a session for somebody who has proven all that policy asks.

    Raises InvalidCredentials if the account was disabled or its password changed since the proofs were given.
    """
    step = policy.next_step(accounts.standing(user), frozenset(methods), _rule(work, user))
    if step != policy.DONE:
        raise RuntimeError(f"at the door without {step.methods}")
    first = user.last_login_at is None
    if not accounts.note_signin(work, user):
        raise audit.refusal(work, Event.SIGNIN_REFUSED, None, InvalidCredentials(), user_id=user.id)
    lockout.forgive(budget)
    new_client = not first and not sessions.knows_client(work, user.id)
    session = sessions.open(work, user, methods, device_info)
    if new_client:
        outbox.tell(work, user, Notice.NEW_SIGNIN)
    audit.record(
        work,
        Event.SIGNIN_COMPLETED,
        user_id=user.id,
        session_id=session.id,
        amr=list(methods),
        new_client=new_client,
    )
    if work.client.keeps_cookie:
        return SignedIn(user, session, cookie=sessions.bake(session))
    return SignedIn(user, session, tokens.access(work, session, user), *tokens.first_refresh(work, session))
