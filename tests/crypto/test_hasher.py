"""Argon2id behind slots."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import psutil
import pytest

from app.crypto import passwords
from app.crypto.passwords import Hasher
from app.errors import Overloaded

HASHER = Hasher(memory_kib=8, time_cost=1, slots=2, queue=4)


@pytest.mark.covers("asvs 11.4.2", "nist N11")
def test_a_hash_is_argon2id_with_its_parameters_and_a_fresh_salt() -> None:
    one, two = HASHER.hash(b"x"), HASHER.hash(b"x")
    assert one.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert one != two
    assert HASHER.matches(one, b"x")
    assert not HASHER.matches(one, b"y")


@pytest.mark.covers("asvs 11.2.5")
@pytest.mark.parametrize("stored", ["", "junk", "$argon2id$v=19$m=8", "$2b$12$" + "a" * 53, "x" * 10_000, "\u00e9"])
def test_a_hash_that_cannot_be_read_matches_nothing(stored: str) -> None:
    assert HASHER.matches(stored, b"x") is False


def test_nobodys_password_matches_nothing() -> None:
    assert HASHER.matches(None, b"x") is False


def test_a_hash_of_other_parameters_is_outdated() -> None:
    old = Hasher(memory_kib=16, time_cost=1, slots=1, queue=0).hash(b"x")
    assert HASHER.outdated(old)
    assert not HASHER.outdated(HASHER.hash(b"x"))
    assert HASHER.matches(old, b"x")


@pytest.mark.parametrize(
    ("memory_kib", "time_cost", "missing"),
    [
        (16, 2, [(2, 16)]),
        (8, 4, [(2, 16)]),
        (16, 1, [(3, 16)]),
        (8, 7, [(1, 8)]),
        (8, 1, [(3, 16), (1, 8)]),
        (16, 4, []),
        (64, 2, []),
        (9, 7, []),
    ],
)
def test_a_password_costs_what_nobodys_does_though_the_hash_was_made_at_a_lower_price(
    memory_kib: int, time_cost: int, missing: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    old = Hasher(memory_kib=memory_kib, time_cost=time_cost, slots=1, queue=0).hash(b"x")
    today = Hasher(memory_kib=16, time_cost=4, slots=1, queue=0)

    def counted(*, time_cost: int, memory_cost: int, parallelism: int) -> SimpleNamespace:
        made.append((time_cost, memory_cost * parallelism))
        return SimpleNamespace(hash=str)

    monkeypatch.setattr(passwords.argon2, "PasswordHasher", counted)
    assert not today.matches(old, b"y")
    assert made == missing
    assert today.matches(old, b"x")
    assert made == [*missing, *missing]  # a verdict may hide that it was right


@pytest.mark.covers("attack A64", "asvs 15.2.2")
def test_only_as_many_as_there_are_slots_run_and_the_surplus_is_shed(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = Hasher(memory_kib=8, time_cost=1, slots=2, queue=3)
    running, most, gate = [0], [0], threading.Event()
    lock = threading.Lock()

    def slow(_password: bytes) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gate.wait(5)
        with lock:
            running[0] -= 1
        return "hash"

    monkeypatch.setattr(hasher, "_argon2", SimpleNamespace(hash=slow))
    done: list[str] = []

    def call() -> None:
        try:
            done.append(hasher.hash(b"x"))
        except Overloaded as shed:
            assert shed.extra["retry_after"] == 1
            done.append("shed")

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    gate.set()
    for thread in threads:
        thread.join()
    assert most[0] == 2
    assert (done.count("hash"), done.count("shed")) == (5, 7)


def test_a_wait_for_a_slot_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "PATIENCE_S", 0.05)
    hasher = Hasher(memory_kib=8, time_cost=1, slots=1, queue=5)
    with hasher._slot(), pytest.raises(Overloaded):
        hasher.hash(b"x")
    assert hasher.hash(b"x")


@pytest.fixture
def short_of_memory() -> Iterator[Callable[[], None]]:
    """From when it is called, this process gets hardly more memory than it has."""
    if sys.platform != "linux":
        pytest.skip("only Linux bounds the memory of a process so")
    process = psutil.Process()
    had = process.rlimit(psutil.RLIMIT_AS)
    yield lambda: process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + 16 * 2**20, had[1]))
    process.rlimit(psutil.RLIMIT_AS, had)


@pytest.mark.covers("fault F27")
@pytest.mark.parametrize("stored_by", ["us", "another system"])
def test_a_password_for_which_there_is_no_memory_is_not_called_wrong(
    short_of_memory: Callable[[], None], stored_by: str
) -> None:
    """It would count as a wrong guess, and lock its owner out."""
    hasher = Hasher(memory_kib=100 * 1024, time_cost=1, slots=1, queue=0)
    stored = hasher.hash(b"x")
    stored = stored if stored_by == "us" else f"argon2{stored}"
    short_of_memory()
    with pytest.raises(Overloaded):
        hasher.matches(stored, b"x")
    with pytest.raises(Overloaded):
        hasher.hash(b"x")
