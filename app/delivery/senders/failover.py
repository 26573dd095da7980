"""Several senders as one: the next at once when one cannot, and a rest for one that keeps failing.

A permanent refusal ends it, for no other provider can reach that recipient either. After 'unknown' nobody else is
tried at once: the message may be on its way, and a report may say so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.delivery.senders import Outgoing, Reason, Receipt, Sender, SendFailed
from app.delivery_config import route_of

OPEN_AFTER = 3  # failures in a row
REST_S = 30.0  # then one message probes
ENOUGH_S = 4.0  # after this no further one is begun: all of them together take less than half the lease
NEXT = (Reason.TRANSIENT, Reason.THROTTLED, Reason.CONFIGURATION)

log = logging.getLogger("latchkey.courier")


@dataclass(slots=True)
class Circuit:
    """What a provider's last answers were. Open: it rests; after the rest one message at a time may probe it."""

    failures: int = 0
    rests_until: float = 0.0

    def lets_through(self, now: float) -> bool:
        if self.failures < OPEN_AFTER and self.rests_until <= now:
            return True
        if self.rests_until > now:
            return False
        self.rests_until = now + REST_S  # this one probes; the others wait for its answer
        return True

    def note(self, failure: SendFailed | None, now: float) -> None:
        if failure is None or failure.reason is Reason.PERMANENT:  # the provider works
            self.failures, self.rests_until = 0, 0.0
        elif failure.reason is not Reason.CONFIGURATION:  # that may be of one country or template: others get through
            self.failures += 1
            rest = failure.retry_after or (REST_S if self.failures >= OPEN_AFTER else 0)
            self.rests_until = max(self.rests_until, now + rest)


class Failover:
    name = "failover"

    def __init__(
        self,
        channel: str,
        senders: Mapping[str, Sender],
        routes: Mapping[str, tuple[str, ...]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`senders` in their order; `routes`: other orders for countries, `*` for all that are not named."""
        self.channel = channel
        self._senders, self._routes, self._clock = senders, routes, clock
        self._circuits = {name: Circuit() for name in senders}
        self._lock = threading.Lock()

    def send(self, message: Outgoing) -> Receipt:
        """Hand a message to the first that takes it; else raise what the last one said, with its name. `retry_after`
        is then the shortest wait, if every one asked for one.
        """
        order, started, waits = self._order(message), self._clock(), dict[str, int]()
        last = SendFailed(Reason.TRANSIENT, "every provider rests after failures")
        for name in order:
            if self._clock() - started > ENOUGH_S:
                break
            if not self._try(name):
                continue
            try:
                return self._ask(name, message)
            except SendFailed as failure:
                last, waits[name] = failure, failure.retry_after or 0
                if failure.reason not in NEXT:
                    break
        last.retry_after = min(waits.get(name, 0) for name in order) or None
        raise last

    def _ask(self, name: str, message: Outgoing) -> Receipt:
        try:
            receipt = self._senders[name].send(message)
        except SendFailed as failed:
            failure = failed
        except Exception:
            log.exception("%s stumbled over message %s", name, message.id)
            failure = SendFailed(Reason.UNKNOWN, "the sender stumbled")
        else:
            self._note(name, None)
            return receipt
        self._note(name, failure)
        log.warning("%s did not take message %s: %s (%s)", name, message.id, failure.text, failure.reason)
        raise SendFailed(failure.reason, f"{name}: {failure.text}", failure.retry_after, name) from failure

    def _order(self, message: Outgoing) -> list[str]:
        route = route_of(self._routes, message.country) or tuple(self._senders)
        return sorted(route, key=lambda name: name == message.avoid)

    def _try(self, name: str) -> bool:
        with self._lock:
            return self._circuits[name].lets_through(self._clock())

    def _note(self, name: str, failure: SendFailed | None) -> None:
        with self._lock:
            self._circuits[name].note(failure, self._clock())
