"""Keys of access tokens: each is for one algorithm, whatever a token's header says (RFC 8725, section 3.1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SHARED = "HS256"
RSA_BITS = range(2048, 4097)  # shorter ones are weak (NIST SP 800-57 part 1, table 2), longer ones slow to use
RSA_EXPONENT = 65_537
NEW_RSA_BITS = 3072
MEMBERS = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
MARK = "-----BEGIN "
PEM = (MARK, base64.b64encode(MARK.encode()).decode()[:14])  # how a key in PEM begins, and the base64 of it
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey


class BadKey(ValueError):
    """Not a key that may sign or verify tokens; `str()` says why and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Key:
    """One that verifies tokens of its own algorithm, and signs them if it has what that takes."""

    id: str
    algorithm: str
    verifies: Any = field(repr=False)
    signs: Any = field(repr=False, default=None)
    jwk: dict[str, str] | None = None  # what anybody may know of it (RFC 7517); a shared secret has nothing


def key_id(secret: str) -> str:
    """The `kid` of a shared secret: 32 bits that say which key, and nothing about it."""
    return hmac.digest(secret.encode(), b"latchkey/kid", "sha256")[:4].hex()


def shared(secret: str) -> Key:
    """The key of a shared secret (HS256): who verifies with it can sign with it. Raises BadKey for a key in PEM: of a
    public one everybody could.
    """
    if secret.strip().startswith(PEM):
        raise BadKey("is a key in PEM and no shared secret")
    return Key(key_id(secret), SHARED, secret, secret)


def for_audience(secret: str, audience: str) -> str:
    """The shared secret of one audience (HKDF, RFC 5869): it tells nothing of the secret it comes from, nor of another
    audience's.
    """
    info = b"latchkey/1/audience/" + audience.encode()
    derived = HKDF(SHA256(), length=32, salt=None, info=info).derive(secret.encode())
    return base64.urlsafe_b64encode(derived).rstrip(b"=").decode()


def private(text: str) -> Key:
    """The signing key of a private key in PEM; its algorithm follows from its kind. Raises BadKey."""
    given = pem(text)
    try:
        found = load_pem_private_key(given, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("is not a private key in PEM without a password") from None
    return _pair(found.public_key(), found)


def public(text: str) -> Key:
    """The verifying key of a public key in PEM. Raises BadKey, for a private one too."""
    given = pem(text)
    try:
        found = load_pem_public_key(given)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("is not a public key in PEM") from None
    return _pair(found)


def pem(text: str) -> bytes:
    """A PEM file, from its own lines, from one line with \\n in it, or from its base64, as hosts take variables."""
    found = text.strip().replace("\\n", "\n")
    if not found.startswith(MARK):
        try:
            return base64.b64decode(found, validate=True)
        except ValueError:  # binascii.Error, and of letters beyond ASCII
            raise BadKey("is neither PEM nor the base64 of it") from None
    return found.encode() + b"\n"


def _pair(verifies: Any, signs: Any = None) -> Key:
    algorithm, jwk = _described(verifies)
    members = {name: jwk[name] for name in MEMBERS[jwk["kty"]]}
    told = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    kid = base64.urlsafe_b64encode(hashlib.sha256(told).digest()).rstrip(b"=").decode()  # RFC 7638
    return Key(kid, algorithm, verifies, signs, {"kid": kid, "use": "sig", "alg": algorithm, **members})


def _described(key: Any) -> tuple[str, dict[str, Any]]:
    """The one algorithm of a public key, and its JWK. Raises BadKey."""
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA", OKPAlgorithm.to_jwk(key, as_dict=True)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256", ECAlgorithm.to_jwk(key, as_dict=True)
    if not isinstance(key, RSAPublicKey):
        raise BadKey("is of no known kind: Ed25519 (EdDSA), P-256 (ES256) or RSA (RS256)")
    if key.key_size not in RSA_BITS:
        raise BadKey(f"has {key.key_size} bits; RSA needs {RSA_BITS[0]} to {RSA_BITS[-1]}")
    if key.public_numbers().e < RSA_EXPONENT:
        raise BadKey(f"has a public exponent below {RSA_EXPONENT}")
    return "RS256", RSAAlgorithm.to_jwk(key, as_dict=True)


def make(algorithm: str) -> str:
    """A new private key for an algorithm, in PEM (PKCS #8). KeyError for one that has none."""
    new: dict[str, Callable[[], PrivateKey]] = {
        "EdDSA": Ed25519PrivateKey.generate,
        "ES256": lambda: generate_private_key(SECP256R1()),
        "RS256": lambda: generate_rsa(RSA_EXPONENT, NEW_RSA_BITS),
    }
    made = new[algorithm]()
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: Key) -> str:
    """The public half of a key, in PEM."""
    found: bytes = key.verifies.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found.decode()


def one_line(text: str) -> str:
    """A PEM file as one line, for hosts whose variables have no more."""
    return base64.b64encode(text.encode()).decode()
