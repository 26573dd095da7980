"""Mail over HTTP by Resend's API. Its idempotency key is our message's id: a repeat after no answer is sent once."""

from __future__ import annotations

from email.headerregistry import Address

from app.config import Settings
from app.delivery.senders import Outgoing, Receipt, http


class ResendSender:
    name, channel = "resend", "email"

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.resend_base_url}/emails"
        self._key = settings.resend_api_key.get_secret_value()
        self._from = str(Address(settings.brand_name, addr_spec=settings.sender_email))

    def send(self, message: Outgoing) -> Receipt:
        body = {
            "from": self._from,
            "to": [message.recipient],
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "headers": {"Auto-Submitted": "auto-generated"},
        }
        headers = {"Authorization": f"Bearer {self._key}", "Idempotency-Key": str(message.id)}
        reply = http.post(self._url, json=body, headers=headers)
        accepted = reply.json().get("id")
        if reply.status != 200 or not accepted:
            raise http.refused(reply)
        return Receipt(self.name, str(accepted)[:128])


def build(settings: Settings, _channel: str) -> ResendSender:
    return ResendSender(settings)
