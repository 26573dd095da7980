"""The keys of access tokens, as the settings name them: the one that signs, and all that verify."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import SecretStr

from app.config import Settings, SettingsError
from app.crypto import signing
from app.crypto.jwt import TokenRing
from app.crypto.signing import SHARED, BadKey, Key

OPENSSL = {
    "EdDSA": "openssl genpkey -algorithm ed25519",
    "ES256": "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    "RS256": "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072",
}


def ring(settings: Settings) -> TokenRing:
    """What signs and verifies. Beside a private key JWT_SECRET_KEY counts nothing, for whoever has it could still sign.

    Raises SettingsError.
    """
    s = settings
    signer = _shared(s.jwt_secret_key, "JWT_SECRET_KEY") if s.jwt_algorithm == SHARED else private_key(s)
    others = {
        name: signing.shared(signing.for_audience(s.jwt_secret_key.get_secret_value(), name))
        if s.jwt_algorithm == SHARED
        else signer
        for name in s.jwt_audiences
    }
    previous = [_shared(secret, "JWT_PREVIOUS_SECRET_KEYS") for secret in s.jwt_previous_secret_keys]
    return TokenRing([signer, *previous, *_public_keys(s)], s.jwt_issuer, s.jwt_audience, others)


def _shared(secret: SecretStr, name: str) -> Key:
    try:
        return signing.shared(secret.get_secret_value())
    except BadKey as why:
        wanted = "JWT_PRIVATE_KEY or JWT_PREVIOUS_PUBLIC_KEYS"
        raise SettingsError(f"{name} {why}; it belongs into {wanted}") from None


def private_key(settings: Settings) -> Key:
    """JWT_PRIVATE_KEY, or what JWT_PRIVATE_KEY_FILE holds. Raises SettingsError if JWT_ALGORITHM cannot use it."""
    given, path = settings.jwt_private_key.get_secret_value(), settings.jwt_private_key_file
    if given and path:
        raise SettingsError("JWT_PRIVATE_KEY and JWT_PRIVATE_KEY_FILE are both set; keep one")
    name, wanted = "JWT_PRIVATE_KEY_FILE" if path else "JWT_PRIVATE_KEY", settings.jwt_algorithm
    try:
        given = path.read_text() if path else given
    except (OSError, ValueError):
        raise SettingsError("JWT_PRIVATE_KEY_FILE names a file that cannot be read") from None
    if not given:
        raise SettingsError(f"{name} is missing; JWT_ALGORITHM={wanted} needs it; make one with: {OPENSSL[wanted]}")
    try:
        key = signing.private(given)
    except BadKey as why:
        raise SettingsError(f"{name} {why}; make one with: {OPENSSL[wanted]}") from None
    if key.algorithm != wanted:
        raise SettingsError(f"{name} is a key for {key.algorithm}, and JWT_ALGORITHM is {wanted}")
    return key


def _public_keys(settings: Settings) -> list[Key]:
    try:
        return [signing.public(given) for given in _plain(settings.jwt_previous_public_keys)]
    except BadKey as why:
        raise SettingsError(f"JWT_PREVIOUS_PUBLIC_KEYS holds one that {why}") from None


def of_audience(settings: Settings, audience: str) -> list[tuple[str, str]]:
    """The secrets of an audience, each with what it does: `signs`, or `verifies` while an earlier or the next secret is
    listed. Empty with private keys alone.
    """
    signer = [settings.jwt_secret_key] if settings.jwt_algorithm == SHARED else []
    named = [(secret, "signs") for secret in _plain(signer)]
    named += [(secret, "verifies") for secret in _plain(settings.jwt_previous_secret_keys)]
    return [(signing.for_audience(secret, audience), does) for secret, does in named]


def _plain(secrets: Iterable[SecretStr]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]
