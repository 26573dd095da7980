"""What stands on every response, and the line that every request leaves in the log; and what comes too late to be
answered at all.
"""

from __future__ import annotations

import logging
import random
import re
import time

from flask import Flask, Response, g, request
from flask.globals import request_ctx
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import Rule

from app import logs
from app.answers import API_POLICY, SECURITY, WAITED
from app.config import Settings
from app.errors import NotFound, Overloaded
from app.web import metrics, problems, transport

HOST = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")  # of a request that was sent with its whole address
RETRY_AFTER_S = (2, 8)  # spread: a crowd that comes again at one moment would be too many again

log = logging.getLogger("latchkey.request")


def install(app: Flask, settings: Settings) -> None:
    metrics.start_at_zero()

    @app.before_request
    def begin() -> None:
        g.started, g.request_id = time.perf_counter(), transport.request_id()
        logs.start(request_id=g.request_id, method=metrics.method(), route=metrics.route())

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        logs.stop()

    @app.before_request
    def shed() -> Response | None:
        """Under more load than there is strength for: let those go whose wait for a thread was long."""
        waited: float = request.environ.get(WAITED, 0.0)
        if waited <= settings.web_patience or request.path.startswith("/health"):
            return None
        again = random.randint(*RETRY_AFTER_S)  # noqa: S311 (jitter, not a secret)
        return problems.answer(Overloaded(retry_after=again))

    @app.before_request
    def misspelt() -> Response | None:
        """A proxy that closes `/api/admin` may let `//api/admin`, `/api%2Fadmin` and `/api/%61dmin` by."""
        return None if _is_spelt_as_declared() else problems.answer(NotFound())

    @app.after_request
    def complete(response: Response) -> Response:
        headers = response.headers
        headers["X-Request-ID"] = g.request_id
        for name, value in SECURITY.items():
            headers[name] = value
        headers["Content-Security-Policy"] = _reported(settings, headers.get("Content-Security-Policy", API_POLICY))
        headers.setdefault("Cache-Control", "no-store")
        seconds = time.perf_counter() - g.started
        metrics.count(response, seconds)
        _log(settings, response, seconds)
        return response


def _is_spelt_as_declared() -> bool:
    """True if each fixed step of the path was sent as its route has it, or if it leads nowhere anyway."""
    rule = request.url_rule or _rule_of_another_method()
    if rule is None:
        return True
    environ = request.environ
    sent = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]
    path = HOST.sub("", sent).partition("?")[0].removeprefix(environ.get("SCRIPT_NAME", ""))
    steps, declared = path.split("/"), rule.rule.split("/")
    return len(steps) == len(declared) and all(
        own.startswith("<") or own == step for own, step in zip(declared, steps, strict=True)
    )


def _rule_of_another_method() -> Rule | None:
    """The route that has the path of a request whose method it does not take."""
    wrong, routes = request.routing_exception, request_ctx.url_adapter
    if routes is None or not isinstance(wrong, MethodNotAllowed) or not wrong.valid_methods:
        return None
    rule, _ = routes.match(method=next(iter(wrong.valid_methods)), return_rule=True)
    return rule


def _reported(settings: Settings, policy: str) -> str:
    """A policy and where to report, if that is set: by `report-uri`, for not every browser knows its successor."""
    return f"{policy}; report-uri {settings.csp_report_uri}" if settings.csp_report_uri else policy


def _log(settings: Settings, response: Response, seconds: float) -> None:
    fields = {
        "status": response.status_code,
        "ms": round(seconds * 1000, 1),
        "client": transport.client(settings).address,
    }
    if code := g.get("code"):
        fields["code"] = code
    if cause := g.get("cause"):
        fields["cause"] = cause
    log.info("request", extra={"fields": fields})
