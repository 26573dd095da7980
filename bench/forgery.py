"""Forged and altered access tokens, family by family, from a seeded generator, for services that sign by any algorithm.

Most are *rightly signed*: whoever has the key made them, and one thing about them is not as the service makes it. That
is the strict question, for a forger without the key fails at the signature anyway. What is wrong with the signature
itself is a family of its own (`bench/signatures.py`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from app.crypto import signing
from app.crypto.signing import Key
from bench.signatures import SMALL, mac, near, relatives, signature

B64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
LONG = 4096  # a token of more characters is refused unread
GONE = object()  # takes a member out
ALGORITHMS = ("HS256", "EdDSA", "ES256", "RS256")


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def opened(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def kid_of(secret: str) -> str:
    """The `kid` of a shared secret, as docs for other backends tell it."""
    return mac(secret, b"latchkey/kid")[:4].hex()


@dataclass(frozen=True)
class Forger:
    """Has a live token of the service, and all that an insider could have, its signing key included."""

    live: str
    keys: tuple[Key, ...]  # that verify, the one that signs first
    dice: random.Random
    now: int  # by the service's clock, seconds
    other_secrets: dict[str, bytes]  # other keys that an attacker may know or guess
    strangers: tuple[tuple[str, str], ...] = ()  # sub and sid of somebody else, and of nobody
    elsewhere: str = "http://127.0.0.1:1/jwks"  # where a verifier that followed an address would find a stranger's keys

    @property
    def key(self) -> Any:
        """What signs: a shared secret, or a private key."""
        return self.keys[0].signs

    @property
    def header(self) -> dict[str, Any]:
        return opened(self.live.split(".")[0])

    @property
    def claims(self) -> dict[str, Any]:
        return opened(self.live.split(".")[1])

    def sign(self, head: str, body: str, key: Any = None) -> str:
        """Sign two segments, whatever they are, by the algorithm that is the key's own."""
        signed = f"{head}.{body}"
        return f"{signed}.{segment(signature(self.key if key is None else key, signed.encode()))}"

    def token(self, head: Any = None, claims: Any = None, key: Any = None) -> str:
        given = [self.header if head is None else head, self.claims if claims is None else claims]
        return self.sign(*(segment(part if isinstance(part, bytes) else compact(part)) for part in given), key)

    def with_header(self, **changes: Any) -> str:
        return self.token(head=_changed(self.header, changes))

    def with_claims(self, **changes: Any) -> str:
        return self.token(claims=_changed(self.claims, changes))


@cache
def stranger(algorithm: str) -> Key:
    """A key that the service never heard of, the same in every run of this process."""
    return signing.shared("a" * 40) if algorithm == "HS256" else signing.private(signing.make(algorithm))


def _changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (members | changes).items() if value is not GONE}


def alg(f: Forger) -> Iterator[str]:
    """Another algorithm named, with the right signature, none at all, and others of the same key; or the right one named
    over another.
    """
    named = ["none", "None", "NONE", "nOnE", "", " ", "HS256", "HS384", "HS512", "HS1", "hs256", "Hs256", "HS256 ", "\tHS256",
             "RS256", "RS384", "PS256", "ES256", "ES256K", "ES384", "EdDSA", "Ed25519", "Ed25519ph", "eddsa", "es256", "rs256",
             "EdDSA ", "ES256 ", "RS256 ", "RS1", "dir", "A128KW", None, 0, 1, True, [], [f.header["alg"]],
             ["none", f.header["alg"]], {}, {"alg": f.header["alg"]}, f.header["alg"] + "\x00", "\u2060" + f.header["alg"],
             "ＨＳ256", "ＥＳ256", GONE]  # fmt: skip
    for name in named:
        if name == f.header["alg"]:
            continue
        signed = f.with_header(alg=name)
        message = signed.rpartition(".")[0]
        yield signed
        for other in (b"", b"\x00" * 32, *list(relatives(f.key, message.encode()))[:3]):
            yield f"{message}.{segment(other)}"
    message = f.live.rpartition(".")[0]
    yield from (f"{message}.{segment(other)}" for other in relatives(f.key, message.encode()))


def signatures(f: Forger) -> Iterator[str]:
    """Nothing wrong but the signature."""
    message = f.live.rpartition(".")[0]
    yield from (f"{message}.{segment(other)}" for other in near(f.key, message.encode()))


def kid(f: Forger) -> Iterator[str]:
    """A key named that there is not, or by another spelling."""
    own = f.header["kid"]
    for name in ("", "x", "0", own.upper() + " ", own + "\x00", own[:-1], own * 2, f" {own}", f"{own}/../{own}",
                 "../../../../dev/null", "/proc/self/environ", "file:///dev/null", "http://127.0.0.1/key", "' OR 1=1 --",
                 "x' UNION SELECT 'k", "$(id)", "a" * 1000, None, 0, 1.5, True, [], [own], {}, {"kid": own}, GONE):  # fmt: skip
        yield f.with_header(kid=name)
        for secret in (b"", b"\x00", b"null", own.encode()):
            for changes in ({"kid": name}, {"kid": name, "alg": "HS256"}):
                yield f.token(_changed(f.header, changes), None, secret)
    yield from _mixed(f)


def _mixed(f: Forger) -> Iterator[str]:
    """Of the keys that verify, one named and another used, or an algorithm that is not the key's own."""
    for named in f.keys:
        for used in f.keys:
            for algorithm in dict.fromkeys((named.algorithm, used.algorithm, "HS256")):
                if (named.id, algorithm) != (used.id, used.algorithm):
                    yield f.token(_changed(f.header, {"alg": algorithm, "kid": named.id}), None, used.signs)


def typ(f: Forger) -> Iterator[str]:
    """A token of another type, or its type in another spelling."""
    for name in ("JWT", "jwt", "at+JWT", "AT+JWT", "application/at+jwt", "refresh+jwt", "logout+jwt", "secevent+jwt",
                 "dpop+jwt", "id_token", "at", "jwt+at", "at+jwt ", " at+jwt", "at+jwt\x00", "", None, 1, True, [],
                 ["at+jwt"], {}, {"typ": "at+jwt"}, GONE):  # fmt: skip
        yield f.with_header(typ=name)


def members(f: Forger) -> Iterator[str]:
    """Header members that a verifier must not follow, and those that it does not know (RFC 7515, section 4.1.11)."""
    theirs = stranger(f.header["alg"]).signs
    jwk = {"kty": "oct", "k": segment(b"attacker" * 4), "kid": f.header["kid"]}
    for given in (
        {"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"crit": ["b64"], "b64": True}, {"b64": False},
        {"b64": True}, {"crit": ["x"], "x": 1}, {"crit": "exp"}, {"crit": None}, {"crit": {"exp": 1}}, {"crit": ["alg"]},
        {"jku": "http://127.0.0.1/jwks"}, {"jku": "https://127.0.0.1:1/jwks"}, {"x5u": "http://127.0.0.1/x"}, {"jwk": jwk},
        {"jwk": {}}, {"x5c": ["AA"]}, {"x5t": "AA"}, {"x5t#S256": "AA"}, {"cty": "JWT"}, {"cty": ""}, {"zip": "DEF"},
        {"enc": "A128GCM"}, {"epk": jwk}, {"p2c": 10**9, "p2s": "AA"}, {"apu": "x"}, {"iss": "latchkey"}, {"extra": 1},
        {"": 1}, {"ALG": "none"}, {"alg ": "none"}, {"Typ": "JWT"}, {"KID": "x"}, {"nonce": "x"}, {"url": "/"},
    ):  # fmt: skip
        yield f.with_header(**given)
        yield f.token({**f.header, **given}, None, theirs)
        yield f.token({**f.header, **given}, None, b"attacker" * 4)


def brought(f: Forger) -> Iterator[str]:
    """A key that the header brings itself, or says where to find, and that rightly signed the token (RFC 7515, sections
    4.1.2 to 4.1.8). Also keys of small order, by which nobody has to sign.
    """
    for algorithm in ALGORITHMS:
        theirs = stranger(algorithm)
        for members in _ways(f, theirs):
            for name in (f.header["kid"], theirs.id, GONE):
                for named in dict.fromkeys((algorithm, f.header["alg"])):
                    changes = {"alg": named, "kid": name, **members}
                    yield f.token(_changed(f.header, changes), None, theirs.signs)
    for public in SMALL:
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": segment(public)}
        head = segment(compact(_changed(f.header, {"alg": "EdDSA", "jwk": jwk})))
        for point in SMALL:
            yield f"{head}.{f.live.split('.')[1]}.{segment(point + bytes(32))}"


def _ways(f: Forger, theirs: Key) -> Iterator[dict[str, Any]]:
    """Header members by which a verifier could come to somebody's key."""
    jwk = theirs.jwk or {"kty": "oct", "k": segment(theirs.signs.encode()), "kid": theirs.id, "alg": "HS256"}
    yield from ({"jwk": jwk}, {"jwk": {**jwk, "kid": f.header["kid"]}}, {"jwk": compact(jwk).decode()})
    yield from ({"jku": f.elsewhere}, {"x5u": f.elsewhere}, {"iss": f.elsewhere}, {"kid": f.elsewhere})
    yield from ({"jwks": {"keys": [jwk]}}, {"jku": f.elsewhere, "jwk": jwk}, {"keys": [jwk]}, {"pem": "x"})
    if theirs.jwk:
        der = _certificate(theirs.algorithm)
        yield from ({"x5c": [base64.b64encode(der).decode()]}, {"x5c": [base64.b64encode(der).decode()] * 2})
        thumb = {"x5t#S256": segment(hashlib.sha256(der).digest()), "x5t": segment(hashlib.sha1(der).digest())}
        yield from (thumb, {**thumb, "x5c": [base64.b64encode(der).decode()]})


@cache
def _certificate(algorithm: str) -> bytes:
    """One that a stranger gave to himself, in DER."""
    key = stranger(algorithm).signs
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "latchkey")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    dated = made.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2049, 1, 1, tzinfo=UTC))
    how = None if isinstance(key, Ed25519PrivateKey) else SHA256()
    return dated.sign(key, how).public_bytes(Encoding.DER)


def spelling(f: Forger) -> Iterator[str]:
    """The live token in another spelling, rightly signed over that spelling: base64 slack, padding, other alphabets."""
    head, body, signature = f.live.split(".")
    for slack in _slack(signature):
        yield f"{head}.{body}.{slack}"
    for pad in ("", " ", "  ", "\n"):  # JSON space, so that the last character has bits to spare
        for part in (compact(f.claims) + pad.encode() + b" " * n for n in range(3)):
            for slack in _slack(segment(part)):
                yield f.sign(head, slack)
    for n in range(3):
        for slack in _slack(segment(compact(f.header) + b" " * n)):
            yield f.sign(slack, body)
    for tail in (
        "=",
        "==",
        "===",
        "%3D",
        ".",
        "..",
        ".x",
        "\\",
        "'",
        '"',
        "?",
        "#",
        "&",
        ";",
        ",",
        "\x00",
        "\x7f",
        "%00",
    ):
        yield f.live + tail
        yield f.sign(head + tail, body)
        yield f.sign(head, body + tail)
    for inside in (" ", "\t", "\r\n", "\n", "=", "+", "/", "%2e", "?", "\u00a0", "\u200b", "\x00"):
        for at in (1, len(head), len(head) + 2, len(f.live) - 2):
            yield f.live[:at] + inside + f.live[at:]
    yield from (f.live.replace(".", dot) for dot in (":", "%2E", "\u3002", "..", " . ", "_", "~", "/"))
    yield from (
        f.live.swapcase(),
        f.live.upper(),
        f.live.lower(),
        f.live[::-1],
        f.live.encode().hex(),
        segment(f.live.encode()),
    )
    for form in ("utf-16", "utf-8-sig", "utf-32"):
        yield f.sign(segment(json.dumps(f.header).encode(form)), body)
        yield f.sign(head, segment(json.dumps(f.claims).encode(form)))


def _slack(part: str) -> Iterator[str]:
    """A base64url segment with other unused bits in its last character: it decodes to the same."""
    spare = {2: 4, 3: 2}.get(len(part) % 4, 0)
    last = B64.index(part[-1])
    for bits in range(1, 2**spare):
        yield part[:-1] + B64[last | bits]


def parts(f: Forger) -> Iterator[str]:
    """Parts cut, doubled, swapped, left out, or in another serialisation of RFC 7515."""
    pieces = f.live.split(".")
    head, body, signature = pieces
    yield from (".".join(order) for order in (
        (head, signature, body), (body, head, signature), (signature, body, head), (head, head, signature),
        (body, body, signature), (head, body, body), (head, body), (head, signature), (body, signature), (head,), (body,),
        (signature,), (head, body, ""), (head, "", signature), ("", body, signature), ("", "", ""), ("", ""),
        (*pieces, signature), (*pieces, ""), ("", *pieces), (*pieces, *pieces), (head, body, signature, "", ""),
        (head, body, signature * 2), (head * 2, body, signature), (head, body * 2, signature)))  # fmt: skip
    yield from (
        f.live * 2,
        f"{f.live},{f.live}",
        f"{f.live} {f.live}",
        f"[{f.live}]",
        f'"{f.live}"',
        f"Bearer {f.live}",
    )
    flat = {"protected": head, "payload": body, "signature": signature}
    yield json.dumps(flat)
    yield json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]})
    yield json.dumps({**flat, "header": {"alg": "none"}})
    step = max(1, len(f.live) // 60)
    yield from (f.live[:at] for at in range(1, len(f.live), step))
    yield from (f.live[at:] for at in range(1, len(f.live), step))
    for at in (head, body, signature):
        yield from (f.live.replace(at, at[:n]) for n in (0, 1, len(at) // 2, len(at) - 1))


def keys(f: Forger) -> Iterator[str]:
    """Signed with something else that is at hand: other secrets, a stranger's key, forms of this one."""
    own, kid = f.header["alg"], f.header["kid"]
    for secret in (*sorted(_guessed(kid)), *_forms_of(f.keys[0]), *f.other_secrets.values()):
        for name in dict.fromkeys((own, "HS256")):
            yield f.token(_changed(f.header, {"alg": name}), None, secret)
            yield f.token(_changed(f.header, {"alg": name, "kid": _kid(secret)}), None, secret)
    for theirs in map(stranger, ALGORITHMS):
        for name in dict.fromkeys((own, theirs.algorithm)):
            yield from (
                f.token(_changed(f.header, {"alg": name, "kid": k}), None, theirs.signs) for k in (kid, theirs.id)
            )
    if f.keys[0].jwk:
        yield from _confused(f.live, f.keys[0].jwk)


def _guessed(kid: str) -> set[bytes]:
    """Secrets that somebody might try."""
    return {b"", b"\x00", b"secret", b"password", b"changeme", b"your-256-bit-secret", kid.encode()}


def _kid(secret: bytes) -> str:
    return kid_of(secret.decode("latin-1"))


def _forms_of(key: Key) -> Sequence[bytes]:
    """What may be made of the key that signs by mistake: as the secret of a MAC."""
    if key.jwk:
        texts = [key.signs.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
        texts.append(key.signs.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        return texts
    own = key.signs.encode()
    return sorted({
        own[:-1], own[1:], own[::-1], own + b"\n", own + b" ", b" " + own, own.upper(), own * 2,
        hashlib.sha256(own).digest(), hashlib.sha256(own).hexdigest().encode(), hashlib.sha512(own).digest(),
        base64.b64encode(own), base64.urlsafe_b64encode(own).rstrip(b"="), own.hex().encode(),
    })  # fmt: skip


def _confused(live: str, jwk: dict[str, Any]) -> Iterator[str]:
    """Signed with the published key as if it were a shared secret, in each form that it has (RFC 8725, section 2.1), also
    beside a key that the header itself brings (RFC 7515, section 4.1.3).
    """
    head, body = opened(live.split(".", maxsplit=1)[0]), live.split(".")[1]
    for key in sorted(_forms(jwk)):
        for name, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512"), (head["alg"], "sha256")):
            for changes in ({}, {"kid": GONE}, {"jwk": jwk}):
                message = f"{segment(compact(_changed(head, {'alg': name, **changes})))}.{body}"
                yield f"{message}.{segment(mac(key, message.encode(), digest))}"


def _forms(jwk: dict[str, Any]) -> set[bytes]:
    key = jwt.PyJWK.from_dict(jwk).key
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [jwk[name].encode() for name in ("n", "x", "y") if name in jwk]
    raw = [base64.urlsafe_b64decode(part + b"==") for part in parts]
    texts = [compact(jwk), json.dumps(jwk).encode(), compact({"keys": [jwk]}), *parts, b"".join(parts)]
    one_line = pem.replace(b"\n", b"\\n")
    return {der, pem, pem.rstrip(), pem.replace(b"\n", b"\r\n"), one_line, base64.b64encode(der), b"".join(raw),
            b"\x04" + b"".join(raw), jwk["kid"].encode(), *texts, *raw}  # fmt: skip


def claims(f: Forger) -> Iterator[str]:
    """A claim left out, of another type, or of another service, or somebody else's."""
    for name in ("iss", "aud", "sub", "sid", "iat", "exp", "jti", "role", "amr", "auth_time"):
        for value in (GONE, None, "", [], {}, True, -1, 0.5, "x", [f.claims[name]], {"value": f.claims[name]}):
            yield f.with_claims(**{name: value})
    for aud in ("latchkey2", "LATCHKEY", " latchkey", "latchkey/", "latch", "*", ["latchkey", "other"], ["other"]):
        yield f.with_claims(aud=aud)
    for iss in ("latchkey2", "Latchkey", "latchkey/", "latch", "https://latchkey", ["latchkey"]):
        yield f.with_claims(iss=iss)
    for role in ("admin", "doctor", "User", "user ", "root", "user,admin", ["user"], {"user": True}, 0):
        yield f.with_claims(role=role)
    for user, session in f.strangers:
        yield f.with_claims(sub=user)
        yield f.with_claims(sid=session)
        yield f.with_claims(sub=user, sid=session, role="admin")
    for name in ("sub", "sid"):
        own = UUID(f.claims[name])
        near = UUID(int=own.int ^ 1)
        odd = (
            str(near),
            own.int,
            str(own.int),
            own.hex,
            str(own).upper(),
            f"{{{own}}}",
            own.urn,
            f"{own}\x00",
            f"{own} ",
        )
        yield from (f.with_claims(**{name: each}) for each in odd)
    for body in (b"", b"null", b"[]", b'"x"', b"1", b"true", b"{}", b"{", b"\xff\xfe", b"NaN", compact([f.claims])):
        yield f.token(claims=body)
        yield f.token(head=body)


def times(f: Forger) -> Iterator[str]:
    """Not yet, no longer, or no time at all."""
    for ago in (0, 1, 2, 29, 30, 31, 59, 60, 900, 86_400, 10**6, f.now - 1, f.now, f.now + 1):
        yield f.with_claims(exp=f.now - ago)
    for ahead in (60, 61, 90, 300, 900, 3600, 86_400, 10**8):
        yield f.with_claims(iat=f.now + ahead, exp=f.now + ahead + 900)
        yield f.with_claims(nbf=f.now + ahead)
        yield f.with_claims(auth_time=f.now + ahead)
    strange = ("", "x", "1e3", "0x10", f"{f.now + 900}", f.now + 900.5, float(f.now + 900), 1e308, -1e308, 10**30, -(10**30),
               None, True, [], {}, [f.now + 900], "Infinity", "2030-01-01T00:00:00Z")  # fmt: skip
    for name in ("exp", "iat", "auth_time", "nbf"):
        yield from (f.with_claims(**{name: value}) for value in strange)
        for raw in ("1e400", "-1e400", "NaN", "Infinity", "9" * 400, "00", "1_000", "0x7fffffff"):
            text = json.dumps(_changed(f.claims, {name: "@"})).replace('"@"', raw)
            yield f.token(claims=text.encode())


def repeated(f: Forger) -> Iterator[str]:
    """A name that stands twice: two parsers may see two tokens (RFC 8725, section 2.4)."""
    for part, names in (("head", list(f.header)), ("claims", list(f.claims))):
        members = f.header if part == "head" else f.claims
        for name in names:
            for value in (members[name], "none", None, "admin", f.now + 10**6):
                twice = f'"{name}":{json.dumps(value)}'
                text = json.dumps(members)
                yield f.token(**{part: f"{{{twice},{text[1:]}".encode()})
                if value == members[name]:
                    yield f.token(**{part: f"{text[:-1]},{twice}}}".encode()})
                    escaped = f'"\\u{ord(name[0]):04x}{name[1:]}":{json.dumps(value)}'
                    yield f.token(**{part: f"{{{escaped},{text[1:]}".encode()})
        nested = f'{{"x":{{"a":1,"a":2}},{json.dumps(members)[1:]}'
        yield f.token(**{part: nested.encode()})


def nested(f: Forger) -> Iterator[str]:
    """JSON that is deep, wide or strange where a claim stands."""
    for depth in (2, 10, 100, 500, 1000, 1400):
        for left, right in (("[", "]"), ('{"a":', "}")):
            deep = left * depth + "1" + right * depth
            for name in ("role", "sub", "exp", "aud", "amr", "jti"):
                text = json.dumps(_changed(f.claims, {name: "@"})).replace('"@"', deep)
                yield f.token(claims=text.encode())
            text = json.dumps(_changed(f.header, {"kid": "@"})).replace('"@"', deep)
            yield f.token(head=text.encode())
    yield from (
        f.token(claims=compact(f.claims) + tail) for tail in (b"{}", b"x", b",", b"\x00", b"}", compact(f.claims))
    )
    yield f.token(claims=segment(compact(f.claims)).encode())
    yield f.token(claims=json.dumps(f.live).encode())  # a token in a token
    yield f.token(claims=f.live.encode())


def huge(f: Forger) -> Iterator[str]:
    """Longer than any token of ours: refused before anything of it is read."""
    for size in (LONG, LONG + 1, 2 * LONG, 8 * LONG):
        yield f.with_claims(pad="x" * size)
        yield f.with_header(pad="x" * size)
        yield f.with_claims(amr=["pwd"] * (size // 4))
        yield f.live + "A" * size
        yield "A" * size
        yield "." * size
        yield f.live.replace(".", "." + "A" * size + ".", 1)


def noise(f: Forger) -> Iterator[str]:
    """Endless: the live token with a few characters changed, put in, taken out or exchanged."""
    while True:
        letters = list(f.live)
        for _ in range(f.dice.choice((1, 1, 1, 2, 3, 8))):
            at = f.dice.randrange(len(letters))
            act = f.dice.randrange(4)
            if act == 0:
                letters[at] = f.dice.choice(B64)
            elif act == 1:
                letters.insert(at, f.dice.choice(B64 + "."))
            elif act == 2:
                del letters[at]
            else:
                other = f.dice.randrange(len(letters))
                letters[at], letters[other] = letters[other], letters[at]
        yield "".join(letters)


FAMILIES: tuple[Callable[[Forger], Iterator[str]], ...] = (
    alg, kid, typ, members, brought, signatures, spelling, parts, keys, claims, times, repeated, nested, huge
)  # fmt: skip


def forged(
    forger: Forger, valid: set[str], count: int, families: Sequence[Callable[[Forger], Iterator[str]]]
) -> list[tuple[str, str]]:
    """So many different tokens or more, with the family of each; none of them one of the valid ones."""
    found = dict.fromkeys(valid, "")
    for family in families:
        for token in family(forger):
            found.setdefault(token, family.__name__)
    for token in noise(forger):
        if len(found) >= len(valid) + count:
            break
        found.setdefault(token, "noise")
    return [(family, token) for token, family in found.items() if family]
