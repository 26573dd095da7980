"""A software authenticator: makes passkeys and signs with them, rightly or with one thing wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
AAGUID = bytes.fromhex("00112233445566778899aabbccddeeff")
ES256, EDDSA, RS256 = -7, -8, -257


def text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def raw(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "===")


class Key:
    """A key pair of one algorithm, and its public half as a COSE_Key."""

    def __init__(self, algorithm: int = ES256, *, curve: Any = None, bits: int = 2048) -> None:
        self.algorithm = algorithm
        if algorithm == EDDSA:
            self.private: Any = ed25519.Ed25519PrivateKey.generate()
        elif algorithm == RS256:
            self.private = rsa.generate_private_key(65537, bits)
        else:
            self.private = ec.generate_private_key(curve or ec.SECP256R1())

    def cose(self) -> dict[int, Any]:
        public = self.private.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            return {1: 1, 3: self.algorithm, -1: 6, -2: public.public_bytes_raw()}
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return {1: 3, 3: self.algorithm, -1: numbers.n.to_bytes(public.key_size // 8), -2: b"\x01\x00\x01"}
        point, size = public.public_numbers(), (public.key_size + 7) // 8
        curves = {"secp256r1": 1, "secp384r1": 2, "secp521r1": 3}
        return {1: 2, 3: self.algorithm, -1: curves[public.curve.name], -2: point.x.to_bytes(size), -3: point.y.to_bytes(size)}  # fmt: skip

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(data)
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))


@dataclass
class Held:
    """A credential as its authenticator keeps it."""

    id: bytes
    key: Key
    handle: bytes
    count: int


@dataclass
class Authenticator:
    """What a phone or a security key does behind `navigator.credentials`, in a browser at `origin`."""

    origin: str = "http://localhost:5000"
    counts: bool = True  # False: its counter stays 0, as with keys that are synced
    flags: int = UP | UV
    held: list[Held] = field(default_factory=list)

    def create(self, options: dict[str, Any], *, key: Key | None = None, **wrong: Any) -> dict[str, Any]:
        """The answer to PublicKeyCredentialCreationOptionsJSON. `wrong`: one thing other than it should be."""
        held = Held(
            wrong.get("credential_id", secrets.token_bytes(32)),
            key or Key(),
            raw(options["user"]["id"]),
            int(self.counts),
        )
        self.held.append(held)
        cose = wrong.get("cose", cbor2.dumps(held.key.cose()))
        attested = wrong.get("aaguid", AAGUID) + struct.pack(">H", len(held.id)) + held.id + cose
        data = self._data(wrong.get("rp_id", options["rp"]["id"]), held.count, wrong, AT) + attested
        client = self._client(wrong.get("type", "webauthn.create"), options["challenge"], wrong)
        statement = wrong.get("statement", {})
        if wrong.get("fmt") == "packed" and not statement:
            statement = {"alg": held.key.algorithm, "sig": held.key.sign(data + hashlib.sha256(client).digest())}
        attestation = cbor2.dumps({"fmt": wrong.get("fmt", "none"), "attStmt": statement, "authData": data})
        response = {"clientDataJSON": text(client), "attestationObject": text(attestation), "transports": ["internal"]}
        return _credential(held.id, response)

    def get(self, options: dict[str, Any], *, held: Held | None = None, **wrong: Any) -> dict[str, Any]:
        """The answer to PublicKeyCredentialRequestOptionsJSON."""
        held = held or self._fitting(options)
        held.count += int(self.counts)
        data = self._data(wrong.get("rp_id", options["rpId"]), wrong.get("count", held.count), wrong)
        client = self._client(wrong.get("type", "webauthn.get"), options["challenge"], wrong)
        signature = (wrong.get("key") or held.key).sign(data + hashlib.sha256(client).digest())
        response = {"clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature)}
        handle = wrong.get("handle", held.handle)
        return _credential(held.id, {**response, "userHandle": None if handle is None else text(handle)})

    def _fitting(self, options: dict[str, Any]) -> Held:
        allowed = [raw(credential["id"]) for credential in options.get("allowCredentials", [])]
        return next(held for held in reversed(self.held) if not allowed or held.id in allowed)

    def _data(self, rp_id: str, count: int, wrong: dict[str, Any], more: int = 0) -> bytes:
        flags = wrong.get("flags", self.flags) | more
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + struct.pack(">I", count)

    def _client(self, kind: str, challenge: str, wrong: dict[str, Any]) -> bytes:
        said = {
            "type": kind,
            "challenge": wrong.get("challenge", challenge),
            "origin": wrong.get("origin", self.origin),
        }
        return json.dumps({**said, "crossOrigin": False, **wrong.get("said", {})}).encode()


def _credential(credential_id: bytes, response: dict[str, Any]) -> dict[str, Any]:
    name = text(credential_id)
    return {
        "id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {},
        "authenticatorAttachment": "platform",
    }  # fmt: skip
