"""The key ring: one HKDF key per purpose over each SECRET_KEY, told apart by a key id.

New values are made with the current key; what an earlier key made still checks while that key is listed in
SECRET_KEY_PREVIOUS.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

TOKEN_BYTES = 32  # 256 random bits in every opaque token


class Purpose(StrEnum):
    CODES = "codes"  # which digits a challenge asks for
    DIGESTS = "digests"  # what is kept of a code
    SUCCESSORS = "successors"  # which refresh token follows another
    REPEATS = "repeats"  # telling a request sent twice from another one
    CLIENTS = "clients"  # recognising a browser or phone without keeping its address for ever
    ANSWERS = "answers"  # sealing what a request that is sent twice gets again
    FACTORS = "factors"  # sealing the secrets of authenticator apps
    BACKUP_CODES = "backup_codes"  # what is kept of them
    PASSKEYS = "passkeys"  # what an authenticator is asked to sign
    AUDIT = "audit"  # signing audit rows as they are written
    SEALS = "seals"  # sealing them in batches
    DEVICES = "devices"  # the keys of devices, over MASTER_SECRET in place of SECRET_KEY


class KeyRing:
    def __init__(self, master_keys: Sequence[str]) -> None:
        """`master_keys`: SECRET_KEY first, then SECRET_KEY_PREVIOUS."""
        self._masters = {_derive(m, b"id")[:4].hex(): m for m in master_keys}
        self._derived: dict[tuple[str, Purpose], bytes] = {}
        self.ids = list(self._masters)
        self.current = self.ids[0]

    def key(self, purpose: Purpose, key_id: str | None = None) -> bytes:
        """The 256-bit key of a purpose (RFC 5869, the purpose as `info`). KeyError for a key id that left the ring."""
        slot = (key_id or self.current, purpose)
        if slot not in self._derived:
            self._derived[slot] = _derive(self._masters[slot[0]], purpose.encode())
        return self._derived[slot]

    def mac(self, purpose: Purpose, *parts: str, key_id: str | None = None) -> bytes:
        """HMAC-SHA-256 over the parts, each with its length, so ("ab", "c") and ("a", "bc") differ."""
        message = b"".join(len(p).to_bytes(4) + p for p in (part.encode() for part in parts))
        return hmac.digest(self.key(purpose, key_id), message, "sha256")


def _derive(master: str, info: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=b"latchkey/1/" + info).derive(master.encode())


def new_token() -> str:
    """An opaque bearer string: 256 random bits, base64url."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_digest(token: str) -> str:
    """SHA-256 in hex: all that is stored of a bearer string. Enough for 256 random bits (ASVS 6.5.2)."""
    return hashlib.sha256(token.encode()).hexdigest()
