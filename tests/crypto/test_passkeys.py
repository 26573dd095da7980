"""The ceremonies of passkeys: what a right authenticator answers is taken, and nothing else, whatever comes."""

from __future__ import annotations

import copy
import hashlib
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webauthn import verify_registration_response

from app.crypto import passkeys
from app.crypto.keys import KeyRing
from app.crypto.passkeys import Credential, Holder, NotAccepted, Party, Registered, Stored
from tests.security_key import AAGUID, BE, BS, EDDSA, ES256, RS256, UP, UV, Authenticator, Key, raw, text

PARTY = Party("localhost", "Latchkey", ("http://localhost:5000", "https://app.localhost"))
HOLDER = Holder(uuid4(), "jane@example.com", "Jane")
ASKED = secrets.token_bytes(32)


def creation() -> dict[str, Any]:
    return passkeys.creation_options(PARTY, ASKED, HOLDER, (), 300)


def request(*allowed: str) -> dict[str, Any]:
    return passkeys.request_options(PARTY, ASKED, [Credential(name) for name in allowed], 300)


def register(authenticator: Authenticator, **how: Any) -> Registered:
    return passkeys.verify_registration(PARTY, ASKED, authenticator.create(creation(), **how))


def stored(made: Registered, sign_count: int | None = None) -> Stored:
    return Stored(made.public_key, made.sign_count if sign_count is None else sign_count, HOLDER.id, made.synced)


def use(authenticator: Authenticator, made: Registered, *, discovered: bool = True, **how: Any) -> int:
    return passkeys.verify_assertion(
        PARTY, ASKED, authenticator.get(request(), **how), stored(made), discovered=discovered
    )


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator()


def test_the_options_of_a_registration_ask_for_a_discoverable_key_of_a_verified_user() -> None:
    known = [Credential(text(b"k" * 16), ("internal", "hybrid")), Credential(text(b"l" * 16))]
    options = passkeys.creation_options(PARTY, ASKED, HOLDER, known, 300)
    assert options == {
        "rp": {"id": "localhost", "name": "Latchkey"},
        "user": {"id": text(HOLDER.id.bytes), "name": "jane@example.com", "displayName": "Jane"},
        "challenge": text(ASKED),
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in (ES256, EDDSA, RS256)],
        "timeout": 300_000,
        "excludeCredentials": [
            {"id": text(b"k" * 16), "type": "public-key", "transports": ["internal", "hybrid"]},
            {"id": text(b"l" * 16), "type": "public-key"},
        ],
        "authenticatorSelection": {
            "residentKey": "required", "requireResidentKey": True, "userVerification": "required",
        },
        "attestation": "none",
    }  # fmt: skip
    json.dumps(options)


def test_the_options_of_a_sign_in_ask_for_a_verified_user_and_name_the_allowed_or_nobody() -> None:
    asked = {"challenge": text(ASKED), "timeout": 300_000, "rpId": "localhost", "userVerification": "required"}
    assert request() == {**asked, "allowCredentials": []}
    assert request("a2V5")["allowCredentials"] == [{"id": "a2V5", "type": "public-key"}]


@pytest.mark.covers("asvs 6.7.2")
def test_the_challenge_is_32_bytes_of_its_row_and_key_alone() -> None:
    ring, other = KeyRing(["k" * 32]), KeyRing(["o" * 32, "k" * 32])
    row = uuid4()
    made = passkeys.challenge(ring, ring.current, row)
    assert len(made) == 32
    assert passkeys.challenge(other, ring.current, row) == made, "an earlier key still checks"
    others = {passkeys.challenge(ring, ring.current, uuid4()), passkeys.challenge(other, other.current, row)}
    assert len(others | {made}) == 3


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
def test_a_passkey_is_registered_and_used(authenticator: Authenticator, algorithm: int) -> None:
    made = register(authenticator, key=Key(algorithm))
    assert (made.sign_count, made.synced, made.transports) == (1, False, ("internal",))
    assert made.aaguid.replace("-", "") == AAGUID.hex()
    assert made.credential_id == authenticator.held[0].id
    answer = authenticator.get(request())
    assert passkeys.id_of(answer) == made.credential_id
    assert passkeys.verify_assertion(PARTY, ASKED, answer, stored(made), discovered=True) == 2


def test_each_of_the_origins_may_ask(authenticator: Authenticator) -> None:
    made = register(authenticator)
    assert use(authenticator, made, origin="https://app.localhost") == 2


def test_a_key_of_4096_bits_fits(authenticator: Authenticator) -> None:
    made = register(authenticator, key=Key(RS256, bits=4096))
    assert len(passkeys.to_text(made.public_key)) <= 1364
    assert use(authenticator, made) == 2


def test_an_id_of_1023_bytes_fits_and_a_longer_one_is_refused(authenticator: Authenticator) -> None:
    made = register(authenticator, credential_id=bytes(1023))
    assert len(passkeys.to_text(made.credential_id)) == 1364
    with pytest.raises(NotAccepted):
        register(authenticator, credential_id=bytes(1024))


def test_a_key_that_its_owner_s_devices_share_is_told(authenticator: Authenticator) -> None:
    assert register(authenticator, flags=UP | UV | BE | BS).synced
    with pytest.raises(NotAccepted):
        register(authenticator, flags=UP | UV | BS)


@pytest.mark.parametrize(("made_with", "used_with"), [(UP | UV, UP | UV | BE), (UP | UV | BE | BS, UP | UV)])
def test_a_key_that_can_be_copied_by_now_or_no_more_is_refused(
    authenticator: Authenticator, made_with: int, used_with: int
) -> None:
    made = register(authenticator, flags=made_with)
    assert use(authenticator, made, flags=made_with)
    with pytest.raises(NotAccepted):
        use(authenticator, made, flags=used_with)


def test_a_key_may_sign_its_own_attestation(authenticator: Authenticator) -> None:
    assert use(authenticator, register(authenticator, fmt="packed")) == 2


WRONG_BOTH: dict[str, dict[str, Any]] = {
    "another origin": {"origin": "https://evil.example"},
    "an origin that begins like ours": {"origin": "http://localhost:5000.evil.example"},
    "another port": {"origin": "http://localhost:5001"},
    "another domain": {"rp_id": "example.com"},
    "another challenge": {"challenge": text(secrets.token_bytes(32))},
    "part of the challenge": {"challenge": text(ASKED[:16])},
    "no challenge": {"challenge": ""},
    "the other ceremony": {"type": "payment.get"},
    "no user verification": {"flags": UP},
    "no user presence": {"flags": UV},
    "a frame in another site": {"said": {"crossOrigin": True}},
    "a frame that says its top": {"said": {"topOrigin": "https://evil.example"}},
    "a frame by another word": {"said": {"crossOrigin": "yes"}},
}


@pytest.mark.parametrize("wrong", WRONG_BOTH)
def test_a_registration_is_refused_for(authenticator: Authenticator, wrong: str) -> None:
    with pytest.raises(NotAccepted):
        register(authenticator, **WRONG_BOTH[wrong])


@pytest.mark.parametrize("wrong", WRONG_BOTH)
def test_an_assertion_is_refused_for(authenticator: Authenticator, wrong: str) -> None:
    made = register(authenticator)
    with pytest.raises(NotAccepted):
        use(authenticator, made, **WRONG_BOTH[wrong])


def test_the_two_ceremonies_do_not_stand_for_each_other(authenticator: Authenticator) -> None:
    made = register(authenticator)
    with pytest.raises(NotAccepted):
        register(authenticator, type="webauthn.get")
    with pytest.raises(NotAccepted):
        use(authenticator, made, type="webauthn.create")


@pytest.mark.covers("asvs 11.6.1")
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: Key(-36, curve=ec.SECP521R1()), id="ES512"),
        pytest.param(lambda: Key(-35, curve=ec.SECP384R1()), id="ES384"),
        pytest.param(lambda: Key(ES256, curve=ec.SECP384R1()), id="ES256 on another curve"),
        pytest.param(lambda: Key(RS256, bits=1024), id="RSA of 1024 bits"),
        pytest.param(lambda: Key(RS256, bits=4608), id="RSA of 4608 bits"),
    ],
)
def test_keys_of_other_algorithms_and_sizes_are_refused(authenticator: Authenticator, key: Any) -> None:
    with pytest.raises(NotAccepted):
        register(authenticator, key=key())


def changed(key: Key, **changes: Any) -> bytes:
    return cbor2.dumps({**key.cose(), **{int(name.replace("m", "-").strip("k")): v for name, v in changes.items()}})


STRANGE_KEYS = {
    "RS1": lambda: changed(Key(RS256), k3=-65535),
    "PS256": lambda: changed(Key(RS256), k3=-37),
    "RS256 named ES256": lambda: changed(Key(RS256), k3=ES256),
    "a point on no curve": lambda: changed(Key(), km2=b"\x01" * 32),
    "the point at infinity": lambda: changed(Key(), km2=bytes(32), km3=bytes(32)),
    "an exponent of 1": lambda: changed(Key(RS256), km2=b"\x01"),
    "an even exponent": lambda: changed(Key(RS256), km2=b"\x04"),
    "an endless exponent": lambda: changed(Key(RS256), km2=b"\xff" * 4000),
    "a short Ed25519 key": lambda: changed(Key(EDDSA), km2=b"\x01" * 31),
    "Ed448's curve": lambda: changed(Key(EDDSA), km1=7),
    "text for bytes": lambda: changed(Key(), km2="x" * 32),
    "padding that nobody asked for": lambda: changed(Key(), k99=b"x" * 1000),
    "no map": lambda: cbor2.dumps([1, 2, 3]),
    "the older form of a point": lambda: b"\x04" + bytes(64),
    "a key twice": lambda: b"\xa2\x01\x02\x01\x03",
    "nothing": lambda: b"",
}


@pytest.mark.covers("asvs 11.6.1")
@pytest.mark.parametrize("strange", STRANGE_KEYS)
def test_a_key_that_is_none_is_refused(authenticator: Authenticator, strange: str) -> None:
    with pytest.raises(NotAccepted):
        register(authenticator, cose=STRANGE_KEYS[strange]())


@pytest.mark.parametrize(
    "fmt", ["fido-u2f", "tpm", "apple", "android-key", "android-safetynet", "compound", "", 7, None]
)
def test_attestation_that_nobody_asked_for_is_refused(authenticator: Authenticator, fmt: Any) -> None:
    with pytest.raises(NotAccepted):
        register(authenticator, fmt=fmt)


def test_an_attestation_of_a_maker_is_refused_though_it_is_right(authenticator: Authenticator) -> None:
    """Nobody asked for one, so no browser passes it on; and what is not read cannot be read wrongly."""
    key, credential_id = Key(), secrets.token_bytes(16)
    point = b"\x04" + key.cose()[-2] + key.cose()[-3]
    client = json.dumps(
        {"type": "webauthn.create", "challenge": text(ASKED), "origin": PARTY.origins[0], "crossOrigin": False}
    )
    hashes = [hashlib.sha256(part).digest() for part in (b"localhost", client.encode())]
    maker = Key()
    signed = maker.sign(b"\x00" + b"".join(hashes) + credential_id + point)
    statement = {"sig": signed, "x5c": [certificate(maker)]}
    how = {"fmt": "fido-u2f", "statement": statement, "aaguid": bytes(16), "credential_id": credential_id}
    answer = authenticator.create(creation(), key=key, **how)
    assert raw(answer["response"]["clientDataJSON"]) == client.encode()
    assert verify_registration_response(
        credential=answer, expected_challenge=ASKED, expected_rp_id="localhost", expected_origin=PARTY.origins[0]
    )
    with pytest.raises(NotAccepted):
        passkeys.verify_registration(PARTY, ASKED, answer)


def certificate(key: Key) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A maker of keys")])
    at = datetime(2026, 11, 21, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.private.public_key(), 1, at, at + timedelta(days=1))
    return made.sign(key.private, SHA256()).public_bytes(Encoding.DER)


def test_an_attestation_that_somebody_else_signed_is_refused(authenticator: Authenticator) -> None:
    with pytest.raises(NotAccepted):
        register(authenticator, fmt="packed", statement={"alg": ES256, "sig": Key().sign(b"x")})
    with pytest.raises(NotAccepted):
        register(authenticator, statement={"sig": b"x"})


@pytest.mark.parametrize(("count", "sign_count"), [(5, 5), (4, 5), (0, 5), (0, 1)])
def test_a_counter_that_does_not_rise_is_refused(authenticator: Authenticator, count: int, sign_count: int) -> None:
    made = register(authenticator)
    answer = authenticator.get(request(), count=count)
    with pytest.raises(NotAccepted):
        passkeys.verify_assertion(PARTY, ASKED, answer, stored(made, sign_count))


def test_a_counter_that_does_not_count_stays_at_nothing() -> None:
    authenticator = Authenticator(counts=False)
    made = register(authenticator)
    assert made.sign_count == 0
    assert [use(authenticator, made) for _ in range(3)] == [0, 0, 0]


def test_another_key_s_signature_is_refused(authenticator: Authenticator) -> None:
    made = register(authenticator)
    with pytest.raises(NotAccepted):
        use(authenticator, made, key=Key())
    other = register(Authenticator())
    with pytest.raises(NotAccepted):
        use(authenticator, other)


def test_an_answer_says_whose_it_is_where_nobody_was_asked_for(authenticator: Authenticator) -> None:
    made = register(authenticator)
    assert use(authenticator, made, handle=None, discovered=False) == 2
    for discovered, handle in ((True, None), (True, b""), (True, uuid4().bytes), (False, uuid4().bytes), (False, b"")):
        with pytest.raises(NotAccepted):
            use(authenticator, made, handle=handle, discovered=discovered)


def test_a_credential_that_names_another_than_it_has_made_is_refused(authenticator: Authenticator) -> None:
    answer = authenticator.create(creation())
    name = text(secrets.token_bytes(32))
    for renamed in ({"id": name}, {"rawId": name}, {"id": name, "rawId": name}):
        with pytest.raises(NotAccepted):
            passkeys.verify_registration(PARTY, ASKED, {**answer, **renamed})


@pytest.mark.parametrize("part", ["clientDataJSON", "authenticatorData", "signature"])
def test_each_changed_byte_of_an_assertion_is_noticed(authenticator: Authenticator, part: str) -> None:
    made = register(authenticator)
    answer = authenticator.get(request())
    whole = raw(answer["response"][part])
    for place in range(len(whole)):
        bent = whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :]
        with pytest.raises(NotAccepted):
            passkeys.verify_assertion(PARTY, ASKED, _with(answer, part, text(bent)), stored(made))


def _with(answer: dict[str, Any], part: str, value: Any) -> dict[str, Any]:
    return {**answer, "response": {**answer["response"], part: value}}


@pytest.mark.parametrize("ceremony", ["create", "get"])
def test_each_truncation_is_refused(authenticator: Authenticator, ceremony: str) -> None:
    made = register(authenticator)
    answer = authenticator.create(creation()) if ceremony == "create" else authenticator.get(request())
    for part in ("clientDataJSON", "attestationObject", "authenticatorData", "signature"):
        whole = raw(answer["response"].get(part, ""))
        for length in range(len(whole)):
            refused(ceremony, _with(answer, part, text(whole[:length])), made)


def refused(ceremony: str, answer: Any, made: Registered) -> None:
    with pytest.raises(NotAccepted):
        if ceremony == "create":
            passkeys.verify_registration(PARTY, ASKED, answer)
        else:
            passkeys.verify_assertion(PARTY, ASKED, answer, stored(made))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary().map(text),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FUZZED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RIGHT = Authenticator()
MADE = register(RIGHT)
ANSWERS = {"create": RIGHT.create(creation()), "get": RIGHT.get(request(), held=RIGHT.held[0])}
PLACES = [
    (ceremony, path)
    for ceremony, answer in ANSWERS.items()
    for path in [("id",), ("rawId",), ("type",), ("response",), *(("response", name) for name in answer["response"])]
    if path[-1] not in ("transports", "userHandle")
]


@FUZZED
@given(place=st.sampled_from(PLACES), junk=JUNK)
def test_junk_in_any_field_is_refused(place: tuple[str, tuple[str, ...]], junk: Any) -> None:
    ceremony, path = place
    bent = copy.deepcopy(ANSWERS[ceremony])
    holder = bent if len(path) == 1 else bent["response"]
    if holder[path[-1]] != junk:
        holder[path[-1]] = junk
        refused(ceremony, bent, MADE)


@FUZZED
@given(junk=st.dictionaries(st.sampled_from(["id", "rawId", "type", "response", "clientExtensionResults"]), JUNK))
def test_junk_for_a_credential_is_refused(junk: dict[str, Any]) -> None:
    refused("create", junk, MADE)
    refused("get", junk, MADE)
    with pytest.raises(NotAccepted):
        passkeys.id_of(junk)


@FUZZED
@given(said=st.one_of(JUNK, st.dictionaries(st.sampled_from(["type", "challenge", "origin", "tokenBinding"]), JUNK)))
def test_junk_for_client_data_is_refused(said: Any) -> None:
    for ceremony, answer in ANSWERS.items():
        refused(ceremony, _with(answer, "clientDataJSON", text(json.dumps(said).encode())), MADE)


@FUZZED
@given(junk=st.binary(max_size=600))
def test_junk_for_an_attestation_object_is_refused(junk: bytes) -> None:
    refused("create", _with(ANSWERS["create"], "attestationObject", text(junk)), MADE)
    wrapped = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": junk})
    refused("create", _with(ANSWERS["create"], "attestationObject", text(wrapped)), MADE)


@FUZZED
@given(data=st.data())
def test_bent_authenticator_data_is_refused_or_says_the_same_key(data: st.DataObject) -> None:
    """What is not signed for may be bent; it must be refused or be a registration that holds together."""
    whole = raw(ANSWERS["create"]["response"]["attestationObject"])
    place = data.draw(st.integers(0, len(whole) - 1))
    bent = whole[:place] + data.draw(st.binary(max_size=6)) + whole[place + data.draw(st.integers(0, 6)) :]
    try:
        made = passkeys.verify_registration(PARTY, ASKED, _with(ANSWERS["create"], "attestationObject", text(bent)))
    except NotAccepted:
        return
    assert text(made.credential_id) == ANSWERS["create"]["id"]


BOMBS = {
    "deep": b"\x81" * 45_000 + b"\x00",
    "a list of 2**60": b"\x9b\x10" + bytes(7),
    "a text of 2**60": b"\x7b\x10" + bytes(7),
    "a map of 2**60": b"\xbb\x10" + bytes(7),
    "a number of 40,000 bytes": b"\xc2\x59\x9c\x40" + b"\xff" * 40_000,
    "10 to the 10 to the 9": b"\xc4\x82\x1a\x3b\x9a\xca\x00\x01",
    "2 to the 2 to the 31": b"\xc5\x82\x1a\x7f\xff\xff\xff\x01",
    "a fraction": b"\xd8\x1e\x82\x01\x00",
    "a pattern": b"\xd8\x23\x78\x0c(a+)+$(a+)+$",
    "itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a date": b"\xc1\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    "a network": b"\xd9\x01\x04\x44abcd",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_cbor_that_would_fill_the_memory_or_the_hour_is_refused_at_once(bomb: str) -> None:
    began = time.process_time()
    for attestation in (BOMBS[bomb], b"\xa3\x63fmt\x64none\x67attStmt" + BOMBS[bomb] + b"\x68authData\x40"):
        refused("create", _with(ANSWERS["create"], "attestationObject", text(attestation)), MADE)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "said", ["[" * 45_000, '{"a":' * 9_000, "9" * 20_000, '{"challenge": ' + "9" * 20_000 + "}", "\ud800", "\x00"]
)
def test_json_that_would_be_a_fault_is_refused(said: str) -> None:
    for ceremony, answer in ANSWERS.items():
        junk = text(said.encode(errors="surrogatepass"))
        refused(ceremony, _with(answer, "clientDataJSON", junk), MADE)
        refused(ceremony, _with(answer, "clientDataJSON", said), MADE)
