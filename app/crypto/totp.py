"""Time-based one-time passwords (RFC 6238) with HMAC-SHA-1, the one algorithm that every authenticator app knows."""

from __future__ import annotations

import base64
import hmac
import secrets
from datetime import datetime
from urllib.parse import quote, urlencode

from app.crypto.codes import hotp

ALGORITHM = "SHA1"  # as otpauth URIs spell it
COUNTER_BYTES = 8  # RFC 4226, section 5.1
SECRET_BYTES = 20  # 160 bits, as RFC 4226, section 4, recommends
DIGITS, INTERVAL = 6, 30  # of people's apps, some of which know no others


def step_at(now: datetime, interval: int = 30) -> int:
    """The time step T of an instant: whole intervals of seconds since 1970 (RFC 6238, section 4.2, with T0 = 0)."""
    return int(now.timestamp()) // interval


def new_secret() -> bytes:
    """The secret of an authenticator app: 160 random bits."""
    return secrets.token_bytes(SECRET_BYTES)


def spelled(secret: bytes) -> str:
    """A secret as people type it: base32 without padding (RFC 4648, section 6)."""
    return base64.b32encode(secret).decode().rstrip("=")


def uri(secret: bytes, issuer: str, account: str) -> str:
    """What the QR code of an enrolment says (the Key Uri Format of the authenticator apps). `issuer` and `account` are
    what the app shows.
    """
    issuer = issuer.replace(":", " ")  # parts the two in the label
    label = quote(issuer, safe="") + ":" + quote(account, safe="@")
    facts = {"secret": spelled(secret), "issuer": issuer, "algorithm": ALGORITHM, "digits": DIGITS, "period": INTERVAL}
    return f"otpauth://totp/{label}?{urlencode(facts, quote_via=quote)}"


def code_of(key: bytes, step: int, digits: int = 6) -> str:
    """The digits that a key shows during a step (RFC 6238, section 4.2; RFC 4226, section 5.3)."""
    return hotp(key, step.to_bytes(COUNTER_BYTES), digits, "sha1")


def match(
    key: bytes, code: str, now: datetime, *, digits: int = 6, interval: int = 30, window: int = 1, after: int = -1
) -> int | None:
    """The newest step later than `after` that shows this code, or None.

    Looks at the step of `now` and at `window` steps before and behind it, for slow people and clocks that drift (RFC
    6238, sections 5.2 and 6). Every step is compared in constant time, whichever matches. A code is to be accepted
    once only: the caller stores the step with a guarded write, and nothing at or before it counts again.
    """
    here, found = step_at(now, interval), None
    for step in range(max(0, here - window), here + window + 1):
        same = hmac.compare_digest(code_of(key, step, digits).encode(), code.encode(errors="replace"))
        if same and step > after:
            found = step
    return found
