"""No built-in account, no first admin by any route, and no path beside those of the document."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from app import models
from app.db import Base
from tests import lanes
from tests.conftest import World
from tests.lanes import Lane
from tests.people import DOCUMENT, PASSWORD, PATTERNS
from tests.web.admins import USERS

NAMES = ("admin", "administrator", "root", "superuser", "test", "demo", "guest", "user", "latchkey", "postgres",
         "admin@example.com", "admin@localhost.localdomain", "test@example.com", "support@example.org",
         "+919999999999")  # fmt: skip
WORDS = ("admin", "password", "root", "123456", "12345678", "changeme", "latchkey", "letmein", "test", "demo", "guest",
         "secret", "Admin@123", "qwerty12")  # fmt: skip
MORE = {"role": "admin", "roles": ["admin"], "is_admin": True, "isAdmin": True, "admin": True, "status": "active",
        "permissions": ["users:write"], "scope": "admin"}  # fmt: skip

ROOTS = ("", "/api", "/api/v1", "/api/v2", "/v1", "/api/auth", "/api/v1/auth", "/api/admin", "/auth", "/internal")
WAYS = (
    "login", "signin", "sign-in", "log-in", "logon", "sso", "saml", "oauth", "oauth2", "oauth/token", "oauth/authorize",
    "connect", "openid", "token", "tokens", "session", "sessions", "authenticate", "authorize", "authorise", "impersonate",
    "sudo", "su", "switch-user", "become", "as", "magic", "magic-link", "guest", "anonymous", "register", "users",
    "users/me", "user", "me", "admin", "administrator", "admin/login", "bootstrap", "setup", "install", "init", "seed",
    "first-admin", "create-admin", "root", "superuser", "console", "debug", "debugger", "shell", "cli", "eval", "exec",
    "test", "tests", "dev", "dev/login", "dev/token", "mock", "fake", "bypass", "backdoor", "otp", "otps", "codes",
    "last-otp", "get-otp", "debug/otp", "config", "settings", "env", ".env", ".git/config", "status", "info", "actuator",
    "actuator/env", "server-status", "phpinfo", "wp-login", "wp-admin", "manager/html", "graphql", "swagger", "api-docs",
    "secrets", "keys", "jwks", "backup", "dump", "db", "sql", "logs", "log", "trace", "heapdump", "pprof", "profile",
)  # fmt: skip
PAGES = ("/docs", "/redoc", "/openapi.json", "/metrics", "/dev/inbox")
NOTHING = {"type": "urn:latchkey:problem:not_found", "title": "Not Found", "status": 404, "code": "not_found",
           "detail": "There is nothing here.", "request_id": ""}  # fmt: skip
SPELLINGS = ("{}", "{}/", "{}.php", "{}.json", "{};x=1", "{}\x00")


@pytest.mark.covers("asvs 6.3.2", "attack A78")
def test_a_fresh_database_has_nobody_and_no_key(lane: Lane, worker: str) -> None:
    """As the migrations leave it."""
    with lanes.database(lane.name, f"fresh_{worker}") as url:
        lanes.migrate(url)
        engine = lanes.engine(url)
        with engine.connect() as connection:
            filled = [table.name for table in Base.metadata.sorted_tables if connection.execute(table.select()).first()]
        engine.dispose()
    assert filled == []


@pytest.mark.covers("asvs 6.3.2")
@pytest.mark.one_lane("sqlite")
def test_no_usual_name_and_password_opens_anything(make_world: Callable[..., World]) -> None:
    world = make_world(ratelimit=False)
    api = world.api()
    answers = []
    for word in WORDS:
        answers += [api.post("/api/auth/login", {"identifier": name, "password": word}) for name in NAMES]
        world.clock.advance(hours=2)  # past the lock of each
    assert len(answers) > 200
    assert {(answer.status, answer.code) for answer in answers} == {(401, "invalid_credentials")}


@pytest.mark.covers("asvs 6.3.2", "attack A78")
def test_nobody_becomes_the_first_admin_by_being_first_or_by_asking(world: World) -> None:
    """There is no route for it, used up or not: the command alone makes one."""
    first = world.person(email="admin@example.com", name="First")
    asked = first.api.post("/api/auth/signup", {"email": first.email, "password": PASSWORD, **MORE}).ok()
    proof: dict[str, Any] = {"challenge_id": asked["challenge_id"], "otp": first.code(), **MORE}
    first.tokens = first.api.post("/api/auth/verify-otp", proof).ok().body
    first.api.patch("/api/auth/me", {"name": "Root", **MORE}, first.token)
    again = first.sign_in()
    assert again.me()["role"] != "admin"
    assert (again.api.get(USERS, again.token).status, again.api.get(USERS).status) == (403, 401)
    made = world.app.test_cli_runner().invoke(
        args=("create-admin", "--email", "ada@example.com", "--password", PASSWORD)
    )
    assert made.exit_code == 0, made.output
    assert [user.email for user in world.rows(models.User, role="admin")] == ["ada@example.com"]
    ada = world.person(email="ada@example.com").sign_in()
    assert ada.api.get(USERS, ada.token).status == 200


def guesses() -> list[str]:
    """Paths that services of this kind have, in the spellings that find what a map has forgotten; and ours, misspelt."""
    named = [f"{root}/{way}" for root, way in itertools.product(ROOTS, WAYS)]
    ours = [re.sub(r"{\w+}", "x", path) for path in DOCUMENT["paths"]]
    named += [path.upper() for path in ours] + [f"/{path}" for path in ours] + [f"{path}//" for path in ours]
    named += [path.replace("/", "/./", 1) for path in ours] + [f"/x/..{path}" for path in ours]
    return [spelling.format(path) for path, spelling in itertools.product(named, SPELLINGS)]


@pytest.mark.one_lane("sqlite")
@pytest.mark.covers("asvs 6.3.4")
def test_no_path_is_there_that_the_document_does_not_name(world: World) -> None:
    client = world.app.test_client()
    others, asked = {}, 0
    for path in dict.fromkeys(guesses()):
        if path in PAGES or any(pattern.fullmatch(path) for pattern in PATTERNS):
            continue
        for method in ("GET", "POST"):
            found = client.open(method=method, environ_overrides={"PATH_INFO": path}, json={"username": "admin"})
            said = {**found.get_json(), "request_id": ""} if found.mimetype == "application/problem+json" else {}
            if (found.status_code, said) != (404, NOTHING):
                others[path] = (method, found.status_code, said)
            asked += 1
    assert asked > 5000
    assert others == {}
