"""How the service stops under gunicorn without losing a request. `docs/adr/0022` says why this is ours."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

LOOK_S = 1.0  # how often it is looked whether a worker was told to stop
HANDSHAKE_S = 0.25  # for connections that had begun when the service stopped listening
DROP_NEW = (  # classic BPF over a TCP header: a packet with SYN and without ACK is dropped, every other one passes
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)
SO_ATTACH_FILTER = 26


def stops_gently(server: Arbiter) -> None:
    """Have SIGTERM stop the service in two steps: no new connections; and when those that had begun are taken,
    gunicorn's own graceful stop. Else the kernel resets those that still wait when the socket closes.

    Nothing changes where somebody else keeps the socket for the next process (systemd, SIGUSR2), nor off Linux.
    """
    gunicorns = server.handle_term

    def handle_term() -> None:
        if sys.platform == "linux" and not (server.systemd or server.reexec_pid or server.master_pid):
            if all(_take_no_more(listener.sock) for listener in server.LISTENERS):
                time.sleep(HANDSHAKE_S)
        gunicorns()

    server.handle_term = handle_term


def _take_no_more(listener: socket.socket) -> bool:
    """A filter on a listening socket, in all processes that share it: whoever connects is not answered. False where
    that is not allowed, as on kernels that let only root do it: then gunicorn's own stop has to do.
    """
    program = b"".join(struct.pack("HBBI", *step) for step in DROP_NEW)
    kept = ctypes.create_string_buffer(program)
    filtered = struct.pack("HL", len(DROP_NEW), ctypes.addressof(kept))
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filtered)
    except OSError:
        return False
    return True


def ends_in_time(worker: Worker, end: Callable[[], object], within: float) -> None:
    """Have `end` called within so many seconds from when a worker is told to stop, also if it is still at its requests:
    a slow reader can keep it there until the master kills it.
    """

    def watch() -> None:
        while worker.alive:
            time.sleep(LOOK_S)
        time.sleep(max(0.0, within - 2 * LOOK_S))
        end()

    threading.Thread(target=watch, name="stopping", daemon=True).start()
