"""How the service listens under gunicorn: a thread gets whole requests only, and reading waits for no sign-in.

gunicorn's own threads read requests, so as many slow clients as there are threads would stop the service; and a
client that does not close its end after an answer would hold the loop of its worker. Here the loop gathers, with
deadlines, and lets go of those that are too slow. `docs/adr/0022` says why this is ours.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import socket
import struct
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn import http
from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.exceptions import RequestEntityTooLarge

from app.answers import RESET, WAITED, unread
from app.crypto.keys import new_token
from app.framing import LONGEST_HEAD, Framing

ARRIVAL_S = 10.0  # from the first byte of a request, or from the connection, to its last
STALL_S = 10  # one write of a thread, to a client that takes nothing
FAREWELL_S = 2.0  # for the other side to close after the last answer
AT_ONCE = 64 * 1024  # bytes that are read of one connection before the next has its turn
MOST_UNREAD = 16 * 1024  # bytes of earlier answers that a client may leave lying and still be answered
READS = (b"GET ", b"HEAD ")
READERS = 2  # threads of each worker that only requests which read may use: they do not wait behind sign-ins
MOST_HELD = 16 * 1024 * 1024  # bytes of unfinished requests, all together
STATUS = {  # of what the parser raises, if it is not 400
    LimitRequestLine: 414,
    LimitRequestHeaders: 431,
    ExpectationFailed: 417,
    UnsupportedTransferCoding: 501,
    ConfigurationProblem: 500,
    InvalidResponseHeader: 500,
    InvalidResponseHeaderName: 500,
}
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
M_ARENA_MAX = -8  # of glibc's mallopt
ABRUPT = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset


class Arriving:
    """A request of which not all has come."""

    def __init__(self, conn: TConn, read_ahead: bytes) -> None:
        self.conn = conn
        self.deadline = time.monotonic() + ARRIVAL_S
        self.data = bytearray(read_ahead)
        self.framing = Framing()


class Gathered(Unreader):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn's parser reads: the bytes that the loop gathered, then their end. It never waits for a client."""

    def __init__(self) -> None:
        super().__init__()
        self.is_spent = False
        self.fault: Exception | None = None

    def take(self, arriving: Arriving) -> None:
        """Have the parser read a request; one that is too long as far as it has to be known to be refused."""
        self.unread(bytes(arriving.data[: arriving.framing.most]))
        if arriving.framing.most is not None:
            too_long = f"longer than {LONGEST_HEAD} bytes"
            self.fault = RequestEntityTooLarge() if arriving.framing.body else LimitRequestHeaders(too_long)

    def chunk(self, size_hint: int | None = None) -> bytes:  # noqa: ARG002 - gunicorn gives it
        """Called when there is no more."""
        self.is_spent = True
        if self.fault:
            raise self.fault
        return b""


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threaded worker, whose loop waits for whole requests and for the ends of connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: dict[TConn, Arriving] = {}  # the one that has waited longest is the first
        self._leaving: dict[TConn, float] = {}
        self._held = 0
        self._readers = ThreadPoolExecutor(READERS)
        self._reading = 0
        self._turn = threading.local()

    def enqueue_req(self, conn: TConn) -> None:
        """Called in the loop, for a new connection, or one on which another request begins."""
        if conn.parser is None:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STALL_S, 0))
            conn.parser = http.get_parser(self.cfg, (), conn.client)
            conn.parser.unreader = Gathered()
            conn.initialized = True
        elif _unread(conn) > MOST_UNREAD:  # the next answer would wait for this client, and a thread with it
            self.nr_conns -= 1
            conn.close()
            return
        conn.sock.setblocking(False)
        arriving = self._arriving[conn] = Arriving(conn, conn.parser.unreader.take_buffered())
        self._held += len(arriving.data)
        self.poller.register(conn.sock, EVENT_READ, partial(self._on_more, arriving))
        self._look(arriving)
        if conn in self._arriving and self.nr_conns >= self.worker_connections:
            self._late(next(iter(self._arriving.values())))

    def _on_more(self, arriving: Arriving, _socket: Any) -> None:
        if arriving.conn not in self._arriving:
            return
        try:
            piece = arriving.conn.sock.recv(AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        arriving.data += piece
        self._held += len(piece)
        if not piece:
            self._drop(arriving)
        else:
            self._look(arriving)

    def _look(self, arriving: Arriving) -> None:
        if arriving.framing.is_whole(arriving.data):
            self._whole(arriving)
        elif arriving.framing.expects_go_on:
            arriving.framing.expects_go_on = False
            _say(arriving.conn.sock, GO_ON)
        while self._held > MOST_HELD:
            self._late(next(each for each in self._arriving.values() if each.data))

    def _whole(self, arriving: Arriving) -> None:
        self._forget(arriving)
        arriving.conn.parser.unreader.take(arriving)
        arriving.conn.queued_at = time.monotonic()
        arriving.conn.reads = self._reading < READERS and arriving.data.startswith(READS)
        self._reading += arriving.conn.reads
        pool = self._readers if arriving.conn.reads else self.tpool
        done = pool.submit(self.handle, arriving.conn)
        done.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, arriving.conn, done))

    def handle_request(self, req: Any, conn: TConn) -> Any:
        self._turn.waited = time.monotonic() - conn.queued_at
        if conn.parser.unreader.fault:
            req.force_close()
        return super().handle_request(req, conn)

    def handle_error(self, _req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Where gunicorn would answer with a page, and the log with a line, that repeat what was sent. The connection
        ends after it.
        """
        unless = 400 if isinstance(exc, ParseException) else 500
        status = next((STATUS[kind] for kind in STATUS if isinstance(exc, kind)), unless)
        request_id, ours = _new_id(), status == 500
        fields = {
            "request_id": request_id,
            "status": status,
            "client": addr[0] if addr else "",
            "why": type(exc).__name__,
        }
        level, exc_info = (logging.ERROR, exc) if ours else (logging.WARNING, None)
        self.log.log(level, "refused unread", exc_info=exc_info, extra={"fields": fields})
        _say(client, unread(status, request_id))

    def load_wsgi(self) -> None:
        """Tell the application how long each request waited for its thread, and how it can break off an answer."""
        super().load_wsgi()
        app: Any = self.app.wsgi()
        self.wsgi = lambda environ, start: app(
            {**environ, WAITED: self._turn.waited, RESET: partial(_reset, environ["gunicorn.socket"])}, start
        )

    def _late(self, arriving: Arriving) -> None:
        if arriving.data:
            _say(arriving.conn.sock, unread(408, _new_id()))
        self._drop(arriving)

    def _drop(self, arriving: Arriving) -> None:
        self._forget(arriving)
        self.nr_conns -= 1
        arriving.conn.close()

    def _forget(self, arriving: Arriving) -> None:
        del self._arriving[arriving.conn]
        self._held -= len(arriving.data)
        self.poller.unregister(arriving.conn.sock)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Where a body did not come whole, nobody knows where the next request begins."""
        return bool(super()._keepalive_after(conn, keepalive)) and not conn.parser.unreader.is_spent

    def finish_request(self, conn: TConn, done: Any) -> None:
        """A connection that is over ends here: gunicorn waits in its loop until the other side closes too."""
        self._reading -= conn.reads
        if not done.cancelled() and done.exception() is None and done.result():
            super().finish_request(conn, done)
            return
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_farewell, conn))
            self._leaving[conn] = time.monotonic() + FAREWELL_S
        except (OSError, ValueError):  # it is closed already
            self.nr_conns -= 1
            conn.close()

    def _on_farewell(self, conn: TConn, _socket: Any) -> None:
        try:
            more = conn.sock.recv(AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._leave(conn)

    def _leave(self, conn: TConn) -> None:
        if self._leaving.pop(conn, None) is not None:
            self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()

    def murder_pending(self) -> None:
        """Called in each round of the loop, also while the worker stops."""
        now = time.monotonic()
        for arriving in [each for each in self._arriving.values() if each.deadline <= now]:
            self._late(arriving)
        for conn in [each for each, deadline in self._leaving.items() if deadline <= now]:
            self._leave(conn)

    def run(self) -> None:
        super().run()
        self._readers.shutdown(wait=False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """A worker that stops lets go of the listening socket at once: nobody may wait for it there."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for arriving in self._arriving.values():
            if not arriving.data:
                arriving.deadline = min(arriving.deadline, deadline)


def _unread(conn: TConn) -> int:
    """Bytes that were sent to a client and that it has not taken."""
    return int(struct.unpack("i", fcntl.ioctl(conn.sock, termios.TIOCOUTQ, bytes(4)))[0])


def _say(sock: socket.socket, text: bytes) -> None:
    """To whoever is still there. The connection stays open, since the loop knows it by its descriptor."""
    with suppress(OSError):
        sock.setblocking(False)
        sock.send(text)


def _reset(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
    sock.close()


def _new_id() -> str:
    return new_token()[:22]


def allocates_little() -> None:
    """Have all threads of the process, and of those it forks, share one arena of glibc's allocator. With one each,
    every thread that ever hashed a password keeps 19 MiB. Without glibc nothing changes.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
