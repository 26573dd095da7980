"""Access tokens: JWTs that other backends verify with a shared secret or a public key.

Explicit type `at+jwt` (RFC 9068), keys found by exact `kid`, each with the one algorithm that it is for, every claim
required and typed (RFC 8725). Times are compared with the caller's clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from jwt.utils import base64url_decode

from app.crypto.signing import Key
from app.errors import TokenExpired, TokenInvalid

TYPE = "at+jwt"
LONGEST = 4096
HEADER = {"alg", "typ", "kid"}
SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
SKEW_S = 30  # how far ahead the clock of another worker may be
JWS = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: UUID
    session_id: UUID
    role: str
    auth_time: datetime
    expires_at: datetime


class TokenRing:
    def __init__(
        self, keys: Sequence[Key], issuer: str, audience: str, others: Mapping[str, Key] | None = None
    ) -> None:
        """`keys`: the first signs, all verify. `others`: other audiences, and what signs for each; nothing verifies
        their tokens here.
        """
        self._keys = {key.id: key for key in reversed(keys)}  # of two with one id, the first
        self._signers = {audience: keys[0], **(others or {})}
        self._issuer, self._audience = issuer, audience

    @property
    def audiences(self) -> list[str]:
        """For whom tokens can be signed, our own audience first."""
        return list(self._signers)

    def jwks(self) -> list[dict[str, str]]:
        """The public keys that verify, as a JWK Set's `keys` (RFC 7517, section 5); the one that signs first."""
        return [key.jwk for key in reversed(self._keys.values()) if key.jwk]

    def issue(self, claims: dict[str, Any], audience: str | None = None) -> str:
        """Sign claims, adding `iss` and `aud`: our own, or another one. KeyError for one that is not known."""
        aud = audience or self._audience
        key = self._signers[aud]
        return jwt.encode(
            {"iss": self._issuer, "aud": aud, **claims},
            key.signs,
            algorithm=key.algorithm,
            headers={"typ": TYPE, "kid": key.id},
        )

    def read(self, token: str, now: datetime | None) -> Claims:
        """The claims of a token that this ring signed; without `now`, whatever its age. Raises TokenInvalid or
        TokenExpired.
        """
        payload = self.claims_of(token)
        try:
            claims = Claims(
                user_id=_uuid(payload["sub"]),
                session_id=_uuid(payload["sid"]),
                role=payload["role"],
                auth_time=_instant(payload["auth_time"]),
                expires_at=_instant(payload["exp"]),
            )
            issued = _instant(payload["iat"])
            begins = max(issued, claims.auth_time, _instant(payload.get("nbf", payload["iat"])))
            _check_the_rest(payload)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, OSError):
            raise TokenInvalid() from None
        if now is None:
            return claims
        if begins > now + timedelta(seconds=SKEW_S):
            raise TokenInvalid()
        if claims.expires_at <= now:
            raise TokenExpired()
        return claims

    def claims_of(self, token: str) -> dict[str, Any]:
        """Every claim of a token that this ring signed, whatever its age. Raises TokenInvalid."""
        if len(token) > LONGEST or not SHAPE.fullmatch(token):
            raise TokenInvalid()
        try:
            header, payload = (_object(part) for part in token.split(".")[:2])
            key = self._keys[header["kid"]]
            if set(header) != HEADER or header["typ"] != TYPE or header["alg"] != key.algorithm:
                raise TokenInvalid()
            check_signature(token, key.verifies, key.algorithm)
            if (payload["iss"], payload["aud"]) != (self._issuer, self._audience):
                raise TokenInvalid()
            return dict(payload)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, RecursionError):
            raise TokenInvalid() from None


def check_signature(token: str, key: Any, algorithm: str) -> None:
    """Raises jwt.PyJWTError unless the key signed it by this algorithm, whatever its header asks for."""
    JWS.decode(token, key, algorithms=[algorithm])


def _instant(value: Any) -> datetime:
    if type(value) is not int or value < 0:
        raise TypeError("not a NumericDate in whole seconds")
    return datetime.fromtimestamp(value, UTC)


def _uuid(value: str) -> UUID:
    found = UUID(value)
    if str(found) != value:
        raise ValueError("another spelling of a UUID")
    return found


def _check_the_rest(payload: dict[str, Any]) -> None:
    """The claims that nothing here goes by, but others do, and that introspection tells them."""
    _uuid(payload["jti"])
    amr = payload["amr"]
    if type(amr) is not list or not amr or any(type(word) is not str for word in amr):
        raise TypeError("not a list of methods")


def _object(part: str) -> Any:
    """What a part of a token says, if every parser sees the same members: in UTF-8, and no name stands twice (RFC 8725,
    2.4 and 3.7). Raises ValueError.
    """
    return json.loads(base64url_decode(part).decode(), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found
