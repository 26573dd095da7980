"""2,000 forged and altered tokens, other kinds of token, and the Wycheproof vectors: none opens a door; valid ones do.

In this process, through the front door: `GET /api/auth/me` and `POST /api/auth/introspect`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt

from app.crypto import signing
from app.crypto.jwt import SHAPE
from bench.forgery import Forger, confused, forged, kid_of
from bench.report import Report
from bench.world import world
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import PASSWORD, Person

VECTORS = Path(__file__).parent.parent / "tests" / "data" / "wycheproof_json_web_signature_test.json"
OFFERED = ("HS256", "ES256", "RS256")  # those of the vectors' algorithms that a service of this kind may offer
# Two vectors are, letter for letter, the valid vector 357 and are called invalid; two have a `?` inside and are called
# valid, which RFC 7515, section 2, forbids; and one is empty, which is a good signature but never a token.
LEFT_OUT = {367, 370, 372, 373, 259}
PAIRS = ("EdDSA", "ES256", "RS256")  # what else tokens may be signed by
OLD_SECRET = "o5lDqW8eRt3YbN6mXc9LvFgHjKoIuPeZwQaSzT2U4i7"
SETTINGS: dict[str, Any] = {"ratelimit": False, "jwt_previous_secret_keys": OLD_SECRET}
SEND, VERIFY = "/api/v1/auth/send-otp", "/api/v1/auth/verify-otp"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, help="forged tokens (100,000; short: 2,000)")
    parser.add_argument("--seed", type=int, default=1)


def run(given: argparse.Namespace) -> Report:
    given.count = given.count or (2000 if given.short else 100_000)
    with world(label="tokens", **SETTINGS) as opened:
        report = attack(opened, given.count, given.seed)
    for name in PAIRS:
        with world(label=f"tokens_{name.lower()}", **signing_by(name)) as opened:
            confuse(report, opened, name)
    return report


def signing_by(name: str) -> dict[str, Any]:
    """Settings of a service whose tokens are signed by a key pair."""
    return {"ratelimit": False, "jwt_algorithm": name, "jwt_private_key": signing.make(name)}


def confuse(report: Report, opened: World, name: str) -> None:
    """The published key as a shared secret, on a world that signs by the private one: it opens nothing."""
    live, doors = opened.person().sign_up().token, Doors(opened)
    [jwk] = doors.client.get("/.well-known/jwks.json").get_json()["keys"]
    tokens = list(confused(live, jwk))
    taken = [token for token in tokens if doors.open_for(token)]
    report.tables.setdefault("the public key as a secret", []).append(
        {"signed by": name, "tokens": len(tokens), "taken": len(taken), "answers": dict(doors.seen)}
    )
    report.check(f"{name}: public keys as secrets, tried", len(tokens), "over 100", len(tokens) > 100)
    report.check(f"{name}: of them taken", taken[:3] or 0, "0", not taken)
    report.check(f"{name}: answers 5xx to them", doors.faults[:3] or 0, "0", not doors.faults)
    _settle_valid(report, doors, {live: "as it was issued"})


@dataclass
class Doors:
    """Ask both doors about a token. No answer is held against the document: there are thousands."""

    opened: World
    seen: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = self.opened.app.test_client(use_cookies=False)

    def open_for(self, token: str) -> bool:
        """True if any of them takes it."""
        return any([self.me(token), self.introspect(token)])

    def me(self, token: str) -> bool:
        """True if it opens `me`. What HTTP cannot carry in a header is not asked there."""
        if not token or not token.isprintable() or not token.isascii() or token != token.strip():
            return False
        return self._ask(token, "GET", "/api/auth/me", {"Authorization": f"Bearer {token}"}).get("id") is not None

    def introspect(self, token: str) -> bool:
        key = {"Authorization": f"Bearer {SECRETS['api_key']}"}
        return self._ask(token, "POST", "/api/auth/introspect", key, {"token": token}).get("active") is True

    def _ask(self, token: str, method: str, path: str, headers: dict[str, str], body: Any = None) -> Any:
        answer = self.client.open(path, method=method, headers=headers, **({"json": body} if body else {}))
        found, door = answer.get_json(), path.rpartition("/")[2]
        self.seen[f"{door} {answer.status_code} {found.get('code', '')}".strip()] += 1
        if answer.status_code >= 500:
            self.faults.append(f"{door}: {token[:80]}")
        return found


def attack(opened: World, count: int, seed: int) -> Report:
    """Everything, on a world with `SETTINGS`."""
    report, began = Report(), time.process_time()
    person, other = opened.person().sign_up(), opened.person().sign_up()
    opened.clock.advance(minutes=2)
    again = opened.person(email=person.email).sign_in()
    forger = _forger(opened, person, other, seed)
    valid = _valid(opened, forger, again)
    _settle_valid(report, Doors(opened), valid)
    tokens = forged(forger, set(valid), count)
    rows = report.tables[f"{len(tokens)} forged or altered tokens, seed {seed}"] = []
    faults = []
    for family, group in itertools.groupby(tokens, key=lambda each: each[0]):
        doors, tried = Doors(opened), [token for _, token in group]
        taken = [token for token in tried if doors.open_for(token)]
        rows.append({"family": family, "tokens": len(tried), "taken": len(taken), "answers": dict(doors.seen)})
        report.check(f"{family}: taken", taken[:3] or 0, "0", not taken)
        faults += doors.faults
    report.check("forged tokens tried", len(tokens), f"at least {count}", len(tokens) >= count)
    report.check("answers 5xx to them", faults[:3] or 0, "0", not faults)
    _settle_kinds(report, opened, person, forger)
    _settle_vectors(report, Doors(opened))
    _settle_valid(report, Doors(opened), valid)  # still: none of all this ended a session
    report.tables["cost"] = [{"CPU s of service and generator": time.process_time() - began}]
    return report


def _forger(opened: World, person: Person, other: Person, seed: int) -> Forger:
    """The live token alone is valid, so that all that follows differ from it."""
    own = SECRETS["jwt_secret_key"]
    others = {name: secret.encode() for name, secret in SECRETS.items() if secret != own}
    return Forger(
        live=person.token,
        secret=own.encode(),
        dice=random.Random(seed),
        now=int(opened.clock.now.timestamp()),
        other_secrets={**others, "previous": OLD_SECRET.encode()},
        strangers=((other.tokens["user"]["id"], other.tokens["session_id"]), (str(uuid4()), str(uuid4()))),
    )


def _valid(opened: World, forger: Forger, again: Person) -> dict[str, str]:
    """Tokens that must work, with what each is."""
    ring = opened.kit.tokens
    now, claims = forger.now, {name: value for name, value in forger.claims.items() if name not in ("iss", "aud")}
    return {
        forger.live: "as it was issued",
        again.token: "of another session",
        ring.issue({**claims, "jti": str(uuid4())}): "issued again",
        ring.issue({**claims, "exp": now + 300}): "that ends sooner",
        ring.issue({**claims, "iat": now + 20}): "by a worker whose clock is ahead",
        ring.issue({**claims, "amr": ["pwd", "otp", "mfa"]}): "of a sign-in with more proofs",
        ring.issue({**claims, "auth_time": now - 86_400}): "of a sign-in long ago",
        forger.token({**forger.header, "kid": kid_of(OLD_SECRET)}, None, OLD_SECRET.encode()): "of the key before",
        forger.token(json.dumps(forger.header, indent=1).encode()): "with JSON spaces in the header",
        forger.with_claims(nbf=now): "that begins now",
    }


def _settle_valid(report: Report, doors: Doors, valid: dict[str, str]) -> None:
    refused = [what for token, what in valid.items() if not (doors.me(token) and doors.introspect(token))]
    report.check(f"{len(valid)} valid tokens: refused", refused or 0, "0", not refused)


def _settle_kinds(report: Report, opened: World, person: Person, forger: Forger) -> None:
    """Every other kind of token that the service gives, at both doors."""
    doors, rows = Doors(opened), []
    for kind, token in kinds(opened, person, forger):
        rows.append({"kind": kind, "me": doors.me(token), "introspect": doors.introspect(token)})
    report.tables["other kinds of token"] = rows
    taken = [row["kind"] for row in rows if row["me"] or row["introspect"]]
    report.check(f"{len(rows)} other kinds of token: taken", taken or 0, "0", not taken)


def kinds(opened: World, person: Person, forger: Forger) -> Iterator[tuple[str, str]]:
    """Tokens of this service that are no access tokens, all of them live."""
    opened.clock.advance(minutes=2)
    yield "refresh token", person.tokens["refresh_token"]
    yield "API key of the environment", SECRETS["api_key"]
    yield "session id", person.tokens["session_id"]
    asked = person.ask_signin(channel="email").body
    yield "challenge id", asked.get("challenge_id", str(uuid4()))
    number = "+919812345670"
    opened.api().post(SEND, {"mobile_number": number}).ok()
    proof = {"mobile_number": number, "otp": opened.read("sms", number)}
    yield "registration token", opened.api().post(VERIFY, proof).ok()["registration_token"]
    browser = opened.app.test_client()
    assert browser.post("/login", json={"email": person.email, "password": PASSWORD}).status_code == 200
    code = opened.read("email", person.email)
    assert browser.post("/verify-otp", json={"email": person.email, "otp": code}).status_code == 200
    cookie = browser.get_cookie("session")
    assert cookie is not None
    yield "session cookie", cookie.value
    browser.post("/forgot-password", json={"email": person.email})
    code = opened.read("email", person.email)
    assert browser.post("/validate-otp", json={"email": person.email, "otp": code}).status_code == 200
    grant = browser.get_cookie("grant")
    assert grant is not None
    yield "recovery grant", grant.value
    yield "token for another service", forger.with_claims(aud="clinic")
    yield "token of another issuer", forger.with_claims(iss="elsewhere")


def _settle_vectors(report: Report, doors: Doors) -> None:
    """Every vector at the doors; and the signature's verdict alone, with the vector's own key, where that algorithm is
    one that a service of this kind may offer.
    """
    groups = json.loads(VECTORS.read_text())["testGroups"]
    cases = [(group, case) for group in groups for case in group["tests"]]
    taken = [case["tcId"] for _, case in cases if doors.open_for(_text(case["jws"]))]
    report.check(f"{len(cases)} Wycheproof vectors at the doors: taken", taken or 0, "0", not taken)
    report.check("the same: answers 5xx", doors.faults or 0, "0", not doors.faults)
    seen: Counter[str] = Counter()
    differ = []
    for group, case in cases:
        key = group.get("public") or group["private"]
        if key.get("alg") not in OFFERED or case["tcId"] in LEFT_OUT or _names_another(group, case):
            continue
        verdict = _verdict(key, _text(case["jws"]))
        seen[f"{key['alg']} {verdict}"] += 1
        differ += [case["tcId"]] * (verdict != case["result"])
    report.tables["Wycheproof vectors by their own key, verdicts"] = [dict(seen)]
    report.check("Wycheproof verdicts that differ", differ or 0, "0", not differ)


def _names_another(group: dict[str, Any], case: dict[str, Any]) -> bool:
    """The examples of RFC 7520 are filed under a key of one algorithm and use another."""
    return group["comment"].startswith("rfc7520") and case["result"] == "valid" and _alg(case["jws"]) != _key_alg(group)


def _alg(token: str) -> Any:
    return jwt.get_unverified_header(token)["alg"]


def _key_alg(group: dict[str, Any]) -> Any:
    return (group.get("public") or group["private"]).get("alg")


def _text(token: Any) -> str:
    return token if isinstance(token, str) else json.dumps(token)


def _verdict(key: dict[str, Any], token: str) -> str:
    try:
        if not SHAPE.fullmatch(token):
            return "invalid"
        jwt.PyJWS().decode(token, jwt.PyJWK(key).key, algorithms=[key["alg"]])
    except (jwt.PyJWTError, ValueError):
        return "invalid"
    return "valid"
