"""Logs: one JSON object a line in production, readable lines in development. Control characters are escaped.

A line says what it is about: `start` and `about` set that for all lines of a request or of a message.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from app.config import Settings

NOTHING: Mapping[str, Any] = MappingProxyType({})
PATIENCE_MS = 50  # for who reads the log
OURS = "latchkey"  # the first word of our loggers' names
# What the text of an exception may hold: `Key (email)=(jane@example.com) already exists`. An id (UUID) stays.
DELICATE = re.compile(
    r"(?P<id>[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
    r"|(?P<address>[^\s@<>\"'()=,;:]{1,64}@[^\s@<>\"'()=,;:]+)"
    r"|(?P<token>(?<![\w-])(?=[A-Za-z_-]*\d)[\w-]{20,})"
    r"|(?P<digits>\+?\d{6,})"  # a number or a code
)

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=NOTHING)


def start(**fields: Any) -> None:
    """Say what all lines are about from here on, in this thread."""
    _about.set(fields)


def add(**fields: Any) -> None:
    """Say more about what they are about."""
    _about.set({**_about.get(), **fields})


def stop() -> None:
    """They are about nothing any more."""
    _about.set(NOTHING)


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Say for the lines inside what they are about, too."""
    before = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(before)


def subject() -> Mapping[str, Any]:
    """What lines are about just now."""
    return _about.get()


def scrubbed(text: str) -> str:
    """A text that is not ours, without what looks like an address, a number, a code or a token."""
    return DELICATE.sub(lambda found: found[0] if found["id"] else f"({found.lastgroup})", text)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_about.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = scrubbed(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


class ReadableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        given = {**_about.get(), **getattr(record, "fields", {})}
        fields = " ".join(f"{k}={v}" for k, v in given.items())
        text = _escaped(" ".join(part for part in (_message(record), fields) if part))
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {text}"
        return f"{line}\n{scrubbed(self.formatException(record.exc_info))}" if record.exc_info else line


class Unblocked(logging.StreamHandler):  # type: ignore[type-arg]  # of any stream
    """Lines to a stream. Where that is a pipe whose reader has stopped, a line waits a moment and is lost then, and so
    are those after it, at once, until there is room again: a request must not wait for who reads its log. How many
    were lost is the next line.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.lost = 0
        self._pipe = _own_end(stream)

    def emit(self, record: logging.LogRecord) -> None:
        if self._pipe is None:
            super().emit(record)
            return
        try:
            lines = [record]
            if self.lost:
                told = {"name": f"{OURS}.logs", "levelno": logging.WARNING, "levelname": "WARNING"}
                told |= {"msg": "log lines were lost", "fields": {"lost": self.lost}}
                lines.insert(0, logging.makeLogRecord(told))
            text = "".join(self.format(line) + self.terminator for line in lines)
        except Exception:
            self.handleError(record)
            return
        self.lost = 0 if self._is_written(self._pipe, text.encode(errors="backslashreplace")) else self.lost + 1

    def _is_written(self, pipe: int, data: bytes) -> bool:
        """False if it was not taken, or not all of it. Pieces of this length are taken whole or not at all."""
        room = select.poll()
        room.register(pipe, select.POLLOUT)
        try:
            for at in range(0, len(data), select.PIPE_BUF):
                if not self.lost:
                    room.poll(PATIENCE_MS)
                os.write(pipe, data[at : at + select.PIPE_BUF])
        except OSError:  # full (BlockingIOError), or closed
            return False
        return True


def _own_end(stream: Any) -> int | None:
    """A descriptor of a pipe that does not wait, while those of others who write to it go on doing so (Linux)."""
    try:
        number = stream.fileno()
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            return None
        return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK)
    except (OSError, ValueError):  # no file, or no such system
        return None


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    return text if record.name.split(".")[0] == OURS else scrubbed(text)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def for_gunicorn(settings: Settings) -> dict[str, Any]:
    """What gunicorn's own few lines look like: the same as ours (its `logconfig_dict`)."""
    form = f"{__name__}.{'JsonFormatter' if settings.production else 'ReadableFormatter'}"
    logger = {"level": "WARNING", "handlers": ["stderr"], "propagate": False, "qualname": "gunicorn.error"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": form}},
        "handlers": {"stderr": {"class": f"{__name__}.Unblocked", "formatter": "ours", "stream": "ext://sys.stderr"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": logger, "gunicorn.access": logger | {"qualname": "gunicorn.access"}},
    }


def install(settings: Settings) -> None:
    """Give the service's loggers one handler on stderr. Calling it again changes nothing but the format."""
    handler = Unblocked(sys.stderr)
    root = logging.getLogger()
    if settings.production and not root.handlers:  # what libraries say, where no server has seen to it
        root.addHandler(handler)
    handler.setFormatter(JsonFormatter() if settings.production else ReadableFormatter())
    for name in ("latchkey", "flask-limiter"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    logging.getLogger("flask-limiter").setLevel(logging.WARNING)  # its INFO line names the limited address
