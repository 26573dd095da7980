"""What proves an audit row: a MAC over the act, and a salted digest over the person.

The MAC (HMAC-SHA-256, RFC 2104) covers every column that never changes, and the digest of those that say who it was:
subject, ip and user agent. Erasing a person clears these three and the salt; the digest stays, so the MAC goes on
holding, and without the salt nobody can try addresses against it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from app.crypto.keys import KeyRing, Purpose

SALT_BYTES = 16
PERSONAL = ("subject", "ip", "user_agent")
COVERED = (
    "id", "at", "event", "success", "reason", "user_id", "actor_id", "session_id", "request_id", "facts", "person",
)  # fmt: skip


class Fault(Enum):
    """What is wrong with a row."""

    UNSIGNED = "is not signed: written by something else, or before rows were signed"
    CHANGED = "was changed, or not written by this service"
    PERSON = "had subject, ip, user agent or salt changed"
    KEY_LOST = "was signed with a key that is in neither SECRET_KEY nor SECRET_KEY_PREVIOUS"
    KEY_RETIRED = "was signed with a key that another had replaced for more than a day"


def signed(keys: KeyRing, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row with what proves them, made with the ring's current key."""
    salt = secrets.token_hex(SALT_BYTES)
    row = {"subject": None, **values, "salt": salt, "key_id": keys.current}
    row["person"] = _person(salt, row)
    return {**row, "mac": mac(keys, Purpose.AUDIT, keys.current, [row[name] for name in COVERED])}


def fault(keys: KeyRing, row: Mapping[str, Any]) -> Fault | None:
    """What is wrong with a row as it is stored now, if anything."""
    if row["mac"] is None or row["key_id"] is None:
        return Fault.UNSIGNED
    if row["key_id"] not in keys.ids:
        return Fault.KEY_LOST
    if not same(row["mac"], mac(keys, Purpose.AUDIT, row["key_id"], [row[name] for name in COVERED])):
        return Fault.CHANGED
    if is_erased(row):
        return None
    return None if row["salt"] and _person(row["salt"], row) == row["person"] else Fault.PERSON


def is_erased(row: Mapping[str, Any]) -> bool:
    """True if the person was taken out of a row."""
    return all(row[name] is None for name in (*PERSONAL, "salt"))


def mac(keys: KeyRing, purpose: Purpose, key_id: str, values: list[Any]) -> str:
    """The MAC over values of columns, in hex. They are told apart by their place, and None from empty."""
    return keys.mac(purpose, _text(values), key_id=key_id).hex()


def same(stored: str, right: str) -> bool:
    """Compare in constant time, whatever stands in the table."""
    return hmac.compare_digest(stored.encode(), right.encode())


def _person(salt: str, row: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text([salt, *(row[name] for name in PERSONAL)]).encode()).hexdigest()


def _text(values: list[Any]) -> str:
    """JSON in one form only, whatever the database made of the values."""
    return json.dumps(
        [_plain(value) for value in values], sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=True
    )


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value
