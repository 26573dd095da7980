"""What processes that were forked from one share, and what they must not: lots, nonces, sockets, locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import lanes
from tests.lanes import SECRETS
from tests.service import ROOT, Service, at_once, running

FORKS, DRAWS = 8, 10_000
# As gunicorn does it: everything is imported and in use before the fork. Each child writes what it draws.
DRAWING = f"""
import os, sys
from datetime import UTC, datetime
from app.crypto import codes, ids, keys, sealing, totp
ring = keys.KeyRing(["{SECRETS["secret_key"]}"])
def draw():
    nonce = sealing.seal(ring, keys.Purpose.FACTORS, b"").partition(".")[2][:16]
    return nonce, keys.new_token(), codes.new_factor(), totp.new_secret().hex(), str(ids.uuid7(datetime.now(UTC)))
draw()
children = []
for number in range({FORKS}):
    child = os.fork()
    if not child:
        with open(f"{{sys.argv[1]}}/{{number}}", "w") as out:
            out.writelines(" ".join(draw()) + "\\n" for _ in range({DRAWS}))
        os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.covers("asvs 11.3.4", "asvs 11.5.2", "fault F37")
@pytest.mark.slow
@pytest.mark.one_lane("sqlite")
def test_eight_forked_processes_draw_no_lot_twice(tmp_path: Path) -> None:
    """The nonces of seals, tokens, what codes are derived from, secrets of apps, ids."""
    done = subprocess.run(
        [sys.executable, "-c", DRAWING, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for child in range(FORKS) for line in (tmp_path / str(child)).read_text().splitlines()]
    for drawn in zip(*rows, strict=True):
        assert len(set(drawn)) == len(drawn) == FORKS * DRAWS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", [lane for lane in lanes.wanted() if lane != "sqlite"])


@pytest.fixture
def service(kind: str, worker: str, tmp_path: Path) -> Iterator[Service]:
    with lanes.database(kind, f"forks_{worker}") as url:
        lanes.migrate(url)
        redis = lanes.available()["redis"]
        limits = {"redis_url": redis, "ratelimit": "true"} if redis else {}
        with running(url, tmp_path, web_concurrency=4, **limits) as started:
            yield started


def connections(process: psutil.Process) -> set[tuple[int, int]]:
    """The ports of each connection that a process began."""
    held = process.net_connections(kind="tcp")
    return {(each.laddr.port, each.raddr.port) for each in held if each.status == "ESTABLISHED"}


@pytest.mark.covers("fault F37")
@pytest.mark.slow
def test_no_two_workers_share_a_connection_and_each_answers(service: Service) -> None:
    """One that two processes write to would give the one the answers of the other."""
    answers = at_once(
        80, lambda _: service.api().post("/api/auth/login", {"identifier": "a@b.co", "password": "x" * 9})
    )
    assert {answer.status for answer in answers} <= {401, 423, 429}
    master, workers = psutil.Process(service.process.pid), service.workers()
    assert len(workers) == 4
    assert connections(master) == set()
    own = [connections(worker) for worker in workers]
    assert all(own), "each has asked the database"
    assert len(set().union(*own)) == sum(map(len, own))
