"""docs/peers.md names everybody whom the service talks to, with the time-outs and bounds that are in force."""

from __future__ import annotations

import ast
import importlib
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy.pool import QueuePool

from app import create_app
from app.config import Settings
from app.db import engine_options
from app.flows import administration
from app.work import run
from tests.conftest import World
from tests.lanes import CHEAP, SECRETS, Lane, empty
from tests.mail import Mailbox, smtp_server
from tests.pages import named, table
from tests.people import Api, Clock, Person, flask_transport
from tests.providers import Provider, provider
from tests.test_architecture import calls, imports, sources
from tests.test_docs import ROOT
from tests.web.admins import id_of

PAGE = (ROOT / "docs" / "peers.md").read_text()
# What can open a connection, or is given an address and opens one.
REACHING = {
    "socket", "socketserver", "http", "smtplib", "ftplib", "imaplib", "poplib", "telnetlib", "xmlrpc", "asyncio", "ssl",
    "subprocess", "multiprocessing", "urllib", "requests", "urllib3", "httpx", "aiohttp", "websocket", "grpc", "redis", "flask_limiter",
    "psycopg2", "psycopg", "pymysql", "flask_sqlalchemy", "twilio", "sendgrid", "resend", "sentry_sdk", "opentelemetry", "wsgiref",
}  # fmt: skip
HARMLESS = {"urllib.parse", "twilio.request_validator", "http.cookies"}
READERS = {"app.store_config"}  # which take an address apart with what a driver knows of it
HOLDERS = {f"app.web.{name}" for name in ("ops", "endpoint", "metrics", "webhooks")}  # of the limiter of web.limits
CONSTANT = re.compile(r"`((?:\w+\.)+)([A-Z_]+)` = ((?:\d+ days?, )?\d+(?:[.:]\d+)*(?: per minute)?)")


@pytest.mark.covers("asvs 13.1.1", "asvs 13.2.4", "asvs 14.2.3")
def test_every_module_that_could_open_a_connection_is_on_the_page() -> None:
    reaching = {module for module in sources() if reaches(imports(module))}
    listed = {f"app.{name}" for heading in ("Out", "In") for row in table(PAGE, heading) for name in named(row[3])}
    assert reaching - HOLDERS - READERS == listed
    assert [m for m in sources() if any(call.endswith("Limiter") for call in calls(m))] == ["app.web.limits"]


def test_what_could_reach_out_is_found() -> None:
    for line in ("import urllib.request", "from http.client import HTTPSConnection", "import subprocess as s"):
        [node] = ast.parse(line).body
        assert reaches({node.names[0].name} if isinstance(node, ast.Import) else {str(node.module)})  # type: ignore[attr-defined]


def reaches(imported: set[str]) -> bool:
    return any(name.split(".")[0] in REACHING and name not in HARMLESS for name in imported)


@pytest.mark.covers("asvs 13.1.1")
def test_every_setting_that_says_where_something_is_stands_on_the_page() -> None:
    where = re.compile(r"_url$|_server$|_dsn$|_endpoint$|port$")
    ours = {"public_url", "brand_logo_url"}  # where others find us, and what readers of mails load
    for name in Settings.model_fields:
        assert not where.search(name) or name in ours or f"`{name.upper()}`" in PAGE, name


def constants(page: str) -> int:
    """Hold each constant that a page names to the code. Returns how many there are."""
    found = CONSTANT.findall(page)
    for module, name, value in found:
        assert str(getattr(importlib.import_module(f"app.{module.rstrip('.')}"), name)) == value, (module, name)
    return len(found)


@pytest.mark.covers("asvs 13.1.2", "asvs 13.1.3")
def test_the_page_has_the_numbers_of_the_code() -> None:
    assert constants(PAGE) >= 22
    settings = re.findall(r"`([A-Z_]+)` = (\d+(?:\.\d+)?)", PAGE)
    assert len(settings) >= 3
    for name, value in settings:
        assert Settings.model_fields[name.lower()].default == float(value), name


@pytest.mark.covers("asvs 13.1.3")
def test_no_time_out_of_a_module_that_reaches_out_is_left_out() -> None:
    listed = {(module.rstrip("."), name) for module, name, _ in CONSTANT.findall(PAGE)}
    for row in table(PAGE, "Out"):
        for module in named(row[3]):
            for name in vars(importlib.import_module(f"app.{module}")):
                if re.fullmatch(r"[A-Z_]*(TIMEOUT|WAIT|ANSWER|READ|WHOLE|CONNECT|KEEP)[A-Z_]*_(S|MS)", name):
                    assert (module, name) in listed or name == "LONGEST_WAIT_S", (module, name)


@pytest.mark.covers("asvs 13.2.6", "asvs 13.1.2")
def test_the_connections_are_opened_with_what_the_page_says(lane: Lane) -> None:
    [row] = [row for row in table(PAGE, "Limits") if row[0] == "the database"]
    threads, most = map(int, re.findall(r"\((\d+) threads: (\d+)\)", row[1])[0])
    settings = lane.settings(web_threads=threads, redis_url="redis://127.0.0.1:1/0")
    app = create_app(settings)
    with app.app_context():
        pool = app.extensions["sqlalchemy"].engine.pool
    assert isinstance(pool, QueuePool)
    assert (pool.size(), pool._max_overflow, pool.timeout()) == (most, 0, 1)
    [limiter] = app.extensions["limiter"]
    redis = limiter.storage.storage.connection_pool.make_connection()
    assert (redis.socket_timeout, redis.socket_connect_timeout, redis.retry.get_retries()) == (0.25, 0.25, 0)


@pytest.mark.covers("asvs 13.2.6")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u@h/n", {"options": "-c statement_timeout=10s -c lock_timeout=10s"}),
        ("mysql://u@h/n", {"connect_timeout": 2, "read_timeout": 2}),  # until it has greeted; then 10
    ],
)
def test_a_server_is_told_the_time_outs(url: str, said: dict[str, Any]) -> None:
    given = engine_options(Settings(_env_file=None, database_url=url, **SECRETS, **CHEAP))["connect_args"]
    for name, value in said.items():
        assert str(value) in str(given[name])


@contextmanager
def connections() -> Iterator[set[tuple[str, int]]]:
    """Whom this process connects to meanwhile: by Python's sockets, and what is open at the end whoever opened it."""
    found: set[tuple[str, int]] = set()
    before = _open_now()
    with pytest.MonkeyPatch.context() as patched:
        for name in ("connect", "connect_ex", "sendto"):
            patched.setattr(socket.socket, name, _noting(found, getattr(socket.socket, name)))
        yield found
    found |= {there for _, there in _open_now() - before}


def _noting(found: set[tuple[str, int]], real: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: socket.socket, *given: Any) -> Any:
        if isinstance(given[-1], tuple):
            found.add(given[-1][:2])
        return real(self, *given)

    return noted


def _open_now() -> set[tuple[int, tuple[str, int]]]:
    """Each connection outward by its own port, and where it goes."""
    every = psutil.Process().net_connections("tcp")
    inward = {each.laddr.port for each in every if each.status == psutil.CONN_LISTEN}
    return {(each.laddr.port, tuple(each.raddr)) for each in every if each.raddr and each.laddr.port not in inward}


@pytest.mark.covers("asvs 13.2.4", "asvs 14.2.3")
def test_a_day_of_requests_connects_to_the_hosts_of_the_settings_only(lane: Lane, tmp_path: Path) -> None:
    with smtp_server(tmp_path) as (mailbox, by_mail, _), provider() as twilio:
        by_sms = {**twilio.settings, "sms_provider": "twilio"}
        app = create_app(lane.settings(**by_sms | by_mail, metrics_public=True, docs=True), clock=Clock())
        world = World(app, lane, Clock(), {})
        try:
            with connections() as found:
                a_day(world, mailbox, twilio)
        finally:
            empty(world.engine)
            world.engine.dispose()
        mail, sms = by_mail["smtp_port"], int(twilio.base.rpartition(":")[2])
        stored = {port for port in (world.engine.url.port, _port(lane.redis_url)) if port}
    assert {port for _, port in found} - stored == {mail, sms}
    assert {port for _, port in found} & stored == stored
    assert {host for host, _ in found} <= {"127.0.0.1", "::1", "localhost"}


def _port(url: str | None) -> int | None:
    return int(url.rpartition(":")[2].partition("/")[0]) if url else None


def a_day(world: World, mailbox: Mailbox, twilio: Provider) -> None:
    """Sign-up, sign-in, recovery, a phone, an administrator, and the pages."""

    def read(channel: str, address: str) -> str:
        world.deliver()
        return mailbox.code(channel, address)

    api = Api(world._sending(flask_transport(world.app)))
    person, admin = Person(api, read).sign_up(), Person(api, read).sign_up()
    run(world.kit, lambda work: administration.change(work, id_of(admin), {"role": "admin"}))
    seen = len(mailbox.to(person.email))
    asked = api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    world.deliver()
    body = {"challenge_id": asked["challenge_id"], "otp": mailbox.new_code(person.email, seen)}
    api.post("/api/auth/reset-password", body | {"new_password": "another horse 8"}).ok()
    api.post("/api/v1/auth/send-otp", {"mobile_number": "+919876543210"}).ok()
    world.deliver()
    assert twilio.requests
    admin.sign_in()
    assert api.get("/api/admin/users", admin.token).ok()["items"]
    api.post(f"/api/admin/users/{id_of(person)}/lock", {}, admin.token).ok()
    client = world.app.test_client()
    for page in ("/docs", "/redoc", "/openapi.json", "/metrics", "/health", "/dev/inbox", "/.well-known/jwks.json"):
        assert client.get(page).status_code == 200, page
