"""SMS by Twilio's Programmable Messaging, through the official library."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from app.config import Settings
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed, http

SHORTEST_VALIDITY_S, LONGEST_VALIDITY_S = 6, 36_000  # Twilio advises more than 5
CODES = {  # what is not here goes by its HTTP status
    20003: Reason.CONFIGURATION,  # credentials
    20429: Reason.THROTTLED,
    21211: Reason.PERMANENT,  # not a number
    21212: Reason.CONFIGURATION,  # of the sender: not a number
    21408: Reason.CONFIGURATION,  # country not enabled in the account
    21603: Reason.CONFIGURATION,  # no sender
    21606: Reason.CONFIGURATION,  # a sender that cannot send SMS
    21608: Reason.CONFIGURATION,  # a trial account sends to proven numbers only
    21609: Reason.CONFIGURATION,  # PUBLIC_URL is no address that Twilio can call
    21610: Reason.PERMANENT,  # the recipient has opted out
    21612: Reason.CONFIGURATION,  # this sender cannot reach that number
    21614: Reason.PERMANENT,  # not a mobile
    21657: Reason.CONFIGURATION,  # a sender that is none
    21659: Reason.CONFIGURATION,  # a sender that is not Twilio's
    21660: Reason.CONFIGURATION,  # another account's sender
    21661: Reason.CONFIGURATION,  # a sender that cannot send SMS
    21701: Reason.CONFIGURATION,  # there is no such messaging service
    21702: Reason.CONFIGURATION,  # it sends no new messages
    21703: Reason.CONFIGURATION,  # none of its numbers can send this one
    21704: Reason.CONFIGURATION,  # it has no numbers
    21705: Reason.CONFIGURATION,  # not the id of one
    30003: Reason.TRANSIENT,  # handset unreachable
    30005: Reason.PERMANENT,  # unknown handset
    30006: Reason.PERMANENT,  # landline
    30007: Reason.CONFIGURATION,  # filtered as spam
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
        accepted = self._messages.create(to=message.recipient, body=message.text, **self._options(message))
        return Receipt(self.name, accepted.sid)

    def _options(self, message: Outgoing) -> dict[str, Any]:
        service = self._from.startswith("MG")
        options: dict[str, Any] = {"messaging_service_sid" if service else "from_": self._from}
        if message.seconds:
            options["validity_period"] = min(max(message.seconds, SHORTEST_VALIDITY_S), LONGEST_VALIDITY_S)
        if self._public_url:
            options["status_callback"] = f"{self._public_url}/api/webhooks/twilio?{urlencode({'mid': message.id})}"
        return options


class _Wire(HttpClient):  # type: ignore[misc]  # the library has no types
    """The library's requests, over our bounded POST and to the base URL of the settings."""

    def __init__(self, base: str) -> None:
        self._base = base

    def request(self, _method: str, url: str, **given: Any) -> Response:
        """The library's way to send. Of an answer it gets the message's id alone, so that junk cannot trip it."""
        target = self._base + urlsplit(url).path  # whatever host its own environment variables name
        reply = http.post(target, form=given["data"], headers=given["headers"], auth=given["auth"])
        accepted = reply.id_at("sid")
        if reply.status != 201 or not accepted:
            raise _refused(reply)
        return Response(reply.status, json.dumps({"sid": accepted}))


def _refused(reply: http.Reply) -> SendFailed:
    code = reply.json().get("code")
    if reply.status == 429 or not isinstance(code, int) or code not in CODES:
        return http.refused(reply, f"with the code {code}" if isinstance(code, int) and 0 < code < 100_000 else "")
    return SendFailed(CODES[code], f"the provider answered {reply.status} with the code {code}", reply.retry_after)


def build(settings: Settings, _channel: str) -> TwilioSender:
    return TwilioSender(settings)
