"""Senders: one small class for each way out; `registry` finds them by the names in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message as a sender gets it. `code` is empty for a notice, `seconds` is what is left of its life.

    `facts` and `own_language` are for one that must say it in another language: those told, and the person's own.
    """

    id: UUID
    user_id: UUID | None  # whose message it is, for the audit
    kind: str
    channel: str
    recipient: str
    masked: str
    language: str
    own_language: str = ""
    subject: str
    text: str
    html: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    minutes: int = 0
    seconds: int = 0
    expires_at: datetime | None = None
    country: str = ""  # of a number
    brand: str = ""
    avoid: str = ""  # a provider that may have sent it already: another one first


@dataclass(frozen=True, slots=True)
class Receipt:
    provider: str
    provider_id: str | None = None


class Reason(StrEnum):
    PERMANENT = "permanent"  # this recipient or message: never again
    CONFIGURATION = "configuration"  # our account, sender or password: an operator must mend it
    TRANSIENT = "transient"  # try again
    THROTTLED = "throttled"  # try again later
    UNKNOWN = "unknown"  # it may have been sent; the repeat carries the same code


class SendFailed(Exception):
    def __init__(self, reason: Reason, text: str, retry_after: int | None = None, provider: str = "") -> None:
        """`text` is for the operator: no recipient, code or password in it. `retry_after`: seconds, if the provider
        said; `provider`: who refused.
        """
        super().__init__(text)
        self.reason, self.text, self.retry_after, self.provider = reason, text, retry_after, provider


class Sender(Protocol):
    name: str
    channel: str

    def send(self, message: Outgoing) -> Receipt:
        """Hand a message over. Takes seconds at most; raises SendFailed."""
