"""The console sender: prints codes where the service runs. For development."""

from __future__ import annotations

import sys

from app.config import Settings
from app.delivery.senders import Outgoing, Receipt

WORDS = {
    "code.signup": "sign-up",
    "code.signin": "sign-in",
    "code.recovery": "password reset",
    "code.invite": "invitation",
    "code.change_email": "change of e-mail",
    "code.change_phone": "change of phone",
    "code.phone": "sign-in by phone",
    "code.step_up": "step-up",
}


class ConsoleSender:
    name = "console"

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def send(self, message: Outgoing) -> Receipt:
        if message.code:
            plural = "" if message.minutes == 1 else "s"
            valid = f"({WORDS[message.kind]}, valid {message.minutes} minute{plural})"
            line = f"OTP for {message.masked}: {message.code} {valid}"
        else:
            line = f"Notice to {message.masked}: {message.subject}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        return Receipt(self.name)


def build(_settings: Settings, channel: str) -> ConsoleSender:
    return ConsoleSender(channel)
