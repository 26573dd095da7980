"""Why a caller is not let in. Each class has the status and code that the service itself would answer with."""

from __future__ import annotations

from typing import ClassVar


class Refused(Exception):
    """`extra`: figures that stand in the answer beside the code, such as `max_age`."""

    status: ClassVar[int]
    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, **extra: int) -> None:
        super().__init__(self.message)
        self.extra = extra


class InvalidToken(Refused):
    status, code, message = 401, "token_invalid", "The access token is not valid."


class TokenMissing(InvalidToken):
    code, message = "token_missing", "An access token is needed."


class TokenExpired(InvalidToken):
    code, message = "token_expired", "The access token has expired."


class TokenRevoked(InvalidToken):
    code, message = "token_revoked", "The session has ended."


class StepUpNeeded(Refused):
    """Ask the person to prove themselves again at the service (`/api/auth/step-up`), then repeat. RFC 9470."""

    status, code = 401, "insufficient_user_authentication"
    message = "A more recent sign-in is required."


class Forbidden(Refused):
    status, code, message = 403, "forbidden", "The caller's role does not allow this."


class Unavailable(Refused):
    """Nothing is known about the token: the keys or the revocations cannot be had."""

    status, code, message = 503, "unavailable", "Access tokens cannot be checked at the moment."
