"""A sender of an operator's own, by its dotted path, that takes almost as long as one may."""

from __future__ import annotations

import os
import time
from typing import Any

from app.delivery.senders import Receipt

TAKES_S = 13.0


class Slow:
    name, channel = "slow", "email"

    def __init__(self, _settings: Any) -> None:
        """Made with the settings alone."""

    def send(self, message: Any) -> Receipt:
        os.write(1, f"begun {message.id}\n".encode())
        time.sleep(TAKES_S)
        os.write(1, f"ended {message.id}\n".encode())
        return Receipt(self.name)
