"""In whose history a message stands, and under which mask."""

from __future__ import annotations

from typing import Any

from app.core.challenges import Purpose
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.delivery.senders import Outgoing
from app.models import OutboxMessage
from app.models.outbox import CODE

SIGNUP_CODE = f"{CODE}{Purpose.SIGNUP}"


def named(message: Outgoing | OutboxMessage) -> dict[str, Any]:
    """`subject` and `user_id` of an audit row about a message.

    A sign-up's code stands in nobody's history, as the warning that an owner gets in its place: the history is some
    account's later, and would tell which it was. The notice of an erasure is nobody's any more: no mask is kept.
    """
    if message.kind == SIGNUP_CODE:
        return {"subject": None, "user_id": None}
    shown = message.masked if isinstance(message, Outgoing) else outbox.recipient(message).masked
    return {"subject": None if message.kind == Notice.ACCOUNT_ERASED else shown, "user_id": message.user_id}
