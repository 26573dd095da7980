"""Keys of access tokens: each verifies its own algorithm only, and no public key is ever a secret (RFC 8725)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from app.crypto import signing
from app.crypto.jwt import TokenRing
from app.crypto.signing import BadKey, Key
from app.errors import TokenInvalid
from tests.crypto.test_jwt import KEY, NOW, OLD, b64, claims, header, signed


def pem_of(made: Any, by: Any = None) -> str:
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, by or NoEncryption()).decode()


def new_pem(name: str) -> str:
    """As `signing.make` does, but for RSA of a size that is made fast."""
    return pem_of(rsa.generate_private_key(65_537, 2048)) if name == "RS256" else signing.make(name)


PEMS = {name: new_pem(name) for name in ("EdDSA", "ES256", "RS256")}
OTHERS = {name: signing.make(name) for name in ("EdDSA", "ES256")}
KEYS = {name: signing.private(pem) for name, pem in PEMS.items()}
ALL = TokenRing([KEYS["EdDSA"], KEYS["ES256"], KEYS["RS256"], signing.shared(OLD)], "latchkey", "latchkey")


def issued(key: Key, **changes: Any) -> str:
    head = {"typ": "at+jwt", "kid": key.id}
    return jwt.encode(claims(**changes), key.signs, algorithm=key.algorithm, headers=head)


@pytest.mark.parametrize("name", KEYS)
def test_what_a_private_key_signs_its_public_half_verifies(name: str) -> None:
    key = KEYS[name]
    public = signing.public(signing.public_pem(key))
    assert (public.id, public.algorithm, public.signs) == (key.id, name, None)
    token = TokenRing([key], "latchkey", "latchkey").issue(claims())
    assert jwt.get_unverified_header(token) == {"alg": name, "typ": "at+jwt", "kid": key.id}
    assert TokenRing([signing.shared(KEY), public], "latchkey", "latchkey").read(token, NOW).role == "user"


@pytest.mark.parametrize("name", KEYS)
def test_another_library_verifies_with_the_key_set_alone(name: str) -> None:
    ring = TokenRing([KEYS[name]], "latchkey", "latchkey")
    told = jwt.PyJWKSet.from_dict({"keys": ring.jwks()})
    token = ring.issue(claims())
    found = told[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False}
    read = jwt.decode(token, found, algorithms=[name], audience="latchkey", issuer="latchkey", options=options)
    assert read["role"] == "user"


def test_a_key_set_tells_public_members_only() -> None:
    for jwk in ALL.jwks():
        assert set(jwk) <= {"kid", "kty", "use", "alg", "crv", "x", "y", "n", "e"}
        assert jwk["use"] == "sig"
    assert [jwk["alg"] for jwk in ALL.jwks()] == ["EdDSA", "ES256", "RS256"], "the one that signs first, no secret"


def test_the_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    """RFC 8037, appendix A.1 to A.3."""
    member = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    pem = signing.Ed25519PrivateKey.from_private_bytes(member).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    assert signing.private(pem.decode()).id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def spellings(key: Key) -> dict[str, bytes]:
    """What an attacker may take for a shared secret: every form in which a public key is known."""
    public = key.verifies
    forms = {
        "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "OpenSSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": json.dumps(key.jwk).encode(),
        "kid": key.id.encode(),
    }
    forms["PEM without its last line end"] = forms["PEM"].rstrip()
    forms["one line"] = signing.one_line(forms["PEM"].decode()).encode()
    return forms


FORGED = [(name, form) for name in KEYS for form in spellings(KEYS[name])]


@pytest.mark.covers("asvs 9.1.2", "attack A40", "attack A41")
@pytest.mark.parametrize(("name", "form"), FORGED, ids=[f"{name} as {form}" for name, form in FORGED])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret(name: str, form: str, algorithm: str) -> None:
    """The confusion of algorithms: HMAC over a token with the public key that everybody has."""
    key, digest = KEYS[name], algorithm.replace("HS", "sha")
    for kid in (key.id, signing.key_id(spellings(key)[form].decode("latin-1")), signing.key_id(OLD)):
        token = signed(header(alg=algorithm, kid=kid), claims(), spellings(key)[form], digest)
        with pytest.raises(TokenInvalid):
            ALL.read(token, NOW)


@pytest.mark.covers("asvs 9.1.2", "attack A40")
@pytest.mark.parametrize("name", KEYS)
def test_a_key_reads_no_token_of_another_algorithm(name: str) -> None:
    """Rightly signed by each key, and said to be of another algorithm or by another key."""
    for other in {*KEYS} - {name}:
        with pytest.raises(TokenInvalid):
            ALL.read(issued(Key(KEYS[other].id, name, None, KEYS[name].signs)), NOW)
        _, payload, signature = issued(KEYS[name]).split(".")
        changed = header(alg=other, kid=KEYS[name].id)
        with pytest.raises(TokenInvalid):
            ALL.read(f"{b64(json.dumps(changed).encode())}.{payload}.{signature}", NOW)
    for algorithm in ("none", "", "ES384", "PS256", "RS512", "Ed25519", "ES256K", "eddsa"):
        token = signed(header(alg=algorithm, kid=KEYS[name].id), claims())
        for end in ("", token.rpartition(".")[2]):
            with pytest.raises(TokenInvalid):
                ALL.read(f"{token.rpartition('.')[0]}.{end}", NOW)


@pytest.mark.parametrize("name", ["EdDSA", "ES256"])
def test_a_key_of_somebody_else_with_our_key_id_is_refused(name: str) -> None:
    other = signing.private(OTHERS[name])
    for forged in (issued(other), issued(Key(KEYS[name].id, name, None, other.signs))):
        with pytest.raises(TokenInvalid):
            ALL.read(forged, NOW)
    for extra in ({"jwk": other.jwk}, {"jku": "https://elsewhere.example/jwks"}, {"x5c": ["AA"]}):
        head = {"typ": "at+jwt", "kid": KEYS[name].id, **extra}
        with pytest.raises(TokenInvalid):
            ALL.read(jwt.encode(claims(), other.signs, algorithm=name, headers=head), NOW)


def test_an_ecdsa_signature_of_nothing_is_refused() -> None:
    """The psychic signature: r and s of zero."""
    head = b64(json.dumps(header(alg="ES256", kid=KEYS["ES256"].id)).encode())
    body = b64(json.dumps(claims()).encode())
    for signature in (bytes(64), b"", bytes(63) + b"\x01", b"0\x06\x02\x01\x00\x02\x01\x00"):
        with pytest.raises(TokenInvalid):
            ALL.read(f"{head}.{body}.{b64(signature) or 'AA'}", NOW)


FORMS: dict[str, Callable[[str], str]] = {
    "as it stands": lambda pem: pem,
    "without its last line end": str.strip,
    "with carriage returns": lambda pem: pem.replace("\n", "\r\n"),
    "in one line": lambda pem: pem.replace("\n", "\\n"),
    "base64": signing.one_line,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_read_in_every_form_that_hosts_take(form: str) -> None:
    for name, pem in PEMS.items():
        assert signing.private(FORMS[form](pem)).id == KEYS[name].id
        assert signing.public(FORMS[form](signing.public_pem(KEYS[name]))).id == KEYS[name].id


BAD: dict[str, tuple[Callable[[], str], str]] = {
    "short RSA": (lambda: pem_of(rsa.generate_private_key(65_537, 1024)), "has 1024 bits"),
    "RSA with a small exponent": (lambda: pem_of(rsa.generate_private_key(3, 2048)), "exponent"),
    "another curve": (lambda: pem_of(ec.generate_private_key(ec.SECP384R1())), "no known kind"),
    "the curve of bitcoin": (lambda: pem_of(ec.generate_private_key(ec.SECP256K1())), "no known kind"),
    "Ed448": (lambda: pem_of(ed448.Ed448PrivateKey.generate()), "no known kind"),
    "a key for agreement": (lambda: pem_of(x25519.X25519PrivateKey.generate()), "no known kind"),
    "DSA": (lambda: pem_of(dsa.generate_private_key(1024)), "no known kind"),
    "with a password": (lambda: pem_of(KEYS["ES256"].signs, BestAvailableEncryption(b"x")), "without a password"),
    "a public key": (lambda: signing.public_pem(KEYS["EdDSA"]), "not a private key"),
    "a shared secret": (lambda: KEY + "-", "neither PEM nor"),
    "letters beyond ASCII": (lambda: "\u00e4", "neither PEM nor"),
    "nonsense": (lambda: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "not a private key"),
    "empty base64": (lambda: "", "not a private key"),
}  # fmt: skip


@pytest.mark.covers("asvs 11.2.3")
@pytest.mark.parametrize("name", BAD)
def test_an_unfit_key_is_refused_and_not_repeated(name: str) -> None:
    make, why = BAD[name]
    given = make()
    with pytest.raises(BadKey, match=why) as refused:
        signing.private(given)
    assert len(str(refused.value)) < 120
    assert not given or given not in str(refused.value)


def test_a_private_key_is_no_public_one() -> None:
    with pytest.raises(BadKey):
        signing.public(PEMS["EdDSA"])


def test_keys_do_not_show_what_they_are_made_of() -> None:
    for key in (*KEYS.values(), signing.shared(KEY)):
        assert KEY not in repr(key)
        assert "PrivateKey" not in repr(key)


def test_the_secret_of_an_audience_tells_nothing_of_others() -> None:
    derived = {signing.for_audience(secret, name) for secret in (KEY, OLD) for name in ("clinic", "lab")}
    assert len(derived) == 4
    assert all(len(base64.urlsafe_b64decode(each + "=")) == 32 for each in derived)
    assert signing.for_audience(KEY, "clinic") == signing.for_audience(KEY, "clinic")


def test_a_token_of_another_audience_opens_nothing_here() -> None:
    """Neither one that its backend could make with its derived key, under whichever audience and key id."""
    derived = signing.shared(signing.for_audience(KEY, "clinic"))
    ring = TokenRing([signing.shared(KEY)], "latchkey", "latchkey", {"clinic": derived})
    assert ring.audiences == ["latchkey", "clinic"]
    forged = [
        ring.issue(claims(aud="clinic"), "clinic"),
        *(issued(Key(kid, "HS256", None, derived.signs)) for kid in (derived.id, signing.key_id(KEY))),
    ]
    for token in forged:
        with pytest.raises(TokenInvalid):
            ring.read(token, NOW)
    both = TokenRing([KEYS["EdDSA"]], "latchkey", "latchkey", {"clinic": KEYS["EdDSA"]})
    with pytest.raises(TokenInvalid):
        both.read(both.issue({k: v for k, v in claims().items() if k != "aud"}, "clinic"), NOW)
    with pytest.raises(KeyError):
        ring.issue({}, "elsewhere")
