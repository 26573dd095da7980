"""Makes tokens as the service does, and such as it never would."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

KEY, OLD = "k" * 44 + "1234567890abcdefghij", "o" * 44 + "0987654321zyxwvutsrq"  # long enough for HS512 too
ISSUER, AUDIENCE = "latchkey", "clinic"
NOW = 1_795_000_000
ALGORITHMS = ("HS256", "EdDSA", "ES256", "RS256")
PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def secret_id(secret: str) -> str:
    return hmac.digest(secret.encode(), b"latchkey/kid", "sha256")[:4].hex()


@dataclass(frozen=True)
class Mint:
    """A signing key. `...` as a change takes a header field or claim away."""

    alg: str
    kid: str
    sign: Callable[[bytes], bytes]
    jwk: dict[str, Any] | None = None
    public: Any = None
    now: int = NOW
    issuer: str = ISSUER
    audience: str = AUDIENCE

    def claims(self, **changes: Any) -> dict[str, Any]:
        usual = {
            "iss": self.issuer, "aud": self.audience, "sub": str(uuid4()), "sid": str(uuid4()), "jti": str(uuid4()),
            "iat": self.now, "exp": self.now + 900, "auth_time": self.now, "role": "user", "amr": ["pwd", "email"],
        }  # fmt: skip
        return {k: v for k, v in (usual | changes).items() if v is not ...}

    def header(self, **changes: Any) -> dict[str, Any]:
        usual = {"alg": self.alg, "typ": "at+jwt", "kid": self.kid}
        return {k: v for k, v in (usual | changes).items() if v is not ...}

    def token(self, header: Any = None, sign: Callable[[bytes], bytes] | None = None, **claims: Any) -> str:
        return self.signed(self.header(**(header or {})), self.claims(**claims), sign)

    def signed(self, header: Any, payload: Any, sign: Callable[[bytes], bytes] | None = None) -> str:
        body = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(payload).encode())}"
        return f"{body}.{b64((sign or self.sign)(body.encode()))}"


def macs(key: bytes, digest: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda body: hmac.digest(key, body, digest)


def shared(secret: str, **more: Any) -> Mint:
    return Mint("HS256", secret_id(secret), macs(secret.encode()), **more)


@cache
def private(alg: str, kid: str = "2026", bits: int = 2048) -> Mint:
    """A mint with a new key pair; the same one for the same arguments."""
    if alg == "EdDSA":
        okp = ed25519.Ed25519PrivateKey.generate()
        return _mint(alg, kid, okp.sign, okp.public_key(), OKPAlgorithm.to_jwk(okp.public_key(), as_dict=True))
    if alg == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return _mint(alg, kid, lambda body: _joined(key.sign(body, ec.ECDSA(hashes.SHA256()))), key.public_key(), jwk)
    pair = rsa.generate_private_key(65537, bits)
    jwk = RSAAlgorithm.to_jwk(pair.public_key(), as_dict=True)
    sign = lambda body: pair.sign(body, padding.PKCS1v15(), hashes.SHA256())  # noqa: E731
    return _mint(alg, kid, sign, pair.public_key(), jwk)


def _mint(alg: str, kid: str, sign: Any, public: Any, jwk: dict[str, Any]) -> Mint:
    jwk.pop("key_ops", None)
    return Mint(alg, kid, sign, {**jwk, "kid": kid, "alg": alg, "use": "sig"}, public)


def _joined(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def of(alg: str) -> Mint:
    return shared(KEY) if alg == "HS256" else private(alg)
