"""Tokens of a session: a signed access token for minutes, a refresh token for days that is spent by use.

A refresh token's successor is derived from it with a server key. So the answer that got lost, or the second
tab that asks within the grace, gets the very same successor: there is one line, never a branch. OAuth 2.0
Security BCP (RFC 9700), section 4.14.2.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, exists, or_, select, update

from app.core import locks, policy
from app.crypto.ids import uuid7
from app.crypto.keys import Purpose, new_token, token_digest
from app.models import RefreshToken, Session, User
from app.work import Kit, Work, in_batches

AMR = {policy.TOTP: ("otp",), policy.PASSKEY: ("pop", "user")}
SAME = ("sub", "sid", "role", "amr", "auth_time")  # claims of a token that is exchanged for another audience's
GRACE = timedelta(seconds=10)  # for the immediate predecessor of the live token


class Outcome(Enum):
    UNKNOWN = "unknown"
    ENDED = "ended"  # its session was revoked, or is over
    EXPIRED = "expired"
    ROTATED = "rotated"
    REPEATED = "repeated"  # within the grace: the same successor again
    REUSED = "reused"  # theft, or a client that kept a spent token


@dataclass(frozen=True, slots=True)
class Exchange:
    outcome: Outcome
    session: Session | None = None
    user: User | None = None
    token: str = ""
    expires_at: datetime | None = None


def access(work: Work, session: Session, user: User, again: str | None = None) -> str:
    """A signed access token of a session: who, in which role, how and when it was proven. `again`: the method by which
    it was proven once more just now, of which this token tells, and of no method that was proven earlier; the session
    stays as it is.
    """
    return work.kit.tokens.issue(
        {
            "sub": str(user.id),
            **_times(work, session),
            "sid": str(session.id),
            "role": user.role,
            "amr": _words([again]) if again else amr(session),
            "auth_time": int((work.now if again else session.auth_time).timestamp()),
        }
    )


def for_audience(work: Work, session: Session, claims: Mapping[str, Any], audience: str) -> str:
    """A token of the same session for another audience, which says what the one whose `claims` were given says."""
    same = {name: claims[name] for name in SAME if name in claims}
    return work.kit.tokens.issue({**same, **_times(work, session)}, audience)


def _times(work: Work, session: Session) -> dict[str, Any]:
    issued = int(work.now.timestamp())
    return {"iat": issued, "exp": issued + life(work, session), "jti": str(uuid7(work.now))}


def life(work: Work, session: Session) -> int:
    """Seconds for which a token that is signed now is good: JWT_ACCESS_TTL, and never longer than its session."""
    left = int(session.expires_at.timestamp()) - int(work.now.timestamp())
    return max(0, min(work.settings.jwt_access_ttl, left))


def amr(session: Session) -> list[str]:
    """How a session was proven at its sign-in, in the words of RFC 8176 where it has one for a method."""
    return _words(session.amr.split())


def _words(methods: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(word for method in methods for word in AMR.get(method, (method,))))


def first_refresh(work: Work, session: Session) -> tuple[str, datetime]:
    """The refresh token that begins a session's line, and when it expires."""
    token = new_token()
    return token, _store(work, session, token)


def _store(work: Work, session: Session, token: str) -> datetime:
    """Keep a refresh token of a session. Returns when it expires."""
    ends = min(work.now + timedelta(seconds=work.settings.jwt_refresh_ttl), session.expires_at)
    times = {"created_at": work.now, "expires_at": ends}
    work.insert(RefreshToken, {"id": uuid7(work.now), "session_id": session.id, "digest": token_digest(token), **times})
    return ends


WITH_OWNER = (
    select(RefreshToken, Session, User)
    .join(Session, Session.id == RefreshToken.session_id)
    .join(User, User.id == Session.user_id)
    .where(RefreshToken.digest == bindparam("digest"))
)


def find(work: Work, token: str) -> tuple[RefreshToken, Session, User] | None:
    """The row of a refresh token with its session and user, whatever their state."""
    row = work.db.execute(WITH_OWNER, {"digest": token_digest(token)}).one_or_none()
    return (row[0], row[1], row[2]) if row else None


def is_live(work: Work, row: RefreshToken, session: Session) -> bool:
    """True if this refresh token could be exchanged now."""
    lasts = row.used_at is None and row.expires_at > work.now
    return lasts and session.revoked_at is None and session.expires_at > work.now


def exchange(work: Work, token: str) -> Exchange:
    """Spend a refresh token and make its successor; one of twenty at once does, the others repeat its answer."""
    found = find(work, token)
    if found is None:
        return Exchange(Outcome.UNKNOWN)
    row, session, user = found
    if session.revoked_at or session.expires_at <= work.now or not locks.may_enter(user, work.now):
        return Exchange(Outcome.ENDED, session, user)
    if row.used_at is None and row.expires_at <= work.now:
        return Exchange(Outcome.EXPIRED, session, user)
    if row.used_at is None and _spent(work, row):
        successor = _successor(work, row, token, work.kit.keys.current)
        return Exchange(Outcome.ROTATED, session, user, successor, _store(work, session, successor))
    return _again(work, token, row, session, user)


SPENT = (
    update(RefreshToken)
    .where(RefreshToken.id == bindparam("row"), RefreshToken.used_at.is_(None))
    .values(used_at=bindparam("now"))
)


def _spent(work: Work, row: RefreshToken) -> bool:
    return work.changes(SPENT, row=row.id, now=work.now) == 1


NOW = select(RefreshToken).where(RefreshToken.id == bindparam("row"))


def _again(work: Work, token: str, row: RefreshToken, session: Session, user: User) -> Exchange:
    if work.db.scalar(NOW, {"row": row.id}, execution_options={"populate_existing": True}) is None:
        return Exchange(Outcome.UNKNOWN)  # its user was erased a moment ago, and is not named again
    candidates = {token_digest(t): t for t in (_successor(work, row, token, key_id) for key_id in work.kit.keys.ids)}
    query = select(RefreshToken).where(RefreshToken.digest.in_(candidates), RefreshToken.used_at.is_(None))
    follower = work.db.scalar(query)
    in_time = row.used_at is not None and abs(work.now - row.used_at) < GRACE
    if follower is None or not in_time:
        return Exchange(Outcome.REUSED, session, user)
    return Exchange(Outcome.REPEATED, session, user, candidates[follower.digest], follower.expires_at)


def _successor(work: Work, row: RefreshToken, token: str, key_id: str) -> str:
    """The same one however often it is asked for. Key and token alone do not tell it: whoever finds a spent token and
    has SECRET_KEY, also one that was dropped since, would go on in its owner's place.
    """
    mac = work.kit.keys.mac(Purpose.SUCCESSORS, token, row.id.hex, key_id=key_id)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def batches(kit: Kit, user_id: UUID) -> Iterator[list[RefreshToken]]:
    """Every stored refresh token of a user, some at a time. Raises Unavailable."""
    return in_batches(kit, partial(_batch, user_id=user_id))


def _batch(work: Work, user_id: UUID, after: RefreshToken | None, most: int) -> list[RefreshToken]:
    theirs = select(RefreshToken).join(Session, Session.id == RefreshToken.session_id).where(Session.user_id == user_id)
    later = [RefreshToken.id > after.id] if after else []
    return list(work.db.scalars(theirs.where(*later).order_by(RefreshToken.id).limit(most)))


def can_go_on(work: Work) -> ColumnElement[bool]:
    """The condition of a session that a refresh token still keeps alive, or a cookie that was used lately."""
    unspent = exists().where(
        RefreshToken.session_id == Session.id, RefreshToken.used_at.is_(None), RefreshToken.expires_at > work.now
    )
    return or_(unspent, and_(Session.cookie_digest.is_not(None), Session.last_used_at > idle_since(work)))


def idle_since(work: Work) -> datetime:
    """A session that was last used before this has ended by itself."""
    return work.now - timedelta(seconds=work.settings.jwt_refresh_ttl)
