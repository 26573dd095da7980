"""A worker that has just started: many threads ask the database the same new questions at the same instant."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from app.core import accounts
from tests.conftest import World

THREADS, TURNS = 8, 20
_strangers = count()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that hand over to each other all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.one_copy
@pytest.mark.one_lane("postgresql")
@pytest.mark.covers("asvs 15.4.1")
def test_the_first_questions_of_a_worker_are_asked_by_all_its_threads_at_once(make_world, restless: None) -> None:
    """A statement made twice at first use, or with columns that are made when they are first looked at, has been found
    to lose its own columns then.
    """
    world: World = make_world(ratelimit="false")
    routes = ("/api/auth/login", "/api/auth/forgot-password", "/forgot-password", "/api/v1/auth/send-otp")
    statuses: list[int] = []

    def ask(barrier: threading.Barrier, path: str) -> None:
        client, n = world.app.test_client(), next(_strangers)
        body = {"identifier": f"s{n}@example.com", "password": "wrong horse 77", "mobile_number": f"+9198765{n:05d}"}
        barrier.wait()
        statuses.append(client.post(path, json=body).status_code)

    for turn in range(TURNS):
        for maker in (world.kit.reads, world.kit.writes):
            maker.kw["bind"].clear_compiled_cache()
        accounts._behind.cache_clear()
        barrier = threading.Barrier(THREADS)
        threads = [threading.Thread(target=ask, args=(barrier, routes[turn % len(routes)])) for _ in range(THREADS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert set(statuses) == {200, 401}
    assert len(statuses) == THREADS * TURNS
