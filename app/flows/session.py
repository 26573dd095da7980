"""Staying in and getting out: refresh, sign-out, the list of one's own sessions."""

from __future__ import annotations

from uuid import UUID

from app.core import accounts, audit, sessions, tokens, trusted_devices
from app.core.audit import Event
from app.core.tokens import Exchange, Outcome
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import (
    NotFound,
    Refusal,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenReused,
    TokenRevoked,
    ValidationFailed,
)
from app.flows.door import SignedIn
from app.models import Session, User
from app.work import Work

REFUSALS: dict[Outcome, type[Refusal]] = {
    Outcome.UNKNOWN: TokenInvalid,
    Outcome.EXPIRED: TokenExpired,
    Outcome.ENDED: TokenRevoked,
    Outcome.REUSED: TokenReused,
}


def refresh(work: Work, token: str) -> SignedIn:
    """Exchange a refresh token for a fresh pair. One that was exchanged before, and not a moment ago, is
    taken for stolen: its session ends and the owner is told. Raises the token refusals.
    """
    result = tokens.exchange(work, token)
    session, user = result.session, result.user
    if session is None or user is None or result.expires_at is None:
        raise _refused(work, result)
    repeated = result.outcome is Outcome.REPEATED
    audit.record(work, Event.SESSION_REFRESHED, user_id=user.id, session_id=session.id, repeated=repeated)
    work.kit.seen[session.id] = work.now
    return SignedIn(user, session, tokens.access(work, session, user), result.token, result.expires_at)


def for_audience(work: Work, token: str, audience: str) -> tuple[str, int]:
    """A token of the caller's session for another backend, and its life in seconds, in exchange for `token`, which
    opened this request. Raises ValidationFailed for an audience that JWT_AUDIENCES does not name, TokenRevoked.
    """
    if audience not in work.settings.jwt_audiences:
        unknown = ValidationFailed.field("audience", "unknown_audience", "There are no tokens for this audience.")
        raise audit.refusal(work, Event.SESSION_REFUSED, None, unknown)
    session = sessions.by_id(work, work.caller.session_id) if work.caller.session_id else None
    if session is None:
        raise audit.refusal(work, Event.SESSION_REFUSED, None, TokenRevoked())
    audit.record(work, Event.TOKEN_EXCHANGED, audience=audience)
    made = tokens.for_audience(work, session, work.kit.tokens.claims_of(token), audience)
    return made, tokens.life(work, session)


def _refused(work: Work, result: Exchange) -> Refusal:
    if result.outcome is Outcome.REUSED and result.session and result.user:
        _end_stolen(work, result.session, result.user)
    user_id = result.user.id if result.user else None
    return audit.refusal(work, Event.SESSION_REFUSED, None, REFUSALS[result.outcome](), user_id=user_id)


def _end_stolen(work: Work, session: Session, user: User) -> None:
    if sessions.revoke(work, session.id, user.id, "token_reused"):
        audit.record(work, Event.SESSION_ENDED, user_id=user.id, session_id=session.id, why="token_reused", count=1)
        outbox.tell(work, user, Notice.TOKEN_REUSED)


def sign_out(work: Work, refresh_token: str | None, *, everywhere: bool = False) -> None:
    """End the session of the caller or of a refresh token, or all of that user's, whose devices are then forgotten.
    Again is as good as once.

    What is spent, expired or ended can still end its own session, never the others: then a refresh token of the same
    user counts in place of an access token, as any does beside one that cannot be read. Raises TokenMissing with
    neither, TokenInvalid for a refresh token that never was, and without one for such an access token.
    """
    user_id, session_id, alive = work.caller.user_id, work.caller.session_id, work.caller.auth_time is not None
    if refresh_token and not alive:
        found = tokens.find(work, refresh_token)
        if found is None and session_id is None:
            raise audit.refusal(work, Event.SESSION_REFUSED, None, TokenInvalid())
        if found and user_id in (None, found[2].id):
            user_id, session_id, alive = found[2].id, session_id or found[1].id, tokens.is_live(work, *found[:2])
    if user_id is None or session_id is None:
        refused = TokenInvalid() if work.caller.unreadable else TokenMissing()
        raise audit.refusal(work, Event.SESSION_REFUSED, None, refused)
    if everywhere and alive and _hold_if_it_lasts(work, user_id, session_id):
        _forget_devices(work, user_id)
        count = sessions.sign_out_all(work, user_id, session_id)
    else:
        count = int(sessions.revoke(work, session_id, user_id, "signed_out"))
    _note_signed_out(work, user_id, session_id, count)


def _note_signed_out(work: Work, user_id: UUID, session_id: UUID, count: int) -> None:
    """Record how many sessions ended. If none did, nobody is named: they may have been erased from the log."""
    if count:
        audit.record(work, Event.SESSION_ENDED, user_id=user_id, session_id=session_id, why="signed_out", count=count)


def sign_out_browser(work: Work, cookie: str) -> None:
    """End the session of a browser's cookie. One that is unknown or has ended is as good as ended."""
    found = sessions.by_cookie(work, cookie) if cookie else None
    if found is not None:
        account, session_id, _ = found
        count = int(sessions.revoke(work, session_id, account.id, "signed_out"))
        _note_signed_out(work, account.id, session_id, count)


def end(work: Work, session_id: UUID) -> None:
    """End one of the caller's sessions. Raises NotFound for one that is not theirs or not there, alike."""
    assert work.caller.user_id is not None
    if not sessions.revoke(work, session_id, work.caller.user_id, "ended_by_owner"):
        raise audit.refusal(work, Event.SESSION_REFUSED, None, NotFound())
    audit.record(work, Event.SESSION_ENDED, session_id=session_id, why="ended_by_owner", count=1)


def end_others(work: Work) -> int:
    """End all sessions of the caller but this one, and ask every device for a code again. Returns how many ended."""
    assert work.caller.user_id is not None and work.caller.session_id is not None
    if not _hold_if_it_lasts(work, work.caller.user_id, work.caller.session_id):
        raise audit.refusal(work, Event.SESSION_REFUSED, None, TokenRevoked())
    _forget_devices(work, work.caller.user_id)
    ended = sessions.revoke_all(work, work.caller.user_id, "ended_by_owner", keep=work.caller.session_id)
    audit.record(work, Event.SESSION_ENDED, why="ended_by_owner", count=ended)
    return ended


def _hold_if_it_lasts(work: Work, user_id: UUID, session_id: UUID) -> bool:
    """Lock what a sign-in comes by, so that none falls between the end of the devices and that of the sessions. False
    if this session has ended meanwhile, and ends no other.
    """
    trusted_devices.hold_all(work, user_id)
    accounts.hold(work, user_id)
    return sessions.lasting(work, session_id) is not None


def _forget_devices(work: Work, user_id: UUID) -> None:
    """Whoever was in once, and is not any more, shall not come back by the password alone."""
    if count := trusted_devices.forget_all(work, user_id):
        audit.record(work, Event.TRUSTED_DEVICE_FORGOTTEN, user_id=user_id, count=count)
