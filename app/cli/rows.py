"""Rows of a CSV or NDJSON file, one at a time and in bounded memory.

A CSV row ends at the first line break outside quotes, also where it is too long or broken: what somebody put behind a
line break in their name is never read as a row of its own.
"""

from __future__ import annotations

import csv
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from app.core.imports import COLUMNS, IDENTIFYING, Refused, Row

LONGEST_ROW = 64 * 1024  # bytes
NAME = re.compile(r"[A-Za-z_ -]{1,32}")  # what may be shown: an address or a hash is none
FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


class Unreadable(Exception):
    """The file as a whole is not one to import. `str()` says why."""


class Broken(ValueError):
    """A row is not of its format's form. `str()` says why, and nothing of the row."""


@dataclass(frozen=True, slots=True)
class Record:
    """The bytes of a row. `text` is None if they are too many; `end`: bytes of the file read by then."""

    line: int
    last: int
    text: bytes | None
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file and how to read it: `csv` with a line of column names, or `ndjson`."""

    path: Path
    format: str

    def check(self, *, ignore_unknown: bool) -> None:
        """Raise Unreadable unless the columns are ours. Of NDJSON, whose rows name them, it reads every row."""
        if self.format == "csv":
            with self.path.open("rb") as file:
                named = self._header(records(file, quotes=True))
            if not set(named) & set(COLUMNS):
                raise Unreadable(f"The first line names no column of ours: {_listed(set(COLUMNS))}.")
            if twice := {name for name in named if named.count(name) > 1}:
                raise Unreadable(f"These columns stand there twice: {_listed(twice)}.")
        else:
            named = sorted({name for row, _ in self.rows() if isinstance(row, Row) for name in row.values})
        unknown = set(named) - set(COLUMNS)
        if unknown and not ignore_unknown:
            raise Unreadable(f"Unknown columns: {_listed(unknown)}. Leave them out, or say --ignore-unknown.")
        if named and not set(named) & set(IDENTIFYING):
            raise Unreadable(f"No column says who the rows are: {_listed(set(IDENTIFYING))}.")

    def rows(self) -> Iterator[tuple[Row | Refused, int]]:
        """Every row, or why it cannot be read, with the bytes of the file read by then."""
        with self.path.open("rb") as file:
            found = records(file, quotes=self.format == "csv")
            columns = self._header(found) if self.format == "csv" else None
            for record in found:
                if row := _read(record, columns):
                    yield row, record.end

    def _header(self, found: Iterator[Record]) -> list[str]:
        first = next(found, None)
        if first is None or first.text is None:
            raise Unreadable("The file does not begin with a line of column names.")
        try:
            return [name.strip() for name in _cells(first.text)]
        except (ValueError, csv.Error):
            raise Unreadable("The first line cannot be read as CSV in UTF-8.") from None


def _listed(names: Set[str]) -> str:
    """Names of columns, those that look like one: another may be what somebody's row holds."""
    shown = [repr(name) for name in sorted(names) if NAME.fullmatch(name)]
    hidden = len(names) - len(shown)
    return ", ".join([*shown, *([f"{hidden} not shown, for they do not look like names"] if hidden else [])])


def records(file: BinaryIO, *, quotes: bool) -> Iterator[Record]:
    """Cut a file into rows. `quotes`: a line break between quotes does not end one (RFC 4180)."""
    end = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
    file.seek(end)
    parts: list[bytes] = []
    first, line, size = 1, 0, 0
    inside, ended = False, True  # a quoted field; a line
    while chunk := file.readline(LONGEST_ROW):
        line += ended
        end, size, ended = end + len(chunk), size + len(chunk), chunk.endswith(b"\n")
        inside ^= quotes and chunk.count(b'"') % 2 == 1
        if size <= LONGEST_ROW:
            parts.append(chunk)
        if ended and not inside:
            yield Record(first, line, _joined(parts, size), end)
            parts, first, size = [], line + 1, 0
    if size:
        yield Record(first, line, _joined(parts, size), end)


def _joined(parts: list[bytes], size: int) -> bytes | None:
    return b"".join(parts) if size <= LONGEST_ROW else None


def _cells(text: bytes) -> list[str]:
    return next(csv.reader([text.decode()], strict=True), [])


def _read(record: Record, columns: list[str] | None) -> Row | Refused | None:
    """A row of NDJSON, or of CSV with these columns; None for a line with nothing on it."""
    if record.text is None:
        return _refused(record, "too_long", f"A row is at most {LONGEST_ROW // 1024} KiB.")
    if not record.text.strip():
        return None
    try:
        values = _json_values(record.text) if columns is None else _csv_values(record.text, columns)
    except UnicodeDecodeError:
        return _refused(record, "not_utf8", "The row is not UTF-8.")
    except (ValueError, csv.Error, RecursionError) as error:
        why = str(error) if type(error) is Broken else "It cannot be read."
        return _refused(record, "broken_row", why)
    return Row(record.line, values)


def _refused(record: Record, code: str, message: str) -> Refused:
    if record.last > record.line:
        message += f" It goes on to line {record.last}: is there a quote that is not closed?"
    return Refused(record.line, "", code, message)


def _csv_values(text: bytes, columns: list[str]) -> dict[str, str]:
    cells = _cells(text)
    if len(cells) != len(columns):
        raise Broken(f"It has {len(cells)} fields, the first line {len(columns)}.")
    return dict(zip(columns, cells, strict=True))


def _json_values(text: bytes) -> dict[str, str]:
    values: Any = json.loads(text.decode(), object_pairs_hook=_unique)
    if not isinstance(values, dict):
        raise Broken("It is not a JSON object.")
    for name in COLUMNS:
        if not isinstance(values.get(name), str | None):
            raise Broken(f"{name} is neither text nor null.")
    return {name: value if isinstance(value, str) else "" for name, value in values.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Broken("A key stands twice.")
    return found
