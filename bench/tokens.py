"""Forged and altered tokens for services that sign by each algorithm, and the Wycheproof vectors: none opens a door.

In this process, through the front door: `GET /api/auth/me` and `POST /api/auth/introspect`. Valid tokens open both.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt

from app.crypto import signing
from app.crypto.jwt import SHAPE, check_signature
from app.crypto.signing import Key
from bench import forgery
from bench.forgery import ALGORITHMS, Forger, forged, stranger
from bench.report import Report
from bench.signatures import twin
from bench.world import world
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import Person

VECTORS = Path(__file__).parent.parent / "tests" / "data" / "wycheproof_json_web_signature_test.json"
OFFERED = ("HS256", "ES256", "RS256")  # those of the vectors' algorithms that a service of this kind may offer
# Two vectors are, letter for letter, the valid vector 357 and are called invalid; two have a `?` inside and are called
# valid, which RFC 7515, section 2, forbids; and one is empty, which is a good signature but never a token.
LEFT_OUT = {367, 370, 372, 373, 259}
OLD_SECRET = "o5lDqW8eRt3YbN6mXc9LvFgHjKoIuPeZwQaSzT2U4i7"
Family = Callable[[Forger], Iterator[str]]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, help="forged tokens at each service (100,000; short: 2,500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signed-by", nargs="+", choices=ALGORITHMS, default=ALGORITHMS, help="these services alone")
    names = [family.__name__ for family in forgery.FAMILIES]
    parser.add_argument("--families", nargs="+", choices=names, help="of these families alone, and no noise")


def run(given: argparse.Namespace) -> Report:
    given.count = 0 if given.families else given.count or (2500 if given.short else 100_000)
    families = [each for each in forgery.FAMILIES if not given.families or each.__name__ in given.families]
    report = Report()
    for algorithm in given.signed_by:
        with world(label=f"tokens_{algorithm.lower()}", **signing_by(algorithm)) as opened:
            attack(report, opened, given.count, given.seed, families)
            if algorithm == ALGORITHMS[0]:
                settle_vectors(report, Doors(opened))
    return report


@cache
def pem(algorithm: str, when: str) -> str:
    """A private key of the service, new in every process: that of `now`, or of `before`."""
    del when
    return signing.make(algorithm)


def signing_by(algorithm: str) -> dict[str, Any]:
    """Settings of a service in the middle of a change of keys: one signs, four others verify."""
    before = [signing.public_pem(signing.private(pem(name, "before"))) for name in ALGORITHMS[1:]]
    private = {} if algorithm == "HS256" else {"jwt_private_key": pem(algorithm, "now")}
    return {
        "ratelimit": False,
        "jwt_algorithm": algorithm,
        "jwt_previous_secret_keys": OLD_SECRET,
        "jwt_previous_public_keys": ",".join(signing.one_line(each) for each in before),
        **private,
    }


def keys_of(algorithm: str) -> tuple[Key, ...]:
    """All keys of a service with these settings, as who made them has them: that which signs first."""
    signs = (
        signing.shared(SECRETS["jwt_secret_key"]) if algorithm == "HS256" else signing.private(pem(algorithm, "now"))
    )
    before = (signing.private(pem(name, "before")) for name in ALGORITHMS[1:])
    return (signs, signing.shared(OLD_SECRET), *before)


@dataclass
class Trap:
    """Where a stranger's keys could be had, and how often somebody came for them."""

    url: str = ""
    asked: int = 0


@contextmanager
def trap() -> Iterator[Trap]:
    """A server that gives a stranger's public keys to whoever asks."""
    caught = Trap()
    keys = forgery.compact({"keys": [jwk for algorithm in ALGORITHMS if (jwk := stranger(algorithm).jwk)]})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            caught.asked += 1
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(keys)))
            self.end_headers()
            self.wfile.write(keys)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        caught.url = f"http://127.0.0.1:{server.server_port}/jwks"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield caught
        finally:
            server.shutdown()
            thread.join()


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


def attack(
    report: Report,
    opened: World,
    count: int,
    seed: int,
    families: Sequence[Family] = forgery.FAMILIES,
) -> None:
    """Forged and valid tokens, on a world with the settings of `signing_by`."""
    began, of = time.process_time(), opened.settings.jwt_algorithm
    person, other = opened.person().sign_up(), opened.person().sign_up()
    opened.clock.advance(minutes=2)
    again = opened.person(email=person.email).sign_in()
    with trap() as caught:
        forger = _forger(opened, person, other, seed, caught.url)
        valid = _valid(opened, forger, again)
        _settle_valid(report, of, Doors(opened), valid)
        tokens = forged(forger, set(valid), count, families)
        _settle_forged(report, opened, tokens, seed)
    report.check(f"{of}: forged tokens tried", len(tokens), f"at least {count}", len(tokens) >= max(count, 1))
    report.check(f"{of}: keys fetched from where a token says they are", caught.asked, "0", not caught.asked)
    _settle_valid(report, of, Doors(opened), valid)  # still: none of all this ended a session
    _settle_end(report, of, opened, forger, again)
    cost = report.tables.setdefault("cost", [])
    cost.append({"signed by": of, "CPU s of service and generator": time.process_time() - began})


def _settle_forged(report: Report, opened: World, tokens: list[tuple[str, str]], seed: int) -> None:
    of, faults = opened.settings.jwt_algorithm, []
    rows = report.tables[f"{of}: {len(tokens)} forged or altered tokens, seed {seed}"] = []
    for family, group in itertools.groupby(tokens, key=lambda each: each[0]):
        doors, tried = Doors(opened), [token for _, token in group]
        taken = [token for token in tried if doors.open_for(token)]
        rows.append({"family": family, "tokens": len(tried), "taken": len(taken), "answers": dict(doors.seen)})
        report.check(f"{of}: {family}: taken", taken[:3] or 0, "0", not taken)
        faults += doors.faults
    report.check(f"{of}: answers 5xx to them", faults[:3] or 0, "0", not faults)


def _forger(opened: World, person: Person, other: Person, seed: int, elsewhere: str) -> Forger:
    """The live token alone is valid, so that all that follows differ from it."""
    keys = keys_of(opened.settings.jwt_algorithm)
    own = [key.signs for key in keys]
    others = {name: secret.encode() for name, secret in SECRETS.items() if secret not in own}
    return Forger(
        live=person.token,
        keys=keys,
        dice=random.Random(seed),
        now=int(opened.clock.now.timestamp()),
        other_secrets={**others, "previous": OLD_SECRET.encode()},
        strangers=((other.tokens["user"]["id"], other.tokens["session_id"]), (str(uuid4()), str(uuid4()))),
        elsewhere=elsewhere,
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
        forger.token(json.dumps(forger.header, indent=1).encode()): "with JSON spaces in the header",
        forger.with_claims(nbf=now): "that begins now",
        **{_by(forger, key): f"of the {key.algorithm} key before" for key in forger.keys[1:]},
        **({other: "with the other signature that ECDSA has"} if (other := _twin(forger, forger.live)) else {}),
    }


def _by(forger: Forger, key: Key) -> str:
    return forger.token({**forger.header, "alg": key.algorithm, "kid": key.id}, None, key.signs)


def _twin(forger: Forger, token: str) -> str | None:
    message, _, made = token.rpartition(".")
    other = twin(forger.key, base64.urlsafe_b64decode(made + "=="))
    return f"{message}.{forgery.segment(other)}" if other else None


def _settle_valid(report: Report, of: str, doors: Doors, valid: dict[str, str]) -> None:
    refused = [what for token, what in valid.items() if not (doors.me(token) and doors.introspect(token))]
    report.check(f"{of}: {len(valid)} valid tokens: refused", refused or 0, "0", not refused)


def _settle_end(report: Report, of: str, opened: World, forger: Forger, person: Person) -> None:
    """A sign-out ends a session and so every token of it, in whatever letters."""
    opened.api().post("/api/auth/logout", {}, person.token).ok()
    doors, ended = Doors(opened), [person.token, _twin(forger, person.token)]
    taken = [token for token in ended if token and doors.open_for(token)]
    report.check(f"{of}: tokens of an ended session taken", taken or 0, "0", not taken)


def settle_vectors(report: Report, doors: Doors) -> None:
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
        check_signature(token, jwt.PyJWK(key).key, key["alg"])
    except (jwt.PyJWTError, ValueError):
        return "invalid"
    return "valid"
