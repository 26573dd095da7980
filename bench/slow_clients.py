"""Slow clients hold neither thread nor loop: while hundreds are connected, others are answered as if there were none.

Each kind in turn: clients that connect and say nothing; that send a header, or a body, a byte at a time; that announce
a body and never send it; that send chunks and never the last, or a length in many digits; that send more than is read
of any request, and go on; that never read the answer; that never close their end.
With `--front nginx` nginx stands before the service, as `docs/scaling.md` recommends.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from bench.load import Ask, Load, failed, until
from bench.report import Report, quantile
from tests import lanes
from tests.service import running
from tools import servers

RATE = 20  # requests a second of everybody else
BYTE_S = 1.0  # between two bytes of a slow client
LATER_MS = 500  # that others may wait longer, in 99 of 100, than with no slow client; the long form asserts it
ROOT = Path(__file__).resolve().parent.parent
HEAD = b"POST /api/auth/login HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# What a client of each kind sends at once, and then a byte at a time, over and over.
KINDS: dict[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "slow header": (HEAD, b"X-Slow: aaaa\r\n"),
    "slow body": (HEAD + b"Content-Length: 4000\r\n\r\n{", b" "),
    "no body": (HEAD + b"Content-Length: 4000\r\n\r\n", b""),
    "huge body": (HEAD + b"Content-Length: 100000000\r\n\r\n", b" "),
    "slow chunks": (CHUNKED, b"1\r\n \r\n"),
    "long length": (HEAD + b"Content-Length: 0000000000500\r\n\r\n{", b" "),
    "long chunk size": (CHUNKED + b"0000000000000000001f4\r\n{", b" "),
    "endless header": (HEAD + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 4000) for n in range(12)), b"X-Slow: aaaa\r\n"),
    "endless chunks": (CHUNKED + b"1\r\n \r\n" * 12_000, b"1\r\n \r\n"),
    "never reads": (b"GET /api/auth/me HTTP/1.1\r\nHost: bench\r\n\r\n" * 200, b""),
    "never closes": (b"GET /health/live HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", b""),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, help="slow clients of each kind (200; short: 40)")
    parser.add_argument("--seconds", type=float, help="of each kind (15; short: 4)")
    parser.add_argument("--front", choices=("none", "nginx"), default="none")
    parser.add_argument(
        "--worker", default="", help="another worker class of gunicorn, such as gthread, to compare with"
    )


def run(given: argparse.Namespace) -> Report:
    given.clients = given.clients or (40 if given.short else 200)
    given.seconds = given.seconds or (4 if given.short else 15)
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        url = stack.enter_context(lanes.database("sqlite", "bench_slow"))
        lanes.migrate(url)
        flags = ["--worker-class", given.worker] if given.worker else []
        service = stack.enter_context(running(url, folder, flags=flags, web_concurrency=2, docs="false"))
        port = urlsplit(service.base).port or 0
        if given.front == "nginx":
            port = stack.enter_context(nginx(folder, port))
        rows = [_meet(kind, given, port) for kind in ("nobody", *KINDS)]
    report.tables[f"{given.clients} slow clients of each kind; front: {given.front}"] = rows
    for row in rows:
        report.check(f"{row['slow clients']}: others not answered", row["not answered"], "0", row["not answered"] == 0)
    if not given.short:
        bound = rows[0]["p99 ms"] + LATER_MS
        for row in rows[1:]:
            late = row["p99 ms"]
            report.check(f"{row['slow clients']}: p99 of others, ms", late, f"at most {bound:.0f}", late <= bound)
    return report


def _meet(kind: str, given: argparse.Namespace, port: int) -> dict[str, Any]:
    """How others fare while slow clients of a kind are there. A client that was let go comes again."""
    over = threading.Event()
    came: Counter[str] = Counter()
    threads = []
    if kind in KINDS:
        threads = [threading.Thread(target=crowd, args=(kind, given.clients, port, over, came))]
    for thread in threads:
        thread.start()
    if threads:
        until(lambda: came["came"] >= given.clients)
    ask = Ask("POST", "/api/auth/refresh", {"refresh_token": "none"})  # reading has threads of its own
    load = Load(lambda: ask, [port], RATE, patience=given.seconds)
    with load.running():
        time.sleep(given.seconds)
    over.set()
    for thread in threads:
        thread.join()
    times = [told.took for told in load.told]
    return {
        "slow clients": kind,
        "asked": len(load.told),
        "not answered": len(failed(load.told)),
        "median ms": 1000 * quantile(times, 0.5),
        "p99 ms": 1000 * quantile(times, 0.99),
        "slow ones that came": came["came"],
        "let go": came["let go"],
    }


def crowd(kind: str, clients: int, port: int, over: threading.Event, came: Counter[str]) -> None:
    """All slow clients of a kind, in one thread."""
    first, then = KINDS[kind]
    drips = itertools.cycle(then) if then else None
    there: list[socket.socket] = []
    while not over.is_set():
        while len(there) < clients and not over.is_set():
            with suppress(OSError):
                there.append(_slow(first, port))
                came["came"] += 1
        over.wait(BYTE_S)
        drip = bytes([next(drips)]) if drips else b""
        gone = [
            client
            for client in there
            if not _still_there(client, drip, reads=kind not in ("never reads", "never closes"))
        ]
        came["let go"] += len(gone)
        for client in gone:
            client.close()
            there.remove(client)
    for client in there:
        client.close()


def _slow(first: bytes, port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.settimeout(5)
    client.connect(("127.0.0.1", port))
    client.sendall(first)
    client.setblocking(False)
    return client


def _still_there(client: socket.socket, drip: bytes, *, reads: bool) -> bool:
    try:
        if drip:
            client.send(drip)
        return not reads or client.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def nginx(folder: Path, port: int) -> Iterator[int]:
    """nginx with the configuration of the documents before a service on `port`; on another port of its own."""
    own = servers.free_port()
    text = (ROOT / "examples" / "nginx.conf").read_text()
    text = text.replace("127.0.0.1:5000", f"127.0.0.1:{port}").replace("listen 80;", f"listen 127.0.0.1:{own};")
    config = folder / "nginx.conf"
    config.write_text(f"pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n{text}")
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "nginx"
    process = subprocess.Popen([program, "-c", str(config), "-p", str(folder), "-g", "daemon off;"])
    try:
        until(lambda: socket.create_connection(("127.0.0.1", own), timeout=1).close() is None)
        yield own
    finally:
        process.terminate()
        process.wait(10)
