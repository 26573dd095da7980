"""Mail over HTTP by SendGrid's v3 API, for hosts that block the SMTP ports."""

from __future__ import annotations

from app.config import Settings
from app.delivery.senders import Outgoing, Receipt, http


class SendgridSender:
    name, channel = "sendgrid", "email"

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.sendgrid_base_url}/v3/mail/send"
        self._key = settings.sendgrid_api_key.get_secret_value()
        self._from = {"email": settings.sender_email, "name": settings.brand_name}

    def send(self, message: Outgoing) -> Receipt:
        body = {
            "personalizations": [{"to": [{"email": message.recipient}]}],
            "from": self._from,
            "subject": message.subject,
            "content": [{"type": "text/plain", "value": message.text}, {"type": "text/html", "value": message.html}],
            "headers": {"Auto-Submitted": "auto-generated"},
            "custom_args": {"message_id": str(message.id)},
            "tracking_settings": {"click_tracking": {"enable": False}, "open_tracking": {"enable": False}},
        }
        reply = http.post(self._url, json=body, headers={"Authorization": f"Bearer {self._key}"})
        if reply.status != 202:
            raise http.refused(reply)
        return Receipt(self.name, reply.headers.get("x-message-id", "")[: http.LONGEST_ID] or None)


def build(settings: Settings, _channel: str) -> SendgridSender:
    return SendgridSender(settings)
