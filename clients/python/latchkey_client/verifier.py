"""Decides whether an access token is good: RFC 9068 in the strict form that the service issues, RFC 8725."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import jwt

from latchkey_client import fetch
from latchkey_client.caller import Caller
from latchkey_client.errors import Forbidden, InvalidToken, StepUpNeeded, TokenExpired, TokenMissing, TokenRevoked
from latchkey_client.keys import Jwks, Key, Keys, SharedSecrets
from latchkey_client.revocations import Revocations

TYPE = "at+jwt"
LONGEST = 4096
HEADER = {"alg", "typ", "kid"}
SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]+)")
# Times, expiry among them, are compared with our clock below.
OPTIONS: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "strict_aud": True}


class Verifier:
    """Checks tokens for one audience. Safe to share between threads; make one for a process."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        secrets: Iterable[str] | None = None,
        jwks_url: str | None = None,
        revocations_url: str | None = None,
        api_key: str | None = None,
        poll_every: float = 3,
        max_stale: float | None = 60,
        background: bool = True,
        leeway: float = 10,
        plain_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`issuer`, `audience`: the service's `JWT_ISSUER`, and its `JWT_AUDIENCE` or one of `JWT_AUDIENCES`.

        `secrets`, the current one first; or `jwks_url`; or both while one gives way to the other. `revocations_url`
        with an `api_key` of the scope `tokens:introspect` refuses ended sessions within `poll_every` seconds; see
        Revocations for `max_stale` and `background`. `leeway`: seconds that clocks may differ (at most 30). Raises
        ValueError, TypeError.
        """
        if not issuer or not audience:
            raise ValueError("issuer and audience are needed")
        if (revocations_url is None) != (api_key is None) or api_key == "":
            raise ValueError("revocations_url and api_key belong together")
        if not 0 <= leeway <= 30:
            raise ValueError("leeway is 0 to 30 seconds")
        self.audience = audience
        self._issuer, self._leeway, self._clock = issuer, leeway, clock
        self._rings = _rings(secrets, jwks_url, plain_http=plain_http)
        self.revocations: Revocations | None = None
        if revocations_url is not None and api_key:
            self.revocations = Revocations(
                fetch.checked(revocations_url, plain_http=plain_http), api_key,
                every=poll_every, max_stale=max_stale, background=background, leeway=leeway, clock=clock,
            )  # fmt: skip

    def verify(self, token: str) -> Caller:
        """Who an access token is for. Raises InvalidToken, TokenExpired, TokenRevoked, Unavailable."""
        claims = self._signed(token)
        caller = _read(claims)
        self._check_times(claims)
        if self.revocations and self.revocations.ended(caller.session_id, claims["iat"]):
            raise TokenRevoked
        return caller

    def admit(self, authorization: str | None, *roles: str, max_age: float | None = None) -> Caller:
        """Who sent a request, by its `Authorization` header (RFC 6750, section 2.1), as `require` lets them pass.
        Raises TokenMissing and what `verify` and `require` raise.
        """
        if not authorization or not authorization.strip():
            raise TokenMissing
        found = BEARER.fullmatch(authorization.strip())
        if found is None:
            raise InvalidToken
        caller = self.verify(found[1])
        self.require(caller, *roles, max_age=max_age)
        return caller

    def require(self, caller: Caller, *roles: str, max_age: float | None = None) -> None:
        """Raises Forbidden unless the caller has one of the roles, if any is given; StepUpNeeded unless they signed
        in within `max_age` seconds (RFC 9470).
        """
        if roles and caller.role not in roles:
            raise Forbidden
        if max_age is not None and caller.auth_time.timestamp() + max_age + self._leeway < self._clock():
            raise StepUpNeeded(max_age=int(max_age))

    def _signed(self, token: str) -> dict[str, Any]:
        """The claims of a token of ours, whatever its age."""
        if len(token) > LONGEST or not SHAPE.fullmatch(token):
            raise InvalidToken
        header = _header(token)
        if not set(header) <= HEADER or header.get("typ") != TYPE or not isinstance(header.get("alg"), str):
            raise InvalidToken
        for ring in self._rings:
            for key in ring.candidates(header.get("kid")) if header["alg"] in ring.algorithms else ():
                claims = self._opened(token, key)
                if claims is not None:
                    return claims
        raise InvalidToken

    def _opened(self, token: str, key: Key) -> dict[str, Any] | None:
        try:
            return jwt.decode(
                token, key.material, algorithms=[key.algorithm], issuer=self._issuer, audience=self.audience,
                options=OPTIONS,
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None

    def _check_times(self, claims: dict[str, Any]) -> None:
        now = self._clock()
        if claims["iat"] > now + self._leeway or claims.get("nbf", 0) > now + self._leeway:
            raise InvalidToken
        if claims["exp"] <= now - self._leeway:
            raise TokenExpired


def _rings(secrets: Iterable[str] | None, jwks_url: str | None, *, plain_http: bool) -> list[Keys]:
    shared: list[Keys] = [] if secrets is None else [SharedSecrets(secrets)]
    public: list[Keys] = [] if jwks_url is None else [Jwks(fetch.checked(jwks_url, plain_http=plain_http))]
    if not shared and not public:
        raise ValueError("secrets or jwks_url is needed")
    return shared + public


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidToken from None


def _read(claims: dict[str, Any]) -> Caller:
    """The caller of claims, if every one is there and of its type."""
    texts = [claims.get(name) for name in ("sub", "sid", "role", "jti")]
    times = [claims.get("nbf", 0), *(claims.get(name) for name in ("iat", "exp", "auth_time"))]
    amr = claims.get("amr")
    if not all(isinstance(text, str) and text for text in texts) or not all(type(at) is int for at in times):
        raise InvalidToken
    if not isinstance(amr, list) or not all(isinstance(word, str) for word in amr):
        raise InvalidToken
    try:
        *_, auth_time = [datetime.fromtimestamp(at, UTC) for at in times]
    except (ValueError, OverflowError, OSError):
        raise InvalidToken from None
    return Caller(claims["sub"], claims["sid"], claims["role"], tuple(amr), auth_time, claims)
