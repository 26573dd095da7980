"""The development inbox: the last messages, as a page and as JSON, so that nobody needs a mail account to try things.

Outside production only, and for this machine alone: whoever forgets ENVIRONMENT=production behind a proxy must not show
everybody's codes to everybody. The codes are derived for the page as they were for the message; none is stored.
"""

from __future__ import annotations

import json
import re
from typing import Any

from flask import Blueprint, Flask, Response, request
from jinja2 import Environment, PackageLoader, select_autoescape

from app import errors
from app.delivery import compose
from app.delivery.senders import Outgoing
from app.models import OutboxMessage
from app.web import html, present, problems
from app.work import Kit, Work, run

SHOWN = 50
LOOPBACK = ("127.", "::1", "::ffff:127.")
NAMES = ("localhost", "127.0.0.1", "[::1]")  # by which a browser on this machine calls it
PORT = re.compile(r":[0-9]*\Z")
FORWARDED = ("Forwarded", "Via", "X-Real-Ip")
PAGE_POLICY = "style-src 'nonce-{nonce}'"
_pages = Environment(loader=PackageLoader("app.web", "pages"), autoescape=select_autoescape(["html"]))


def install(app: Flask, kit: Kit) -> None:
    """Register the route on an app that is not in production."""
    dev = Blueprint("dev", __name__)
    dev.get("/dev/inbox", endpoint="inbox")(lambda: inbox(kit))
    app.register_blueprint(dev)


def inbox(kit: Kit) -> Response:
    """A page for a browser, JSON for whoever asks for it by `Accept` or `?format=json`; to this machine alone, and not
    through a proxy.
    """
    if not _is_near():
        return problems.answer(errors.NotFound())
    items = run(kit, _items, reads=True)
    offered = ["text/html", "application/json"]
    wants_json = request.args.get("format") == "json" or request.accept_mimetypes.best_match(offered) == offered[1]
    if wants_json:
        return Response(json.dumps({"items": items}), mimetype="application/json")
    template = _pages.get_template("inbox.html")
    return html.page(lambda nonce: template.render(items=items, nonce=nonce), PAGE_POLICY)


def _is_near() -> bool:
    """True for a request of this machine, by a name of its own: the page of a site whose name was made to lead here
    (DNS rebinding) calls it by another, and so does a proxy that keeps the name. One that speaks HTTP/1.0, as nginx
    does by itself, or adds a header that tells of it, is none either.
    """
    peer, name = request.environ.get("REMOTE_ADDR", ""), PORT.sub("", request.headers.get("Host", ""))
    through = any(name in FORWARDED or name.startswith("X-Forwarded-") for name, _ in request.headers)
    old = request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0"
    return peer.startswith(LOOPBACK) and name.lower() in NAMES and not through and not old


def _items(work: Work) -> list[dict[str, Any]]:
    return [_item(row, message) for row, message in compose.preview(work, SHOWN)]


def _item(row: OutboxMessage, message: Outgoing | None) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "at": present.instant(row.created_at),
        "to": row.recipient,
        "channel": row.channel,
        "kind": row.kind,
        "language": row.language,
        "state": row.state,
        "why": row.last_error,
        "code": message.code if message else "",
        "subject": message.subject if message else "",
        "text": message.text if message else "",
    }
