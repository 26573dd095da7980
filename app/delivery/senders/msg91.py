"""SMS by MSG91's Flow API: a template of theirs with our variables. Success is what the body says."""

from __future__ import annotations

import re
from typing import Any

from app.config import Settings
from app.delivery import dlt
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed, http

# Words or codes of a refusal, and what they mean: there are no codes in most. The first that is found, from the top.
WORDS = {
    "auth authkey authentication unauthorized credentials ip whitelisted 201 207 208 418": Reason.CONFIGURATION,
    "template flow variable variables sender route country 103 106 107 203": Reason.CONFIGURATION,
    "balance account 301 302 303 505": Reason.CONFIGURATION,
    "duplicate twice 311": Reason.UNKNOWN,  # it has the same message already
    "limit many 506": Reason.THROTTLED,
    "mobile mobiles number 101 202": Reason.PERMANENT,
}


class Msg91Sender:
    name, channel = "msg91", "sms"

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.msg91_base_url}/api/v5/flow/"
        self._key = settings.msg91_auth_key.get_secret_value()
        self._templates = dlt.load(settings, self.name)
        self._usual = settings.msg91_template_id

    def send(self, message: Outgoing) -> Receipt:
        usual, template = self._usual if message.code else "", self._templates.of(message)
        if usual and template and template.language != message.language:
            template = None  # the usual one is as good as any in another language
        template_id = template.provider_id if template else usual
        if not template_id:
            raise SendFailed(Reason.CONFIGURATION, f"no template for {message.kind}")
        variables = template.values(message) if template else {"OTP": message.code}
        body = {
            "template_id": template_id,
            "short_url": "0",
            "recipients": [{"mobiles": message.recipient.lstrip("+"), **variables}],
        }
        reply = http.post(self._url, json=body, headers={"authkey": self._key, "Accept": "application/json"})
        said, accepted = reply.json(), reply.id_at("message")
        if reply.status == 200 and said.get("type") == "success" and accepted:
            return Receipt(self.name, accepted)
        raise _refused(reply, said)


def _refused(reply: http.Reply, said: dict[str, Any]) -> SendFailed:
    if reply.status not in (200, 400) or said.get("type") != "error":
        return http.refused(reply)
    spoken = re.findall(r"[a-z]+|\d+", f"{said.get('code', '')} {said.get('message', '')}".lower())
    for known, reason in WORDS.items():
        for word in known.split():
            if word in spoken:
                return SendFailed(reason, f"the provider answered an error: {word}", reply.retry_after)
    return SendFailed(Reason.TRANSIENT, "the provider answered an error of an unknown kind", reply.retry_after)


def build(settings: Settings, _channel: str) -> Msg91Sender:
    return Msg91Sender(settings)
