"""Operations: health, metrics, the API's document and its pages. Not part of any dialect."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, send_from_directory
from flask_limiter import Limiter
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from app.core import api_keys, schema
from app.core.api_keys import Scope
from app.delivery import tally
from app.delivery.courier import Courier
from app.errors import NotFound, Refusal, Unavailable
from app.version import VERSION
from app.web import html, metrics, openapi, problems, tagged, transport
from app.web.endpoint import Edge, Surface, refusing
from app.web.guards import KEY
from app.work import RETRY_AFTER_S, Kit, Work, run

log = logging.getLogger("latchkey.web")
STATIC = Path(__file__).with_name("static")
FILES = frozenset(path.name for path in STATIC.iterdir())
KEYS_AGE_S = 300  # for which a backend may keep the public keys; a new one is listed for longer before it signs
LAG = timedelta(seconds=60)  # a message that waits longer than this: nobody is sending
OK, DEGRADED, DOWN, UNUSED = "ok", "degraded", "down", "not used"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Latchkey API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/docs/static/favicon-32x32.png">{head}</head>
<body>{body}</body></html>
"""
SCRIPT = '<script nonce="{nonce}" src="/docs/static/%s"></script>'
SWAGGER = PAGE.format(
    head='<link rel="stylesheet" nonce="{nonce}" href="/docs/static/swagger-ui.css">',
    body='<div id="swagger-ui"></div>' + SCRIPT % "swagger-ui-bundle.js" + SCRIPT % "start-swagger.js",
)
REDOC = PAGE.format(head="", body='<div id="redoc"></div>' + SCRIPT % "redoc.standalone.js" + SCRIPT % "start-redoc.js")
PAGE_POLICY = (
    "script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self' data:; worker-src blob:"
)
# Redoc makes one sheet before it is told the nonce: first empty, then that of its scroll bars.
SCROLL_BARS = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
REDOC_POLICY = PAGE_POLICY.replace("style-src", f"style-src {SCROLL_BARS}")


def install(app: Flask, kit: Kit, limiter: Limiter, courier: Courier, surfaces: list[Surface]) -> None:
    """Register the routes on an app; the document and its pages only where settings serve them."""
    ops, edge = Blueprint("ops", __name__), app.extensions["edge"]
    fits = threading.Event()  # set once the schema was found to be new enough: it does not go back under a service
    ops.get("/health", endpoint="health")(lambda: health(kit, limiter, courier, fits))
    ops.get("/health/live", endpoint="live")(lambda: _json({"status": OK}))
    ops.get("/metrics", endpoint="metrics")(lambda: figures(kit, limiter, edge))
    ops.get("/.well-known/jwks.json", endpoint="jwks")(refusing(lambda: public_keys(kit), limiter, edge))
    if kit.settings.serves_docs:
        document = cache(lambda: json.dumps(openapi.document(surfaces)))  # made when it is first asked for
        ops.get("/openapi.json", endpoint="openapi")(lambda: Response(document(), mimetype="application/json"))
        ops.get("/docs", endpoint="docs")(lambda: html.page(lambda nonce: SWAGGER.format(nonce=nonce), PAGE_POLICY))
        ops.get("/redoc", endpoint="redoc")(lambda: html.page(lambda nonce: REDOC.format(nonce=nonce), REDOC_POLICY))
        ops.get("/docs/static/<name>", endpoint="static")(static)
    app.register_blueprint(ops)


def health(kit: Kit, limiter: Limiter, courier: Courier, fits: threading.Event) -> Response:
    """503 when the database is away or its schema older than this version, for it is needed for everything; `degraded`
    when something else is.
    """
    checks = {"database": _database(kit, fits), "redis": _redis(kit, limiter)}
    checks["courier"] = _courier(kit, courier) if checks["database"] == OK else DEGRADED
    status = next((bad for bad in (DOWN, DEGRADED) if bad in checks.values()), OK)
    told = {"status": status, "version": VERSION, "checks": checks}
    if status != DOWN:
        return _json(told)
    response = _json({**told, "retry_after": RETRY_AFTER_S}, 503)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _database(kit: Kit, fits: threading.Event) -> str:
    try:
        run(kit, lambda work: work.db.execute(select(1)), reads=True)
    except Unavailable:
        return DOWN
    return OK if fits.is_set() or _is_migrated(kit, fits) else DOWN


def _is_migrated(kit: Kit, fits: threading.Event) -> bool:
    try:
        run(kit, lambda work: schema.probe(work.db.connection()), reads=True)
    except schema.WrongEncoding as wrong:
        log.warning(str(wrong))
        return False
    except (Unavailable, DBAPIError):
        log.warning("the database is there, and its schema is not of this version: run flask db upgrade")
        return False
    fits.set()
    return True


def _redis(kit: Kit, limiter: Limiter) -> str:
    if kit.settings.redis_url is None or not kit.settings.ratelimit:
        return UNUSED
    return OK if limiter.storage.check() else DEGRADED


def _courier(kit: Kit, courier: Courier) -> str:
    def lags(work: Work) -> bool:
        since = tally.oldest_due(work)
        return since is not None and since + LAG < work.now

    return DEGRADED if not courier.alive or run(kit, lags, reads=True) else OK


def figures(kit: Kit, limiter: Limiter, edge: Edge) -> Response:
    """The metrics, for an API key that may read them, or for anybody if settings say so."""
    if not kit.settings.metrics_public:
        guard = KEY(Scope.METRICS)
        try:
            transport.refuse_clear(kit.settings)
            if not api_keys.is_the_environment_s(kit.settings, transport.bearer()):  # which needs no database
                run(kit, lambda work: guard.admit(work, None), reads=True)
        except Refusal as refused:
            edge.note(refused)
            return problems.answer(refused)
    return metrics.scrape(kit, limiter)


def public_keys(kit: Kit) -> Response:
    """The keys that verify access tokens, for anybody (RFC 7517). Secrets that are shared are not among them."""
    response = _json({"keys": kit.tokens.jwks()})
    response.headers["Cache-Control"] = f"public, max-age={KEYS_AGE_S}"
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    return tagged.unless_known(response)


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status, mimetype="application/json")


def static(name: str) -> Response:
    """The pages' own files, whole: a range may be ignored (RFC 9110, section 14.2)."""
    if name not in FILES:
        return problems.answer(NotFound())
    response = send_from_directory(STATIC, name, max_age=3600, conditional=False)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return tagged.unless_known(response)
