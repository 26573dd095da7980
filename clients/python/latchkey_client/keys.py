"""The keys that tokens are verified with: shared secrets, and public keys from the service's JWKS. Each verifies one
algorithm, so that neither is ever used as the other (RFC 8725, section 3.1).
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jwt import PyJWK, PyJWKError, PyJWTError

from latchkey_client import fetch
from latchkey_client.errors import Unavailable
from latchkey_client.forks import after_fork

PEM = ("-----BEGIN ", "LS0tLS1CRUdJTi")  # how a key in PEM begins, and the base64 of it
SHORTEST = 32  # bytes of a secret; RFC 7518, section 3.2
SMALLEST_RSA = 2048  # bits; RFC 7518, section 3.3
MAX_AGE_S = 300  # the JWKS says the same in its Cache-Control
PAUSE_S = 5  # between two fetches, whatever tokens come
MAX_STALE_S = 3600  # how long known keys serve while the JWKS cannot be had
ALGORITHMS = {"OKP Ed25519": "EdDSA", "EC P-256": "ES256", "RSA": "RS256"}

log = logging.getLogger("latchkey_client")


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the one algorithm that it may verify."""

    algorithm: str
    material: Any


class Keys(Protocol):
    algorithms: tuple[str, ...]

    def candidates(self, kid: str | None) -> Sequence[Key]:
        """The keys that may have signed a token with this `kid`. Raises Unavailable."""
        ...


def key_id(secret: str) -> str:
    """The `kid` of a shared secret, as the service makes it."""
    return hmac.digest(secret.encode(), b"latchkey/kid", "sha256")[:4].hex()


class SharedSecrets:
    """A ring: the current secret and those that came before it. The `kid` names one; without a match each is tried."""

    algorithms: tuple[str, ...] = ("HS256",)

    def __init__(self, secrets: Iterable[str]) -> None:
        """Blank entries are left out, as an empty setting that is split leaves one. Raises TypeError, ValueError."""
        if isinstance(secrets, str):
            raise TypeError("secrets is a list of strings")
        kept = [secret.strip() for secret in secrets if secret.strip()]
        if not kept:
            raise ValueError("no secret is given")
        if any(len(secret.encode()) < SHORTEST for secret in kept):
            raise ValueError(f"a secret is shorter than {SHORTEST} bytes")
        if any(secret.startswith(PEM) for secret in kept):
            raise ValueError("a secret is a key in PEM: of a public one everybody could sign")
        self._by_id = {key_id(secret): Key("HS256", secret) for secret in kept}

    def candidates(self, kid: str | None) -> Sequence[Key]:
        found = self._by_id.get(kid or "")
        return [found] if found else list(self._by_id.values())


class Jwks:
    """Public keys, fetched when they are first needed, every five minutes, and when a token names an unknown one.

    PyJWKClient is not used: while the service is away it forgets the keys after their life, and each stranger's token
    makes it fetch again.
    """

    algorithms: tuple[str, ...] = tuple(ALGORITHMS.values())

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, Key] = {}
        self._lock = threading.Lock()
        self._got_at: float | None = None
        self._tried_at: float | None = None
        self._failed = False
        after_fork(self._fresh_process)

    def _fresh_process(self) -> None:
        """A forked process inherits the keys, but no lock that can be relied on."""
        self._lock = threading.Lock()

    def candidates(self, kid: str | None) -> Sequence[Key]:
        if kid is None:
            return []
        age = _age(self._got_at)
        if age > MAX_AGE_S or kid not in self._keys:
            self._refresh(wait=kid not in self._keys or age > MAX_STALE_S)
        if kid in self._keys and _age(self._got_at) <= MAX_STALE_S:
            return [self._keys[kid]]
        if self._failed:
            raise Unavailable(retry_after=PAUSE_S)  # it may be a new key
        return []

    def _refresh(self, *, wait: bool) -> None:
        """Fetch, unless that was tried a moment ago. Only one at a time; the others wait for it if they must."""
        if not self._lock.acquire(blocking=wait):
            return
        try:
            if _age(self._tried_at) >= PAUSE_S:
                self._fetch()
        finally:
            self._lock.release()

    def _fetch(self) -> None:
        started = time.monotonic()
        try:
            reply = fetch.get(self._url, {})
            if reply.status != 200:
                raise fetch.Failed(f"{self._url} answered {reply.status}")
            self._keys, self._got_at, self._failed = _parsed(reply.body), started, False
            if not self._keys:
                log.warning("%s names no public key: does the service sign with a shared secret?", self._url)
        except fetch.Failed as failed:
            self._failed = True
            log.warning("the public keys cannot be had: %s", failed)
        finally:
            self._tried_at = time.monotonic()


def _age(at: float | None) -> float:
    return float("inf") if at is None else time.monotonic() - at


def _parsed(body: Any) -> dict[str, Key]:
    entries = body.get("keys") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        raise fetch.Failed("what came is no JWKS")
    found = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("kid"), str) and (key := _usable(entry)):
            found[entry["kid"]] = key
    return found


def _usable(entry: dict[str, Any]) -> Key | None:
    """A key of the kinds that the service signs with, bound to its algorithm; None for any other, as for a secret."""
    kind = "RSA" if entry.get("kty") == "RSA" else f"{entry.get('kty')} {entry.get('crv')}"
    algorithm = ALGORITHMS.get(kind)
    if algorithm is None or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        return None
    try:
        material = PyJWK(entry, algorithm).key
    except (PyJWKError, PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "RS256" and material.key_size < SMALLEST_RSA:
        return None
    return Key(algorithm, material)
