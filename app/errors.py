"""Refusals: the expected noes a client can act on. No HTTP numbers here (`web/problems.py` has them).

A Refusal is a fact, not a fault: its unit of work is committed, so the counter that it raised and the audit
line that it wrote stay. `message` is safe to show to anybody.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Refusal(Exception):
    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, **extra: Any) -> None:
        """`extra` holds what helps the client: `errors`, `retry_after` (s), `attempts_left`, `max_age` (s); and for the
        log alone, `cause`.
        """
        super().__init__(self.code)
        self.extra = extra
        self.audited = False  # True once its row is written
        self.by: Any = None  # the Caller who was refused, where that is known


class MalformedJson(Refusal):
    code, message = "malformed_json", "The body is not a JSON object."


class UnsupportedMediaType(Refusal):
    code, message = "unsupported_media_type", "Send the body as application/json."


class PayloadTooLarge(Refusal):
    code, message = "payload_too_large", "The body is larger than 64 KiB."


class ValidationFailed(Refusal):
    code, message = "validation_failed", "One or more fields are missing or wrong."

    @classmethod
    def field(cls, field: str, code: str, message: str) -> ValidationFailed:
        return cls(errors=[{"field": field, "code": code, "message": message}])


class InvalidCredentials(Refusal):
    code, message = "invalid_credentials", "The identifier or the password is wrong."


class InvalidCode(Refusal):
    code, message = "invalid_code", "The code is wrong."


class ChallengeClosed(Refusal):
    code, message = "challenge_closed", "This code can no longer be used. Start again."


class AccountLocked(Refusal):
    code, message = "account_locked", "Too many wrong guesses. Wait before you try again."


class RateLimited(Refusal):
    code, message = "rate_limited", "Too many requests. Wait before you try again."


class IdempotencyMismatch(Refusal):
    code, message = "idempotency_mismatch", "This Idempotency-Key was used for another request."


class ResendTooSoon(Refusal):
    code, message = "resend_too_soon", "A code was sent a moment ago. Wait before you ask for another."


class TokenMissing(Refusal):
    code, message = "token_missing", "Sign in first; a server sends its API key as `Authorization: Bearer`."


class TokenInvalid(Refusal):
    code, message = "token_invalid", "This token is not valid here."


class TokenExpired(Refusal):
    code, message = "token_expired", "The token has expired."


class TokenRevoked(Refusal):
    code, message = "token_revoked", "The session has ended. Sign in again."


class TokenReused(Refusal):
    code, message = "token_reused", "This refresh token was used before. The session has ended; sign in again."


class InsufficientUserAuthentication(Refusal):
    code, message = "insufficient_user_authentication", "Sign in again to do this."


class Forbidden(Refusal):
    code, message = "forbidden", "You may not do this."


class CrossSiteRequest(Refusal):
    code, message = "cross_site_request", "Another site may not do this, unless its origin is in CORS_ORIGINS."


class HttpsRequired(Refusal):
    code, message = "https_required", "Call this over https: the proxy in front says that this came over http."


class NotFound(Refusal):
    code, message = "not_found", "There is nothing here."


class MethodNotAllowed(Refusal):
    code, message = "method_not_allowed", "This path does not take this method."


class UsernameTaken(Refusal):
    code, message = "username_taken", "This username is taken."


class Conflict(Refusal):
    code, message = "conflict", "This clashes with what is there."


class LastAdmin(Refusal):
    code, message = "last_admin", "Nobody else is an admin who can sign in. Make somebody one first."


class Overloaded(Refusal):
    code, message = "overloaded", "The service is busy. Try again in a moment."


class Unavailable(Refusal):
    code, message = "unavailable", "The service cannot reach its database. Try again in a moment."
