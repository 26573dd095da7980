"""The audit log as NDJSON or CSV, for files and other systems."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from app.core import trail
from app.core.trail import Filters
from app.models import AuditLog
from app.web import events
from app.web.events import AuditReply
from app.web.streamed import CSV, NDJSON
from app.work import ANONYMOUS, Caller, Kit

MEDIA = {"ndjson": NDJSON, "csv": CSV}
COLUMNS = [*AuditReply.__annotations__]
RUN_BY_SPREADSHEETS = "=+-@\uff1d\uff0b\uff0d\uff20"  # also in full width
AT_THE_START = tuple(f"{RUN_BY_SPREADSHEETS}\t\r\n")
# A spreadsheet of another language splits at another sign, within our quotes too.
AFTER_ANOTHER_SEPARATOR = re.compile(rf'([;\t|\r\n][\s"]*)(?=[{re.escape(RUN_BY_SPREADSHEETS)}])')


def chunks(kit: Kit, which: Filters, kind: str, caller: Caller = ANONYMOUS) -> Iterator[bytes]:
    """The rows in this format, oldest first, a batch at a time. Raises as `trail.batches` does."""
    write = _csv if kind == "csv" else _ndjson
    if kind == "csv":
        yield _lines([COLUMNS])
    for rows in trail.batches(kit, which, caller):
        yield write(rows)


def _ndjson(rows: Iterable[AuditLog]) -> bytes:
    return "".join(json.dumps(events.audit(row)) + "\n" for row in rows).encode()


def _csv(rows: Iterable[AuditLog]) -> bytes:
    shown = (events.audit(row) for row in rows)
    return _lines([_cell(value) for value in dict(row).values()] for row in shown)


def _lines(rows: Iterable[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    """Text that a spreadsheet shows and does not run: what begins like a formula gets an apostrophe before it, also
    within the text, after what may separate cells.
    """
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    text = AFTER_ANOTHER_SEPARATOR.sub(r"\1'", text)
    return f"'{text}" if text.startswith(AT_THE_START) else text
