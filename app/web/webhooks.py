"""What providers call: reports of delivery, each proven as its provider does it. Answered with 204 and nothing else."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from flask import Blueprint, Flask, Response, request
from twilio.request_validator import RequestValidator

from app.config import Settings
from app.delivery import reports
from app.delivery.reports import Report
from app.errors import Forbidden, NotFound, PayloadTooLarge, Refusal
from app.flows import delivery
from app.web import problems, transport
from app.web.endpoint import Edge
from app.work import Kit, run

PREFIX = "/api/webhooks"


def install(app: Flask, kit: Kit, edge: Edge) -> None:
    """Register the routes on an app."""
    webhooks = Blueprint("webhooks", __name__, url_prefix=PREFIX)

    def add(path: str, name: str, read: Callable[..., Sequence[Report]], methods: list[str]) -> None:
        webhooks.add_url_rule(path, name, lambda **given: _taken(kit, edge, read, given), methods=methods)

    add("/twilio", "twilio", _twilio, ["POST"])
    add("/msg91/<secret>", "msg91", _msg91, ["POST"])
    add("/gupshup/<secret>", "gupshup", _gupshup, ["POST", "GET"])
    app.register_blueprint(webhooks)


def _taken(kit: Kit, edge: Edge, read: Callable[..., Sequence[Report]], given: dict[str, str]) -> Response:
    request.max_content_length = transport.LONGEST_BODY
    try:
        found = read(kit.settings, **given)
        run(kit, lambda work: delivery.note(work, found), client=transport.client(kit.settings))
    except Refusal as refused:
        edge.note(refused)
        return problems.answer(refused)
    return Response(status=204)


def _twilio(settings: Settings) -> list[Report]:
    """Raises Forbidden unless Twilio's signature over our public URL and the parameters is right."""
    token = settings.twilio_token.get_secret_value()
    query = request.query_string.decode("latin-1")
    url = f"{settings.public_url}{request.path}{'?' if query else ''}{query}"
    signature = request.headers.get("X-Twilio-Signature", "")
    is_form = request.mimetype == "application/x-www-form-urlencoded"
    covered = is_form or "bodySHA256" in request.args  # else the signature says nothing about the body
    signed = request.form if is_form else _body()
    if not (token and settings.public_url and covered and RequestValidator(token).validate(url, signed, signature)):
        raise Forbidden()
    return reports.twilio(request.form, request.args.get("mid", ""))


def _msg91(settings: Settings, secret: str) -> list[Report]:
    _admit(settings, secret)
    return reports.msg91(request.form, _body())


def _gupshup(settings: Settings, secret: str) -> list[Report]:
    _admit(settings, secret)
    return reports.gupshup(request.args, request.form, _body())


def _admit(settings: Settings, secret: str) -> None:
    """Raises NotFound unless the last path segment is the secret that only the provider was told."""
    known = settings.webhook_secret.get_secret_value()
    if not known or not hmac.compare_digest(known.encode(), secret.encode()):
        raise NotFound()


def _body() -> str:
    """What was sent, unless it was a form. Raises PayloadTooLarge."""
    if (request.content_length or 0) > transport.LONGEST_BODY:
        raise PayloadTooLarge()
    return "" if request.form else request.get_data().decode("utf-8", "replace")
