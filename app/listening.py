"""How the service listens under gunicorn: a thread gets whole requests only, and reading waits for no sign-in.

gunicorn's own threads read requests, so as many slow clients as there are threads would stop the service; and a
client that does not close its end after an answer would hold the loop of its worker. Here the loop gathers, with
deadlines, and lets go of those that are too slow. `docs/adr/0022` says why this is ours.
"""

from __future__ import annotations

import ctypes
import fcntl
import re
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
from gunicorn.workers.gthread import TConn, ThreadWorker

ARRIVAL_S = 10.0  # from the first byte of a request, or from the connection, to its last
STALL_S = 10  # one read or write of a thread, on a socket whose other side does nothing
FAREWELL_S = 2.0  # for the other side to close after the last answer
LONGEST_HEAD = 40 * 1024  # gunicorn's own bound is a request line of 4 KiB and headers of 32 KiB
LONGEST_BODY = 64 * 1024  # a longer one is refused unread
MOST_UNREAD = 16 * 1024  # bytes of earlier answers that a client may leave lying and still be answered
READS = (b"GET ", b"HEAD ")
READERS = 2  # threads of each worker that only requests which read may use: they do not wait behind sign-ins
MOST_HELD = 16 * 1024 * 1024  # bytes of unfinished requests, all together
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
CHUNK = re.compile(rb"([0-9a-f]{1,16})[ \t]*(?:;.*)?$", re.IGNORECASE | re.DOTALL)
EXPECTS = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)
M_ARENA_MAX = -8  # of glibc's mallopt
WAITED = "latchkey.waited_s"  # in the WSGI environment


class Arriving:
    """A request of which not all has come. The parser reads the same bytes again: this only says when it can."""

    def __init__(self, conn: TConn, read_ahead: bytes) -> None:
        self.conn = conn
        self.deadline = time.monotonic() + ARRIVAL_S
        self.data = bytearray(read_ahead)
        self.told_to_go_on = False
        self._chunk = 0  # where the next chunk begins

    @property
    def is_whole(self) -> bool:
        """True if it can be answered without waiting for more: all is there, or more than any request may have."""
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return len(self.data) > LONGEST_HEAD
        head, has = self.data[: end + 2], len(self.data) - end - 4
        if has > LONGEST_BODY:
            return True
        if CHUNKED.search(head):
            return self._has_last_chunk(end + 4)
        length = LENGTH.search(head)
        return length is None or int(length[1]) <= has or int(length[1]) > LONGEST_BODY

    @property
    def waits_for_go_on(self) -> bool:
        """True once for a client that sends its body only when told to (RFC 9110, section 10.1.1)."""
        end = self.data.find(b"\r\n\r\n")
        if self.told_to_go_on or end < 0 or not EXPECTS.search(self.data[: end + 2]):
            return False
        self.told_to_go_on = True
        return True

    def _has_last_chunk(self, body: int) -> bool:
        at = max(self._chunk, body)
        while (end := self.data.find(b"\r\n", at)) >= 0:
            size_line = CHUNK.match(self.data, at, end)
            if size_line is None:
                return True  # the parser refuses it
            size = int(size_line[1], 16)
            if size == 0:
                return self.data.find(b"\r\n\r\n", end) >= 0
            if end + 2 + size + 2 > len(self.data):
                return False
            at = self._chunk = end + 2 + size + 2
        return False


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
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                conn.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_S, 0))
            conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
            conn.initialized = True
        elif _unread(conn) > MOST_UNREAD:  # the next answer would wait for this client, and a thread with it
            self.nr_conns -= 1
            conn.close()
            return
        conn.sock.setblocking(False)
        arriving = self._arriving[conn] = Arriving(conn, conn.parser.unreader.take_buffered())
        self._held += len(arriving.data)
        self.poller.register(conn.sock, EVENT_READ, partial(self._on_more, arriving))
        if arriving.is_whole:
            self._whole(arriving)
        elif self.nr_conns >= self.worker_connections:
            self._late(next(iter(self._arriving.values())))

    def _on_more(self, arriving: Arriving, _socket: Any) -> None:
        if arriving.conn not in self._arriving:
            return
        try:
            piece = arriving.conn.sock.recv(LONGEST_BODY)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        arriving.data += piece
        self._held += len(piece)
        if not piece:
            self._drop(arriving)
        elif arriving.is_whole:
            self._whole(arriving)
        else:
            self._hold(arriving)

    def _hold(self, arriving: Arriving) -> None:
        if arriving.waits_for_go_on:
            _say(arriving.conn, GO_ON)
        while self._held > MOST_HELD:
            self._late(next(each for each in self._arriving.values() if each.data))

    def _whole(self, arriving: Arriving) -> None:
        self._forget(arriving)
        arriving.conn.parser.unreader.unread(bytes(arriving.data))
        arriving.conn.queued_at = time.monotonic()
        arriving.conn.reads = self._reading < READERS and arriving.data.startswith(READS)
        self._reading += arriving.conn.reads
        pool = self._readers if arriving.conn.reads else self.tpool
        done = pool.submit(self.handle, arriving.conn)
        done.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, arriving.conn, done))

    def handle_request(self, req: Any, conn: TConn) -> Any:
        self._turn.waited = time.monotonic() - conn.queued_at
        return super().handle_request(req, conn)

    def load_wsgi(self) -> None:
        """Tell the application how long each request waited for its thread."""
        super().load_wsgi()
        app: Any = self.app.wsgi()
        self.wsgi = lambda environ, start: app({**environ, WAITED: self._turn.waited}, start)

    def _late(self, arriving: Arriving) -> None:
        if arriving.data:
            _say(arriving.conn, LATE)
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
        """A body that was refused unread is not waited for: gunicorn would, in the thread."""
        length = getattr(conn.parser.mesg.body.reader, "length", 0)
        return length <= LONGEST_BODY and bool(super()._keepalive_after(conn, keepalive))

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
            more = conn.sock.recv(LONGEST_BODY)
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


def _say(conn: TConn, text: bytes) -> None:
    """To whoever is still there. The connection stays open, since the loop knows it by its descriptor."""
    with suppress(OSError):
        conn.sock.send(text)


def allocates_little() -> None:
    """Have all threads of the process, and of those it forks, share one arena of glibc's allocator. With one each,
    every thread that ever hashed a password keeps 19 MiB. Without glibc nothing changes.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
