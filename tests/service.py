"""The service as it runs: gunicorn in a process of its own, with workers, a database and real mail."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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

    def wait(self, patience: float = 20) -> None:
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


@contextlib.contextmanager
def running(database_url: str, folder: Path, **settings: Any) -> Iterator[Service]:
    """gunicorn on a migrated database; stopped at the end."""
    port = servers.free_port()
    usual = {**SECRETS, **CHEAP, "database_url": database_url, "port": port, "web_concurrency": 4, "ratelimit": "false"}
    environment = {name.upper(): str(value) for name, value in (usual | settings).items()}
    log = folder / f"service-{port}.log"
    kept = {k: os.environ[k] for k in ("PATH", "HOME", "SSL_CERT_FILE") if k in os.environ}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"],
            cwd=ROOT, env={**kept, **environment, "PYTHONUNBUFFERED": "1"}, stdout=out, stderr=out,
        )  # fmt: skip
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        service.wait()
        yield service
    finally:
        service.stop()


def at_once(count: int, act: Callable[[int], Answer], threads: int = 40) -> list[Answer]:
    """Do something `count` times, as many at the same moment as there are threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(act, range(count)))
