"""Sessions: being signed in, as a row. Every request asks the row, so an end holds at once on every worker."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, case, func, select, update

from app.core import locks, tokens
from app.crypto.ids import uuid7
from app.crypto.keys import KeyRing, Purpose, new_token, token_digest
from app.errors import TokenExpired, TokenInvalid, TokenRevoked
from app.models import Session, User
from app.work import Work

MOST = 100  # of one account at once


@dataclass(frozen=True, slots=True)
class Account:
    """What `me` says: the columns that the guard reads with the session in one statement."""

    id: UUID
    name: str | None
    username: str | None
    email: str | None
    phone: str | None
    role: str
    language: str | None
    mfa: str
    created_at: datetime
    last_login_at: datetime | None


ACCOUNT = tuple(getattr(User, field.name) for field in fields(Account))
# Prepared, for every request asks: to build such a question anew costs more than to ask it.
LASTING = (
    select(*ACCOUNT, *locks.COLUMNS, Session.id.label("session_id"), Session.auth_time)
    .join(Session, Session.user_id == User.id)
    .where(Session.revoked_at.is_(None), Session.expires_at > bindparam("now"))
)
OF_TOKEN = LASTING.where(Session.id == bindparam("id"))
OF_COOKIE = LASTING.where(Session.cookie_digest == bindparam("digest"), Session.last_used_at > bindparam("idle_since"))


def open(
    work: Work, user: User, amr: Sequence[str], device_info: dict[str, Any] | None, auth_time: datetime | None = None
) -> Session:
    """Sign a user in. Only `flows.door.finish` may call this; an architecture test counts the callers.

    `auth_time`: when all of it was proven, if that was not now.
    """
    row = Session(
        id=uuid7(work.now),
        user_id=user.id,
        amr=" ".join(amr),
        ip=work.client.address,
        user_agent=work.client.user_agent,
        device_info=device_info,
        client_key=client_keys(work)[0],
        created_at=work.now,
        auth_time=auth_time or work.now,
        last_used_at=work.now,
        expires_at=work.now + timedelta(seconds=work.settings.session_max_age),
    )
    return work.add(row)


def bake(row: Session) -> str:
    """A browser's cookie for a session: 256 random bits, stored as their digest only."""
    token = new_token()
    row.cookie_digest = token_digest(token)
    return token


def by_cookie(work: Work, token: str) -> tuple[Account, UUID, datetime] | None:
    """The account, session and sign-in time of a cookie, in one statement; None once the session has ended, was not
    used for JWT_REFRESH_TTL, or its user is kept out.
    """
    given = {"digest": token_digest(token), "idle_since": tokens.idle_since(work), "now": work.now}
    row = work.db.execute(OF_COOKIE, given).one_or_none()
    account = _account(work, row)
    return (account, row.session_id, row.auth_time) if row and account else None


def live_account(work: Work, session_id: UUID) -> Account | None:
    """The account of a session that has not ended, in one statement; None once it has, or its user is kept out."""
    return _account(work, work.db.execute(OF_TOKEN, {"id": session_id, "now": work.now}).one_or_none())


def _account(work: Work, row: Any) -> Account | None:
    return Account(*row[: len(ACCOUNT)]) if row and locks.may_enter(row, work.now) else None


def must_last(work: Work) -> None:
    """Raise TokenRevoked if the caller's session has ended since the guard let them in, and with it whatever their role
    allowed. To be asked after a wait: for a hash, or for somebody's lock. The system itself has no session.
    """
    if not caller_lasts(work):
        raise TokenRevoked()


def caller_lasts(work: Work) -> bool:
    """As `must_last` asks."""
    return work.caller.session_id is None or live_account(work, work.caller.session_id) is not None


def by_id(work: Work, session_id: UUID) -> Session | None:
    """A session, whatever its state."""
    return work.db.get(Session, session_id)


def introspect(work: Work, token: str) -> tuple[dict[str, Any], Account] | None:
    """The claims and the account of an access token that opens doors now; None for anything else (RFC 7662, 2.2)."""
    try:
        claims = work.kit.tokens.read(token, work.now)
    except (TokenInvalid, TokenExpired):
        return None
    account = live_account(work, claims.session_id)
    if account is None or account.id != claims.user_id or account.role != claims.role:
        return None
    return work.kit.tokens.claims_of(token), account


def lasting(work: Work, session_id: UUID) -> Session | None:
    """A session as it is now; None if it has ended."""
    here = (Session.id == session_id, Session.revoked_at.is_(None), Session.expires_at > work.now)
    return work.db.scalar(select(Session).where(*here), execution_options={"populate_existing": True})


def page_of_user(work: Work, user_id: UUID, limit: int, before: UUID | None) -> list[Session]:
    """Sessions of a user that have neither ended nor lapsed, newest first, older than a given one."""
    lasting = [Session.user_id == user_id, Session.revoked_at.is_(None), Session.expires_at > work.now]
    lasting.append(tokens.can_go_on(work))
    older = [Session.id < before] if before else []
    return list(work.db.scalars(select(Session).where(*lasting, *older).order_by(Session.id.desc()).limit(limit)))


def all_of_user(work: Work, user_id: UUID) -> list[Session]:
    """Every session a user had that is still stored."""
    return list(work.db.scalars(select(Session).where(Session.user_id == user_id).order_by(Session.created_at)))


def revoke(work: Work, session_id: UUID, user_id: UUID, why: str) -> bool:
    """End one session of a user. False if it is not theirs or has ended."""
    return _end(work, why, Session.id == session_id, Session.user_id == user_id) == 1


def revoke_all(work: Work, user_id: UUID, why: str, *, keep: UUID | None = None) -> int:
    """End every session of a user, but the one to keep. Returns how many ended."""
    return _end(work, why, Session.user_id == user_id, *([Session.id != keep] if keep else []))


def sign_out_all(work: Work, user_id: UUID, own: UUID) -> int:
    """End every session of a user by the word of whoever is in one of them: the others speak against who is in those.
    One statement: of two who do it at once neither holds what the other wants. Returns how many ended.
    """
    return _end(work, case((Session.id == own, "signed_out"), else_="ended_by_owner"), Session.user_id == user_id)


def _end(work: Work, why: Any, *which: Any) -> int:
    lasting = (Session.revoked_at.is_(None), Session.expires_at > work.now)
    return work.changes(update(Session).where(*which, *lasting).values(revoked_at=work.now, revoked_why=why))


def stamp_used(work: Work, seen: Mapping[UUID, datetime]) -> None:
    """Note when sessions were last used; the courier does it, so that no request waits for it."""
    work.stamp(Session, "last_used_at", seen)


OF_USER = Session.user_id == bindparam("user_id")
IN_USE = (Session.revoked_at.is_(None), Session.expires_at > bindparam("now"), Session.last_used_at > bindparam("idle"))
TROUBLE = ("ended_by_owner", "password_reset", "token_reused")  # of ends, those that speak against who was signed in
HISTORY = select(
    select(func.coalesce(Session.revoked_why, ""))
    .where(OF_USER, Session.client_key.in_(bindparam("keys", expanding=True)))
    .order_by(Session.id.desc())
    .limit(1)
    .scalar_subquery(),
    select(func.count()).where(OF_USER, *IN_USE).scalar_subquery(),
)


def history(work: Work, user_id: UUID) -> tuple[bool, int]:
    """Whether the user has signed in from this kind of client in this network before, and not been parted from it the
    last time, and how many sessions are in use.
    """
    given = {"user_id": user_id, "keys": client_keys(work), "now": work.now, "idle": tokens.idle_since(work)}
    ended, in_use = work.db.execute(HISTORY, given).one()
    return ended is not None and ended not in TROUBLE, in_use


def make_room(work: Work, user_id: UUID) -> int:
    """End those that went unused for longest, so that one more makes MOST in use. Returns how many ended."""
    given = {"user_id": user_id, "now": work.now, "idle": tokens.idle_since(work)}
    newest = select(Session.id).where(OF_USER, *IN_USE).order_by(Session.last_used_at.desc(), Session.id.desc())
    too_many = list(work.db.scalars(newest.offset(MOST - 1), given))
    return _end(work, "too_many", Session.id.in_(too_many)) if too_many else 0


def client_keys(work: Work) -> list[str]:
    """The client of a request under every key of the ring, today's first: who is known stays known when it changes."""
    keys = work.kit.keys
    return [client_key(keys, key_id, work.client.user_agent, work.client.address) for key_id in keys.ids]


def client_key(keys: KeyRing, key_id: str, user_agent: str, address: str) -> str:
    """Browser and system without their versions, and the wider network (IPv4 /16, IPv6 /32), as a keyed digest."""
    family = re.sub(r"[\d._]+", "", user_agent)
    try:
        found = ipaddress.ip_address(address)
        network = str(ipaddress.ip_network((found, 16 if found.version == 4 else 32), strict=False))
    except ValueError:
        network = ""
    return keys.mac(Purpose.CLIENTS, family, network, key_id=key_id).hex()
