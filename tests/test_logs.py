"""Log lines: one JSON object each in production, readable in development, nothing smuggled in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from app import logs
from app.config import Settings
from tests.lanes import SECRETS

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


def test_the_services_loggers_write_once_and_to_stderr(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        logs.install(Settings(_env_file=None, **SECRETS))
    logging.getLogger("latchkey.web").info("hello")
    written = capsys.readouterr()
    assert (written.out, written.err.count("hello")) == ("", 1)
