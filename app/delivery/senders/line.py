"""The connection to a provider: nothing is waited for beyond a deadline, however many addresses a host has, and however
its answer drips.
"""

from __future__ import annotations

import io
import math
import socket
import time
from typing import Any


def dial(host: str, port: int, deadline: float, most: float) -> socket.socket:
    """A connection to the first address of a host that takes one, each for `most` seconds. Raises OSError."""
    failure = OSError("the host has no address")
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return socket.create_connection((str(address[0]), port), left(deadline, most))
        except OSError as error:
            failure = error
    raise failure


def left(deadline: float, most: float) -> float:
    """Seconds that a step may take: `most`, or what is left. Raises TimeoutError when nothing is."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the provider takes too long")
    return min(most, seconds)


class Line(io.RawIOBase):
    """A socket as `http.client` and `smtplib` read from one: until a deadline, and no more than there is room for."""

    def __init__(self, opened: socket.socket, deadline: float, wait: float = math.inf) -> None:
        self._socket, self._wait = opened, wait
        self.deadline, self.room = deadline, math.inf
        self.sendall = opened.sendall

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.room <= 0:
            raise OSError("the answer does not end")
        self._socket.settimeout(left(self.deadline, self._wait))
        read = self._socket.recv_into(buffer)
        self.room -= read
        return read

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Leave that to whoever opened it: HTTPConnection may close before the answer is read."""
