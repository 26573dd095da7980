"""Pages for a browser: nothing runs in one or paints it that does not carry the nonce of its own answer."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response

from app.crypto.keys import new_token

EVERY_PAGE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"


def page(render: Callable[[str], str], policy: str) -> Response:
    """The page that `render` makes with a new nonce. `policy`: what it may do, `{nonce}` where the nonce goes."""
    nonce = new_token()
    response = Response(render(nonce), mimetype="text/html")
    response.headers["Content-Security-Policy"] = f"{EVERY_PAGE}; {policy.format(nonce=nonce)}"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response
