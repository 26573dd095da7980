"""Servers of a program's own, to be killed, frozen and filled: PostgreSQL, MariaDB and Redis, in folders that end with
them.
"""

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
from typing import Any

import psutil
import redis
import sqlalchemy as sa

from bench.load import until
from tools import servers

DISK_MIB = 176  # of a cluster that can be filled: an empty one takes some 60
USER = "nobody"  # for a server that refuses to run as root
OURS = "latchkey"  # the service's database and user, where it is not the owner


@dataclass
class Server:
    """A server process. It is started again with what it had."""

    command: list[str]
    port: int
    folder: Path
    user: str | None
    process: subprocess.Popen[bytes] | None = None
    ends: signal.Signals = signal.SIGINT

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
        self.process.send_signal(self.ends)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


class Database(Server):
    """A server that takes SQL."""

    @property
    def owner(self) -> sa.URL:
        """How its owner reaches it, whom nothing keeps from writing."""
        raise NotImplementedError

    def start(self) -> None:
        super().start()
        until(self._answers, 60)

    def _answers(self) -> bool:
        with suppress(sa.exc.OperationalError):
            self.run("SELECT 1")
            return True
        assert self.process and self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        return False

    def run(self, *statements: str) -> list[Any]:
        """Statements by its owner, each committed. Returns the rows of the last, if it has any."""
        engine = sa.create_engine(self.owner, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT",
                                  connect_args={"connect_timeout": 5})  # fmt: skip
        with engine.connect() as connection:
            for statement in statements:
                told = connection.execute(sa.text(statement))
            return list(told) if told.returns_rows else []


@dataclass
class Postgres(Database):
    small: bool = False  # it has a disk of its own, of DISK_MIB

    @property
    def owner(self) -> sa.URL:
        return sa.make_url(f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres")

    @property
    def url(self) -> sa.URL:
        """How a service reaches it."""
        return self.owner

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    def end_connections(self) -> None:
        """End every connection but this one."""
        others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
        self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")

    def only_reads(self, so: bool) -> None:
        name = "default_transaction_read_only"
        self.run(f"SET {name} = off", f"ALTER SYSTEM {f'SET {name} = on' if so else f'RESET {name}'}",
                 "SELECT pg_reload_conf()")  # fmt: skip


@dataclass
class Mariadb(Database):
    @property
    def owner(self) -> sa.URL:
        return sa.make_url(f"mysql+pymysql://root@127.0.0.1:{self.port}/mysql")

    @property
    def url(self) -> sa.URL:
        """How a service reaches it, as somebody who may not write when nobody may."""
        return sa.make_url(f"mysql://{OURS}@127.0.0.1:{self.port}/{OURS}")

    def end_connections(self) -> None:
        """End every connection of the service."""
        for [number] in self.run(f"SELECT id FROM information_schema.processlist WHERE user = '{OURS}'"):
            with suppress(sa.exc.OperationalError):  # it is gone already
                self.run(f"KILL {number}")

    def only_reads(self, so: bool) -> None:
        self.run(f"SET GLOBAL read_only = {int(so)}")


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


@contextmanager
def mariadb() -> Iterator[Mariadb]:
    """An empty server with its durable defaults, a database and a user of it."""
    found = servers.mysql_programs()
    assert found, "there is no MariaDB here"
    program, install = found
    with tempfile.TemporaryDirectory(prefix="latchkey-private-") as name:
        folder, port, user = Path(name), servers.free_port(), "mysql" if os.geteuid() == 0 else None
        if user:
            shutil.chown(folder, user)
        base = ["--no-defaults", f"--datadir={folder}/data"]
        made = [install, *base, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
        flags = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", f"--pid-file={folder}/p",
                 "--skip-name-resolve", "--innodb-buffer-pool-size=32M"]  # fmt: skip
        server = Mariadb([program, *base, *flags], port, folder, user, ends=signal.SIGTERM)
        server.start()
        try:
            server.run(f"CREATE DATABASE {OURS}", f"CREATE USER {OURS}", f"GRANT ALL ON {OURS}.* TO {OURS}")
            yield server
        finally:
            server.stop()


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
