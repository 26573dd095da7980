"""What a fault is: a context in which it lasts, and what clients may see of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psutil

from bench.proxy import Mode, Proxy
from bench.stage import Stage, Start


class Felt(StrEnum):
    AT_ONCE = "at once"
    IN_TIME = "in time"  # unless it is short
    PERHAPS = "perhaps"


@dataclass(frozen=True)
class Fault:
    """`fails`: answers may be 503 while it lasts; `felt`: when some must be. `drops`: connections may break, too.
    `lives`: the process answers. `holds`: the channels whose messages wait for its end, or fail, and clients wait.
    """

    name: str
    make: Callable[[Stage], AbstractContextManager[None]]
    database: str = "postgresql"
    fails: bool = True
    felt: Felt = Felt.IN_TIME
    drops: bool = False
    lives: bool = True
    patience_s: float = 5.0
    heals_s: float = 5.0
    least_s: float = 0.0
    holds: tuple[str, ...] = ()
    start: Start = Start.PLAIN  # how the service has to be started for it


FAULTS: dict[str, Fault] = {}
Make = Callable[[Stage], Iterator[None]]


def fault(name: str, **traits: Any) -> Callable[[Make], Make]:
    """Add what makes a fault under a name."""

    def add(make: Make) -> Make:
        FAULTS[name] = Fault(name, contextmanager(make), **traits)
        return make

    return add


@contextmanager
def again_and_again(act: Callable[[], object], pause: float) -> Iterator[None]:
    """Do something now and every so many seconds. What it raises is raised at the end."""
    over, failures = threading.Event(), []

    def go() -> None:
        try:
            act()
            while not over.wait(pause):
                act()
        except Exception as failure:
            failures.append(failure)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def through(proxy: str, mode: Mode, **how: Any) -> Make:
    """What a proxy of the stage does."""

    def make(stage: Stage) -> Iterator[None]:
        found: Proxy = getattr(stage, proxy)
        cuts = found.cuts
        found.become(mode, **how)
        try:
            yield
        finally:
            found.become("pass")
        assert mode != "cut" or found.cuts > cuts, "nothing was cut"

    return make


def limited(stage: Stage, limit: int, most: Callable[[psutil.Process], int]) -> Iterator[None]:
    """Workers and courier may have no more of something; then they may again."""
    before = []
    for process in stage.processes()[1:]:  # the first is gunicorn's, who starts others in place of the dead
        before.append((process, process.rlimit(limit)))
        process.rlimit(limit, (most(process), process.rlimit(limit)[1]))
    yield
    for process, had in before:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(limit, had)
