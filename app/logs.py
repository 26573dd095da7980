"""Logs: one JSON object a line in production, readable lines in development. Control characters are escaped."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from app.config import Settings


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class ReadableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v}" for k, v in getattr(record, "fields", {}).items())
        text = _escaped(" ".join(part for part in (record.getMessage(), fields) if part))
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {text}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def for_gunicorn(settings: Settings) -> dict[str, Any]:
    """What gunicorn's own few lines look like: the same as ours (its `logconfig_dict`)."""
    form = f"{__name__}.{'JsonFormatter' if settings.production else 'ReadableFormatter'}"
    logger = {"level": "WARNING", "handlers": ["stderr"], "propagate": False, "qualname": "gunicorn.error"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": form}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "ours", "stream": "ext://sys.stderr"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {"gunicorn.error": logger, "gunicorn.access": logger | {"qualname": "gunicorn.access"}},
    }


def install(settings: Settings) -> None:
    """Give the service's loggers one handler on stderr. Calling it again changes nothing but the format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.production else ReadableFormatter())
    for name in ("latchkey", "flask-limiter"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    logging.getLogger("flask-limiter").setLevel(logging.WARNING)  # its INFO line names the limited address
