"""What comes over the wire: the caller's address, the body as a typed object, the bearer token."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from flask import g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from app.config import Settings
from app.crypto.keys import new_token
from app.delivery import messages
from app.errors import (
    HttpsRequired,
    MalformedJson,
    PayloadTooLarge,
    TokenMissing,
    UnsupportedMediaType,
    ValidationFailed,
)
from app.framing import LONGEST_BODY
from app.web import hops
from app.work import Client

LONGEST_AGENT = 255
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,128}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CODES = {"missing": "required", "string_too_long": "too_long", "string_too_short": "too_short"}
OWN_CODES = {"control_characters", "too_complex"}  # raised by web/fields.py

B = TypeVar("B", bound=BaseModel)


def request_id() -> str:
    """The caller's X-Request-ID if it is harmless, else a new one."""
    given = request.headers.get("X-Request-ID", "")
    return given if REQUEST_ID.fullmatch(given) else new_token()[:22]


def client(settings: Settings) -> Client:
    """Who is calling. Made once a request."""
    if "client" not in g:
        agent = request.headers.get("User-Agent", "")
        if not agent.isprintable():
            agent = "".join(c for c in agent if c.isprintable())
        g.client = Client(address(settings), agent[:LONGEST_AGENT], g.request_id, language=language(settings))
    return g.client  # type: ignore[no-any-return]  # `g` holds anything; this was put there above


def language(settings: Settings) -> str:
    """The language of ours that the request prefers (RFC 4647, section 3.4, over RFC 9110's Accept-Language); empty if
    it asks for none of them. Flask's own choice would take a less wanted `en` before `hi` for `hi-IN`.
    """
    ours = {name.lower(): name for name in messages.languages(settings)}
    wanted = (tag.lower() for tag, quality in request.accept_languages if quality > 0)
    found = (ours.get(tag) or ours.get(tag.partition("-")[0]) for tag in wanted)
    return next((name for name in found if name), "")


def known_language(settings: Settings, text: str | None) -> str | None:
    """A language that somebody chose. Raises ValidationFailed if there are no templates for it."""
    if text is not None and text not in messages.languages(settings):
        known = ", ".join(messages.languages(settings))
        raise ValidationFailed.field("language", "unknown_language", f"There are messages in: {known}.")
    return text


def address(settings: Settings) -> str:
    """The client's address, by as many proxies as are trusted."""
    return hops.address(forwarded(), peer(), settings.trusted_proxies)


def forwarded() -> list[str]:
    """The entries of X-Forwarded-For, the nearest proxy's last."""
    return hops.split(request.headers.getlist("X-Forwarded-For"))


def refuse_clear(settings: Settings) -> None:
    """Raises HttpsRequired for what came over clear HTTP, where clients come over TLS and a trusted proxy tells how."""
    if settings.production and settings.trusted_proxies and not settings.public_url.startswith("http:"):
        told = hops.split(request.headers.getlist("X-Forwarded-Proto"))
        if hops.is_clear(told, settings.trusted_proxies):
            raise HttpsRequired()


def peer() -> str:
    """The address that holds the connection: the client's, or that of the nearest proxy."""
    return request.remote_addr or ""


def bearer() -> str:
    """The token of the Authorization header (RFC 6750, section 2.1). Raises TokenMissing."""
    if not has_bearer():
        raise TokenMissing()
    return request.headers["Authorization"].partition(" ")[2].strip()


def has_bearer() -> bool:
    """Whether there is such a token, whatever it is worth."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and bool(token.strip())


def idempotency_key() -> str | None:
    """The key that makes a repeat of this request harmless, if the client sent one. Raises ValidationFailed."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        message = "1 to 128 printable ASCII characters."
        raise ValidationFailed.field("Idempotency-Key", "invalid", message)
    return key


def body(model: type[B]) -> B:
    """The JSON body as a model; none is an empty object. Raises UnsupportedMediaType, PayloadTooLarge, MalformedJson,
    ValidationFailed.

    What was sent never stands in the error.
    """
    absent = not request.headers.get("Transfer-Encoding") and not request.content_length
    if absent and request.mimetype in ("", "application/json"):
        return _checked(model, {})
    if request.mimetype != "application/json" or request.headers.get("Content-Encoding"):
        raise UnsupportedMediaType()
    return _checked(model, _object(_text()))


def query(model: type[B]) -> B:
    """The query string as a model. Raises ValidationFailed, also for a name that stands twice."""
    twice = next((name for name, values in request.args.lists() if len(values) > 1), None)
    if twice:
        raise ValidationFailed.field(twice[:100], "invalid", "Give this once.")
    return _checked(model, request.args.to_dict())


def _checked(model: type[B], found: dict[str, Any]) -> B:
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise ValidationFailed(errors=[_field(e) for e in error.errors(include_input=False)]) from None


def content() -> bytes:
    """The body as it was sent; it is kept, and a form is read from it. Raises PayloadTooLarge, MalformedJson."""
    if (request.content_length or 0) > LONGEST_BODY:
        raise PayloadTooLarge()
    request.max_content_length = LONGEST_BODY + 1  # where reading ends, whatever comes in chunks
    try:
        found = request.get_data()
    except RequestEntityTooLarge:  # by the server, which read no more of it
        raise PayloadTooLarge() from None
    except Exception:  # each server has errors of its own for a body that breaks off, or whose chunks are none
        raise MalformedJson() from None
    if len(found) > LONGEST_BODY:  # sent in chunks, with no length ahead
        raise PayloadTooLarge()
    return found


def _text() -> str:
    try:
        return content().decode()
    except UnicodeDecodeError:
        raise MalformedJson() from None


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise MalformedJson() from None
    if not isinstance(found, dict):
        raise MalformedJson()
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _field(error: Any) -> dict[str, str]:
    names = [str(part) for part in error["loc"] if isinstance(part, int) or part.isidentifier()]
    kind = error["type"]
    return {
        "field": ".".join(names)[:100] or "body",
        "code": CODES.get(kind)
        or (kind if kind in OWN_CODES else "wrong_type" if kind.endswith("_type") else "invalid"),
        "message": error["msg"],
    }
