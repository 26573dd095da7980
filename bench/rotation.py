"""Every key changes under load: no 401 for a valid session, no right code refused, no device and no server turned away.

Two services on one database behind a front that takes turns, restarted one after the other at every step of
docs/keys.md: accept the new keys, use them, renew what is stored, drop the old ones; then on to a private key likewise.
"""

from __future__ import annotations

import argparse
import base64
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.crypto import signing, totp
from bench.fleet import Fleet, fleet
from bench.report import Report
from bench.rig import PASSWORD, WIDE, address
from tests import lanes
from tests.lanes import ROOT, SECRETS
from tests.mail import Mailbox, smtp_server

PATIENCE_S = 120  # for everybody to have gone on since a step
NAMES = ("secret_key", "jwt_secret_key", "master_secret", "api_key")
PREVIOUS = {
    "secret_key": "secret_key_previous",
    "jwt_secret_key": "jwt_previous_secret_keys",
    "master_secret": "master_secret_previous",
    "api_key": "api_key_previous",
}
NEW = {
    "secret_key": "Rw7Tn2Kx9Vb4Qm6Zp1Lc8Hd3Jf5Gs0Ya2Ue7Io4Xt",
    "jwt_secret_key": "w2Er5Ty8Ui1Op4As7Df0Gh3Jk6Lz9Xc2Vb5Nm8Qw1",
    "master_secret": "n8ZqWx3RtYv6LpKc1JdGh5SfAaUeOiTrEwQmNb2B7x9",
    "api_key": "Ld8Sx2Gk5Zt9Bn3Wq7Vh4Mc6Rj1Fy0Pa8Ue3Io5Tl",
}
ACCEPTED = {PREVIOUS[name]: NEW[name] for name in NAMES}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--people", type=int, help="signed in all the time (12; short: 3)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


@dataclass
class Load:
    """Whoever uses the service meanwhile, and what they were answered. `apps`, `devices`: by what they show codes."""

    fleet: Fleet
    mailbox: Mailbox
    pause: float
    api_key: str = SECRETS["api_key"]
    told: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)
    apps: dict[str, bytes] = field(default_factory=dict)
    devices: dict[str, bytes] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)  # the last step in which each showed a code
    lock: threading.Lock = field(default_factory=threading.Lock)
    showing: threading.Lock = field(default_factory=threading.Lock)  # held while a device's code is on its way
    round: int = 0  # steps of the rotation so far
    reached: dict[int, int] = field(default_factory=dict)  # by user: the step since which all that they do has begun

    def ask(self, what: str, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """Ask for something that must be answered well, and count it."""
        try:
            status, said = self.fleet.call(method, path, body, token)
        except (OSError, ValueError) as why:
            status, said = 0, {"code": type(why).__name__}
        good = status in (200, 201) and said.get("active", True) and said.get("data", {}).get("valid", True)
        with self.lock:
            self.told[what] += 1
            if not good:
                self.failed[f"{what}: {status} {said.get('code', said)}"] += 1
        return said if good else None

    def goes_on(self) -> bool:
        """After a pause, what is begun now is begun at the step that was taken last. False when all is over."""
        over = self.over.wait(self.pause)
        self.reached[threading.get_ident()] = self.round
        return not over

    def catch_up(self, users: int) -> None:
        """Until everybody has finished what they began before now, and has a token of now."""
        self.round += 1
        deadline = time.monotonic() + PATIENCE_S
        while sum(at == self.round for at in self.reached.values()) < users:
            assert time.monotonic() < deadline, "somebody does not go on"
            time.sleep(0.05)

    def sign_up(self) -> tuple[str, dict[str, Any]]:
        email = address()
        asked = self.ask("sign-up", "POST", "/api/auth/signup", {"email": email, "password": PASSWORD})
        body = {"challenge_id": asked["challenge_id"], "otp": self.mailbox.code("email", email)}
        return email, self.ask("sign-up code", "POST", "/api/auth/verify-otp", body)

    def enrol(self) -> None:
        """Somebody with an authenticator app."""
        email, tokens = self.sign_up()
        begun = self.ask("enrolment", "POST", "/api/auth/factors/totp", {}, tokens["access_token"])
        key, path = base64.b32decode(begun["secret"]), f"/api/auth/factors/totp/{begun['factor_id']}/confirm"
        self.ask("enrolment", "POST", path, {"otp": self.code(email, key)}, tokens["access_token"])
        self.apps[email] = key

    def register(self, name: str) -> None:
        said = self.ask("device", "POST", "/api/v1/devices/register", {"device_id": name, "user_id": "x"}, self.api_key)
        self.devices[name] = base64.b64decode(said["data"]["derived_key"])

    def code(self, name: str, key: bytes) -> str:
        self.shown[name] = totp.step_at(_now())
        return totp.code_of(key, self.shown[name])

    def unused(self, keys: dict[str, bytes]) -> str | None:
        """One that has not shown a code in this step."""
        step = totp.step_at(_now())
        return next((name for name in list(keys) if self.shown.get(name, 0) < step), None)


def _now() -> datetime:
    return datetime.now(UTC)


def _stay(load: Load) -> None:
    """Somebody who is signed in: asks who they are, and refreshes at every step and now and then, in one tab or two."""
    tokens, refreshed, count = load.sign_up()[1], load.round, 0
    while tokens and not load.over.wait(load.pause):
        load.ask("me", "GET", "/api/auth/me", token=tokens["access_token"])
        load.ask("introspection", "POST", "/api/auth/introspect", {"token": tokens["access_token"]}, load.api_key)
        count, now = count + 1, load.round
        if refreshed != now or count % 10 == 0:
            spent = {"refresh_token": tokens["refresh_token"]}
            tokens = load.ask("refresh", "POST", "/api/auth/refresh", spent)
            if tokens and count % 2:
                tokens = load.ask("refresh in two tabs", "POST", "/api/auth/refresh", spent)
            refreshed = load.reached[threading.get_ident()] = now


def _come(load: Load) -> None:
    """Somebody who signs in again and again with a code by e-mail."""
    email, _ = load.sign_up()
    while load.goes_on():
        seen = _codes(load.mailbox, email)
        asked = load.ask("password", "POST", "/api/auth/login", {"identifier": email, "password": PASSWORD})
        deadline = time.monotonic() + 20
        while _codes(load.mailbox, email) == seen and time.monotonic() < deadline:
            time.sleep(0.05)
        if asked:
            body = {"challenge_id": asked["challenge_id"], "otp": load.mailbox.code("email", email)}
            load.ask("code by e-mail", "POST", "/api/auth/login/verify", body)


def _codes(mailbox: Mailbox, email: str) -> int:
    return sum(" is your" in str(mail["Subject"]) for mail in mailbox.to(email))


def _show(load: Load) -> None:
    """Authenticator apps and devices: each shows a code once in a step of 30 seconds."""
    while load.goes_on():
        if email := load.unused(load.apps):
            asked = load.ask("password", "POST", "/api/auth/login", {"identifier": email, "password": PASSWORD})
            if asked:
                body = {"challenge_id": asked["challenge_id"], "otp": load.code(email, load.apps[email])}
                load.ask("code of an app", "POST", "/api/auth/login/verify", body)
        with load.showing:
            if name := load.unused(load.devices):
                body = {"device_id": name, "otp": load.code(name, load.devices[name])}
                load.ask("code of a device", "POST", "/api/v1/otp/verify", body, load.api_key)


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.people = given.people or (3 if given.short else 12)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        _one(report, database, given)
    return report


def _one(report: Report, database: str, given: argparse.Namespace) -> None:
    with (
        TemporaryDirectory() as name,
        lanes.database(database, f"bench_rotation_{os.getpid()}") as url,
        smtp_server(Path(name)) as (mailbox, mail, _),
    ):
        lanes.migrate(url)
        workers = 1 if given.short else 2
        usual = {**mail, **WIDE, "mfa_policy": "required", "web_concurrency": workers, "web_threads": 4}
        first = ACCEPTED if given.short else {}
        with fleet(url, Path(name), 2, usual, first) as places:
            load = Load(places, mailbox, 0.5 if given.short else 0.05)
            steps = _under_load(load, given, lambda: _steps(load, url, given.people * 2 + 1, short=given.short))
            traces = places.logs().count("Traceback")
    report.tables[f"{database}: settings in force, in turn"] = [{"step": step} for step in steps]
    report.tables[f"{database}: asked for"] = [{"what": what, "times": load.told[what]} for what in sorted(load.told)]
    refused = sum(count for what, count in load.failed.items() if " 401 " in what)
    asked = sum(load.told.values())
    report.check(f"{database}: 401 for a valid session, key or code", refused, f"0 of {asked}", refused == 0)
    report.check(f"{database}: anything else that failed", dict(load.failed), "nothing", not load.failed)
    report.check(f"{database}: tracebacks in the log", traces, "0", traces == 0)


def _under_load(load: Load, given: argparse.Namespace, act: Callable[[], list[str]]) -> list[str]:
    """Do something while everybody uses the service. What it gives."""
    for number in range(given.people):
        load.enrol()
        load.register(f"till-{number}")
    users = [threading.Thread(target=who, args=(load,)) for who in (_stay, _come) for _ in range(given.people)]
    users.append(threading.Thread(target=_show, args=(load,)))
    for user in users:
        user.start()
    try:
        return act()
    finally:
        load.over.set()
        for user in users:
            user.join(60)


def _steps(load: Load, url: str, users: int, *, short: bool) -> list[str]:
    """The steps of docs/keys.md, one after the other. Their names."""
    old = {name: SECRETS[name] for name in NAMES}
    used = {**NEW, **{PREVIOUS[name]: old[name] for name in NAMES}}
    done = ["the old keys, and the new ones accepted" if short else "the old keys"]

    def take(step: str, settings: dict[str, str]) -> None:
        load.fleet.replace(settings)
        load.catch_up(users)
        done.append(step)

    load.catch_up(users)
    if not short:
        take("the new keys are accepted", ACCEPTED)
    take("the new keys are used", used)
    load.api_key = NEW["api_key"]
    _renew(load, url, used)
    load.catch_up(users)
    take("the old keys are dropped", NEW)
    if not short:
        _to_a_private_key(take)
    return done


def _renew(load: Load, url: str, settings: dict[str, str]) -> None:
    """`flask rotate-keys` beside the service, and another key for each device."""
    environment = {**SECRETS, **settings, "database_url": url}
    given = {"PATH": os.environ["PATH"], **{name.upper(): value for name, value in environment.items()}}
    words = [sys.executable, "-m", "flask", "rotate-keys"]
    told = subprocess.run(words, check=False, cwd=ROOT, env=given, capture_output=True, text=True, timeout=120)
    assert "authenticator apps: " in told.stdout, told.stderr
    for name in load.devices:
        with load.showing:
            said = load.ask("another device key", "POST", f"/api/v1/devices/{name}/rotate-key", {}, load.api_key)
            load.devices[name] = base64.b64decode(said["data"]["derived_key"])
            load.shown[name] = 0


def _to_a_private_key(take: Callable[[str, dict[str, str]], None]) -> None:
    """And from there to the next one, and back to a shared secret."""
    first, second = signing.make("EdDSA"), signing.make("ES256")
    secret = NEW["jwt_secret_key"]
    one, two = ({"jwt_private_key": signing.one_line(pem)} for pem in (first, second))
    pub_one, pub_two = (
        {"jwt_previous_public_keys": signing.one_line(signing.public_pem(signing.private(pem)))}
        for pem in (first, second)
    )
    one, two, old = (
        {**NEW, **one, "jwt_algorithm": "EdDSA"},
        {**NEW, **two, "jwt_algorithm": "ES256"},
        "jwt_previous_secret_keys",
    )
    take("EdDSA is accepted", {**NEW, **pub_one})
    take("EdDSA is used", {**one, old: secret})
    take("ES256 is accepted", {**one, **pub_two})
    take("ES256 is used", {**two, **pub_one})
    take("HS256 is accepted", {**two, old: secret})
    take("HS256 is used", {**NEW, **pub_two})
    take("HS256 alone", NEW)
