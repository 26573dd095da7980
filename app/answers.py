"""What stands on every answer, and the answers to what never becomes a request: gunicorn's parser cannot read it, or it
does not come in time. They have the form of all others, and nothing of what was sent stands in them.
"""

from __future__ import annotations

import json

SECURITY = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
API_POLICY = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"
# What the server puts into the WSGI environment: how long a request waited for its thread, in seconds; and what breaks
# its answer off with an error at the other end.
WAITED, RESET = "latchkey.waited_s", "latchkey.reset"
# By status: title, code, detail.
UNREAD = {
    400: ("Bad Request", "malformed_request", "The request cannot be read."),
    408: ("Request Timeout", "request_timeout", "The request did not come in time."),
    414: ("URI Too Long", "uri_too_long", "The first line of the request is too long."),
    417: ("Expectation Failed", "expectation_failed", "What the request expects cannot be met."),
    431: ("Request Header Fields Too Large", "headers_too_large", "The head of the request is too long."),
    500: ("Internal Server Error", "internal_error", "Something went wrong here. The request id helps us to find it."),
    501: ("Not Implemented", "unsupported_transfer_coding", "The body comes in a transfer coding that is not known."),
}


def unread(status: int, request_id: str) -> bytes:
    """A whole answer, of a connection that ends with it."""
    title, code, detail = UNREAD[status]
    problem = {
        "type": f"urn:latchkey:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    body = json.dumps(problem)
    headers = {
        "Connection": "close",
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "X-Request-ID": request_id,
        "Cache-Control": "no-store",
        "Content-Security-Policy": API_POLICY,
        **SECURITY,
    }
    lines = [f"HTTP/1.1 {status} {title}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", body]).encode()
