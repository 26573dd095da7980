"""API keys: by which servers call, each with its scopes, its end, and a prefix to know it by. Stored as a digest."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import or_, select, update

from app.config import Settings
from app.crypto.ids import uuid7
from app.crypto.keys import new_token, token_digest
from app.models import ApiKey
from app.work import Work

SHAPE = re.compile(r"lk_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")
ENVIRONMENT = UUID(int=0)  # API_KEY's id in the audit log, for it has no row


class Scope(StrEnum):
    DEVICES = "devices:write"  # register and manage devices, and read them
    VERIFY = "otp:verify"
    INTROSPECT = "tokens:introspect"
    USERS = "users:read"
    METRICS = "metrics:read"


@dataclass(frozen=True, slots=True)
class Known:
    """A key that may be used now."""

    id: UUID
    scopes: frozenset[str]


def make(
    work: Work,
    name: str,
    scopes: Collection[Scope],
    *,
    expires_at: datetime | None = None,
    created_by: UUID | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its row: a prefix and 256 random bits. The key itself is said here, and never again."""
    prefix = f"lk_{secrets.token_hex(4)}"
    key = f"{prefix}_{new_token()}"
    row = ApiKey(
        id=uuid7(work.now),
        name=name,
        prefix=prefix,
        digest=token_digest(key),
        scopes=" ".join(sorted(set(scopes))),
        created_by=created_by,
        created_at=work.now,
        expires_at=expires_at,
    )
    work.db.add(row)
    return row, key


def is_the_environment_s(settings: Settings, key: str) -> bool:
    """True for API_KEY and API_KEY_PREVIOUS. Asks no database."""
    own = [each.get_secret_value() for each in (settings.api_key, *settings.api_key_previous)]
    digest = token_digest(key)
    return any(hmac.compare_digest(token_digest(each), digest) for each in own if each)


def find(work: Work, key: str) -> Known | None:
    """What a key may do: the environment's API_KEY and API_KEY_PREVIOUS everything, one of the table its scopes. None
    for one that is unknown, expired or revoked. What cannot be a key of the table is not looked up.
    """
    if is_the_environment_s(work.settings, key):
        return Known(ENVIRONMENT, frozenset(Scope))
    if not SHAPE.fullmatch(key):
        return None
    lasting = (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > work.now))
    row = work.db.execute(
        select(ApiKey.id, ApiKey.scopes).where(ApiKey.digest == token_digest(key), *lasting)
    ).one_or_none()
    return Known(row.id, frozenset(row.scopes.split())) if row else None


def page(work: Work, limit: int, before: UUID | None) -> list[ApiKey]:
    """Keys, whatever their state, newest first, made before a given one."""
    older = [ApiKey.id < before] if before else []
    return list(work.db.scalars(select(ApiKey).where(*older).order_by(ApiKey.id.desc()).limit(limit)))


def hold(work: Work, key_id: UUID) -> ApiKey | None:
    """A key as it is now, its row locked until the unit ends."""
    work.begin_writing()
    return work.db.get(ApiKey, key_id, with_for_update=True)


def revoke(work: Work, key_id: UUID) -> bool:
    """End a key at once, everywhere. False if there is none, or it was revoked before."""
    standing = (ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    return work.changes(update(ApiKey).where(*standing).values(revoked_at=work.now)) == 1


def stamp(work: Work, seen: Mapping[UUID, datetime]) -> None:
    """Note when keys were last used; the courier does it once a minute, so that no request waits for it."""
    work.stamp(ApiKey, "last_used_at", seen)
