"""SMS by MSG91's Flow API: a template of theirs with our variables. Success is what the body says."""

from __future__ import annotations

from typing import Any

from app.config import Settings
from app.delivery import dlt
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed, http

# Words of a refusal, and what they mean; MSG91 has no stable codes in this answer. The first that is found.
WORDS = {
    "mobile": Reason.PERMANENT,
    "number": Reason.PERMANENT,
    "limit": Reason.THROTTLED,
    "duplicate": Reason.THROTTLED,
    "auth": Reason.CONFIGURATION,
    "authkey": Reason.CONFIGURATION,
    "template": Reason.CONFIGURATION,
    "flow": Reason.CONFIGURATION,
    "sender": Reason.CONFIGURATION,
    "balance": Reason.CONFIGURATION,
    "account": Reason.CONFIGURATION,
    "ip": Reason.CONFIGURATION,
}


class Msg91Sender:
    name, channel = "msg91", "sms"

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.msg91_base_url}/api/v5/flow/"
        self._key = settings.msg91_auth_key.get_secret_value()
        self._templates = dlt.load(settings, self.name)
        self._usual = settings.msg91_template_id

    def send(self, message: Outgoing) -> Receipt:
        template = self._templates.of(message)
        template_id = template.provider_id if template else self._usual if message.code else ""
        if not template_id:
            raise SendFailed(Reason.CONFIGURATION, f"no template for {message.kind} in {message.language}")
        variables = template.values(message) if template else {"OTP": message.code}
        body = {
            "template_id": template_id,
            "short_url": "0",
            "recipients": [{"mobiles": message.recipient.lstrip("+"), **variables}],
        }
        reply = http.post(self._url, json=body, headers={"authkey": self._key, "accept": "application/json"})
        said = reply.json()
        if reply.status == 200 and said.get("type") == "success" and said.get("message"):
            return Receipt(self.name, str(said["message"])[:128])
        raise _refused(reply, said)


def _refused(reply: http.Reply, said: dict[str, Any]) -> SendFailed:
    if reply.status != 200 or said.get("type") != "error":
        return http.refused(reply)
    words = str(said.get("message", "")).lower().replace(".", " ").replace(",", " ").split()
    reason = next((meaning for word, meaning in WORDS.items() if word in words), Reason.TRANSIENT)
    return SendFailed(reason, "the provider answered an error")


def build(settings: Settings, _channel: str) -> Msg91Sender:
    return Msg91Sender(settings)
