"""A reply with an entity tag: whoever has the same one already is not sent it again (RFC 9110, section 13.1.2)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from flask import Response, current_app, request


@dataclass(frozen=True, slots=True)
class Tagged:
    """`tells`: what makes the reply another one. The tag is a weak one, for the rest of the reply may differ."""

    reply: dict[str, Any]
    tells: Any


def respond(answer: Tagged, status: int) -> Response:
    response = Response(current_app.json.dumps(answer.reply), status, mimetype="application/json")
    response.set_etag(hashlib.sha256(json.dumps(answer.tells).encode()).hexdigest()[:32], weak=True)
    return unless_known(response)


def unless_known(response: Response) -> Response:
    """The response, or 304 to who has it already. `If-Match` is not asked: it is for writes."""
    asked = {name: value for name, value in request.environ.items() if name != "HTTP_IF_MATCH"}
    response.make_conditional(asked)
    return response
