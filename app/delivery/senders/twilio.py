"""SMS by Twilio's Programmable Messaging, through the official library."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from app.config import Settings
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed, http

OFFICIAL = "https://api.twilio.com"
SHORTEST_VALIDITY_S, LONGEST_VALIDITY_S = 6, 36_000  # Twilio advises more than 5
CODES = {
    20003: Reason.CONFIGURATION,  # credentials
    20429: Reason.THROTTLED,
    21211: Reason.PERMANENT,  # not a number
    21408: Reason.CONFIGURATION,  # country not enabled in the account
    21610: Reason.PERMANENT,  # the recipient has opted out
    21614: Reason.PERMANENT,  # not a mobile
    30003: Reason.TRANSIENT,  # handset unreachable
    30005: Reason.PERMANENT,  # unknown handset
    30006: Reason.PERMANENT,  # landline
    30007: Reason.TRANSIENT,  # filtered as spam
    30008: Reason.TRANSIENT,  # unknown
    30034: Reason.CONFIGURATION,  # sender not registered
}


class TwilioSender:
    name, channel = "twilio", "sms"

    def __init__(self, settings: Settings) -> None:
        token = settings.twilio_token.get_secret_value()
        self._messages = Client(settings.twilio_sid, token, http_client=_Wire(settings.twilio_base_url)).messages
        self._from = settings.twilio_phone
        self._public_url = settings.public_url

    def send(self, message: Outgoing) -> Receipt:
        try:
            accepted = self._messages.create(to=message.recipient, body=message.text, **self._options(message))
        except TwilioException as error:
            raise _refused(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SendFailed(Reason.TRANSIENT, f"the answer makes no sense: {type(error).__name__}") from error
        if not accepted.sid:
            raise SendFailed(Reason.TRANSIENT, "the answer names no message")
        return Receipt(self.name, accepted.sid)

    def _options(self, message: Outgoing) -> dict[str, Any]:
        service = self._from.startswith("MG")
        options: dict[str, Any] = {"messaging_service_sid" if service else "from_": self._from}
        if message.seconds:
            options["validity_period"] = min(max(message.seconds, SHORTEST_VALIDITY_S), LONGEST_VALIDITY_S)
        if self._public_url:
            options["status_callback"] = f"{self._public_url}/api/webhooks/twilio?{urlencode({'mid': message.id})}"
        return options


class _Wire(HttpClient):  # type: ignore[misc]
    """The library's requests, over our bounded POST and to the base URL of the settings."""

    def __init__(self, base: str) -> None:
        self._base = base

    def request(self, _method: str, url: str, **given: Any) -> Response:
        target = self._base + url.removeprefix(OFFICIAL)
        reply = http.post(target, **{name: given.get(name) for name in ("data", "headers", "auth", "params")})
        if reply.status != 201 and not 400 <= reply.status < 500:
            raise http.refused(reply)
        if reply.status == 429:
            raise http.refused(reply, str(reply.json().get("code", "")))
        return Response(reply.status, reply.text, reply.headers)


def _refused(error: TwilioException) -> SendFailed:
    if not isinstance(error, TwilioRestException):
        return SendFailed(Reason.TRANSIENT, f"the answer makes no sense: {type(error).__name__}")
    text = f"the provider answered {error.status} {error.code or ''}".strip()
    known = CODES.get(error.code or 0)
    return SendFailed(known, text) if known else http.refused(http.Reply(error.status, "", {}), str(error.code or ""))


def build(settings: Settings, _channel: str) -> TwilioSender:
    return TwilioSender(settings)
