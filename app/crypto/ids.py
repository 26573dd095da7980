"""UUIDv7: ids that sort by the order in which they were made, so that new rows land at the end of an index."""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_MS = 253_402_214_400_000  # 9999-12-31: what is added to a time must leave one
LOW = 2**62  # values of the 62 random bits
NOBODY = UUID(int=0)  # the id of no row (RFC 9562, section 5.9)

_lock = threading.Lock()
_last = (0, 0)  # the instant and the random bits of the newest id of this process


def uuid7(now: datetime) -> UUID:
    """A version 7 UUID: Unix milliseconds, 12 bits of the fraction below, and 62 random bits (RFC 9562,
    sections 5.7 and 6.2 method 3). Two of the same microsecond count up from the first (method 2).

    An id is a name, not a secret.
    """
    global _last  # noqa: PLW0603 - the order of ids is the process's
    milliseconds, rest = divmod((now - EPOCH) // timedelta(microseconds=1), 1000)
    instant = (milliseconds & 0xFFFF_FFFF_FFFF) << 12 | rest * 4096 // 1000
    with _lock:
        same = instant == _last[0]
        low = (_last[1] + 1 + secrets.randbits(32)) % LOW if same else secrets.randbits(61)
        _last = (instant, low)
    return UUID(int=(instant >> 12) << 80 | 0x7 << 76 | (instant & 0xFFF) << 64 | 0b10 << 62 | low)


def earliest(at: datetime) -> UUID:
    """No id that was made at this instant or later sorts before this one."""
    milliseconds = max(0, (at - EPOCH) // timedelta(milliseconds=1))
    return UUID(int=(milliseconds & 0xFFFF_FFFF_FFFF) << 80)


def made_at(made: UUID) -> datetime:
    """When an id was made, to the millisecond below. Of what is no id of ours, some time."""
    return EPOCH + timedelta(milliseconds=min(made.int >> 80, LATEST_MS))
