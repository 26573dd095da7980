"""Access tokens: JWTs that other backends verify with the shared secret.

HS256 only, explicit type `at+jwt` (RFC 9068), keys found by exact `kid`, every claim required and typed
(RFC 8725). Times are compared with the caller's clock.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt

from app.errors import TokenExpired, TokenInvalid

ALGORITHM = "HS256"
TYPE = "at+jwt"
LONGEST = 4096
HEADER = {"alg", "typ", "kid"}
SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
SKEW_S = 30  # how far ahead the clock of another worker may be


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: UUID
    session_id: UUID
    role: str
    auth_time: datetime
    expires_at: datetime


def key_id(secret: str) -> str:
    """The `kid` of a shared secret: 32 bits that say which key, and nothing about it."""
    return hmac.digest(secret.encode(), b"latchkey/kid", "sha256")[:4].hex()


class TokenRing:
    def __init__(self, secrets: Sequence[str], issuer: str, audience: str) -> None:
        """`secrets`: JWT_SECRET_KEY first, which signs, then JWT_PREVIOUS_SECRET_KEYS, which only verify."""
        self._keys = {key_id(s): s for s in secrets}
        self._current = key_id(secrets[0])
        self._issuer, self._audience = issuer, audience

    def issue(self, claims: dict[str, Any]) -> str:
        """Sign claims, adding `iss` and `aud`."""
        return jwt.encode(
            {"iss": self._issuer, "aud": self._audience, **claims},
            self._keys[self._current],
            algorithm=ALGORITHM,
            headers={"typ": TYPE, "kid": self._current},
        )

    def read(self, token: str, now: datetime | None) -> Claims:
        """The claims of a token that this ring signed; without `now`, whatever its age. Raises TokenInvalid or
        TokenExpired.
        """
        payload = self._payload(token)
        try:
            claims = Claims(
                user_id=UUID(payload["sub"]),
                session_id=UUID(payload["sid"]),
                role=payload["role"],
                auth_time=_instant(payload["auth_time"]),
                expires_at=_instant(payload["exp"]),
            )
            issued = _instant(payload["iat"])
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, OSError):
            raise TokenInvalid() from None
        if now is None:
            return claims
        if issued > now + timedelta(seconds=SKEW_S):
            raise TokenInvalid()
        if claims.expires_at <= now:
            raise TokenExpired()
        return claims

    def claims_of(self, token: str) -> dict[str, Any]:
        """Every claim of a token that this ring signed, whatever its age. Raises TokenInvalid."""
        return self._payload(token)

    def _payload(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST or not SHAPE.fullmatch(token):
            raise TokenInvalid()
        try:
            header = jwt.get_unverified_header(token)
            if set(header) != HEADER or header["typ"] != TYPE or header["alg"] != ALGORITHM:
                raise TokenInvalid()
            return jwt.decode(
                token,
                self._keys[header["kid"]],
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "strict_aud": True},
            )
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, RecursionError):
            raise TokenInvalid() from None


def _instant(value: Any) -> datetime:
    if type(value) is not int:
        raise TypeError("not a NumericDate in whole seconds")
    return datetime.fromtimestamp(value, UTC)
