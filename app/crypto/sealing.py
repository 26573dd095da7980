"""Sealed at rest: what must be read again, and by nobody but this service (AES-256-GCM; NIST SP 800-38D)."""

from __future__ import annotations

import base64
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.crypto.keys import KeyRing, Purpose

NONCE_BYTES = 12  # random: for 2**32 seals of one key at most, says docs/keys.md


def seal(keys: KeyRing, purpose: Purpose, plain: bytes, *bound: str) -> str:
    """Text that opens to `plain` with the same purpose and the same `bound` parts only, so that a row's value is of no
    use in another row. Made with the ring's current key, whose id it carries.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(keys.key(purpose)).encrypt(nonce, plain, _bound(bound))
    return f"{keys.current}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"


def unseal(keys: KeyRing, purpose: Purpose, text: str, *bound: str) -> bytes:
    """What was sealed. KeyError if its key left the ring, ValueError if it was changed or belongs elsewhere."""
    key_id, _, body = text.partition(".")
    key, data = keys.key(purpose, key_id), base64.urlsafe_b64decode(body)
    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _bound(bound))
    except InvalidTag:
        raise ValueError("this seal was broken, or is another's") from None


def key_of(text: str) -> str:
    """The id of the key that sealed a text."""
    return text.partition(".")[0]


def _bound(parts: tuple[str, ...]) -> bytes:
    """Each part with its length, so ("ab", "c") and ("a", "bc") differ."""
    return b"".join(len(part).to_bytes(4) + part for part in (p.encode() for p in parts))
