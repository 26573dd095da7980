"""Passkeys: the two ceremonies of Web Authentication, as bytes in and verdicts out (W3C WebAuthn level 3, section 7).

The library does the long list of checks; here stands what it leaves open: which keys are taken, that no other site
frames the page, whose key it is, and that whatever comes is either right or refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    options_to_json_dict,
    parse_authentication_credential_json,
    parse_registration_credential_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier as Algorithm
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AttestationFormat,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from app.crypto.keys import KeyRing, Purpose

ALGORITHMS = [Algorithm.ECDSA_SHA_256, Algorithm.EDDSA, Algorithm.RSASSA_PKCS1_v1_5_SHA_256]  # preferred first
LONGEST_ID = 1023  # bytes of a credential's id (section 4)
LONGEST_KEY = 1023  # bytes of a COSE_Key; one of RSA with 4,096 bits has some 530
RSA_BITS = range(2048, 4097)  # shorter ones are weak, longer ones slow to check
ATTESTATIONS = (AttestationFormat.NONE, AttestationFormat.PACKED)  # none is asked for; by itself, one may sign itself


class NotAccepted(ValueError):
    """What came is not what an authenticator of this account answers here and now; or not an answer at all."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who asks: the domain (relying party id), its name for people, and the origins whose pages may ask."""

    id: str
    name: str
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose passkey it is to be: the user's id, and what their authenticator shows."""

    id: UUID
    name: str
    shown: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as browsers name it: its id and how it is reached."""

    id: str  # base64url
    transports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Registered:
    """What an authenticator has made."""

    credential_id: bytes
    public_key: bytes  # COSE_Key (RFC 9052)
    sign_count: int
    aaguid: str
    transports: tuple[str, ...]
    synced: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept of a credential, and whose it is."""

    public_key: bytes
    sign_count: int
    owner: UUID
    synced: bool


def challenge(keys: KeyRing, key_id: str, row_id: UUID) -> bytes:
    """The 32 bytes that a stored question asks to have signed: derived, so nothing more is stored, and another
    question's are others (section 13.4.3). A code that is sent anew leaves them. KeyError if its key left the ring.
    """
    return keys.mac(Purpose.PASSKEYS, row_id.hex, key_id=key_id)


def creation_options(
    party: Party, asked: bytes, holder: Holder, known: Sequence[Credential], seconds: int
) -> dict[str, Any]:
    """PublicKeyCredentialCreationOptionsJSON for `navigator.credentials.create`: a discoverable credential, made by
    a verified user, on no authenticator that holds one of the `known`; no attestation. For so many seconds.
    """
    options = generate_registration_options(
        rp_id=party.id,
        rp_name=party.name,
        user_id=holder.id.bytes,
        user_name=holder.name,
        user_display_name=holder.shown,
        challenge=asked,
        timeout=seconds * 1000,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[_descriptor(credential) for credential in known],
        supported_pub_key_algs=ALGORITHMS,
    )
    return options_to_json_dict(options)


def request_options(party: Party, asked: bytes, allowed: Sequence[Credential], seconds: int) -> dict[str, Any]:
    """PublicKeyCredentialRequestOptionsJSON for `navigator.credentials.get`: one of the `allowed`, or with none named
    any that the authenticator finds; by a verified user. For so many seconds.
    """
    options = generate_authentication_options(
        rp_id=party.id,
        challenge=asked,
        timeout=seconds * 1000,
        allow_credentials=[_descriptor(credential) for credential in allowed],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def _descriptor(credential: Credential) -> PublicKeyCredentialDescriptor:
    transports = [AuthenticatorTransport(transport) for transport in credential.transports]
    return PublicKeyCredentialDescriptor(id=base64url_to_bytes(credential.id), transports=transports or None)


def verify_registration(party: Party, asked: bytes, given: dict[str, Any]) -> Registered:
    """What an authenticator made in answer to `asked` (section 7.1). Raises NotAccepted."""
    with _refusing():
        parsed = parse_registration_credential_json(given)
        _refuse_frames(parsed.response.client_data_json)
        made = verify_registration_response(
            credential=parsed,
            expected_challenge=asked,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
        if made.credential_id != parsed.raw_id or len(made.credential_id) > LONGEST_ID or made.fmt not in ATTESTATIONS:
            raise NotAccepted("another credential, one with too long an id, or an attestation that nobody asked for")
        _refuse_strange_keys(made.credential_public_key)
        return Registered(
            made.credential_id,
            made.credential_public_key,
            made.sign_count,
            made.aaguid,
            tuple(dict.fromkeys(transport.value for transport in parsed.response.transports or ())),
            _is_synced(made.credential_device_type),
        )


def _is_synced(kind: CredentialDeviceType) -> bool:
    """Whether its authenticator may copy it to others: backup eligibility, which never changes (section 6.1.3)."""
    return kind is CredentialDeviceType.MULTI_DEVICE


def _refuse_strange_keys(cose: bytes) -> None:
    """A key that could not be checked later, or only slowly, is not kept. The algorithm is one of ours by now."""
    decoded = decode_credential_public_key(cose)
    key = decoded_public_key_to_cryptography(decoded)
    fits = {
        Algorithm.ECDSA_SHA_256: isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1),
        Algorithm.EDDSA: isinstance(key, Ed25519PublicKey),
        Algorithm.RSASSA_PKCS1_v1_5_SHA_256: isinstance(key, RSAPublicKey) and key.key_size in RSA_BITS,
    }
    if len(cose) > LONGEST_KEY or not fits[decoded.alg]:
        raise NotAccepted("the key is none of its algorithm's, or too long")


def id_of(given: dict[str, Any]) -> bytes:
    """The id of the credential that an answer says it is from. Raises NotAccepted."""
    with _refusing():
        return parse_authentication_credential_json(given).raw_id


def verify_assertion(
    party: Party, asked: bytes, given: dict[str, Any], stored: Stored, *, discovered: bool = False
) -> int:
    """Check what an authenticator signed in answer to `asked` (section 7.2) and give its new counter, which has risen
    unless it does not count at all. One that may be copied by now, or no more, is another (section 7.2, on `BE`).
    `discovered`: no user was asked for, so the answer must say whose it is (step 6). Raises NotAccepted.
    """
    with _refusing():
        parsed = parse_authentication_credential_json(given)
        _refuse_frames(parsed.response.client_data_json)
        handle = parsed.response.user_handle
        if handle != stored.owner.bytes and (handle is not None or discovered):
            raise NotAccepted("it is another user's, or nobody's")
        verified = verify_authentication_response(
            credential=parsed,
            expected_challenge=asked,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=stored.public_key,
            credential_current_sign_count=stored.sign_count,
            require_user_verification=True,
        )
        if _is_synced(verified.credential_device_type) != stored.synced:
            raise NotAccepted("whether it may be copied to other devices has changed")
        return verified.new_sign_count


def _refuse_frames(client_data: bytes) -> None:
    """A page of another site that frames ours may not ask in its name (section 7.2, steps 14 and 15)."""
    said = json.loads(client_data)
    if said.get("crossOrigin", False) is not False or "topOrigin" in said:
        raise NotAccepted("the page was framed by another site's")


@contextmanager
def _refusing() -> Iterator[None]:
    """Whatever the library meets in a stranger's bytes, from bad CBOR to a point on no curve, is one refusal."""
    try:
        yield
    except NotAccepted:
        raise
    except Exception as error:
        raise NotAccepted(type(error).__name__) from error


def to_text(value: bytes) -> str:
    """base64url without padding (RFC 4648, section 5)."""
    return bytes_to_base64url(value)


def to_bytes(text: str) -> bytes:
    """The bytes of stored base64url."""
    return base64url_to_bytes(text)
