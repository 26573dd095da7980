"""In whose history a message stands, and under which mask."""

from __future__ import annotations

from typing import Any

from app.core.challenges import Purpose
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.delivery.senders import Outgoing
from app.models import OutboxMessage
from app.models.outbox import CODE

UNPROVEN = tuple(f"{CODE}{purpose}" for purpose in (Purpose.SIGNUP, Purpose.CHANGE_EMAIL, Purpose.CHANGE_PHONE))


def named(message: Outgoing | OutboxMessage) -> dict[str, Any]:
    """`subject` and `user_id` of an audit row about a message.

    A code to an address that somebody wants stands in nobody's history, as the warning that an owner gets in its place:
    the history of whoever asks would tell which it was. What no erasure finds keeps no mask, nor does the notice of an
    erasure, which is nobody's any more.
    """
    if message.kind in UNPROVEN:
        return {"subject": None, "user_id": None}
    shown = message.masked if isinstance(message, Outgoing) else outbox.recipient(message).masked
    return {"subject": None if message.kind == Notice.ACCOUNT_ERASED else shown, "user_id": message.user_id}
