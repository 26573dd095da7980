"""One-time codes: derived, never stored.

A code is an HOTP value over a random factor kept in the challenge's row, so whoever holds the row and the
key can say it again: the courier at the moment of sending, a resend, a repeat after a crash. What a guess
is compared with is a keyed digest, bound to the challenge, its purpose and its subject.
"""

from __future__ import annotations

import hmac
import secrets
from uuid import UUID

from app.crypto.keys import KeyRing, Purpose


def hotp(key: bytes, counter: bytes, digits: int, algorithm: str) -> str:
    """The HOTP value of a counter (RFC 4226, section 5.3; RFC 6238, section 1.2 for SHA-256)."""
    mac = hmac.digest(key, counter, algorithm)
    offset = mac[-1] & 0x0F
    value = int.from_bytes(mac[offset : offset + 4]) & 0x7FFF_FFFF
    return str(value % 10**digits).zfill(digits)


def new_factor() -> str:
    """The moving factor of one challenge: 128 random bits, hex."""
    return secrets.token_hex(16)


def derive(keys: KeyRing, key_id: str, factor: str, digits: int) -> str:
    """The digits of a challenge. KeyError if its key left the ring."""
    return hotp(keys.key(Purpose.CODES, key_id), bytes.fromhex(factor), digits, "sha256")


def fresh(keys: KeyRing, digits: int, challenge: UUID, purpose: str, subject: UUID | None) -> dict[str, str]:
    """What is kept of a new code: the key it is derived from, its factor, and its digest."""
    key_id, factor = keys.current, new_factor()
    code = derive(keys, key_id, factor, digits)
    kept = digest(keys, key_id, code, challenge=challenge, purpose=purpose, subject=subject)
    return {"key_id": key_id, "factor": factor, "digest": kept}


def digest(keys: KeyRing, key_id: str, code: str, *, challenge: UUID, purpose: str, subject: UUID | None) -> str:
    """What is kept of a code, hex. The same digits for another challenge, purpose or subject give another digest."""
    bound = (challenge.hex, purpose, subject.hex if subject else "", code)
    return keys.mac(Purpose.DIGESTS, *bound, key_id=key_id).hex()
