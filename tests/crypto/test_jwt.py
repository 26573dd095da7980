"""Access tokens: what verifies, and the many things that do not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from app.crypto.jwt import TokenRing
from app.crypto.signing import key_id, shared
from app.errors import TokenExpired, TokenInvalid
from tests.people import Clock

KEY, OLD = "k" * 20 + "1234567890abcdefghij", "o" * 20 + "0987654321zyxwvutsrq"
RING = TokenRing([shared(KEY), shared(OLD)], "latchkey", "latchkey")
NOW = Clock().now


def claims(**changes: Any) -> dict[str, Any]:
    now = int(NOW.timestamp())
    usual = {
        "iss": "latchkey", "aud": "latchkey", "sub": str(uuid4()), "sid": str(uuid4()), "jti": str(uuid4()),
        "iat": now, "exp": now + 900, "auth_time": now, "role": "user", "amr": ["pwd"],
    }  # fmt: skip
    return {k: v for k, v in (usual | changes).items() if v is not ...}


def header(**changes: Any) -> dict[str, Any]:
    usual = {"alg": "HS256", "typ": "at+jwt", "kid": key_id(KEY)}
    return {k: v for k, v in (usual | changes).items() if v is not ...}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(head: Any, payload: Any, key: bytes = KEY.encode(), digest: str = "sha256") -> str:
    body = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(payload).encode())}"
    return f"{body}.{b64(hmac.digest(key, body.encode(), digest))}"


def test_what_the_ring_signs_it_reads() -> None:
    given = claims()
    token = RING.issue({k: v for k, v in given.items() if k not in ("iss", "aud")})
    read = RING.read(token, NOW)
    assert (str(read.user_id), str(read.session_id), read.role) == (given["sub"], given["sid"], "user")
    assert jwt.get_unverified_header(token) == header()
    payload = jwt.decode(
        token, KEY, algorithms=["HS256"], audience="latchkey", options={"verify_exp": False, "verify_iat": False}
    )
    assert payload == given, "another backend sees the claims with the shared secret alone"


@pytest.mark.covers("attack A51", "asvs 11.2.2")
def test_an_earlier_key_still_verifies_and_no_longer_signs() -> None:
    assert RING.read(signed(header(kid=key_id(OLD)), claims(), OLD.encode()), NOW).role == "user"
    assert jwt.get_unverified_header(RING.issue({}))["kid"] == key_id(KEY)
    with pytest.raises(TokenInvalid):
        TokenRing([shared(KEY)], "latchkey", "latchkey").read(
            signed(header(kid=key_id(OLD)), claims(), OLD.encode()), NOW
        )


def test_a_token_works_until_its_last_second() -> None:
    token = signed(header(), claims())
    RING.read(token, NOW + timedelta(seconds=899))
    with pytest.raises(TokenExpired):
        RING.read(token, NOW + timedelta(seconds=900))


ALGS = ["none", "None", "NONE", "nOnE", "", " ", "HS384", "HS512", "hs256", "HS256 ", "RS256", "ES256", "EdDSA", "PS256",
        "HS1", "dir", None, 0, 1, True, [], ["HS256"], {}, {"alg": "HS256"}, "HS256\x00", "\u2060HS256", ...]  # fmt: skip
KIDS = [
    "",
    "x",
    "../../dev/null",
    "' OR 1=1",
    "http://127.0.0.1/k",
    "a" * 1000,
    "\x00",
    None,
    1,
    [],
    {},
    ...,
    key_id(OLD),
]
HEADERS = [
    *({"alg": alg} for alg in ALGS),
    *({"typ": typ} for typ in ("JWT", "at+JWT", "refresh+jwt", "", None, 1, [], ..., "application/at+jwt")),
    *({"kid": kid} for kid in KIDS),
    {"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": False},
    {"jku": "http://127.0.0.1/jwks"}, {"x5u": "http://127.0.0.1/x"}, {"jwk": {"kty": "oct", "k": "AA"}},
    {"x5c": ["AA"]}, {"cty": "JWT"}, {"zip": "DEF"}, {"extra": 1},
]  # fmt: skip
PAYLOADS = [
    *({name: ...} for name in ("iss", "aud", "sub", "sid", "iat", "exp", "role", "auth_time")),
    *({"aud": aud} for aud in ("", "other", "latchkey2", "xlatchkey", ["latchkey"], ["latchkey", "other"], None, 1)),
    *({"iss": iss} for iss in ("", "other", "latch", "latchkey/", None, 1, ["latchkey"])),
    *({"exp": exp} for exp in ("never", "1", 1e308, 1.5, None, [], True, 10**30, float(NOW.timestamp()) + 900)),
    *({"iat": iat} for iat in (int(NOW.timestamp()) + 31, "x", None, 1.5)),
    *({"sub": sub} for sub in ("", "1", 1, None, [], "x" * 36, "../..")),
    *({"sid": sid} for sid in ("", "1", 1, None)),
    *({"auth_time": at} for at in ("x", None, 1.5, 10**30, -1, int(NOW.timestamp()) + 31)),
    *({"nbf": begins} for begins in ("x", None, 1.5, int(NOW.timestamp()) + 31)),
    *({"jti": jti} for jti in (..., "", "1", 1, None, [])),
    *({"amr": amr} for amr in (..., "pwd", [], [1], [["pwd"]], {"pwd": 1}, None)),
    *({"sub": spelled} for spelled in ("{01a1fc6a-56ed-7069-9126-f35c15146f3c}", "01a1fc6a56ed70699126f35c15146f3c")),
]  # fmt: skip


@pytest.mark.covers("asvs 9.1.2", "asvs 9.1.3", "attack A40", "attack A42", "attack A44")
@pytest.mark.parametrize("change", HEADERS, ids=repr)
def test_a_changed_header_is_refused_even_when_rightly_signed(change: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        RING.read(signed(header(**change), claims()), NOW)


@pytest.mark.parametrize("key", [KEY, OLD], ids=["the key in force", "an earlier one"])
def test_a_kid_that_names_no_key_is_read_with_none(key: str) -> None:
    for kid in KIDS[:-1]:
        with pytest.raises(TokenInvalid):
            RING.read(signed(header(kid=kid), claims(), key.encode()), NOW)


@pytest.mark.covers("asvs 9.2.1", "asvs 9.2.3")
@pytest.mark.parametrize("change", PAYLOADS, ids=repr)
def test_a_claim_that_is_missing_or_of_another_type_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        RING.read(signed(header(), claims(**change)), NOW)


def signed_text(head: str, payload: str, encoding: str = "utf-8") -> str:
    body = f"{b64(head.encode(encoding))}.{b64(payload.encode(encoding))}"
    return f"{body}.{b64(hmac.digest(KEY.encode(), body.encode(), 'sha256'))}"


@pytest.mark.covers("attack A47")
def test_a_token_that_two_parsers_may_read_otherwise_is_refused() -> None:
    """A name that stands twice, and another encoding, though rightly signed. RFC 8725, sections 2.4 and 3.7."""
    head, payload = json.dumps(header()), json.dumps(claims())
    assert RING.read(signed_text(head, payload), NOW).role == "user"
    twice = [
        (head[:-1] + ', "alg": "HS256"}', payload),
        ('{"alg": "none", ' + head[1:], payload),
        (head, payload[:-1] + ', "role": "user"}'),
        (head, '{"role": "admin", ' + payload[1:]),
        (head, '{"\\u0072ole": "admin", ' + payload[1:]),
        (head, payload[:-1] + ', "more": {"a": 1, "a": 2}}'),
    ]
    for pair in twice:
        with pytest.raises(TokenInvalid):
            RING.read(signed_text(*pair), NOW)
        with pytest.raises(TokenInvalid):
            RING.claims_of(signed_text(*pair))
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        with pytest.raises(TokenInvalid):
            RING.read(signed_text(head, payload, encoding), NOW)


@pytest.mark.covers("asvs 9.1.1", "attack A41")
@pytest.mark.parametrize(
    "key",
    [b"", b"\x00" * 32, OLD.encode(), KEY[::-1].encode(), hashlib.sha256(KEY.encode()).digest(), key_id(KEY).encode(),
     b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n", b"ssh-ed25519 AAAA", b'{"kty":"oct"}'],
)  # fmt: skip
def test_another_key_is_refused(key: bytes) -> None:
    with pytest.raises(TokenInvalid):
        RING.read(signed(header(), claims(), key), NOW)


@pytest.mark.covers("asvs 7.2.1", "attack A47")
def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    token = signed(header(), claims())
    ends = {token.index("."), token.rindex(".")}
    for at in range(len(token)):
        flipped = token[:at] + chr(ord(token[at]) ^ 1) + token[at + 1 :]
        if at == len(token) - 1 or at + 1 in ends:
            continue  # the last character of a segment has slack bits; see below
        with pytest.raises(TokenInvalid):
            RING.read(flipped, NOW)
    for cut in range(len(token)):
        with pytest.raises(TokenInvalid):
            RING.read(token[:cut], NOW)


@pytest.mark.covers("attack A47")
@pytest.mark.parametrize(
    "shape",
    ["{0}=", "{0}==", " {0}", "{0} ", "{0}\n", "{0}.x", ".{0}", "{0}.", "a.b.c", "..", "", "{0}{0}", "\u00e9.{0}"],
)
def test_another_spelling_of_a_token_is_refused(shape: str) -> None:
    with pytest.raises(TokenInvalid):
        RING.read(shape.format(signed(header(), claims())), NOW)


def test_a_long_token_is_refused_before_it_is_read() -> None:
    with pytest.raises(TokenInvalid):
        RING.read(signed(header(), claims(role="x" * 5000)), NOW)
    with pytest.raises(TokenInvalid):
        RING.read("a" * 1_000_000, NOW)


def test_a_payload_that_is_no_object_is_refused() -> None:
    for payload in ([], "x", 1, None, True, [claims()]):
        with pytest.raises(TokenInvalid):
            RING.read(signed(header(), payload), NOW)
    for head in ([], "x", 1, None, True):
        with pytest.raises(TokenInvalid):
            RING.read(signed(head, claims()), NOW)
