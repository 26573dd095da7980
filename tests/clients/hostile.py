"""Tokens that nobody may be let in with, and acts that must not succeed. A broken verifier lets one of them pass."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from tests.clients.mint import AUDIENCE, DER, ISSUER, KEY, NOW, OLD, PEM, Mint, b64, macs, private, shared
from tests.clients.stub import Stub

HEADERS: dict[str, dict[str, Any]] = {
    **{f"typ {typ!r}": {"typ": typ} for typ in ("JWT", "at+JWT", "refresh+jwt", "application/at+jwt", "", None, 1, ...)},
    **{
        f"alg {alg!r}": {"alg": alg}
        for alg in ("none", "None", "nOnE", "", "HS384", "HS512", "hs256", "PS256", "ES384", "EdDSA\x00", None, 1, [], ...)
    },
    **{f"kid {kid!r}": {"kid": kid} for kid in (None, 1, [], {})},
    "crit": {"crit": ["exp"]}, "crit empty": {"crit": []}, "b64": {"crit": ["b64"], "b64": True},
    "jku": {"jku": "http://127.0.0.1:1/jwks"}, "x5u": {"x5u": "http://127.0.0.1:1/x"}, "x5c": {"x5c": ["AA"]},
    "jwk": {"jwk": {"kty": "oct", "k": "AA"}}, "cty": {"cty": "JWT"}, "zip": {"zip": "DEF"},
    "typ in __proto__": {"typ": ..., "__proto__": {"typ": "at+jwt"}},
}  # fmt: skip


def claims(now: int) -> dict[str, dict[str, Any]]:
    """Changes to the claims of a token that is issued now, each of which spoils it."""
    return {
        **{f"no {name}": {name: ...} for name in ("iss", "aud", "sub", "sid", "jti", "iat", "exp", "role", "amr", "auth_time")},
        **{
            f"aud {aud!r}": {"aud": aud}
            for aud in ("", "latchkey", "clinic2", "xclinic", "CLINIC", ["clinic"], ["clinic", "lab"], None, 1)
        },
        **{f"iss {iss!r}": {"iss": iss} for iss in ("", "other", "latch", "latchkey/", None, 1, ["latchkey"])},
        **{f"exp {exp!r}": {"exp": exp} for exp in ("never", str(now + 900), 1e308, now + 900.5, None, [], True, 10**30)},
        "expired": {"exp": now - 11}, "expired long ago": {"iat": now - 9000, "exp": now - 8100}, "from tomorrow": {"iat": now + 86400},
        "iat 1.5": {"iat": 1.5}, "iat 'x'": {"iat": "x"}, "nbf later": {"nbf": now + 3600}, "nbf 'x'": {"nbf": "x"},
        **{f"{name} {value!r}": {name: value} for name in ("sub", "sid", "role", "jti") for value in ("", 1, None, [], ["doctor"])},
        **{f"amr {amr!r}": {"amr": amr} for amr in ("pwd", None, [1], {})},
        **{f"auth_time {at!r}": {"auth_time": at} for at in ("x", None, 1.5, 10**30)},
        "role in __proto__": {"role": ..., "__proto__": {"role": "doctor"}},
        "exp in __proto__": {"exp": ..., "__proto__": {"exp": now + 900}},
    }  # fmt: skip


def spellings(good: str) -> dict[str, str]:
    """What is no token, or a good one spelled another way."""
    head, payload, signature = good.split(".")
    forms = [
        "",
        "x",
        "..",
        "a.b.c",
        f"{good}=",
        f" {good}",
        f"{good}\n",
        f"{good}.x",
        f".{good}",
        f"{good}.",
        good + good,
    ]
    cuts = {
        "no signature": f"{head}.{payload}.",
        "no payload": f"{head}..{signature}",
        "two parts": f"{head}.{payload}",
    }
    return {**{f"spelling {n}": form for n, form in enumerate(forms)}, **cuts, "1 MB": "a" * 1_000_000}


def tokens(mint: Mint) -> dict[str, str]:
    """Every hostile token that can be made from a genuine signing key, and many from other keys."""
    found = {name: mint.token(change) for name, change in HEADERS.items()}
    found |= {name: mint.token(**change) for name, change in claims(mint.now).items()}
    found |= spellings(mint.token())
    found |= {f"payload {payload!r}": mint.signed(mint.header(), payload) for payload in ([], "x", 1, None, True)}
    found |= {f"header {header!r}": mint.signed(header, mint.claims()) for header in ([], "x", 1, None, True)}
    found["payload in a list"] = mint.signed(mint.header(), [mint.claims()])
    found["alg none, unsigned"] = mint.token({"alg": "none"}, lambda _: b"")
    found["unsigned"] = mint.token(sign=lambda _: b"")
    found["too long"] = mint.token(role="x" * 5000)
    return found | {f"signed by {name}": token for name, token in other_keys(mint).items()}


def other_keys(mint: Mint) -> dict[str, str]:
    """Tokens that are right in everything but the key."""
    keys = {"an empty key": b"", "zeros": bytes(32), "the secret reversed": KEY[::-1].encode(),
            "its digest": hashlib.sha256(KEY.encode()).digest(), "the kid": mint.kid.encode()}  # fmt: skip
    if mint.public is None:
        keys["a stranger's key pair"] = b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
        found = {f"our secret, HS{n}": mint.token({"alg": f"HS{n}"}, macs(KEY.encode(), f"sha{n}")) for n in (384, 512)}
        return found | {name: mint.token(sign=macs(key)) for name, key in keys.items()}
    keys |= {"the public key as PEM": mint.public.public_bytes(*PEM), "the public key as DER": mint.public.public_bytes(*DER),
             "the public JWK": json.dumps(mint.jwk).encode(), "the secret": KEY.encode()}  # fmt: skip
    found = {f"{name}, HS256": mint.token({"alg": "HS256"}, macs(key)) for name, key in keys.items()}
    stranger = private(mint.alg, f"stranger of {mint.kid}")
    found["a stranger's key of the same kind"] = mint.token(sign=stranger.sign)
    found["a stranger's kid"] = stranger.token()
    found["no kid"] = mint.token({"kid": ...})
    return found


def verifier(client: Any, mint: Mint, stub: Stub, **more: Any) -> Any:
    """A verifier for the tokens of a mint."""
    keys = {"secrets": [KEY, OLD]} if mint.public is None else {"jwks_url": f"{stub.base}/jwks"}
    given = {"issuer": ISSUER, "audience": AUDIENCE, "clock": lambda: NOW, **keys}
    return client.Verifier(**given | more)


GENUINE_BY_BOTH = {"signed by the secret, HS256"}


def BOTH(stub: Stub) -> dict[str, Any]:
    """The keys of a backend while public keys take the place of a shared secret."""
    return {"secrets": [KEY, OLD], "jwks_url": f"{stub.base}/jwks"}


def with_feed(client: Any, stub: Stub, **more: Any) -> Any:
    feed = {
        "revocations_url": f"{stub.base}/revocations",
        "api_key": stub.api_key,
        "background": False,
        "poll_every": 1e-6,
    }
    return verifier(client, shared(KEY), stub, **feed | more)


SECOND = b"a secret that stands in a JWKS, where none belongs"
Act = Callable[[Any, Stub], object]


def _revoked(client: Any, stub: Stub, issued: int = 0) -> None:
    session = str(uuid4())
    stub.revoke(session, NOW)
    with_feed(client, stub).verify(shared(KEY).token(sid=session, iat=NOW + issued))


def _away_for_long(client: Any, stub: Stub) -> None:
    found = with_feed(client, stub, max_stale=1e-6)
    found.revocations.poll()
    stub.broken = True
    found.verify(shared(KEY).token())


def _never_there(client: Any, stub: Stub) -> None:
    stub.broken = True
    with_feed(client, stub).verify(shared(KEY).token())


def _role(client: Any, stub: Stub) -> None:
    verifier(client, shared(KEY), stub).admit(f"Bearer {shared(KEY).token()}", "doctor", "admin")


def _old_sign_in(client: Any, stub: Stub) -> None:
    token = shared(KEY).token(auth_time=NOW - 611)
    verifier(client, shared(KEY), stub).admit(f"Bearer {token}", max_age=600)


def _published(client: Any, stub: Stub, mint: Mint, **change: Any) -> None:
    stub.keys = [{**(mint.jwk or {}), **change}]
    verifier(client, mint, stub).verify(mint.token())


def _secret_in_the_jwks(client: Any, stub: Stub) -> None:
    mint = shared(KEY)
    stub.keys = [{"kty": "oct", "k": b64(SECOND), "kid": mint.kid, "alg": "HS256", "use": "sig"}]
    verifier(client, replace(mint, public=True), stub).verify(mint.token(sign=macs(SECOND)))


def _a_fetch_for_each_stranger(client: Any, stub: Stub) -> None:
    keys = sys.modules[f"{client.__name__}.keys"]
    found, pause = verifier(client, private("EdDSA"), stub), keys.PAUSE_S
    keys.PAUSE_S = 1000  # however slow this machine is
    try:
        for n in range(20):
            with contextlib.suppress(client.Refused):
                found.verify(private("EdDSA", "unknown").token({"kid": f"unknown {n}"}))
    finally:
        keys.PAUSE_S = pause
    assert stub.asked["/jwks"] > 2, "at most one at the start and one for the unknown"


def _api_key_follows_a_redirect(client: Any, stub: Stub) -> None:
    stub.redirect = "/elsewhere"
    try:
        with_feed(client, stub).verify(shared(KEY).token())
    except client.Refused:
        assert stub.asked["/elsewhere"], "nobody went there"


def _made(**settings: Any) -> Act:
    usual = {"issuer": ISSUER, "audience": AUDIENCE, "secrets": [KEY]}
    return lambda client, _: client.Verifier(**usual | settings)


FEED = {"revocations_url": "https://auth.example.com/api/auth/revocations", "api_key": "x"}
ACTS: dict[str, Act] = {
    "a revoked session": _revoked,
    "a revoked session, issued before": lambda client, stub: _revoked(client, stub, -100),
    "the feed is away for long": _away_for_long,
    "the feed was never there": _never_there,
    "another role": _role,
    "an old sign-in": _old_sign_in,
    "a key for encryption": lambda client, stub: _published(client, stub, private("EdDSA"), use="enc"),
    "a key of another algorithm": lambda client, stub: _published(client, stub, private("RS256"), alg="PS256"),
    "a short RSA key": lambda client, stub: _published(client, stub, private("RS256", "short", 1024)),
    "a secret in the JWKS": _secret_in_the_jwks,
    "a fetch for each stranger": _a_fetch_for_each_stranger,
    "the API key follows a redirect": _api_key_follows_a_redirect,
    "no secret": _made(secrets=["", " "]),
    "a short secret": _made(secrets=["short"]),
    "a secret as one text": _made(secrets=KEY),
    "a short earlier secret": _made(secrets=[KEY, "short"]),
    "a key in PEM as a secret": _made(secrets=[KEY, "-----BEGIN PUBLIC KEY-----\n" + KEY]),
    "the base64 of one": _made(secrets=[KEY, b64(b"-----BEGIN PUBLIC KEY-----\n" + KEY.encode())]),
    "neither": _made(secrets=None),
    "no audience": _made(audience=""),
    "no issuer": _made(issuer=""),
    "leeway without end": _made(leeway=31),
    "keys over plain HTTP": _made(secrets=None, jwks_url="http://auth.example.com/jwks"),
    "keys from a file": _made(secrets=None, jwks_url="file:///etc/keys"),
    "a feed over plain HTTP": _made(**FEED | {"revocations_url": "http://auth.example.com/r"}),
    "a feed without a key": _made(**FEED | {"api_key": None}),
    "a feed with an empty key": _made(**FEED | {"api_key": ""}),
    "an empty address of the keys": _made(secrets=None, jwks_url=""),
}  # fmt: skip


def refused(client: Any, act: Callable[[], object]) -> bool:
    """True if it came to nothing: a refusal, or settings that were not taken."""
    try:
        act()
    except (client.Refused, ValueError, TypeError, AssertionError):
        return True
    except Exception:  # a fault is no refusal
        return False
    return False


def let_in(client: Any, stub: Stub) -> set[str]:
    """The names of all that passed and should not have."""
    found = set()
    for name, act in ACTS.items():
        stub.reset(private("EdDSA"), private("ES256"), private("RS256"))
        if not refused(client, partial(act, client, stub)):
            found.add(name)
    stub.reset(private("EdDSA"))
    for mint in (shared(KEY), private("EdDSA")):
        for both in (False, True):
            verify = verifier(client, mint, stub, **BOTH(stub) if both else {}).verify
            named = {name: token for name, token in tokens(mint).items() if not both or name not in GENUINE_BY_BOTH}
            passed = {name for name, token in named.items() if not refused(client, partial(verify, token))}
            found |= {f"{mint.alg}: {name}" for name in passed}
    return found
