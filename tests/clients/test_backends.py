"""The example backends beside the service as it runs: whom they let in, and whom they do not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import jwt
import latchkey_client
import pytest
import requests

from app.crypto import signing
from tests import backends, lanes, node
from tests.backends import EXPRESS, FASTAPI, ROOT, Example
from tests.clients import hostile
from tests.clients.mint import AUDIENCE, NOW, Mint, private, shared
from tests.clients.stub import Stub
from tests.clients.test_guide import SERVICE, blocks
from tests.conftest import World
from tests.lanes import CHEAP, SECRETS
from tests.people import Answer, Person
from tests.service import Service, running

SETTINGS = {"web_concurrency": 1, "jwt_audiences": AUDIENCE}
KEYS_SECTION = "A key of your own for each backend"
JWKS = "/.well-known/jwks.json"
LONGEST_HEADER = 8_000  # servers refuse longer ones by themselves
NEW_SECRET = "n3wPsWq8Zr1VtYb6NmXc9LdFgHjKoIuTeRwQaSzD2f5"
PATIENCE_S = 30

pytestmark = pytest.mark.slow
BACKENDS = [
    pytest.param(FASTAPI, id="fastapi"),
    pytest.param(EXPRESS, id="express", marks=pytest.mark.skipif(node.missing(), reason="Node.js is missing")),
]


@dataclass
class Clinic:
    """The service, with a key of its own for the clinic's backend, and its people."""

    service: Service
    database_url: str
    codes_read: int = 0

    def person(self, name: str) -> Person:
        return Person(self.service.api(), self.read, email=f"{name}@example.com")

    def read(self, *_: str) -> str:
        """The code that was printed last, once it is there: the people of this clinic sign in one after another."""
        until(lambda: len(self.service.codes()) > self.codes_read)
        self.codes_read = len(self.service.codes())
        return self.service.codes()[-1]

    def flask(self, line: str) -> str:
        """What a command of a page prints."""
        given = {**SECRETS, **CHEAP, **SETTINGS, "database_url": self.database_url}
        environment = {name.upper(): str(value) for name, value in given.items()}
        return shell(line, **environment)

    def exchanged(self, token: str) -> str:
        """A token for the clinic, by the guide's line."""
        [line] = [line for line in blocks(KEYS_SECTION, "sh") if "curl" in line]
        given: str = json.loads(shell(line.replace(SERVICE, self.service.base), TOKEN=token))["access_token"]
        return given

    def open(self) -> Clinic:
        """Hire a doctor, by the line of the FastAPI example; ask for the key, by the guide's."""
        self.user, self.doctor = self.person("john").sign_up(), self.person("jane").sign_up()
        self.of_before = self.exchanged(self.doctor.token)
        self.flask(FASTAPI.blocks()[-1])
        self.doctor.sign_in()
        [line] = [line for line in blocks(KEYS_SECTION, "sh") if "flask" in line]
        [(_, does, self.secret)] = [row.split() for row in self.flask(line).splitlines()]
        assert does == "signs"
        return self


def shell(line: str, **environment: str) -> str:
    given = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, env=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clinic(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with lanes.database("sqlite", f"backends_{worker}") as url:
        lanes.migrate(url)
        with running(url, tmp_path_factory.mktemp("service"), **SETTINGS) as service:
            yield Clinic(service, url).open()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def call(base: str, where: str, token: str | None, method: str = "GET") -> Answer:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    got = requests.request(method, base + where, headers=headers, timeout=20)
    return Answer(got.status_code, got.json(), {name.lower(): value for name, value in got.headers.items()})


@pytest.mark.covers("asvs 7.1.3", "asvs 8.3.2", "asvs 9.2.3", "asvs 9.2.4", "attack A41", "attack A45", "attack A51")
@pytest.mark.parametrize("example", BACKENDS)
def test_a_backend_lets_in_whom_the_service_signed_in_and_nobody_else(
    example: Example, clinic: Clinic, tmp_path: Path
) -> None:
    """With the secret of its audience, while that is being changed: the new one is in the ring before it signs."""
    given = {
        "LATCHKEY_URL": clinic.service.base, "LATCHKEY_API_KEY": SECRETS["api_key"], "JWT_AUDIENCE": AUDIENCE,
        "JWT_PREVIOUS_SECRET_KEYS": clinic.secret,
    }  # fmt: skip
    with backends.running(example, tmp_path, NEW_SECRET, **given) as base:
        john, jane = clinic.user.sign_in(), clinic.doctor
        assert call(base, "/me", john.token).code == "token_invalid", "it is for another audience"
        as_john, as_jane = clinic.exchanged(john.token), clinic.exchanged(jane.token)
        assert call(base, "/me", as_john).ok().body | {"amr": 0} == {"id": john.me()["id"], "role": "user", "amr": 0}
        assert call(base, "/patients", as_john).code == "forbidden"
        for line in (each for each in example.blocks()[2:] if "curl" in each):
            said = json.loads(shell(line.replace(f"http://127.0.0.1:{example.port}", base), TOKEN=as_john))
            assert said.get("code", said.get("role")) == ("forbidden" if "patients" in line else "user")
        assert call(base, "/patients", as_jane).ok()["for"] == jane.me()["id"]
        assert call(base, "/prescriptions", as_jane, "POST").ok()["prescribed_by"] == jane.me()["id"]
        assert call(base, "/me", clinic.of_before).code == "token_revoked", "her role has changed"
        nobody_else(base, shared(NEW_SECRET))
        john.api.post("/api/auth/logout", None, john.token).ok()
        until(lambda: call(base, "/me", as_john).code == "token_revoked")


@pytest.mark.covers("asvs 9.1.2", "asvs 9.1.3", "asvs 15.3.6", "attack A41", "attack A42")
@pytest.mark.parametrize("example", BACKENDS)
def test_a_backend_with_public_keys_lets_in_nobody_else(example: Example, stub: Stub, tmp_path: Path) -> None:
    given = {"LATCHKEY_URL": stub.base, "JWT_AUDIENCE": AUDIENCE, "LATCHKEY_API_KEY": stub.api_key}
    stub.silent, session, now = "/api/auth/revocations", str(uuid4()), int(time.time())
    mints = [
        replace(mint, now=now) for mint in (private("ES256", "ec"), private("RS256", "rsa"), private("EdDSA", "ed"))
    ]
    stub.revoke(session, now)
    with backends.running(example, tmp_path, "", **given) as base:
        unknown = call(base, "/patients", mints[0].token(role="doctor"))
        assert (unknown.status, unknown.code) == (503, "unavailable"), "nobody knows who has signed out"
        assert unknown.headers["retry-after"] == str(unknown["retry_after"])
        stub.silent = ""
        until(lambda: call(base, "/patients", mints[0].token(role="doctor")).status == 200)
        for mint in mints:
            assert call(base, "/patients", mint.token(role="doctor")).status == 200
            assert call(base, "/patients", mint.token(role="doctor", sid=session)).code == "token_revoked"
        nobody_else(base, mints[-1])
        before, stranger = stub.asked[JWKS], private("EdDSA", "a stranger")
        for n in range(30):
            assert call(base, "/me", stranger.token({"kid": f"unknown {n}"})).status == 401
        assert stub.asked[JWKS] - before < 30, "strangers cannot make it ask for each token"


def nobody_else(base: str, genuine: Mint) -> None:
    """Every hostile token, some of them by whoever has the key; and what needs a role or a recent sign-in."""
    mint = replace(genuine, now=int(time.time()))
    assert call(base, "/patients", mint.token(role="doctor")).status == 200
    assert call(base, "/prescriptions", mint.token(role="admin"), "POST").code == "forbidden"
    old = call(base, "/prescriptions", mint.token(role="doctor", auth_time=mint.now - 700), "POST")
    assert (old.status, old.code, old["max_age"]) == (401, "insufficient_user_authentication", 600)
    assert 'max_age="600"' in old.headers["www-authenticate"]
    polluting = {"__proto__": {"role": "doctor"}, "constructor": {"prototype": {"role": "doctor"}}}
    assert call(base, "/patients", mint.token(**polluting)).code == "forbidden"
    assert call(base, "/patients", mint.token()).code == "forbidden", "nor does it last"
    nobody = call(base, "/me", None)
    assert (nobody.status, nobody.code) == (401, "token_missing")
    assert nobody.headers["www-authenticate"] == f'Bearer realm="{AUDIENCE}"'
    for name, token in hostile.tokens(mint).items():
        if len(token) < LONGEST_HEADER and not any(c.isspace() for c in token):
            answer = call(base, "/me", token)
            assert answer.status == 401, name
            assert answer.headers["content-type"].startswith("application/problem+json"), name


TRIED = """
import {latchkey} from "./latchkey.js"
const common = {issuer: "latchkey", audience: "clinic"}
for (const given of JSON.parse(process.env.TRIED)) {
  try {
    latchkey({...common, ...given})
    console.log("taken")
  } catch (error) {
    console.log(`${error.name}: ${error.message}`)
  }
}
"""


@pytest.mark.skipif(node.missing(), reason="Node.js is missing")
def test_the_express_example_asks_for_keys_and_sign_outs_as_safely_as_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    shutil.copytree(EXPRESS.folder, folder, ignore=backends.LEFT_OUT)
    (folder / EXPRESS.installs).symlink_to(backends.installed(EXPRESS))
    (folder / "tried.js").write_text(TRIED)
    far, here = "http://auth.example.com/x", ("http://127.0.0.1:5000/x", "http://localhost/x", "http://[::1]:5000/x")
    feed = {"secrets": [NEW_SECRET], "revocationsUrl": far, "apiKey": "lk_x"}
    refused = [{"jwksUrl": far}, feed, {"jwksUrl": "ftp://localhost/x"}, {"jwksUrl": "http://localhost.example.com/x"}]
    taken = [*({"jwksUrl": url} for url in (SERVICE, *here)), {"jwksUrl": far, "plainHttp": True}]
    told = shell(f"cd {folder} && node tried.js", TRIED=json.dumps([*refused, *taken])).splitlines()
    assert len(told) == len(refused) + len(taken)
    assert all(line.startswith("TypeError: ") and "use https" in line for line in told[: len(refused)]), told
    assert set(told[len(refused) :]) == {"taken"}
    for given in refused:
        with pytest.raises(ValueError, match="use https"):
            latchkey_client.fetch.checked(given.get("revocationsUrl") or given["jwksUrl"], plain_http=False)


FROZEN = """
import {feed} from "./revocations.js"
const {FEED: url, KEY: apiKey} = process.env
let at = 0
performance.now = () => at
globalThis.setInterval = () => ({unref() {}})
const sessions = feed({url, apiKey, every: 3, maxStale: 60, leeway: 10})
for (const _ of Array(3)) {
  console.log(await sessions.ended("s", 0), await sessions.ended("s", 0))
  at += 100_000
}
"""


@pytest.mark.skipif(node.missing(), reason="Node.js is missing")
def test_the_express_example_asks_the_feed_in_a_request_where_timers_do_not_run(tmp_path: Path, stub: Stub) -> None:
    """As on a host that freezes between requests."""
    shutil.copy(EXPRESS.folder / "revocations.js", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "frozen.js").write_text(FROZEN)
    said = shell(f"cd {tmp_path} && node frozen.js", FEED=f"{stub.base}/revocations", KEY=stub.api_key)
    assert said.split() == ["false"] * 6
    assert stub.statuses == [200, 304, 304]
    stub.broken = True
    said = shell(f"cd {tmp_path} && node frozen.js", FEED=f"{stub.base}/revocations", KEY=stub.api_key)
    assert said.split() == ["undefined"] * 6
    assert stub.statuses[3:] == [500] * 3, "once a turn, and not by each request"


PUT_FORWARD = """
import {feed} from "./revocations.js"
const {FEED: url, KEY: apiKey, NOW} = process.env
let now = 1000 * NOW, at = 0
Date.now = () => now
performance.now = () => at
globalThis.setInterval = () => ({unref() {}})
const sessions = feed({url, apiKey, every: 3, maxStale: 60, leeway: 10})
for (const step of [3600, -3600, 0]) {
  console.log(await sessions.ended("s", 0))
  now += 1000 * step
  at += 10_000
}
for (const seconds of [890, 21]) {
  now += 1000 * seconds
  at += 1000 * seconds
  console.log(await sessions.ended("s", 0))
}
"""


@pytest.mark.skipif(node.missing(), reason="Node.js is missing")
def test_the_express_example_lets_no_ended_session_in_when_its_clock_was_put_forward(
    tmp_path: Path, stub: Stub
) -> None:
    shutil.copy(EXPRESS.folder / "revocations.js", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "put.js").write_text(PUT_FORWARD)
    stub.revoke("s", NOW)
    said = shell(f"cd {tmp_path} && node put.js", FEED=f"{stub.base}/revocations", KEY=stub.api_key, NOW=str(NOW))
    assert said.split() == ["true"] * 4 + ["false"], "until its last token has expired"


@pytest.mark.covers("asvs 8.3.2")
def test_the_service_answers_as_the_guide_shows(clinic: Clinic) -> None:
    [line], [shown] = blocks("Sign-outs", "sh"), blocks("Sign-outs", "json")
    told = json.loads(shell(line.replace(SERVICE, clinic.service.base), API_KEY=SECRETS["api_key"]))
    assert told.keys() == json.loads(shown).keys()
    assert told["items"][0].keys() == json.loads(shown)["items"][0].keys()
    [shown] = blocks("What a token says", "json")
    assert jwt.decode(clinic.doctor.token, options={"verify_signature": False}).keys() == json.loads(shown).keys()
    assert jwt.get_unverified_header(clinic.doctor.token).keys() == {"alg", "typ", "kid"}
    [line] = blocks("Public keys", "sh")
    said = dict(row.split("=", 1) for row in clinic.flask(line).splitlines())
    assert said.keys() == {"JWT_PREVIOUS_PUBLIC_KEYS", "JWT_ALGORITHM", "JWT_PRIVATE_KEY"}
    assert signing.private(said["JWT_PRIVATE_KEY"]).algorithm == said["JWT_ALGORITHM"] == "EdDSA"


@pytest.mark.covers("asvs 9.2.4", "asvs 11.2.2")
@pytest.mark.one_lane
@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_the_package_verifies_by_the_public_keys_of_the_service(
    algorithm: str, make_world: Callable[..., World], tmp_path: Path, stub: Stub
) -> None:
    """The guide's command makes the keys; the service publishes them, before it signs with the new one."""
    first, second = (made_key(algorithm) for _ in range(2))
    changes = {"jwt_algorithm": algorithm, "jwt_private_key": first["JWT_PRIVATE_KEY"], "jwt_audiences": (AUDIENCE,)}
    before = make_world(**changes, jwt_previous_public_keys=(second["JWT_PREVIOUS_PUBLIC_KEYS"],))
    stub.keys = before.api().transport("GET", "/.well-known/jwks.json", None, {})["keys"]
    now = [before.clock.now.timestamp()]
    given = {"issuer": "latchkey", "audience": AUDIENCE, "jwks_url": f"{stub.base}/jwks"}
    verifier = latchkey_client.Verifier(**given, clock=lambda: now[0])
    jane = before.person().sign_up()
    old = exchanged(jane)
    changes["jwt_private_key"] = second["JWT_PRIVATE_KEY"]
    after = make_world(keep=True, **changes, jwt_previous_public_keys=(first["JWT_PREVIOUS_PUBLIC_KEYS"],))
    jane.api = after.api()
    new = exchanged(jane)
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    for token in (old, new):
        assert verifier.verify(token).session_id == jane.tokens["session_id"]
    assert stub.asked["/jwks"] == 1
    with pytest.raises(latchkey_client.InvalidToken):
        verifier.verify(jane.token)


def made_key(algorithm: str) -> dict[str, str]:
    """The settings that the guide's command prints; made here, for it is a second a key."""
    pem = signing.make(algorithm)
    public = signing.public_pem(signing.private(pem))
    return {"JWT_PRIVATE_KEY": signing.one_line(pem), "JWT_PREVIOUS_PUBLIC_KEYS": signing.one_line(public)}


def exchanged(person: Person) -> str:
    answer = person.api.post("/api/auth/token", {"audience": AUDIENCE}, person.token).ok()
    token: str = answer["access_token"]
    return token
