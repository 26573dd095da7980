"""Mail over HTTP by Resend's API. Its idempotency key is our message's id: a repeat after no answer is sent once."""

from __future__ import annotations

from email.headerregistry import Address

from app.config import Settings
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed, http


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
        accepted = reply.id_at("id")
        if reply.status == 200 and accepted:
            return Receipt(self.name, accepted)
        if reply.status == 409:
            return _taken_before(reply)
        raise http.refused(reply)


def _taken_before(reply: http.Reply) -> Receipt:
    """A repeat that is not word for word the same is refused by its key: fewer minutes are left, and so it says."""
    if reply.json().get("name") == "invalid_idempotent_request":
        return Receipt(ResendSender.name)
    raise SendFailed(Reason.UNKNOWN, "the provider has this message in hand already")


def build(settings: Settings, _channel: str) -> ResendSender:
    return ResendSender(settings)
