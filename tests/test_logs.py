"""Log lines: one JSON object each in production, readable in development, nothing smuggled in."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import logs
from app.config import Settings
from app.delivery.senders import Reason, SendFailed
from app.models import OutboxMessage
from app.work import run
from tests.canaries import EMAIL, IN_A_PATH, a_day
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import MemorySender

ROOT = Path(__file__).resolve().parent.parent

HOSTILE = [
    "a\nb", "a\r\nfake", "\x1b[31mred", "nul\x00", "line\u2028sep", '"quoted"', '{"level": "error"}', "x" * 100_000, "\ud800",
]  # fmt: skip


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    logs.install(Settings(_env_file=None, **SECRETS))


def write(production: bool, message: str, **fields: str) -> str:
    """One line as the service writes it."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonFormatter() if production else logs.ReadableFormatter())
    logger = logging.Logger("latchkey.test")
    logger.addHandler(handler)
    logger.info("%s", message, extra={"fields": fields})
    return out.getvalue()


@pytest.mark.covers("attack A59", "asvs 16.2.4", "asvs 16.4.1")
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: repr(text[:20]))
def test_a_line_of_production_is_one_json_object(hostile: str) -> None:
    text = write(True, hostile, route=hostile)
    assert text.count("\n") == 1
    line = json.loads(text)
    assert (line["message"], line["route"], line["level"]) == (hostile, hostile, "info")
    assert text.isascii()


@pytest.mark.covers("attack A59")
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: repr(text[:20]))
def test_a_line_of_development_stays_one_line(hostile: str) -> None:
    text = write(False, hostile, route=hostile)
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


@pytest.mark.covers("asvs 16.2.2")
def test_times_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert json.loads(write(True, "x"))["at"].endswith("+00:00")


def test_an_exception_stands_in_the_same_object() -> None:
    try:
        raise ValueError("inside")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "broke", None, (type(error), error, error.__traceback__))
    line = json.loads(logs.JsonFormatter().format(record))
    assert "ValueError: inside" in line["exception"]


@pytest.mark.covers("asvs 16.2.3")
def test_the_services_loggers_write_once_and_to_stderr(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        logs.install(Settings(_env_file=None, **SECRETS))
    logging.getLogger("latchkey.web").info("hello")
    written = capsys.readouterr()
    assert (written.out, written.err.count("hello")) == ("", 1)


class Lines(logging.Handler):
    """What the service writes in production, line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.JsonFormatter())
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("latchkey")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.mark.covers("attack A75", "asvs 16.2.5", "asvs 11.7.2")
@pytest.mark.one_lane("postgresql")
def test_no_secret_and_no_whole_address_is_ever_written(make_world: Any, lines: Lines, monkeypatch: Any) -> None:
    world = make_world(webhook_secret=IN_A_PATH)
    logging.getLogger("latchkey").addHandler(lines)  # a new app has set its own
    hidden = a_day(world, monkeypatch)
    text = "\n".join(lines.written)
    assert text.count('"message": "request"') >= 12
    assert [canary for canary in hidden if canary in text] == []
    [fault] = [line for line in lines.parsed if "exception" in line]
    assert "Key (email)=((address)), ((digits)) and (digits) with (token)" in fault["exception"]
    assert 'File "' in fault["exception"]


@pytest.mark.covers("asvs 16.2.1")
@pytest.mark.one_lane("postgresql")
def test_every_line_of_a_request_says_which_and_its_message_is_found_by_it(world: World, lines: Lines) -> None:
    world.sends_at_once = False
    world.api(**{"X-Request-ID": "mine"}).post(
        "/api/auth/signup", {"email": "a@example.com", "password": "correct horse 7"}
    ).ok()
    [request] = [line for line in lines.parsed if line["message"] == "request"]
    assert {name: request[name] for name in ("method", "route", "status", "request_id", "client")} == {
        "method": "POST", "route": "/api/auth/signup", "status": 201, "request_id": "mine", "client": "203.0.113.5",
    }  # fmt: skip
    assert request["ms"] >= 0
    [queued] = [line for line in lines.parsed if line["message"] == "message is queued"]
    assert (queued["request_id"], queued["route"], queued["channel"]) == ("mine", "/api/auth/signup", "email")
    assert all(line["request_id"] == "mine" for line in lines.parsed)
    lines.written.clear()
    world.deliver()
    [sent] = [line for line in lines.parsed if line["message"] == "message is sent"]
    assert (sent["message_id"], sent["kind"], sent["provider"]) == (queued["message_id"], "code.signup", "memory")
    assert "request_id" not in sent
    assert logs.subject() == {}


@pytest.mark.one_lane("postgresql")
def test_a_line_of_a_message_that_failed_says_which(world: World, lines: Lines) -> None:
    class Failing(MemorySender):
        def send(self, _message: Any) -> Any:
            raise SendFailed(Reason.PERMANENT, "no such mailbox")

    world.sends_at_once = False
    world.person(email=EMAIL).ask_signup().ok()
    lines.written.clear()
    usual, world.courier._senders = world.courier._senders, {"email": Failing("email")}
    world.courier.round("email")
    world.courier._senders = usual
    [line] = lines.parsed
    [row] = world.rows(OutboxMessage)
    assert (line["level"], line["message_id"], line["channel"]) == ("warning", str(row.id), "email")
    assert EMAIL not in lines.written[0]


@pytest.mark.one_lane("sqlite")
def test_what_is_undone_is_not_told(world: World, lines: Lines) -> None:
    with pytest.raises(ZeroDivisionError):
        run(world.kit, lambda work: (work.tell("never"), 1 / 0))
    run(world.kit, lambda work: work.tell("once", count=1))
    assert [(line["message"], line["count"]) for line in lines.parsed] == [("once", 1)]


def test_the_fields_of_lines_go_as_they_came() -> None:
    logs.start(request_id="a")
    logs.add(trace_id="t")
    with logs.about(message_id="m", request_id="b"):
        assert dict(logs.subject()) == {"request_id": "b", "trace_id": "t", "message_id": "m"}
    assert dict(logs.subject()) == {"request_id": "a", "trace_id": "t"}
    logs.stop()
    assert logs.subject() == {}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Key (email)=(jane.doe+x@example.co.uk) already exists.", "Key (email)=((address)) already exists."),
        ("to <jane@example.com>, 'j@x.io'", "to <(address)>, '(address)'"),
        ("+919812345678 and 123456", "(digits) and (digits)"),
        ("eyJhbGciOiJIUzI1NiJ9abcdef12.eyJzdWIiOiIxMjM0NTY3ODkwIn0", "(token).(token)"),
        ("k3yPsWq8Zr1VtYb6NmXc9LdFgHjKoIuTeRwQaSzD2f4", "(token)"),
        ("message 0199e0a2-7b1c-7c3d-8a4e-5f6071829304 in line 12345", "message 0199e0a2-7b1c-7c3d-8a4e-5f6071829304 in line 12345"),
        ("a_rather_long_name_of_a_function_in_a_traceback", "a_rather_long_name_of_a_function_in_a_traceback"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_taken_out_of_texts_that_are_not_ours(given: str, kept: str) -> None:
    assert logs.scrubbed(given) == kept
    record = logging.LogRecord("gunicorn.error", logging.ERROR, "", 0, given, None, None)
    assert json.loads(logs.JsonFormatter().format(record))["message"] == kept


@pytest.mark.covers("asvs 16.2.4")
def test_what_libraries_say_is_json_too_where_no_server_sees_to_it() -> None:
    """In `flask courier`, for one: a process with nothing but the service's own set-up."""
    program = (
        "import logging; from app import logs; from app.config import Settings; "
        "logs.install(Settings(_env_file=None, environment='production')); "
        "logging.getLogger('sqlalchemy.pool').error('to jane@example.com'); logging.getLogger('x').info('quiet')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["logger"], line["message"]) == ("sqlalchemy.pool", "to (address)")
