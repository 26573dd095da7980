"""Delivery reports, as the providers word them. Pure: text in, `Report`s out; what cannot be read is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID


class Said(StrEnum):
    SENT = "sent"  # on its way to the handset
    DELIVERED = "delivered"
    FAILED = "failed"  # and so it would for any provider
    LOST = "lost"  # by this provider; another one may do better


@dataclass(frozen=True, slots=True)
class Report:
    provider: str
    provider_id: str
    said: Said
    code: str = ""  # the provider's own, for the operator
    message_id: UUID | None = None  # ours, where the provider gives it back
    number: str = ""  # digits only, where the provider names it


TWILIO_STATUS = {"sent": Said.SENT, "delivered": Said.DELIVERED, "read": Said.DELIVERED}
TWILIO_FAILED = ("undelivered", "failed", "canceled")
TWILIO_PERMANENT = {"21211", "21610", "21614", "30005", "30006"}
MSG91_STATUS = {
    "1": Said.DELIVERED,
    "2": Said.LOST,
    "9": Said.FAILED,  # on the do-not-disturb register
    "16": Said.LOST,
    "17": Said.FAILED,  # blocked
    "25": Said.LOST,
    "delivered": Said.DELIVERED,
    "failed": Said.LOST,
    "rejected": Said.LOST,
    "ndnc": Said.FAILED,
    "blocked": Said.FAILED,
}
GUPSHUP_STATUS = {"SUCCESS": Said.DELIVERED, "DELIVERED": Said.DELIVERED, "FAILURE": Said.LOST, "FAILED": Said.LOST}
GUPSHUP_PERMANENT = {"2", "3", "6", "7"}  # barred, unknown subscriber, do-not-disturb, blocked


def twilio(form: Mapping[str, str], message_id: str) -> list[Report]:
    """A status callback. `message_id`: the `mid` of its URL."""
    status, code = form.get("MessageStatus") or form.get("SmsStatus") or "", word(form.get("ErrorCode"))
    said = TWILIO_STATUS.get(status)
    if status in TWILIO_FAILED:
        said = Said.FAILED if code in TWILIO_PERMANENT else Said.LOST
    sid = word(form.get("MessageSid") or form.get("SmsSid"))
    number = _digits(form.get("To"))
    return [Report("twilio", sid[:128], said, code[:16], _uuid(message_id), number)] if said and sid else []


def msg91(form: Mapping[str, str], text: str) -> list[Report]:
    """A webhook of version 2 (form field `data`), 3 or 'New' (JSON): one or many reports."""
    found = []
    for outer in _objects(form.get("data") or text):
        inner = outer.get("report")
        for event in inner if isinstance(inner, list) else [outer]:
            if isinstance(event, dict):
                found.append(_msg91({"requestId": outer.get("requestId"), **event}))
    return [report for report in found if report]


def _msg91(event: dict[str, Any]) -> Report | None:
    said = MSG91_STATUS.get(word(event.get("status")).lower())
    provider_id = word(event.get("requestId"))
    number = _digits(event.get("number") or event.get("telNum"))
    return (
        Report("msg91", provider_id[:128], said, word(event.get("status"))[:16], None, number)
        if (said and provider_id)
        else None
    )


def gupshup(query: Mapping[str, str], form: Mapping[str, str], text: str) -> list[Report]:
    """A real-time report: the parameters of a GET, or a POST of events as JSON, bare or in the field `response`."""
    events: Iterable[dict[str, Any]] = (
        [dict(query)] if "externalId" in query else _objects(form.get("response") or text)
    )
    return [report for event in events if (report := _gupshup(event))]


def _gupshup(event: dict[str, Any]) -> Report | None:
    said = GUPSHUP_STATUS.get(word(event.get("eventType") or event.get("status")).upper())
    provider_id, code = word(event.get("externalId")), word(event.get("errCode"))
    if said is None or not provider_id:
        return None
    if said is Said.LOST and code.lstrip("0") in GUPSHUP_PERMANENT:
        said = Said.FAILED
    number = _digits(event.get("destAddr") or event.get("phoneNo"))
    return Report("gupshup", provider_id[:128], said, code[:16], None, number)


def _objects(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    many = found if isinstance(found, list) else [found]
    return [one for one in many if isinstance(one, dict)]


def word(value: Any) -> str:
    """A word of a provider: printable ASCII, and short."""
    if not isinstance(value, str):
        value = str(value) if isinstance(value, int) and abs(value) < 10**30 else ""
    return "".join(c for c in value[:256] if c.isascii() and c.isprintable()).strip()


def _digits(value: Any) -> str:
    return "".join(c for c in word(value) if c.isascii() and c.isdigit())


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
