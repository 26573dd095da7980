"""A reply that is written while it is read: for what is too large to be held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from flask import Response

NDJSON, CSV = "application/x-ndjson", "text/csv"


@dataclass(frozen=True, slots=True)
class Streamed:
    """`chunks` are made one at a time, after the view's unit of work has ended; each may do one of its own."""

    media_type: str
    filename: str
    chunks: Iterator[bytes]


def respond(answer: Streamed, status: int) -> Response:
    """The first chunk is made before the head is sent, so a database that is away is still answered as such. One that
    goes away later, or a session that ends, cuts the body off without its end, which every client can tell.
    """
    first = next(answer.chunks, b"")
    response = Response(chain([first], answer.chunks), status, mimetype=answer.media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{answer.filename}"'
    return response
