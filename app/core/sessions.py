"""Sessions: being signed in, as a row. Every request asks the row, so an end holds at once on every worker."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import exists, select, update

from app.core import tokens
from app.crypto.ids import uuid7
from app.crypto.keys import Purpose, new_token, token_digest
from app.errors import TokenExpired, TokenInvalid
from app.models import Session, User
from app.work import Work


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
    created_at: datetime
    last_login_at: datetime | None


LIVE = tuple(getattr(User, field.name) for field in fields(Account))


def open(work: Work, user: User, amr: Sequence[str], device_info: dict[str, Any] | None) -> Session:
    """Sign a user in. Only `flows.signin.finish` may call this; an architecture test counts the callers."""
    row = Session(
        id=uuid7(work.now),
        user_id=user.id,
        amr=" ".join(amr),
        ip=work.client.address,
        user_agent=work.client.user_agent,
        device_info=device_info,
        client_key=client_key(work),
        created_at=work.now,
        auth_time=work.now,
        last_used_at=work.now,
        expires_at=work.now + timedelta(seconds=work.settings.session_max_age),
    )
    work.db.add(row)
    work.db.flush()  # before the refresh token that refers to it
    return row


def bake(row: Session) -> str:
    """A browser's cookie for a session: 256 random bits, stored as their digest only."""
    token = new_token()
    row.cookie_digest = token_digest(token)
    return token


def by_cookie(work: Work, token: str) -> tuple[Account, UUID, datetime] | None:
    """The account, session and sign-in time of a cookie, in one statement; None once the session has ended, was not
    used for JWT_REFRESH_TTL, or its user is disabled.
    """
    lasting = (
        Session.revoked_at.is_(None),
        Session.expires_at > work.now,
        Session.last_used_at > tokens.idle_since(work),
    )
    query = select(*LIVE, Session.id, Session.auth_time).join(Session, Session.user_id == User.id)
    mine = (Session.cookie_digest == token_digest(token), *lasting, User.disabled_at.is_(None))
    row = work.db.execute(query.where(*mine)).one_or_none()
    return (Account(*row[:-2]), row[-2], row[-1]) if row else None


def live_account(work: Work, session_id: UUID) -> Account | None:
    """The account of a session that has not ended, in one statement; None once it has, or its user is disabled."""
    lasting = (Session.id == session_id, Session.revoked_at.is_(None), Session.expires_at > work.now)
    query = select(*LIVE).join(Session, Session.user_id == User.id).where(*lasting, User.disabled_at.is_(None))
    row = work.db.execute(query).one_or_none()
    return Account(*row) if row else None


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


def _end(work: Work, why: str, *which: Any) -> int:
    lasting = (Session.revoked_at.is_(None), Session.expires_at > work.now)
    return work.changes(update(Session).where(*which, *lasting).values(revoked_at=work.now, revoked_why=why))


def stamp_used(work: Work, seen: dict[UUID, datetime]) -> None:
    """Note when sessions were last used; the courier does it, so that no request waits for it."""
    for session_id, at in seen.items():
        work.changes(update(Session).where(Session.id == session_id, Session.last_used_at < at).values(last_used_at=at))


def knows_client(work: Work, user_id: UUID) -> bool:
    """True if the user has signed in from this kind of client in this network before."""
    same = exists().where(Session.user_id == user_id, Session.client_key == client_key(work))
    return bool(work.db.scalar(select(same)))


def client_key(work: Work) -> str:
    """Browser and system without their versions, and the wider network (IPv4 /16, IPv6 /32), as a keyed digest."""
    family = re.sub(r"[\d._]+", "", work.client.user_agent)
    try:
        address = ipaddress.ip_address(work.client.address)
        network = str(ipaddress.ip_network((address, 16 if address.version == 4 else 32), strict=False))
    except ValueError:
        network = ""
    return work.kit.keys.mac(Purpose.CLIENTS, family, network).hex()
