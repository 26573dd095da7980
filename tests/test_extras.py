"""OpenTelemetry and Sentry: off unless set, and what they send, as it comes over the wire."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app import logs, start
from app.config import SettingsError
from app.delivery.senders import Reason, SendFailed
from app.models import OutboxMessage
from app.web import headers, sentry
from tests import canaries, lanes
from tests.canaries import IN_A_PATH, a_day
from tests.conftest import World
from tests.people import MemorySender
from tests.service import running

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "run: .venv/bin/python -m pip install --require-hashes -r requirements-extras.txt"


@dataclass
class Receiver:
    """Takes whatever is posted to it, as a collector or Sentry does."""

    base: str
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def everything(self) -> bytes:
        return b"\n".join(self.bodies)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            found.paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def settings(**more: Any) -> dict[str, Any]:
    return {"webhook_secret": IN_A_PATH, "environment": "production", "allow_console_delivery": True, **more}


@pytest.fixture
def traced(receiver: Receiver, make_world: Any, _apps: dict[Any, World]) -> Iterator[World]:
    given = settings(otel_exporter_otlp_endpoint=f"http://{receiver.base}/")
    world = make_world(**given)
    yield world
    world.app.extensions["tracing"].shutdown()
    _apps.pop(tuple(sorted(given.items()))).engine.dispose()


def spans(world: World, receiver: Receiver) -> list[Any]:
    assert world.app.extensions["tracing"].force_flush()
    assert set(receiver.paths) == {"/v1/traces"}
    found = [ExportTraceServiceRequest.FromString(body) for body in receiver.bodies]
    return [span for each in found for r in each.resource_spans for s in r.scope_spans for span in s.spans]


def told(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@pytest.mark.one_lane("postgresql")
@pytest.mark.covers("attack A75", "asvs 16.2.5")
def test_no_secret_leaves_with_a_trace(traced: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = a_day(traced, monkeypatch)
    found = spans(traced, receiver)
    names = {span.name for span in found}
    assert {
        "POST /api/auth/login",
        "POST /api/webhooks/msg91/<secret>",
        "send email",
        "send sms",
        "SELECT",
        "INSERT",
    } <= names
    assert {key for span in found for key in told(span)} == {
        "http.request.method", "http.route", "http.response.status_code", "latchkey.request_id", "latchkey.code",
        "latchkey.message_id", "latchkey.channel", "latchkey.kind", "latchkey.provider",
        "db.system.name", "db.operation.name", "db.query.text",
    }  # fmt: skip
    assert [canary for canary in hidden if canary.encode() in receiver.everything] == []
    assert not any(span.events for span in found), "an exception's text would stand there"


@pytest.mark.one_lane("sqlite")
def test_a_request_its_statements_and_its_log_line_are_one_trace(traced: World, receiver: Receiver) -> None:
    seen: list[dict[str, Any]] = []
    monitor = logging.Handler()
    monitor.emit = lambda record: seen.append({**logs.subject(), "message": record.getMessage()})  # type: ignore[method-assign]
    logging.getLogger("latchkey").addHandler(monitor)
    theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = {"traceparent": f"00-{theirs}-00f067aa0ba902b7-01", "X-Request-ID": "mine"}
    traced.app.test_client().post(
        "/api/auth/login", json={"identifier": "a@example.com", "password": "x" * 8}, headers=sent
    )
    logging.getLogger("latchkey").removeHandler(monitor)
    ours = [span for span in spans(traced, receiver) if span.trace_id.hex() == theirs]
    [request] = [span for span in ours if span.name == "POST /api/auth/login"]
    assert (told(request)["latchkey.request_id"], told(request)["latchkey.code"]) == ("mine", "invalid_credentials")
    assert {span.name for span in ours if span.parent_span_id == request.span_id} >= {"SELECT", "INSERT"}
    assert {line["trace_id"] for line in seen if line["message"] == "request"} == {theirs}
    assert logs.subject() == {}


@pytest.mark.one_lane("sqlite")
def test_what_is_answered_before_its_trace_begins_is_answered_the_same(traced: World) -> None:
    """What comes under too much load, and a path that is no path."""
    client = traced.app.test_client()
    misspelt = client.get("/", headers={"X-Request-ID": "mine"}, environ_overrides={"PATH_INFO": "//api/admin"})
    assert (misspelt.status_code, misspelt.headers["X-Request-ID"]) == (404, "mine")
    late = client.get("/api/auth/me", environ_overrides={headers.WAITED: 5.0})
    assert (late.status_code, late.get_json()["code"]) == (503, "overloaded")
    assert late.headers["Retry-After"].isdigit()
    assert logs.subject() == {}


@pytest.mark.one_lane("sqlite")
def test_a_send_that_failed_says_why_and_no_more(traced: World, receiver: Receiver) -> None:
    class Failing(MemorySender):
        failures = [SendFailed(Reason.TRANSIENT, "to canary.bird@example.com"), ZeroDivisionError("71")]

        def send(self, _message: Any) -> Any:
            raise self.failures.pop(0)

    usual = traced.courier._senders["email"]
    inner, usual._sender = usual._sender, Failing("email")
    traced.sends_at_once = False
    for _ in range(2):
        traced.person().ask_signup().ok()
    traced.courier.round("email")
    usual._sender = inner
    sent = [told(span) for span in spans(traced, receiver) if span.name == "send email"]
    assert sorted(attributes["error.type"] for attributes in sent) == ["ZeroDivisionError", "transient"]
    assert b"canary.bird" not in receiver.everything


@pytest.fixture
def told_to_sentry(receiver: Receiver, make_world: Any, _apps: dict[Any, World]) -> Iterator[World]:
    given = settings(sentry_dsn=f"http://key@{receiver.base}/1")
    world = make_world(**given)
    yield world
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    handlers = logging.getLogger("latchkey").handlers
    handlers[:] = [handler for handler in handlers if not isinstance(handler, sentry.EventHandler)]
    _apps.pop(tuple(sorted(given.items()))).engine.dispose()


def events(receiver: Receiver) -> list[dict[str, Any]]:
    sentry_sdk.flush(5)
    found = []
    for body in receiver.bodies:
        _, header, payload, *_ = body.split(b"\n")  # an envelope: its own header, then one item with its header
        if json.loads(header)["type"] == "event":
            found.append(json.loads(payload))
    return found


@pytest.mark.one_lane("postgresql")
@pytest.mark.covers("attack A75", "asvs 16.2.5")
def test_sentry_is_told_where_and_of_what_kind_and_no_secret(
    told_to_sentry: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = a_day(told_to_sentry, monkeypatch, in_a_fault=canaries.PASSWORD)
    [event] = events(receiver)
    [exception] = event["exception"]["values"]
    assert (exception["type"], event["logentry"]["message"]) == ("Fault", "unexpected %s")
    assert "value" not in exception
    assert {"broken", "admit"} <= {frame["function"] for frame in exception["stacktrace"]["frames"]}
    assert (event["tags"]["route"], event["tags"]["method"]) == ("/api/auth/me", "GET")
    assert set(event) <= {*sentry.KEPT, "logentry", "tags", "exception"}
    assert [canary for canary in hidden if canary.encode() in receiver.everything] == []


@pytest.mark.one_lane("sqlite")
def test_sentry_is_told_of_a_message_that_could_not_be_sent_for_a_fault(
    told_to_sentry: World, receiver: Receiver
) -> None:
    class Broken(MemorySender):
        def send(self, message: Any) -> Any:
            raise ZeroDivisionError(f"{message.recipient} {message.code}")

    world = told_to_sentry
    world.sends_at_once = False
    world.person(email=canaries.EMAIL).ask_signup().ok()
    usual, world.courier._senders = world.courier._senders, {"email": Broken("email")}
    world.courier.round("email")
    world.courier._senders = usual
    [event] = events(receiver)
    [row] = world.rows(OutboxMessage)
    assert event["tags"] == {"message_id": str(row.id), "channel": "email", "kind": "code.signup"}
    assert event["exception"]["values"][0]["type"] == "ZeroDivisionError"
    assert canaries.EMAIL.encode() not in receiver.everything


def test_what_is_not_of_a_line_of_ours_is_not_sent() -> None:
    assert sentry.only_what_is_listed({"message": "x", "request": {"cookies": "y"}}, {}) is None


PACKAGES = {
    "SENTRY_DSN": ("sentry_sdk", "https://key@sentry.example.com/1"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("opentelemetry", "http://localhost:4318"),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_an_extra_that_is_set_and_not_installed_stops_the_start_with_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, value = PACKAGES[name]
    for loaded in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / ".env").write_text(f"{name}={value}\n")
    with pytest.raises(SettingsError) as stopped:
        start.load(tmp_path / ".env")
    assert str(stopped.value) == f"{name} is set, but its package is not installed; {INSTALL}"
    (tmp_path / ".env").write_text("")
    assert start.load(tmp_path / ".env")


def test_they_are_imported_only_where_they_are_set(tmp_path: Path) -> None:
    program = (
        "import sys; from app import create_app; from app.config import Settings; from tests.lanes import SECRETS; "
        f"create_app(Settings(_env_file=None, database_url='sqlite:///{tmp_path}/x.db', **SECRETS)); "
        "print([m for m in sys.modules if m.split('.')[0] in ('sentry_sdk', 'opentelemetry', 'google')])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.slow
def test_both_tell_from_workers_that_were_forked_after_the_start(
    receiver: Receiver, worker: str, tmp_path: Path
) -> None:
    """Their threads do not survive a fork; each worker must have its own."""
    given = {
        "otel_exporter_otlp_endpoint": f"http://{receiver.base}", "sentry_dsn": f"http://key@{receiver.base}/1",
        "email_provider": "tests.broken_sender.Broken", "web_concurrency": 1,
    }  # fmt: skip
    with lanes.database("sqlite", f"extras_{worker}") as url:
        lanes.migrate(url)
        with running(url, tmp_path, **given) as service:
            service.api().post("/api/auth/signup", {"email": canaries.EMAIL, "password": canaries.PASSWORD}).ok()
            soon(lambda: b"ZeroDivisionError" in receiver.everything and "/api/1/envelope/" in receiver.paths)
    assert {"/v1/traces", "/api/1/envelope/"} == set(receiver.paths), "what waits is sent when the service stops"
    assert b"POST /api/auth/signup" in receiver.everything
    assert [canary for canary in (canaries.EMAIL, canaries.PASSWORD) if canary.encode() in receiver.everything] == []


def soon(look: Callable[[], Any], patience: float = 30) -> None:
    deadline = time.monotonic() + patience
    while not look():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.05)
