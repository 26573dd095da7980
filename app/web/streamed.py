"""A reply that is written while it is read: for what is too large to be held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from flask import Response, request

from app.answers import RESET

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
    chunks: Iterator[bytes] = chain([first], answer.chunks)
    if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0" and (reset := request.environ.get(RESET)):
        chunks = _whole_or_reset(chunks, reset)
    response = Response(chunks, status, mimetype=answer.media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{answer.filename}"'
    return response


def _whole_or_reset(chunks: Iterator[bytes], reset: Callable[[], None]) -> Iterator[bytes]:
    """HTTP/1.0, which many a proxy speaks to the service, has no other end of such a body than that of the connection:
    one that breaks off, here or because its reader takes nothing any more, would look whole.
    """
    whole = False
    try:
        yield from chunks
        whole = True
    finally:
        if not whole:
            reset()
