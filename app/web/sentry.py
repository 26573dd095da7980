"""Unexpected errors, told to Sentry. Imported only where SENTRY_DSN is set: its package is an extra.

What is sent is made anew of what is listed here: where it happened, of which kind the exception was, and which request
or message it was about. Not its text, no local variable, no body, header, cookie or address: these may hold a secret.
"""

from __future__ import annotations

import logging
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.logging import EventHandler

from app import logs
from app.config import Settings
from app.version import VERSION

KEPT = ("event_id", "timestamp", "platform", "level", "logger", "release", "environment", "server_name", "sdk")
OF_A_FRAME = ("filename", "module", "function", "lineno", "in_app")
TAGS = ("request_id", "method", "route", "message_id", "channel", "kind")


def install(settings: Settings) -> None:
    """Tell Sentry of every line at level ERROR that the service's loggers get."""
    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.environment,
        release=f"latchkey@{VERSION}",
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[AtexitIntegration(callback=lambda *_: None)],  # what waits is sent at the end
        before_send=only_what_is_listed,  # type: ignore[arg-type]  # its types are its own
        max_breadcrumbs=0,
        include_local_variables=False,
        include_source_context=False,
        auto_session_tracking=False,
    )
    logging.getLogger(logs.OURS).addHandler(EventHandler(level=logging.ERROR))


def only_what_is_listed(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any] | None:
    """The event made anew. None, and so nothing, for one that is not of a line of ours."""
    record = hint.get("log_record")
    if record is None:
        return None
    about = {name: str(value) for name, value in logs.subject().items() if name in TAGS}
    known = {name: event[name] for name in KEPT if name in event}
    made = {**known, "logentry": {"message": str(record.msg)}, "tags": about}  # the words, without what filled them
    if "exception" in event:
        made["exception"] = {"values": [_exception(each) for each in event["exception"]["values"]]}
    return made


def _exception(each: dict[str, Any]) -> dict[str, Any]:
    frames = (each.get("stacktrace") or {}).get("frames", [])
    kept = [{name: frame[name] for name in OF_A_FRAME if name in frame} for frame in frames]
    return {"type": each.get("type"), "module": each.get("module"), "stacktrace": {"frames": kept}}
