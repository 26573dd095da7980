"""Step-up: proving once more, in a session that is open, that it is still you (RFC 9470)."""

from __future__ import annotations

from uuid import UUID

from app.core import accounts, audit, lockout, policy, sessions, tokens
from app.core.audit import Event
from app.core.challenges import Purpose
from app.errors import TokenRevoked
from app.flows import asking, proof
from app.flows.door import SignedIn
from app.flows.proof import Given
from app.flows.signin import Asked
from app.work import Work


def start(work: Work, channel: str | None = None) -> Asked:
    """Ask for any second method of the caller. Raises Forbidden if there is none, RateLimited."""
    user = accounts.own(work)
    step = policy.again(accounts.standing(user))
    challenge = asking.ask_for(
        work,
        user,
        step,
        Purpose.STEP_UP,
        Event.STEP_UP_REFUSED,
        budget_key=lockout.signed_in_key(user.id),
        channel=channel,
        session_id=work.caller.session_id,
    )
    audit.record(work, Event.STEP_UP_STARTED, challenge.shown, channel=challenge.channel)
    return Asked(challenge, step.methods)


def verify(work: Work, challenge_id: UUID, given: Given, method: str | None = None) -> SignedIn:
    """A fresh access token for the same session: its sign-in is of now. Of no other session, and of no other token: old
    ones stay old, and so does what a refresh token brings (`docs/adr/0030`).

    Raises ValidationFailed, ChallengeClosed, InvalidCode, AccountLocked, TokenRevoked.
    """
    session_id = work.caller.session_id
    proven = proof.check_any(
        work, challenge_id, given, lambda row: row.purpose == Purpose.STEP_UP and row.session_id == session_id, method
    )
    user = proven.challenge.user
    session = sessions.lasting(work, session_id) if session_id else None
    if session is None or user is None:
        raise audit.refusal(work, Event.STEP_UP_REFUSED, None, TokenRevoked())
    lockout.forgive(proven.budget)
    audit.record(work, Event.STEP_UP_COMPLETED, method=proven.method)
    return SignedIn(user, session, tokens.access(work, session, user, proven.method))
