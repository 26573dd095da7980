"""The export of one person's data: every stored column that is about them, none that is a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core import tokens, trail
from app.core.trail import Filters
from app.models import AuditLog, User
from app.web import present
from app.work import Kit

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
    "given_up_by",
}
LEFT_OUT |= {"salt", "person", "mac", "seal"}  # what proves an audit row

THEIRS = ("actor_id", "session_id", "ip", "user_agent", "request_id")  # of whoever else did something to the person
UNTOLD = {"decoy"}  # a fact for the operator: it would tell whether somebody else has an account


def chunks(kit: Kit, user: User, kinds: dict[str, list[Any]]) -> Iterator[bytes]:
    """All as one JSON document: the user as `me` shows them, with the columns that it does not show, and every kind of
    row. Tokens and audit rows are read while it is written. Raises Unavailable.
    """
    told = {kind: [_row(row) for row in rows] for kind, rows in kinds.items()}
    yield json.dumps({"user": {**_row(user), **present.user(user)}, **told}).encode().removesuffix(b"}")
    for kind, batches in (
        ("refresh_tokens", tokens.batches(kit, user.id)),
        ("audit", trail.batches(kit, Filters(user_id=user.id))),
    ):
        yield f', "{kind}": ['.encode()
        between = ""
        for rows in batches:
            yield (between + ", ".join(json.dumps(_theirs(row, user)) for row in rows)).encode()
            between = ", "
        yield b"]"
    yield b"}"


def _theirs(row: Any, user: User) -> dict[str, Any]:
    """What administration did to the person is theirs to know, but not who did it and from where (GDPR art. 15(4))."""
    others = isinstance(row, AuditLog) and row.actor_id not in (None, user.id)
    return {**_row(row), **(dict.fromkeys(THEIRS) if others else {})}


def _row(row: Any) -> dict[str, Any]:
    names = [c.key for c in row.__table__.columns if c.key not in LEFT_OUT and not c.key.endswith("digest")]
    return {name: _value(getattr(row, name)) for name in names}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k not in UNTOLD}
    if isinstance(value, datetime):
        return present.instant(value)
    return str(value) if isinstance(value, UUID) else value
