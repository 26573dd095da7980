"""The log goes to a pipe that somebody else holds: full, closed or without a reader, it stops no request."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import lanes
from tests.service import Service, running

pytestmark = pytest.mark.slow

INTO = 'exec "$@" > "$0" 2>&1'  # the service, with its log there


@pytest.fixture
def url(worker: str) -> Iterator[str]:
    with lanes.database("sqlite", f"pipe_{worker}") as made:
        lanes.migrate(made)
        yield made


def answers(service: Service, count: int) -> list[float]:
    """How long each of so many requests took, all of which write to the log."""
    with requests.Session() as session:
        found = [session.get(f"{service.base}/api/auth/me", timeout=5) for _ in range(count)]
    assert {answer.status_code for answer in found} == {401}
    return [answer.elapsed.total_seconds() for answer in found]


@pytest.mark.covers("fault F23")
def test_a_full_disk_of_the_log_stops_no_request(url: str, tmp_path: Path) -> None:
    with running(url, tmp_path, under=["sh", "-c", INTO, "/dev/full"], web_concurrency=1) as service:
        assert max(answers(service, 50)) < 2


@pytest.mark.covers("fault F23")
def test_a_log_whose_reader_went_away_stops_no_request(url: str, tmp_path: Path) -> None:
    end, pipe = piped(tmp_path)
    with running(url, tmp_path, under=["sh", "-c", INTO, str(pipe)], web_concurrency=1) as service:
        os.close(end)
        assert max(answers(service, 100)) < 2


@pytest.mark.covers("fault F23")
def test_a_log_whose_reader_stops_stops_no_request_and_says_what_is_missing(url: str, tmp_path: Path) -> None:
    """A pipe takes 64 KiB; then a write waits for its reader, and would hold whoever else writes to the log."""
    end, pipe = piped(tmp_path)
    with running(url, tmp_path, under=["sh", "-c", INTO, str(pipe)], web_concurrency=1) as service:
        assert max(answers(service, 1000)) < 2
        kept = read(end)
        answers(service, 1)
        told, again = read(end).splitlines()
    os.close(end)
    [lost] = re.findall(r"WARNING log lines were lost .*lost=(\d+)", told)
    assert kept.endswith("\n"), "lines are whole"
    assert kept.count("status=401") + int(lost) == 1000
    assert int(lost) > 100
    assert "status=401" in again


def piped(folder: Path) -> tuple[int, Path]:
    """A pipe, and the end of one who may read it."""
    os.mkfifo(folder / "pipe")
    return os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK), folder / "pipe"


def read(end: int) -> str:
    """All that waits there."""
    pieces = []
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(end, 65536):
            pieces.append(piece)
    return b"".join(pieces).decode()
