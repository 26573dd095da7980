"""The export of one person's data: every stored column that is about them, none that is a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from app.web import present

# Digests, keys and internals: nothing about the person, and nothing anybody may have.
LEFT_OUT = {"password_hash", "client_key", "lease", "leased_until", "digest", "factor", "key_id", "budget_key"}

UNTOLD = {"decoy"}  # a fact for the operator: it would tell whether somebody else has an account


def everything(stored: dict[str, Any]) -> dict[str, Any]:
    """Every kind of row, and the user as `me` shows them, with the columns that it does not show."""
    kinds = {kind: [_row(row) for row in rows] for kind, rows in stored.items() if kind != "user"}
    return {"user": {**_row(stored["user"]), **present.user(stored["user"])}, **kinds}


def _row(row: Any) -> dict[str, Any]:
    names = [c.key for c in row.__table__.columns if c.key not in LEFT_OUT]
    return {name: _value(getattr(row, name)) for name in names}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k not in UNTOLD}
    if isinstance(value, datetime):
        return present.instant(value)
    return str(value) if isinstance(value, UUID) else value
