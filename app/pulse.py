"""The database's pulse: it tells a server that is slow from one that is frozen, and turns work away while it is.

A leaf, for PostgreSQL; `docs/adr/0025` says why.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from typing import Any

import psycopg2
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

SILENCE_S = 1.0  # of a server that owes an answer, until it is asked whether it is there at all
PULSE_S = 1.0  # in which a server that is there says so
FRESH_S = 0.5  # for which all threads of a process go by what one of them found
LOOK_S = 1.0  # after which one of them may look again whether it is back
SILENT = "the server does not answer"
QUESTION = struct.pack("!ii", 8, 80877103)  # SSLRequest: a byte comes back before anybody is asked who they are
CANNOT_ASK = {errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.EACCES, errno.EPERM}  # which says nothing of the server
Address = tuple[int, Any]  # a socket's family and where it goes


class Circuit:
    """Closed while the server answers or has a pulse. Open since it had none, until it answers: then nobody waits."""

    def __init__(self) -> None:
        self._asking, self._letting = threading.Lock(), threading.Lock()
        self._found: tuple[Address | None, bool, float] = (None, True, 0.0)
        self._next_look: float | None = None  # None: the circuit is closed

    def lets_through(self) -> bool:
        """True if work may begin: the circuit is closed, or it is time that somebody looked and nobody else does."""
        if self._next_look is None:
            return True
        with self._letting:
            now, moment = time.monotonic(), self._next_look
            if moment is not None and now >= moment:
                self._next_look = now + SILENCE_S + PULSE_S + LOOK_S  # unless more is known before
            return moment is None or now >= moment

    def answered(self) -> None:
        """The server answered somebody."""
        self._next_look = None

    def beats(self, address: Address) -> bool:
        """Whether the server has a pulse. One thread asks, in at most PULSE_S, and the others go by what it found."""
        with self._asking:
            place, found, at = self._found
            if place != address or time.monotonic() >= at + FRESH_S:
                found = _says_something(address)
                self._found = (address, found, time.monotonic())
        self._next_look = None if found else time.monotonic() + LOOK_S
        return found


def _says_something(address: Address) -> bool:
    family, place = address
    try:
        with socket.socket(family, socket.SOCK_STREAM) as line:
            line.settimeout(PULSE_S)
            line.connect(place)
            line.sendall(QUESTION)
            line.recv(1)  # whatever it is, if only an end: it is not silent
    except OSError as error:
        return error.errno in CANNOT_ASK
    return True


def gate(circuit: Circuit) -> type[QueuePool]:
    """A pool that lends nothing while a circuit is open: it raises psycopg2's OperationalError at once."""

    class Gate(QueuePool):
        def connect(self) -> PoolProxiedConnection:
            if not circuit.lets_through():
                raise psycopg2.OperationalError(SILENT)
            return super().connect()

    return Gate
