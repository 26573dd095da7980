"""The service's two addresses for backends, as far as a client of them can tell: JWKS and revocations."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.clients.mint import Mint

PAGE = 3  # sessions an answer, so that there are several


class Stub:
    """What it answers is in the test's hands; what it was asked is counted by path."""

    api_key = "key-of-the-stub"

    def __init__(self, base: str) -> None:
        self.base = base
        self.reset()

    def reset(self, *mints: Mint) -> None:
        self.keys: list[dict[str, Any]] = [mint.jwk for mint in mints if mint.jwk]
        self.ended: list[tuple[str, int]] = []
        self.asked: Counter[str] = Counter()
        self.statuses: list[int] = []
        self.broken = False
        self.silent = ""  # the path that alone is broken
        self.slow_s = 0.0  # for so long what it answers goes on coming, a byte at a time
        self.slow_from = ""  # from its head or from its body on
        self.redirect: str | None = None
        self.form: Any = None  # what the feed answers instead

    def revoke(self, session_id: str, at: int) -> None:
        self.ended.append((session_id, at))

    def answer(self, target: str, headers: Any) -> tuple[int, dict[str, str], Any]:
        url = urlsplit(target)
        self.asked.update({url.path, target})
        if self.broken or url.path == self.silent:
            return 500, {}, {}
        if self.redirect and url.path != self.redirect:
            return 302, {"Location": self.base + self.redirect}, {}
        if url.path in ("/jwks", "/.well-known/jwks.json"):
            return 200, {}, {"keys": self.keys} if self.form is None else self.form
        if headers.get("Authorization") != f"Bearer {self.api_key}":
            return 401, {}, {}
        return self._feed(parse_qs(url.query).get("since", ["0"])[0], headers.get("If-None-Match"))

    def _feed(self, since: str, known: str | None) -> tuple[int, dict[str, str], Any]:
        if self.form is not None:
            return 200, {}, self.form
        if not since.isdigit() or int(since) > len(self.ended):
            return 422, {}, {}
        start = int(since)
        page = self.ended[start : start + PAGE]
        tag = f'"{start}-{len(page)}"'
        if known == tag:
            return 304, {"ETag": tag}, None
        at = [{"session_id": s, "revoked_at": datetime.fromtimestamp(t, UTC).isoformat()} for s, t in page]
        more = start + PAGE < len(self.ended)
        return 200, {"ETag": tag}, {"items": at, "next": str(start + len(page)), "more": more, "token_life": 900}


@contextmanager
def serving() -> Iterator[Stub]:
    """The stub on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = stub.answer(self.path, self.headers)
            stub.statuses.append(status)
            text = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            if stub.slow_s:
                self.drip()
                return
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def drip(self) -> None:
            if stub.slow_from == "body":
                self.send_header("Content-Length", "100000")
                self.end_headers()
            self.flush_headers()
            ends_at = time.monotonic() + stub.slow_s
            with suppress(OSError):  # it is not waited for
                while time.monotonic() < ends_at:
                    self.wfile.write(b" ")
                    time.sleep(0.05)

        def log_message(self, *_: Any) -> None:
            """Requests are no news here."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
