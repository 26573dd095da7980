"""SMS by Gupshup's enterprise gateway. Always POST: the password is a parameter. It answers 200 on errors too."""

from __future__ import annotations

from app.config import Settings
from app.delivery import dlt
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed, http

CODES = {
    "100": Reason.TRANSIENT,
    "101": Reason.CONFIGURATION,
    "102": Reason.CONFIGURATION,
    "103": Reason.CONFIGURATION,
    "104": Reason.CONFIGURATION,
    "105": Reason.PERMANENT,  # the number
    "106": Reason.CONFIGURATION,
    "107": Reason.CONFIGURATION,
    "108": Reason.CONFIGURATION,  # the sender's name
    "109": Reason.CONFIGURATION,
    "175": Reason.CONFIGURATION,  # no international SMS in the account
}
INDIA = "+91"


class GupshupSender:
    name, channel = "gupshup", "sms"

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.gupshup_base_url}/GatewayAPI/rest"
        self._account = {"userid": settings.gupshup_user_id, "password": settings.gupshup_password.get_secret_value()}
        self._templates = dlt.load(settings, self.name)
        self._must_register = settings.dlt_file is not None

    def send(self, message: Outgoing) -> Receipt:
        template = self._template(message)
        registered = template.registration() if template else {}
        text = self._templates.words(message, template) if template else message.text
        reply = http.post(
            self._url,
            form={
                "method": "SendMessage",
                "auth_scheme": "plain",
                "v": "1.1",
                "format": "text",
                "msg_type": "TEXT" if text.isascii() else "Unicode_text",
                "send_to": message.recipient.lstrip("+"),
                "msg": text,
                **self._account,
                **registered,
            },
        )
        if reply.status != 200:
            raise http.refused(reply)
        parts = [part.strip() for part in reply.text.split("|")]
        if parts[0].lower() == "success" and len(parts) >= 3 and parts[2]:
            return Receipt(self.name, parts[2][: http.LONGEST_ID])
        if parts[0].lower() == "error" and len(parts) >= 2:
            code = parts[1] if parts[1] in CODES else "of an unknown kind"
            raise SendFailed(CODES.get(code, Reason.TRANSIENT), f"the provider answered error {code}")
        raise http.refused(reply, "with neither success nor error")

    def _template(self, message: Outgoing) -> dlt.Template | None:
        """The registered template that a message goes out by. Elsewhere than in India it needs none, and so no other
        language.
        """
        template = self._templates.of(message)
        if not message.recipient.startswith(INDIA):
            return template if template and template.language == message.language else None
        if template is None and self._must_register:
            raise SendFailed(Reason.CONFIGURATION, f"no template for {message.kind}")
        return template


def build(settings: Settings, _channel: str) -> GupshupSender:
    return GupshupSender(settings)
