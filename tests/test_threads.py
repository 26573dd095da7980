"""What all threads of a process share, under threads that are switched as often as Python can."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.crypto.ids import uuid7
from app.crypto.keys import KeyRing, Purpose
from tests.conftest import World

THREADS, ROUNDS = 8, 2_000
pytestmark = [pytest.mark.slow, pytest.mark.one_lane("sqlite")]


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(act: Callable[[int], Any]) -> list[list[Any]]:
    """What each thread got by doing it so many times, all at once."""
    found: list[list[Any]] = [[] for _ in range(THREADS)]
    meet = threading.Barrier(THREADS)

    def go(number: int) -> None:
        meet.wait()
        found[number] += [act(turn) for turn in range(ROUNDS)]

    threads = [threading.Thread(target=go, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(each) == ROUNDS for each in found), "no thread met an error"
    return found


@pytest.mark.covers("asvs 15.4.1")
def test_ids_of_one_instant_are_all_others_and_rise_in_each_thread() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    found = together(lambda _: uuid7(now))
    assert len({each for ids in found for each in ids}) == THREADS * ROUNDS
    assert all(ids == sorted(ids) for ids in found)


class Restless(set[Any]):
    """Another thread may run between the question and what is done about the answer."""

    def __contains__(self, item: object) -> bool:
        found = super().__contains__(item)
        time.sleep(0)
        return found


@pytest.mark.covers("asvs 15.4.1")
def test_the_same_refusal_is_new_to_one_thread_only(world: World) -> None:
    edge = world.app.extensions["edge"]
    edge._is_new(("the minute begins",))
    edge._seen = Restless()
    found = together(lambda turn: (turn, edge._is_new(("203.0.113.5", "none", "route", str(turn)))))
    new = Counter(turn for each in found for turn, is_new in each if is_new)
    assert new == Counter(range(ROUNDS))


@pytest.mark.covers("asvs 15.4.1")
def test_a_key_is_the_same_for_whoever_asks_first() -> None:
    for master in ("a" * 40, "b" * 40, "c" * 40):
        ring, purposes = KeyRing([master]), list(Purpose)
        found = together(lambda turn: ring.key(purposes[turn % len(purposes)]))  # noqa: B023 - used up in this round
        right = [KeyRing([master]).key(purposes[turn % len(purposes)]) for turn in range(len(purposes))]
        assert all(each[turn] == right[turn % len(right)] for each in found for turn in range(ROUNDS))
