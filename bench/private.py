"""Servers of a program's own, to be killed, frozen and filled: PostgreSQL and Redis, in folders that end with them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
import sqlalchemy as sa

from bench.load import until
from tools import servers

DISK_MIB = 176  # of a cluster that can be filled: an empty one takes some 60
USER = "nobody"  # for a server that refuses to run as root


@dataclass
class Server:
    """A server process. It is started again with what it had."""

    command: list[str]
    port: int
    folder: Path
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, user=self.user, cwd=self.folder)

    @property
    def processes(self) -> list[psutil.Process]:
        """It and its children."""
        assert self.process
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def send(self, number: signal.Signals) -> None:
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """`kill -9` of the first process; its children end when they see it."""
        assert self.process
        children = self.processes[1:]
        self.process.kill()
        self.process.wait()
        _, left = psutil.wait_procs(children, timeout=10)
        for each in left:
            each.kill()

    def stop(self) -> None:
        self.send(signal.SIGCONT)
        assert self.process
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass
class Postgres(Server):
    small: bool = False  # it has a disk of its own, of DISK_MIB

    @property
    def url(self) -> sa.URL:
        return sa.make_url(f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres")

    def start(self) -> None:
        super().start()
        until(self._answers, 60)

    def _answers(self) -> bool:
        with suppress(sa.exc.OperationalError):
            self.run("SELECT 1")
            return True
        assert self.process and self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        return False

    def run(self, *statements: str) -> None:
        """Statements by its owner, each committed."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT",
                                  connect_args={"connect_timeout": 5})  # fmt: skip
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    @property
    def disk(self) -> Path:
        return self.folder / "disk"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """An empty cluster, with its durable defaults. As root it has a small disk of its own."""
    found = servers.postgres_bin()
    assert found, "there is no PostgreSQL here"
    with ExitStack() as stack:
        user = USER if os.geteuid() == 0 else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latchkey-private-")))
        disk = folder / "disk"
        disk.mkdir()
        small = user is not None and _mounted(stack, disk)
        for each in (folder, disk) if user else ():
            shutil.chown(each, user)
        data, port = disk / "data", servers.free_port()
        made = [f"{found}/initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
        flags = {"listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "max_wal_size": "64MB",
                 "min_wal_size": "32MB", "max_connections": 60, "shared_buffers": "16MB"}  # fmt: skip
        settings = [word for name, value in flags.items() for word in ("-c", f"{name}={value}")]
        server = Postgres([f"{found}/postgres", "-D", str(data), "-p", str(port), *settings], port, folder, user)
        server.small = small
        server.start()
        stack.callback(server.stop)
        yield server


def _mounted(stack: ExitStack, place: Path) -> bool:
    """Give a folder a file system of its own, of bounded size. False where that is not allowed."""
    made = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(made, check=False, capture_output=True).returncode:
        return False
    stack.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
    return True


@dataclass
class Redis(Server):
    def start(self) -> None:
        super().start()
        until(self._answers)

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError):
            return bool(self.client().ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)


@contextmanager
def redis_server() -> Iterator[Redis]:
    """An empty Redis that keeps nothing."""
    found = servers.redis_bin()
    assert found, "there is no Redis here"
    with tempfile.TemporaryDirectory(prefix="latchkey-private-") as folder:
        port = servers.free_port()
        command = [found, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = Redis(command, port, Path(folder), None)
        server.start()
        try:
            yield server
        finally:
            server.stop()
