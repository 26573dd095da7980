"""The one door: whichever dialect asks and however it was proven, `finish` is the only way to a session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.core import accounts, audit, challenges, consent, lockout, policy, sends, sessions, signups, tokens
from app.core.audit import Event
from app.core.identifiers import Identifier
from app.core.lockout import Budget
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import ChallengeClosed, InvalidCredentials
from app.flows import asking
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
    device_token: str = ""  # of a device that shall be remembered
    cookie: str = ""  # in place of the tokens, for a browser that keeps its session in one


def admit(work: Work, proven: Proven, before: tuple[str, ...], device_info: DeviceInfo) -> SignedIn:
    """Let in whoever gave a right answer: the user who was asked, or the account that a proven sign-up becomes now.

    `before`: the methods proven before this answer. Raises ChallengeClosed if the address has got an owner in
    the meantime.
    """
    row, methods = proven.challenge, (*before, proven.method)
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
    pending = asking.ask_contact(work, user.id, signed_in.session.id, second)
    return replace(signed_in, pending=pending)


def _created(work: Work, signup: Signup, proven: Identifier) -> User | None:
    user = accounts.create(work, signup, proven)
    if user is None:
        return None
    if not signups.complete(work, signup):
        accounts.erase(work, user)  # what is refused is committed
        return None
    if signup.consent:
        consent.record(work, user.id, signup.consent)
    bound: dict[str, Any] = {"channel": challenges.channel_of(proven), "password": user.password_hash is not None}
    audit.record(work, Event.SIGNUP_COMPLETED, proven.masked, user_id=user.id, **bound)
    return user


def finish(
    work: Work,
    user: User,
    methods: tuple[str, ...],
    budget: Budget,
    *,
    device_info: DeviceInfo = None,
    auth_time: datetime | None = None,
) -> SignedIn:
    """The one door: opens a session for somebody who has proven all that policy asks. `auth_time`: when, if not now.

    Raises InvalidCredentials if the account was disabled, or its password, factors or role changed, since the proofs
    were given.
    """
    step = policy.next_step(accounts.standing(user), frozenset(methods), rule(work, user))
    if step != policy.DONE:
        raise RuntimeError(f"at the door without {step.methods}")
    first = user.last_login_at is None
    if not accounts.note_signin(work, user, methods):
        raise audit.refusal(work, Event.SIGNIN_REFUSED, None, InvalidCredentials(), user_id=user.id)
    lockout.forgive(budget)
    known, lasting = (True, 0) if first else sessions.history(work, user.id)
    if lasting >= sessions.MOST:
        ended = sessions.make_room(work, user.id)
        audit.record(work, Event.SESSION_ENDED, user_id=user.id, why="too_many", count=ended)
    session = sessions.open(work, user, methods, device_info, auth_time)
    if not known:
        outbox.tell(work, user, Notice.NEW_SIGNIN)
    audit.record(
        work,
        Event.SIGNIN_COMPLETED,
        user_id=user.id,
        session_id=session.id,
        amr=list(methods),
        new_client=not known,
    )
    if work.client.keeps_cookie:
        return SignedIn(user, session, cookie=sessions.bake(session))
    return SignedIn(user, session, tokens.access(work, session, user), *tokens.first_refresh(work, session))


def rule(work: Work, user: User) -> str:
    """What MFA_POLICY is for this user: some roles always give a code."""
    return "required" if user.role in work.settings.mfa_required_roles else work.settings.mfa_policy
