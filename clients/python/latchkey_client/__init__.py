"""Who is calling? Checks the access tokens of Latchkey in another backend."""

from latchkey_client.caller import Caller
from latchkey_client.errors import (
    Forbidden,
    InvalidToken,
    Refused,
    StepUpNeeded,
    TokenExpired,
    TokenMissing,
    TokenRevoked,
    Unavailable,
)
from latchkey_client.verifier import Verifier

__all__ = [
    "Caller",
    "Forbidden",
    "InvalidToken",
    "Refused",
    "StepUpNeeded",
    "TokenExpired",
    "TokenMissing",
    "TokenRevoked",
    "Unavailable",
    "Verifier",
]
