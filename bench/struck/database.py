"""Faults of the database: PostgreSQL, MariaDB and, where a file can have them, SQLite."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import sqlalchemy as sa

from app.db import CONNECT_TIMEOUT_S, STATEMENT_TIMEOUT_S
from app.pulse import PULSE_S, SILENCE_S
from bench.stage import Stage
from bench.struck.fault import Felt, again_and_again, fault, limited, through

# What it takes to give up a server that takes connections and never answers.
PULSELESS_S = SILENCE_S + PULSE_S + 1.0  # PostgreSQL: a statement is not answered, and then the server has no pulse
UNREAD_S = STATEMENT_TIMEOUT_S + CONNECT_TIMEOUT_S + 1.0  # MariaDB: a statement is not answered, nor a new connection
SLOW_S = 0.02  # each way


def database_killed(stage: Stage) -> Iterator[None]:
    """`kill -9` of the first process; it is started when the fault ends, and recovers."""
    stage.server.kill()
    yield
    stage.server.start()


def connections_ended(stage: Stage) -> Iterator[None]:
    """Every second every connection is ended by the server."""
    with again_and_again(stage.server.end_connections, 1.0):
        yield


def database_frozen(stage: Stage) -> Iterator[None]:
    """SIGSTOP of all its processes: it takes connections and never answers."""
    stage.server.send(signal.SIGSTOP)
    yield
    stage.server.send(signal.SIGCONT)


def database_read_only(stage: Stage) -> Iterator[None]:
    stage.server.only_reads(True)
    yield
    stage.server.only_reads(False)


for kind, of, silent_s, silence, commit in (
    ("postgresql", "", PULSELESS_S, Felt.IN_TIME, b"COMMIT\0"),
    ("mariadb", " (MariaDB)", UNREAD_S, Felt.PERHAPS, b"COMMIT"),
):
    fault(f"database killed{of}", database=kind, felt=Felt.AT_ONCE)(database_killed)
    fault(f"database restarted, connections ended{of}", database=kind, felt=Felt.PERHAPS)(connections_ended)
    fault(f"database frozen{of}", database=kind, patience_s=silent_s, felt=silence)(database_frozen)
    fault(f"database network hangs{of}", database=kind, patience_s=silent_s, felt=silence)(through("between", "hang"))
    fault(f"database network slow{of}", database=kind, fails=False)(through("between", "delay", delay_s=SLOW_S))
    fault(f"database network resets{of}", database=kind, felt=Felt.AT_ONCE)(through("between", "reset"))
    fault(f"database refuses{of}", database=kind, felt=Felt.AT_ONCE)(through("between", "refuse"))
    fault(f"commit unanswered{of}", database=kind)(through("between", "cut", mark=commit, every=3))
    fault(f"database read-only{of}", database=kind, felt=Felt.AT_ONCE)(database_read_only)


@fault("disk full (PostgreSQL)", heals_s=10, felt=Felt.AT_ONCE)
def disk_full(stage: Stage) -> Iterator[None]:
    """A file fills the cluster's own disk. It may end itself: then it is started when there is room again."""
    server = stage.server
    assert server.small, "only root can give it a disk of its own"
    full = server.disk / "full"
    subprocess.run(["dd", "if=/dev/zero", f"of={full}", "bs=64k"], check=False, capture_output=True)  # until it is full
    yield
    full.unlink()
    if server.process.poll() is not None:
        server.start()


@fault("disk full (SQLite)", database="sqlite", felt=Felt.AT_ONCE)
def sqlite_disk_full(stage: Stage) -> Iterator[None]:
    """No process of the service may make a file longer than the database's log is now; its own log is one, too."""
    path = Path(sa.make_url(stage.url).database or "")
    yield from limited(stage, psutil.RLIMIT_FSIZE, lambda _: max(Path(f"{path}-wal").stat().st_size, 1))
