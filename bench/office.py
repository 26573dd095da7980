"""Two admins, the only ones there are, who take the office from each other again and again; whoever keeps it restores
the other. One of them gives the roles of the journeys.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.journal import Caller

if TYPE_CHECKING:
    from bench.crowd import Crowd

FIGHT_S = 2.0  # between two fights
FRESH = 0.5  # of a session's life, after which an admin signs in anew
WAYS: tuple[tuple[str, str, Any], ...] = (
    ("PUT", "/role", {"role": "user"}),
    ("PATCH", "", {"disabled": True}),
    ("POST", "/lock", {}),
)
RESTORED: tuple[tuple[str, str, Any], ...] = (
    ("PUT", "/role", {"role": "admin"}),
    ("PATCH", "", {"disabled": False}),
    ("POST", "/unlock", {}),
)
OUT = frozenset({"token_revoked", "token_expired", "forbidden"})  # whoever lost the office is told


@dataclass
class Office:
    """`ids`: of the two. `sign_in`: which of them -> tokens, or none. `caller`: asks and keeps the journal."""

    ids: list[str]
    sign_in: Callable[[int], dict[str, Any]]
    caller: Caller
    session_s: float
    tokens: list[str] = field(default_factory=lambda: ["", ""])
    opened: list[float] = field(default_factory=lambda: [0.0, 0.0])
    fights: int = 0
    unsure: bool = False  # an act of the last fight was not answered: it may take hold yet
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def open(self) -> Iterator[str]:
        """The token of an admin, while nobody fights; empty if somebody does."""
        if not self._lock.acquire(blocking=False):
            yield ""
            return
        try:
            ours = [token for me, token in enumerate(self.tokens) if self._is_fresh(me)]
            yield ours[0] if ours else ""
        finally:
            self._lock.release()

    def contest(self, crowd: Crowd) -> None:
        """Fight, and make peace, while the crowd is at work."""
        for _ in crowd.turns():
            with self._lock:
                if self._at_peace():
                    self._fight()
                    self._at_peace()
            crowd.over.wait(FIGHT_S)

    def _fight(self) -> None:
        """Each takes the office from the other, at once. Of two who are both told yes nobody would be left."""
        method, rest, body = WAYS[self.fights % len(WAYS)]
        self.fights += 1
        together = threading.Barrier(2)

        def take(me: int) -> int:
            together.wait(30)
            return self._ask(me, method, rest, body, earned={*OUT, "last_admin", "conflict"})

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(take, range(2)))
        self.unsure = any(answer in (0, 503) for answer in answers)
        self.caller.journal.fights.update(map(str, answers))
        if answers == [200, 200]:
            self.caller.journal.coups.append(f"both admins took the office from each other: {method} {rest}")

    def _at_peace(self) -> bool:
        """Restore whoever is out of office and have both signed in, as far as it goes. True once both are."""
        inside = [me for me in (0, 1) if self._is_in(me)]
        if not inside:  # their sessions are over
            for me in (0, 1):
                self._enter(me)
            return False
        keeper, may_be = inside[0], OUT if self.unsure else ()
        for me in {0, 1} - set(inside):
            if any(self._ask(keeper, method, rest, body, may_be) != 200 for method, rest, body in RESTORED):
                return False
            self._enter(me)
        return all(self._is_fresh(me) or self._enter(me) for me in (0, 1))

    def _is_in(self, me: int) -> bool:
        """Whether one of them is an admin now, as the service says."""
        return bool(self.tokens[me]) and self._ask(me, "GET", "", None, earned=OUT) == 200

    def _is_fresh(self, me: int) -> bool:
        return bool(self.tokens[me]) and time.monotonic() < self.opened[me] + FRESH * self.session_s

    def _enter(self, me: int) -> bool:
        began = time.monotonic()
        self.tokens[me] = self.sign_in(me).get("access_token", "")
        self.opened[me] = began
        return bool(self.tokens[me])

    def _ask(self, me: int, method: str, rest: str, body: Any, earned: Any = ()) -> int:
        """What one of them does to the other."""
        path = f"/api/admin/users/{self.ids[1 - me]}{rest}"
        return self.caller.ask(method, path, body, self.tokens[me], earned=earned)[0]
