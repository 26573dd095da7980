"""The audit log itself: who takes a copy of it, and what becomes of old rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from app.core import audit, seals
from app.core.audit import Event
from app.core.trail import Filters
from app.work import Work

AT_ONCE = 10  # seals purged in one unit of work


def note_export(work: Work, which: Filters, kind: str) -> Filters:
    """Record that a copy of the log is about to be taken. Of the filters only the names: their values are people's.
    Returns them with an end: however long it takes, nothing of later goes into it.
    """
    audit.record(work, Event.AUDIT_EXPORTED, format=kind, filters=which.names)
    end = work.now + timedelta.resolution  # the row of above is still among them
    return replace(which, until=min(which.until or end, end))


def purge(work: Work, before: datetime, end: int) -> int:
    """Delete the oldest sealed rows, some at a time, as far as whole seals are older than a date, and no further than
    the seal `end`, up to which they were verified. Returns how many: 0 when nothing is left to do. Their last seal
    stays, and that they were purged is itself recorded.
    """
    chosen = seals.up_to(work, min(end, seals.last_older(work, before)), AT_ONCE)
    if not chosen:
        return 0
    rows = seals.purge(work, chosen)
    first, last = chosen[0].sequence, chosen[-1].sequence
    audit.record(work, Event.AUDIT_PURGED, before=before.isoformat(), first=first, last=last, rows=rows)
    return rows
