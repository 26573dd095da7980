"""The crowd: clients on their journeys and, beside them, those who guess, look and fight. It works and rests as one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import strangers
from bench.journal import Held, Journal, Somebody
from bench.journeys import Gone, Journey, fresh_password
from bench.office import Office
from bench.rig import address

PAUSE_S = 0.3  # after an answer that was none


@dataclass
class Crowd:
    """`read`: (channel, address, how many came before) -> the newest code, or nothing. `session_s`: how long a session
    lasts.
    """

    base: str
    read: Callable[[str, str, int], str]
    seen: Callable[[str, str], int]
    session_s: float
    patience: float = 15.0
    journal: Journal = field(default_factory=Journal)
    office: Office | None = None
    rests: bool = False  # nobody waits for a code any more
    over: threading.Event = field(default_factory=threading.Event)
    _go: threading.Event = field(default_factory=threading.Event)
    _busy: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def at_work(self, clients: int) -> Iterator[Crowd]:
        self._go.set()
        threads = [threading.Thread(target=self._work, args=(n,), name=f"client-{n}") for n in range(clients)]
        threads += [threading.Thread(target=act, args=(self,)) for act in strangers.ACTS]
        threads += [threading.Thread(target=self.office.contest, args=(self,))] if self.office else []
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.rests = True
            self.over.set()
            self._go.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While nobody asks: every request was answered or given up."""
        self._go.clear()
        self.rests = True
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, 120)
        yield
        self.rests = False
        self._go.set()

    def turns(self) -> Iterator[None]:
        """One after the other, until it is over; none while the crowd rests."""
        while not self.over.is_set():
            self._go.wait()
            with self._changed:
                self._busy += 1
            try:
                if self._go.is_set() and not self.over.is_set():
                    yield
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _work(self, number_of: int) -> None:
        dice = random.Random(number_of)
        for _ in self.turns():
            journey = Journey(self, dice, _somebody(dice))
            with self.journal.lock:
                self.journal.people.append(journey.who)
                self.journal.secrets.add(journey.who.password.sure)
            try:
                journey.go()
            except Gone:
                self.over.wait(PAUSE_S)
            journey.who.over = True


def _somebody(dice: random.Random) -> Somebody:
    network = ".".join(["198", "18", str(dice.randrange(256)), str(dice.randrange(1, 255))])
    return Somebody(Held(address()), Held(""), Held(fresh_password(dice)), network)
