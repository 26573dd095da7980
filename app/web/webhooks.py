"""What providers call: reports of delivery, each proven as its provider does it. Answered with 204 and nothing else."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

from flask import Blueprint, Flask, Response, request
from flask_limiter import Limiter
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from app.config import Settings
from app.delivery import reports
from app.delivery.reports import Report
from app.errors import Forbidden, NotFound
from app.flows import delivery
from app.web import limits, transport
from app.web.endpoint import Edge, refusing
from app.work import Kit, run

PREFIX = "/api/webhooks"


def install(app: Flask, kit: Kit, limiter: Limiter, edge: Edge) -> None:
    """Register the routes on an app."""
    webhooks = Blueprint("webhooks", __name__, url_prefix=PREFIX)

    def add(path: str, name: str, read: Callable[..., Sequence[Report]], methods: list[str]) -> None:
        def take(**given: str) -> Response:
            found = read(kit.settings, **given)
            run(kit, lambda work: delivery.note(work, found), client=transport.client(kit.settings))
            return Response(status=204)

        take.__qualname__ = f"webhooks.{name}"
        limited = limiter.limit(limits.GUESSES, deduct_when=_is_refused)(take)
        webhooks.add_url_rule(path, name, refusing(limited, limiter, edge), methods=methods)

    add("/twilio", "twilio", _twilio, ["POST"])
    add("/msg91/<secret>", "msg91", _msg91, ["POST"])
    add("/gupshup/<secret>", "gupshup", _gupshup, ["POST", "GET"])
    app.register_blueprint(webhooks)


def _is_refused(response: Response) -> bool:
    """What counts: a provider reports of a whole service from a few addresses, also while the database is away."""
    return response.status_code not in (204, 503)


def _twilio(settings: Settings) -> list[Report]:
    """Raises Forbidden unless Twilio's signature over our public URL and the parameters is right."""
    token = settings.twilio_token.get_secret_value()
    if not (token and settings.public_url):
        raise Forbidden()
    form, text = _given()
    query = request.query_string.decode("latin-1")
    url = f"{settings.public_url}{request.path}{'?' if query else ''}{query}"
    signature = request.headers.get("X-Twilio-Signature", "")
    is_form = request.mimetype == "application/x-www-form-urlencoded"
    covered = is_form or "bodySHA256" in parse_qs(query)  # as the validator reads it; else nothing covers the body
    signed = form if is_form else text
    if not (covered and RequestValidator(token).validate(url, signed, signature)):
        raise Forbidden()
    return reports.twilio(form, request.args.get("mid", ""))


def _msg91(settings: Settings, secret: str) -> list[Report]:
    _admit(settings, secret)
    return reports.msg91(*_given())


def _gupshup(settings: Settings, secret: str) -> list[Report]:
    _admit(settings, secret)
    return reports.gupshup(request.args, *_given())


def _admit(settings: Settings, secret: str) -> None:
    """Raises NotFound unless the last path segment is the secret that only the provider was told."""
    known = settings.webhook_secret.get_secret_value()
    if not known or not hmac.compare_digest(known.encode(), secret.encode()):
        raise NotFound()


def _given() -> tuple[MultiDict[str, str], str]:
    """What was sent: a form, or else a text. Raises PayloadTooLarge, MalformedJson."""
    found = transport.content()
    return request.form, "" if request.form else found.decode("utf-8", "replace")
