"""The faults: each a context in which it lasts."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
import sqlalchemy as sa

from app.pulse import PULSE_S, SILENCE_S
from bench.proxy import Mode, Proxy
from bench.stage import Stage

KILL_S = 2.0
GIVES_UP_S = SILENCE_S + PULSE_S + 1.0  # a statement is not answered, and then the server has no pulse
OVER_ALL = (
    "pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
COURIER_S = 2.0  # a courier takes to be at work
SLOW_S = 0.02  # each way


@dataclass(frozen=True)
class Fault:
    """`fails`: answers may be 503 while it lasts; `drops`: connections may break, too. `lives`: the process answers."""

    name: str
    make: Callable[[Stage], AbstractContextManager[None]]
    database: str = "postgresql"
    fails: bool = True
    drops: bool = False
    lives: bool = True
    patience_s: float = 5.0
    heals_s: float = 5.0
    least_s: float = 0.0
    holds: bool = False  # messages wait for its end, and clients for them
    moves_clocks: bool = False  # the service has to be started with a clock that can be moved


FAULTS: dict[str, Fault] = {}
Make = Callable[[Stage], Iterator[None]]


def fault(name: str, **traits: Any) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        FAULTS[name] = Fault(name, contextmanager(make), **traits)
        return make

    return add


@contextmanager
def _again_and_again(act: Callable[[], object], pause: float) -> Iterator[None]:
    """Do something now and every so many seconds."""
    over = threading.Event()

    def go() -> None:
        act()
        while not over.wait(pause):
            act()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _through(proxy: str, mode: Mode, **how: Any) -> Make:
    """What a proxy does."""

    def make(stage: Stage) -> Iterator[None]:
        found: Proxy = getattr(stage, proxy)
        found.become(mode, **how)
        try:
            yield
        finally:
            found.become("pass")

    return make


@fault("database killed")
def database_killed(stage: Stage) -> Iterator[None]:
    """`kill -9` of the first process; it is started when the fault ends, and recovers."""
    stage.postgres.kill()
    yield
    stage.postgres.start()


@fault("database restarted, connections ended")
def connections_ended(stage: Stage) -> Iterator[None]:
    """Every second every connection is ended by the server."""
    with _again_and_again(lambda: stage.postgres.run(f"SELECT {OVER_ALL}"), 1.0):
        yield


@fault("database frozen", patience_s=GIVES_UP_S)
def database_frozen(stage: Stage) -> Iterator[None]:
    """SIGSTOP of all its processes: it takes connections and never answers."""
    stage.postgres.send(signal.SIGSTOP)
    yield
    stage.postgres.send(signal.SIGCONT)


fault("database network hangs", patience_s=GIVES_UP_S)(_through("database", "hang"))
fault("database network slow", fails=False)(_through("database", "delay", delay_s=SLOW_S))
fault("database network resets")(_through("database", "reset"))
fault("database refuses")(_through("database", "refuse"))
fault("commit unanswered")(_through("database", "cut", mark=b"COMMIT\0", every=3))


@fault("database read-only")
def database_read_only(stage: Stage) -> Iterator[None]:
    yield from _configured(stage, "default_transaction_read_only = on")


def _configured(stage: Stage, setting: str) -> Iterator[None]:
    name = setting.partition(" ")[0]
    stage.postgres.run(f"ALTER SYSTEM SET {setting}", "SELECT pg_reload_conf()")
    yield
    stage.postgres.run(
        "SET default_transaction_read_only = off", f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()"
    )


@fault("disk full (PostgreSQL)", heals_s=10)
def disk_full(stage: Stage) -> Iterator[None]:
    """A file fills the cluster's own disk. It may end itself: then it is started when there is room again."""
    assert stage.postgres.small, "only root can give it a disk of its own"
    full = stage.postgres.disk / "full"
    subprocess.run(["dd", "if=/dev/zero", f"of={full}", "bs=64k"], check=False, capture_output=True)  # until it is full
    yield
    full.unlink()
    if stage.postgres.process.poll() is not None:
        stage.postgres.start()


@fault("Redis killed", fails=False)
def redis_killed(stage: Stage) -> Iterator[None]:
    stage.redis.kill()
    yield
    stage.redis.start()


@fault("Redis hung", fails=False)
def redis_hung(stage: Stage) -> Iterator[None]:
    stage.redis.send(signal.SIGSTOP)
    yield
    stage.redis.send(signal.SIGCONT)


@fault("Redis flushed", fails=False)
def redis_flushed(stage: Stage) -> Iterator[None]:
    client = stage.redis.client()
    with _again_and_again(client.flushall, 0.2):
        yield


@fault("Redis full of junk", fails=False)
def redis_full_of_junk(stage: Stage) -> Iterator[None]:
    """Each of the service's keys becomes a list, or a text that is no number, ten times a second."""
    client = stage.redis.client()

    def spoil() -> None:
        for number, key in enumerate(client.scan_iter("*latchkey*")):
            with client.pipeline() as batch:
                batch.delete(key)
                batch.rpush(key, "junk") if number % 2 else batch.set(key, "junk")
                batch.execute()

    with _again_and_again(spoil, 0.1):
        yield
    client.flushall()


@fault("Redis out of memory", fails=False)
def redis_out_of_memory(stage: Stage) -> Iterator[None]:
    client = stage.redis.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    with suppress(redis.ResponseError):
        for number in range(100_000):
            client.set(f"filler{number}", "x" * 1000)
    yield
    client.config_set("maxmemory", "0")
    client.flushall()


@fault("Redis read-only", fails=False)
def redis_read_only(stage: Stage) -> Iterator[None]:
    """It becomes the replica of a server that is not there."""
    client = stage.redis.client()
    client.replicaof("127.0.0.1", 1)
    yield
    client.replicaof("NO", "ONE")


def _mail_stuck(verb: str) -> Make:
    def make(stage: Stage) -> Iterator[None]:
        stage.mailbox.stuck_at = verb
        try:
            yield
        finally:
            stage.mailbox.stuck_at = ""

    return make


MAIL = {"fails": False, "holds": True, "least_s": 14.0}  # longer than a send may take
fault("mail hangs at its banner", **MAIL)(_through("mail", "hang"))
fault("mail hangs at EHLO", **MAIL)(_mail_stuck("EHLO"))
fault("mail hangs at RCPT", **MAIL)(_mail_stuck("RCPT"))
fault("mail hangs after the last dot", **MAIL)(_mail_stuck("DATA"))
fault("mail resets", fails=False, holds=True)(_through("mail", "reset"))


@fault("SMS hangs", **MAIL)
def sms_hangs(stage: Stage) -> Iterator[None]:
    stage.handset.hanging.set()
    yield
    stage.handset.hanging.clear()


@fault("clocks jump", fails=False, moves_clocks=True)
def clocks_jump(stage: Stage) -> Iterator[None]:
    """Every second the clock of the service's and the courier's host jumps, and in the end it is right again. The
    database's stays right.
    """
    jumps = itertools.cycle(sign * size for size in (90, 3600, 30 * 86_400) for sign in (1, -1))
    with _again_and_again(lambda: stage.move_clock(next(jumps)), 1.0):
        yield
    stage.move_clock(0)


@fault("workers killed every 2 s", drops=True, lives=False)
def workers_killed(stage: Stage) -> Iterator[None]:
    def kill() -> None:
        with suppress(psutil.NoSuchProcess, IndexError):
            random.choice(stage.service.workers()).kill()

    with _again_and_again(kill, KILL_S):
        yield


@fault("courier killed every 2 s", fails=False, holds=True)
def courier_killed(stage: Stage) -> Iterator[None]:
    """Its two seconds begin when it is at work."""
    over = threading.Event()

    def go() -> None:
        while not over.is_set():
            stage.courier.kill()
            stage.courier.wait()
            stage.start_courier()
            over.wait(KILL_S + COURIER_S)

    thread = threading.Thread(target=go)
    thread.start()
    yield
    over.set()
    thread.join()


@fault("no file descriptors", drops=True, lives=False, patience_s=20, heals_s=10)
def no_file_descriptors(stage: Stage) -> Iterator[None]:
    """No worker, nor the courier, may open another file or connection; then they may again."""
    yield from _limited(stage, psutil.RLIMIT_NOFILE, lambda _: 10)


def _limited(stage: Stage, limit: int, most: Callable[[psutil.Process], int]) -> Iterator[None]:
    before = []
    for process in stage.processes()[1:]:  # the first is gunicorn's, who starts others in place of the dead
        before.append((process, process.rlimit(limit)))
        process.rlimit(limit, (most(process), process.rlimit(limit)[1]))
    yield
    for process, had in before:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(limit, had)


@fault("disk full (SQLite)", database="sqlite")
def sqlite_disk_full(stage: Stage) -> Iterator[None]:
    """No process of the service may make a file longer than the database's log is now; its own log is one, too."""
    path = Path(sa.make_url(stage.url).database or "")
    yield from _limited(stage, psutil.RLIMIT_FSIZE, lambda _: max(Path(f"{path}-wal").stat().st_size, 1))


fault("workers killed every 2 s (SQLite)", database="sqlite", drops=True, lives=False)(workers_killed)
