"""A sender of an operator's own, by its dotted path, that stumbles over every message."""

from __future__ import annotations

from typing import Any


class Broken:
    name, channel = "broken", "email"

    def __init__(self, _settings: Any) -> None:
        """Made with the settings alone."""

    def send(self, message: Any) -> Any:
        raise ZeroDivisionError(f"{message.recipient} {message.code}")
