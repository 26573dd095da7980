"""What stands between the service and its servers: PgBouncer in transaction mode, Redis Sentinel and Cluster."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from limits import parse

from app import create_app
from tests import lanes
from tests.lanes import Lane
from tests.mail import smtp_server
from tests.people import Person
from tests.service import ROOT, at_once, running
from tools import servers

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
REDIS = shutil.which("redis-server")
DOCUMENT = (ROOT / "docs" / "scaling.md").read_text()

pytestmark = pytest.mark.slow


def block(language: str, holding: str) -> str:
    """The sample of the document that holds some text."""
    return next(text for text in re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL) if holding in text)


@contextmanager
def process(*command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server of this test, once it listens."""
    quiet = subprocess.DEVNULL
    started = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        until(lambda: servers._listens(port))
        yield started
    finally:
        os.killpg(started.pid, signal.SIGKILL)  # what runs it as another user is a process, too
        started.wait(10)


def until(check: Any) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.skipif("postgresql" not in lanes.wanted(), reason="PgBouncer is PostgreSQL's")
@pytest.mark.skipif(PGBOUNCER is None, reason="*** NOT TESTED: PgBouncer is not installed ***")
def test_the_service_runs_over_pgbouncer_in_transaction_mode(worker: str, tmp_path: Path) -> None:
    """Eight people at once over two connections, as the document sets it up; the time-outs are in force."""
    with lanes.database("postgresql", f"pooled_{worker}") as direct, smtp_server(tmp_path) as (mailbox, mail, _):
        lanes.migrate(direct)
        url = sa.make_url(direct)
        with sa.create_engine(direct, poolclass=sa.NullPool).begin() as connection:
            connection.execute(sa.text(block("sql", "statement_timeout").replace("latchkey", url.database or "")))
        with pooled(url, tmp_path) as through:
            given = through.render_as_string(hide_password=False)
            with sa.create_engine(given, poolclass=sa.NullPool).connect() as connection:
                assert connection.scalar(sa.text("SHOW statement_timeout")) == "10s"
                assert connection.scalar(sa.text("SHOW lock_timeout")) == "10s"
                assert connection.scalar(sa.text("SHOW default_transaction_isolation")) == "read committed"
            with running(given, tmp_path, **mail, web_concurrency=2) as service:
                people = [Person(service.api(), mailbox.code) for _ in range(8)]
                at_once(8, lambda n: people[n].sign_up().me().ok(), threads=8)
                at_once(8, lambda n: people[n]._keep(people[n].refresh()).ok(), threads=8)
                assert [a.status for a in at_once(40, lambda n: people[n % 8].me(), threads=16)] == [200] * 40


@contextmanager
def pooled(url: sa.URL, folder: Path) -> Iterator[sa.URL]:
    """PgBouncer before a database, and the URL through it."""
    own = servers.free_port()
    target = f"host={url.host} port={url.port or 5432} user={url.username}"
    target += f" password={url.password}" if url.password else ""
    lines = ["[databases]", f"* = {target}", block("ini", "pool_mode")]
    lines += ["listen_addr = 127.0.0.1", f"listen_port = {own}", "auth_type = any", "default_pool_size = 2"]
    place = folder / "pgbouncer"
    place.mkdir(mode=0o755)
    (place / "pgbouncer.ini").write_text("\n".join([*lines, "unix_socket_dir =", f"logfile = {place}/log", ""]))
    for above in [place, *place.parents]:
        if above.owner() != "root" or above == Path("/tmp"):
            break
        above.chmod(0o755)
    prefix = servers._as("nobody", str(place))
    with process(*prefix, str(PGBOUNCER), "-q", str(place / "pgbouncer.ini"), port=own):
        yield url.set(host="127.0.0.1", port=own)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def counts(lane: Lane, url: str) -> None:
    """Limits are counted there, by the service's own limiter."""
    app = create_app(lane.settings(redis_url=url))
    [limiter] = app.extensions["limiter"]
    with app.app_context():
        assert limiter.storage.check()
        hits = [limiter.limiter.hit(parse("2 per minute"), "somebody") for _ in range(3)]
    assert hits == [True, True, False]


@pytest.mark.one_lane
@pytest.mark.skipif(REDIS is None, reason="*** NOT TESTED: redis-server is not installed ***")
def test_limits_are_counted_by_way_of_sentinel(lane: Lane, folder: Path) -> None:
    main, watching = servers.free_port(), servers.free_port()
    config = folder / "sentinel.conf"
    config.write_text(f"port {watching}\nsentinel monitor mymaster 127.0.0.1 {main} 1\ndir {folder}\n")
    with (
        process(str(REDIS), "--port", str(main), "--save", "", "--dir", str(folder), port=main),
        process(str(REDIS), str(config), "--sentinel", port=watching),
    ):
        counts(lane, f"redis+sentinel://127.0.0.1:{watching}/mymaster")


@pytest.mark.one_lane
@pytest.mark.skipif(REDIS is None, reason="*** NOT TESTED: redis-server is not installed ***")
def test_limits_are_counted_in_a_cluster(lane: Lane, folder: Path) -> None:
    port = next(port for port in iter(servers.free_port, 0) if port + 10_000 < 65_536)  # where nodes talk to each other
    flags = ["--port", str(port), "--cluster-enabled", "yes", "--save", "", "--dir", str(folder)]
    with process(str(REDIS), *flags, port=port):
        client = redis.Redis(port=port)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True))
        counts(lane, f"redis+cluster://127.0.0.1:{port}")
        client.close()


@pytest.mark.one_lane
@pytest.mark.skipif(REDIS is None, reason="*** NOT TESTED: redis-server is not installed ***")
def test_limits_are_counted_over_a_socket(lane: Lane, folder: Path) -> None:
    port = servers.free_port()
    flags = ["--port", str(port), "--unixsocket", str(folder / "redis.sock"), "--save", "", "--dir", str(folder)]
    with process(str(REDIS), *flags, port=port):
        counts(lane, f"redis+unix://{folder}/redis.sock")
