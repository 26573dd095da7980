"""The export of one person's data: every stored column that is about them, none that is a secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from app.web import present

# Keys and internals: nothing about the person, and nothing anybody may have. Digests neither, by their names.
LEFT_OUT = {
    "password_hash",
    "name_key",
    "client_key",
    "begun_by",
    "lease",
    "leased_until",
    "factor",
    "key_id",
    "budget_key",
    "decoy",
    "secret",
    "public_key",
    "credential_id",
    "last_step",
    "drift",
}
LEFT_OUT |= {"salt", "person", "mac", "seal"}  # what proves an audit row

THEIRS = ("actor_id", "session_id", "ip", "user_agent", "request_id")  # of whoever else did something to the person
UNTOLD = {"decoy"}  # a fact for the operator: it would tell whether somebody else has an account


def everything(stored: dict[str, Any]) -> dict[str, Any]:
    """Every kind of row, and the user as `me` shows them, with the columns that it does not show. What administration
    did to the person is theirs to know, but not who did it and from where (GDPR art. 15(4)).
    """
    user = stored["user"]
    kinds = {kind: [_row(row) for row in rows] for kind, rows in stored.items() if kind != "user"}
    by_others = (row for row in kinds["audit"] if row["actor_id"] not in (None, str(user.id)))
    for row in by_others:
        row.update(dict.fromkeys(THEIRS))
    return {"user": {**_row(user), **present.user(user)}, **kinds}


def _row(row: Any) -> dict[str, Any]:
    names = [c.key for c in row.__table__.columns if c.key not in LEFT_OUT and not c.key.endswith("digest")]
    return {name: _value(getattr(row, name)) for name in names}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k not in UNTOLD}
    if isinstance(value, datetime):
        return present.instant(value)
    return str(value) if isinstance(value, UUID) else value
