"""What stands on every response, and the line that every request leaves in the log."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

from app.config import Settings
from app.web import metrics, transport

SECURITY = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
API_POLICY = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"

log = logging.getLogger("latchkey.request")


def install(app: Flask, settings: Settings) -> None:
    @app.before_request
    def begin() -> None:
        g.started, g.request_id = time.perf_counter(), transport.request_id()

    @app.after_request
    def complete(response: Response) -> Response:
        headers = response.headers
        headers["X-Request-ID"] = g.request_id
        for name, value in SECURITY.items():
            headers[name] = value
        headers.setdefault("Content-Security-Policy", API_POLICY)
        headers.setdefault("Cache-Control", "no-store")
        metrics.count(response)
        _log(settings, response)
        return response


def _log(settings: Settings, response: Response) -> None:
    fields = {
        "method": request.method,
        "route": str(request.url_rule) if request.url_rule else "none",
        "status": response.status_code,
        "ms": round((time.perf_counter() - g.started) * 1000, 1),
        "client": transport.client(settings).address,
        "request_id": g.request_id,
    }
    if code := g.get("code"):
        fields["code"] = code
    log.info("request", extra={"fields": fields})
