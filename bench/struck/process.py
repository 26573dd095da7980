"""Faults of the service's processes: killed, or short of what a host gives them."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from bench.stage import Stage, Start
from bench.struck.fault import Felt, again_and_again, fault, limited

KILL_S = 2.0
COURIER_S = 2.0  # a courier takes to be at work
SPARE = 32 * 2**20  # bytes that a process may still take: half of what a password hash does
LOOKS, LOOK_S = 20, 0.02


@fault("workers killed every 2 s", felt=Felt.PERHAPS, drops=True, lives=False)
def workers_killed(stage: Stage) -> Iterator[None]:
    def kill() -> None:
        with suppress(psutil.NoSuchProcess, IndexError):
            random.choice(stage.service.workers()).kill()

    with again_and_again(kill, KILL_S):
        yield


fault("workers killed every 2 s (SQLite)", database="sqlite", felt=Felt.PERHAPS, drops=True, lives=False)(
    workers_killed
)


@fault("courier killed every 2 s", fails=False, holds=("email", "sms"))
def courier_killed(stage: Stage) -> Iterator[None]:
    """Its two seconds begin when it is at work."""
    over = threading.Event()

    def go() -> None:
        while not over.is_set():
            stage.restart_courier()
            over.wait(KILL_S + COURIER_S)

    thread = threading.Thread(target=go)
    thread.start()
    yield
    over.set()
    thread.join()


@fault("no file descriptors", felt=Felt.PERHAPS, drops=True, lives=False, patience_s=20, heals_s=10)
def no_file_descriptors(stage: Stage) -> Iterator[None]:
    """No worker, nor the courier, may open another file or connection; then they may again. Workers
    that end for it are replaced by some that may, perhaps before anybody notices.
    """
    yield from limited(stage, psutil.RLIMIT_NOFILE, lambda _: 10)


@fault("no memory", drops=True, lives=False, patience_s=20, heals_s=10, start=Start.HASHES)
def no_memory(stage: Stage) -> Iterator[None]:
    """Every other two seconds workers and courier get hardly more memory than they have at rest; a password hash takes
    more, and none of it stays theirs.
    """
    had = [(process, _at_rest(process)) for process in stage.processes()[1:]]
    tight = itertools.cycle([True, False])

    def turn() -> None:
        is_tight = next(tight)
        _bound([(process, rest + SPARE if is_tight else psutil.RLIM_INFINITY) for process, rest in had])

    with again_and_again(turn, KILL_S):
        yield
    _bound([(process, psutil.RLIM_INFINITY) for process, _ in had])


def _at_rest(process: psutil.Process) -> int:
    """Bytes of a process's address space while it hashes nothing."""
    return min(process.memory_info().vms for _ in range(LOOKS) if not time.sleep(LOOK_S))


def _bound(most: list[tuple[psutil.Process, int]]) -> None:
    for process, size in most:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_AS, (size, psutil.RLIM_INFINITY))
