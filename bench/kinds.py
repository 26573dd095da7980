"""Every kind of token that the service gives, at every door that takes one: its own doors open, and no other does.

In this process, through the front door, for services that sign by HS256, EdDSA and ES256.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

from app import SURFACES
from app.core.api_keys import Scope
from app.core.challenges import Purpose
from app.models import Session
from app.web.endpoint import Endpoint
from app.web.guards import Guard
from bench.asked import ADMIN, ASKED, AUTH, MOBILE, NEW_PASSWORD, NO_CODE, Asked, AskedDoor, Asker, doors
from bench.forgery import opened as read
from bench.report import Report
from bench.rig import WIDE, number
from bench.tokens import signing_by
from bench.world import world
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import PASSWORD, Person
from tests.web.admins import of_role

SIGNED_BY = ("HS256", "EdDSA", "ES256")
WEBHOOK_SECRET = "w3bHq8RtYx2LpZv7BcKd9GhJfSsAeUiOoTrEwQ1N6b3"
SETTINGS: dict[str, Any] = {
    **WIDE,
    "sms_shield": "off",
    "jwt_audiences": "clinic",
    "webhook_secret": WEBHOOK_SECRET,
}

ACCESS, STALE, PROVEN = "access token", "access token of an old sign-in", "access token after a step-up"
OF_ADMIN, OTHER = "access token of an admin", "access token for another service"
REFRESH, COOKIE, GRANT = "refresh token", "session cookie", "recovery grant"
REGISTRATION, DEVICE, WEBHOOK = "registration token", "token of a remembered device", "webhook secret"
API_KEY = "API key of the environment"
SIGNED_IN = {ACCESS, STALE, PROVEN, OF_ADMIN}
REFUSED = {"token_missing", "token_invalid", "token_expired", "token_revoked", "insufficient_user_authentication",
           "forbidden"}  # fmt: skip
ENDS = re.compile("^DELETE|logout|change-password")  # what may end the session that it is called with
LEAST = (39, 89, 3200)  # kinds of token, doors, and tokens refused at doors: that none of them gets lost
SPARED = 2  # attempts of a challenge's three that may be lost
NAMED = {"token", "refresh_token", "registration_token", "device_token", "challenge_id"}  # fields that hold one


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signed-by", nargs="+", choices=SIGNED_BY, help="these services alone (short: EdDSA)")
    parser.add_argument("--only", metavar="TEXT", default="", help="the doors whose names contain this")


def run(given: argparse.Namespace) -> Report:
    report = Report()
    for algorithm in given.signed_by or (("EdDSA",) if given.short else SIGNED_BY):
        with world(label=f"kinds_{algorithm.lower()}", **settings(algorithm)) as opened:
            settle(report, opened, given.only)
    return report


def settings(algorithm: str) -> dict[str, Any]:
    return {**signing_by(algorithm), **SETTINGS}


def key_for(scope: Scope) -> str:
    return f"API key for {scope}"


def settle(report: Report, opened: World, only: str = "") -> None:
    """The whole matrix, on a world with these settings. `only`: the doors whose names contain this."""
    of, cast = opened.settings.jwt_algorithm, Cast(opened)
    found = Found()
    for door in (*by_header(cast), *by_name(cast)):
        if only in door.name:
            found.offer(door, cast.tokens)
    by_challenge(found, cast, [door for door in doors() if only in door.name])
    found.prove()
    report.tables[f"{of}: what opens each door"] = [
        {"door": door, "refused": found.refused[door], "opened by": ", ".join(kinds)}
        for door, kinds in found.by.items()
    ]
    least = (1, 1, 1) if only else LEAST
    for what, measured, bound in zip(
        ("kinds of token", "doors", "tokens refused at doors of another kind"),
        (len(cast.tokens), len(found.by), sum(found.refused.values())), least, strict=True,
    ):  # fmt: skip
        report.check(f"{of}: {what}", measured, f"at least {bound}", measured >= bound)
    report.check(f"{of}: doors opened by another kind", found.wrong[:3] or 0, "0", not found.wrong)
    report.check(f"{of}: doors that their own kind did not open", found.shut[:3] or 0, "0", not found.shut)
    report.check(f"{of}: answers 5xx", cast.faults[:3] or 0, "0", not cast.faults)
    missed = [] if only else left_out(found)
    report.check(f"{of}: endpoints and purposes that were left out", missed or 0, "0", not missed)


def left_out(found: Found) -> list[str]:
    """What the service declares and nothing here asks about: so that a new kind of token cannot be forgotten."""
    asked = {door.partition(" by ")[0] for door in found.by}
    declared = [name for name, endpoint in endpoints() if takes_token(endpoint) or rightful(endpoint.guard)]
    purposes = [each.value for each in Purpose if each not in ASKED.values()]
    return [*(name for name in declared if name not in asked), *purposes]


def endpoints() -> Iterator[tuple[str, Endpoint]]:
    for surface in SURFACES:
        for endpoint in surface.endpoints:
            yield f"{endpoint.method} {surface.prefix}{endpoint.path}".replace("<uuid:", "<"), endpoint


def takes_token(endpoint: Endpoint) -> bool:
    fields = endpoint.body.model_fields if endpoint.body else {}
    return bool(NAMED & fields.keys()) or "challenge_id" in endpoint.path or endpoint.guard.cookie


def rightful(guard: Guard) -> set[str]:
    """The kinds of token that a guard is for, in the Authorization header."""
    if guard.cookie or not (guard.reads_token or guard.scope):
        return set()
    keys = {API_KEY, key_for(guard.scope)} if guard.scope else set()
    if guard.permission:
        return keys | {OF_ADMIN}
    return keys or (SIGNED_IN - {STALE} if guard.recent else SIGNED_IN)


@dataclass(frozen=True)
class Door:
    """Takes a token in one place. `opens`: whether it does for this one, which may use it up."""

    name: str
    own: set[str]
    opens: Callable[[str], bool]
    fresh: Callable[[], str] | None = None  # a token of its own kind made for it, where to open it ends the session


@dataclass
class Found:
    by: dict[str, list[str]] = field(default_factory=dict)  # door -> the kinds that opened it
    refused: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    shut: list[str] = field(default_factory=list)
    last: list[Callable[[], None]] = field(default_factory=list)

    def offer(self, door: Door, tokens: dict[str, str]) -> None:
        """Every other kind, now; its own, once all doors were asked (`prove`)."""
        for kind in sorted(tokens.keys() - door.own):
            self.note(door.name, kind, door.opens(tokens[kind]), own=False)
        self.last.append(partial(self._prove, door, tokens))

    def prove(self) -> None:
        """Every token that was refused so often opens its own doors: it was live all along."""
        for settled in self.last:
            settled()

    def _prove(self, door: Door, tokens: dict[str, str]) -> None:
        if door.fresh:
            self.note(door.name, ACCESS, door.opens(door.fresh()), own=True)
            return
        for kind in sorted(door.own & tokens.keys()):
            self.note(door.name, kind, door.opens(tokens[kind]), own=True)

    def note(self, door: str, kind: str, opened: bool, *, own: bool) -> None:
        kinds = self.by.setdefault(door, [])
        self.refused[door] = self.refused.get(door, 0) + (not opened)
        if opened and kind not in kinds:
            kinds.append(kind)
        if opened != own:
            (self.shut if own else self.wrong).append(f"{door}: {kind}")


class Cast:
    """People with a live token of every kind. `tokens`: by kind."""

    def __init__(self, opened: World) -> None:
        self.opened, self.faults = opened, list[str]()
        self.client = opened.app.test_client(use_cookies=False)
        self.stale, proven = (opened.person().sign_up() for _ in range(2))
        opened.clock.advance(seconds=opened.settings.step_up_max_age + 60)
        self.owner = opened.person().sign_up()
        self.admin = of_role(opened, "admin")
        self.asker = Asker(opened, self.admin)
        self.tokens = {
            ACCESS: self.owner.token,
            STALE: self.stale.token,
            PROVEN: self._stepped_up(proven),
            OF_ADMIN: self.admin.token,
            OTHER: self.owner.api.post(f"{AUTH}/token", {"audience": "clinic"}, self.owner.token).ok()["access_token"],
            REFRESH: self.owner.tokens["refresh_token"],
            WEBHOOK: WEBHOOK_SECRET,
            **self._keys(),
            **self._of_browser(),
            REGISTRATION: self._registration(),
            DEVICE: self._remembered(),
            "key of a device": self._device(),
            "session id": self.owner.tokens["session_id"],
            "user id": self.owner.tokens["user"]["id"],
            "id of an access token": read(self.owner.token.split(".")[1])["jti"],
            "random id": str(uuid4()),
            "random token": "x" * 43,
            **{name: secret for name, secret in SECRETS.items() if name != "api_key"},
        }
        self.asked = {kind: self.asker.make(kind) for kind in ASKED}
        self.tokens |= {kind: asked.id for kind, asked in self.asked.items()}

    def _stepped_up(self, person: Person) -> str:
        asked = person.api.post(f"{AUTH}/step-up", {}, person.token).ok()
        proof = {"challenge_id": asked["challenge_id"], "otp": person.code()}
        made: str = person.api.post(f"{AUTH}/step-up/verify", proof, person.token).ok()["access_token"]
        return made

    def _keys(self) -> dict[str, str]:
        made = {}
        for scope in Scope:
            given = {"name": scope.value, "scopes": [scope.value]}
            made[key_for(scope)] = self.admin.api.post(f"{ADMIN}/api-keys", given, self.admin.token).ok()["key"]
        return {API_KEY: SECRETS["api_key"], **made}

    def _of_browser(self) -> dict[str, str]:
        """A session's cookie, and a recovery's grant of somebody else."""
        made = {}
        for kind, jar, first, second in (
            (COOKIE, "session", "/login", "/verify-otp"),
            (GRANT, "grant", "/forgot-password", "/validate-otp"),
        ):
            self.in_browser, browser = self.opened.person().sign_up(), self.opened.app.test_client()
            email = {"identifier": self.in_browser.email}
            for path, more in ((first, {"password": PASSWORD} if jar == "session" else {}), (second, {"otp": ""})):
                said = {**email, **({"otp": self.in_browser.code()} if "otp" in more else more)}
                assert browser.post(path, json=said).status_code == 200, path
            cookie = browser.get_cookie(jar)
            assert cookie is not None
            made[kind] = cookie.value
        return made

    def _registration(self) -> str:
        mobile, api = number(), self.opened.api()
        api.post(f"{MOBILE}/send-otp", {"mobile_number": mobile}).ok()
        proof = {"mobile_number": mobile, "otp": self.opened.read("sms", mobile)}
        made: str = api.post(f"{MOBILE}/verify-otp", proof).ok()["registration_token"]
        return made

    def _remembered(self) -> str:
        self.remembered = self.opened.person().sign_up()
        asked = self.remembered.ask_signin().ok()
        code = self.remembered.code()
        answer = self.remembered.verify_signin(asked["challenge_id"], code, remember_device=True).ok()
        made: str = answer["device_token"]
        return made

    def _device(self) -> str:
        given = {"device_id": f"till {uuid4()}", "user_id": "shop"}
        answer = self.opened.api().post("/api/v1/devices/register", given, SECRETS["api_key"]).ok()
        made: str = answer["data"]["derived_key"]
        return made

    def ask(self, method: str, path: str, body: Any = None, *, bearer: str = "", cookie: str = "") -> tuple[int, Any]:
        """Status and body of one request; a fault is kept."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        headers |= {"Cookie": cookie} if cookie else {}
        answer = self.client.open(path, method=method, headers=headers, **({} if body is None else {"json": body}))
        if answer.status_code >= 500:
            self.faults.append(f"{method} {path}: {answer.status_code}")
        return answer.status_code, answer.get_json(silent=True) or {}

    def does(self, method: str, path: str, body: Any = None, **where: str) -> bool:
        return 200 <= self.ask(method, path, body, **where)[0] < 300


def by_header(cast: Cast) -> Iterator[Door]:
    """Every endpoint that reads the Authorization header. It opens if the answer is none of the door's refusals."""

    def at(method: str, path: str, body: Any) -> Callable[[str], bool]:
        def opens(token: str) -> bool:
            status, answer = cast.ask(method, path, body, bearer=token)
            return status != 422 and not (status in (401, 403) and answer.get("code") in REFUSED)

        return opens

    for name, endpoint in endpoints():
        own = rightful(endpoint.guard)
        if not own:
            continue
        method, path = re.sub("<.*?>", str(uuid4()), name).split(" ")
        example = endpoint.body.model_config["json_schema_extra"]["examples"][0] if endpoint.body else None
        fresh = (lambda: cast.opened.person().sign_up().token) if ENDS.search(name) and own & {ACCESS} else None
        yield Door(f"{name} by header", own, at(method, path, example), fresh)
    yield Door("GET /metrics by header", {API_KEY, key_for(Scope.METRICS)}, at("GET", "/metrics", None))


def by_name(cast: Cast) -> Iterator[Door]:
    """Tokens in bodies, cookies and paths, but for the ids of challenges."""

    def introspects(token: str) -> bool:
        return (
            cast.ask("POST", f"{AUTH}/introspect", {"token": token}, bearer=SECRETS["api_key"])[1].get("active") is True
        )

    def skips_the_code(token: str) -> bool:
        given = {"identifier": cast.remembered.email, "password": PASSWORD, "device_token": token}
        return "access_token" in cast.ask("POST", f"{AUTH}/login", given)[1]

    def signs_out(token: str) -> bool:
        before = lasting()
        cast.ask("POST", "/logout", {}, cookie=f"session={token}")
        return lasting() != before

    def lasting() -> int:
        return len(cast.opened.rows(Session, revoked_at=None))

    def posts(path: str, called: str, **more: Any) -> Callable[[str], bool]:
        return lambda token: cast.does("POST", path, {**more, called: token})

    new = {"identifier": cast.in_browser.email, "new_password": NEW_PASSWORD}
    yield Door(f"POST {AUTH}/introspect by token", SIGNED_IN, introspects)
    yield Door(f"POST {AUTH}/login by device_token", {DEVICE}, skips_the_code)
    yield Door(f"POST {AUTH}/refresh by refresh_token", {REFRESH}, posts(f"{AUTH}/refresh", "refresh_token"))
    yield Door(
        f"POST {MOBILE}/refresh-token by refresh_token", {REFRESH}, posts(f"{MOBILE}/refresh-token", "refresh_token")
    )
    registers = posts(f"{MOBILE}/complete-registration", "registration_token", name="Asha", consent={"terms": True})
    yield Door(f"POST {MOBILE}/complete-registration by registration_token", {REGISTRATION}, registers)
    yield Door(
        "GET /protected by cookie", {COOKIE}, lambda token: cast.does("GET", "/protected", cookie=f"session={token}")
    )
    yield Door("POST /logout by cookie", {COOKIE}, signs_out)
    grants = lambda token: cast.does("POST", "/reset-password", new, cookie=f"grant={token}")  # noqa: E731
    yield Door("POST /reset-password by grant", {GRANT}, grants)
    for provider in ("msg91", "gupshup"):
        told = lambda token, name=provider: cast.does("POST", f"/api/webhooks/{name}/{token}", {})  # noqa: E731
        yield Door(f"POST /api/webhooks/{provider} by path", {WEBHOOK}, told)
    yield Door(f"POST {AUTH}/logout by refresh_token", {REFRESH}, posts(f"{AUTH}/logout", "refresh_token"))


def by_challenge(found: Found, cast: Cast, every: list[AskedDoor]) -> None:
    """The doors that take the id of a challenge. One of another purpose loses an attempt there, so each challenge goes
    to a few doors that are not its own, with its right answer, and then to its own: it was open all along.
    """
    strings = {kind: token for kind, token in cast.tokens.items() if kind not in ASKED}
    for door in every:
        for kind, token in strings.items():
            asked = Asked(token, NO_CODE, cast.owner.email, cast.owner.token)
            found.note(door.name, kind, door.opens(cast.ask, asked), own=False)
    for kind in ASKED:
        own = [door for door in every if kind in door.own]
        others = [door for door in every if kind not in door.own]
        for at in range(0, len(others), SPARED):
            _visit(found, cast, kind, [*others[at : at + SPARED], *own[:1]])
        for door in own:
            _visit(found, cast, kind, [door])
        if own:
            found.last.append(partial(_prove, found, cast, kind, own[0]))


def _visit(found: Found, cast: Cast, kind: str, some: list[AskedDoor]) -> None:
    asked = cast.asker.make(kind)
    for door in some:
        found.note(door.name, kind, door.opens(cast.ask, asked), own=kind in door.own)


def _prove(found: Found, cast: Cast, kind: str, door: AskedDoor) -> None:
    """The challenge whose id was offered at all other doors."""
    found.note(door.name, kind, door.opens(cast.ask, cast.asked[kind]), own=True)
