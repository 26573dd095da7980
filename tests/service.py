"""The service as it runs: gunicorn in a process of its own, with workers, a database and real mail."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.lanes import CHEAP, SECRETS
from tests.people import Answer, Api, http_transport
from tools import servers

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Service:
    base: str
    process: subprocess.Popen[bytes]
    log: Path

    def api(self) -> Api:
        return Api(http_transport(self.base))

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def kill_workers(self) -> None:
        for worker in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.send_signal(signal.SIGKILL)

    def wait(self, patience: float = 60) -> None:
        """Until it answers."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.base}/health/live", timeout=2).ok:
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def codes(self) -> list[str]:
        """The codes that a console sender printed, oldest first."""
        return re.findall(r"^OTP for .*?: (\d+) ", self.log.read_text(), re.MULTILINE)


# What systemd does for a service with a socket unit: the socket is descriptor 3, and the environment says so.
ACTIVATE = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])"""


def launch(
    database_url: str,
    folder: Path,
    listener: socket.socket | None = None,
    *,
    root: Path = ROOT,
    flags: Sequence[str] = (),
    under: Sequence[str] = (),
    **settings: Any,
) -> Service:
    """Start gunicorn on a migrated database, and do not wait for it. With a `listener` it takes its connections from
    there, and leaves those that still wait there when it ends. `root`: another checkout. `flags`: gunicorn's. `under`: a program
    that starts it, such as `prlimit`.
    """
    port = listener.getsockname()[1] if listener else servers.free_port()
    usual = {**SECRETS, **CHEAP, "database_url": database_url, "port": port, "web_concurrency": 4, "ratelimit": "false"}
    usual["web_patience"] = 60  # a busy machine is no news here
    environment = {name.upper(): str(value) for name, value in (usual | settings).items()}
    log = folder / f"service-{port}.log"
    kept = {k: os.environ[k] for k in ("PATH", "HOME", "SSL_CERT_FILE") if k in os.environ}
    activated = [sys.executable, "-ISc", ACTIVATE, str(listener.fileno())] if listener else []
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*under, *activated, sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", *flags],
            cwd=root, env={**kept, **environment, "PYTHONUNBUFFERED": "1"}, stdout=out, stderr=out,
            pass_fds=[listener.fileno()] if listener else [],
        )  # fmt: skip
    return Service(f"http://127.0.0.1:{port}", process, log)


@contextlib.contextmanager
def running(database_url: str, folder: Path, **settings: Any) -> Iterator[Service]:
    """gunicorn on a migrated database; stopped at the end."""
    service = launch(database_url, folder, **settings)
    try:
        service.wait()
        yield service
    finally:
        service.stop()


def at_once(count: int, act: Callable[[int], Answer], threads: int = 40) -> list[Answer]:
    """Do something `count` times, as many at the same moment as there are threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(act, range(count)))
