"""The sessions that ended before their tokens did, as the service's feed tells them."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from latchkey_client import fetch
from latchkey_client.errors import Unavailable
from latchkey_client.forks import after_fork

PAGES = 1000  # of 10,000 each, in one poll
MISSED = 3  # turns of a thread, after which it is taken for one that does not run
RESTART = {400, 404, 410, 422}  # answers to a `since` that the service does not know any more

log = logging.getLogger("latchkey_client")


class Revocations:
    """Polls the feed every few seconds: in a daemon thread, or in the request that finds it due (`background=False`, or
    the thread does not run).

    `max_stale`: seconds that the last good poll serves while the feed is away; then tokens are refused with
    Unavailable. None: it serves for ever, and tokens of ended sessions may pass. Nothing is served before the
    first good poll, unless it is None.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        every: float = 3,
        max_stale: float | None = 60,
        background: bool = True,
        leeway: float = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if every <= 0 or (max_stale is not None and max_stale < every):
            raise ValueError("every is more than 0 and at most max_stale")
        self._url, self._api_key = url, api_key
        self._every, self._max_stale, self._background = every, max_stale, background
        self._leeway, self._clock = leeway, clock
        self._ended: dict[str, float] = {}
        self._heard: dict[str, float] = {}  # when each was told last
        self._since: str | None = None
        self._etag: str | None = None
        self._life = 0.0
        self._good_at: float | None = None
        self._tried_at: float | None = None
        self._fresh_process()
        after_fork(self._fresh_process)

    def _fresh_process(self) -> None:
        """A forked process inherits what is known, but neither the thread nor a lock that can be relied on."""
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the last good poll began; None before the first."""
        return None if self._good_at is None else time.monotonic() - self._good_at

    @property
    def stale(self) -> bool:
        """True if several polls in a row have failed, or none has been made."""
        return self.age is None or self.age > 3 * self._every + fetch.TIMEOUT_S

    def ended(self, session_id: str, issued_at: int) -> bool:
        """True if a token of a session, issued at a time in Unix seconds, is refused. Raises Unavailable."""
        self._keep_fresh()
        age = self.age
        if self._max_stale is not None and (age is None or age > self._max_stale):
            raise Unavailable(retry_after=max(1, round(self._every)))
        revoked_at = self._ended.get(session_id)
        return revoked_at is not None and issued_at <= revoked_at

    def poll(self) -> None:
        """Ask the feed now. Raises fetch.Failed."""
        with self._lock:
            started = time.monotonic()
            for _ in range(PAGES):
                if not self._page():
                    break
            self._good_at = started
            self._forget()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _keep_fresh(self) -> None:
        if self._background and self._thread is None and not self._stopped.is_set():
            with self._lock:
                if self._thread is None:
                    self._attempt()
                    self._thread = threading.Thread(target=_keep_polling, args=(weakref.ref(self),), daemon=True)
                    self._thread.start()
        else:
            self._try(MISSED if self._background else 1, wait=self.stale)

    def _try(self, turns: float, *, wait: bool) -> None:
        """Ask the feed if nobody has for so many turns; while somebody does, wait for them or go on."""
        if self._is_due(turns) and self._lock.acquire(blocking=wait):
            try:
                if self._is_due(turns):
                    self._attempt()
            finally:
                self._lock.release()

    def _is_due(self, turns: float) -> bool:
        return self._tried_at is None or time.monotonic() - self._tried_at >= turns * self._every

    def _attempt(self) -> None:
        try:
            self.poll()
        except fetch.Failed as failed:
            log.warning("the revocations cannot be had: %s", failed)
        except Exception:  # the thread goes on, and a request is answered
            log.exception("the revocations cannot be had")
        finally:
            self._tried_at = time.monotonic()

    def _page(self) -> bool:
        """Take one answer of the feed; True if there is more."""
        query = f"?{urlencode({'since': self._since})}" if self._since else ""
        known = {"If-None-Match": self._etag} if self._etag else {}
        reply = fetch.get(self._url + query, {"Authorization": f"Bearer {self._api_key}", **known})
        if reply.status == 304 and self._etag:
            return False
        if reply.status in RESTART and self._since:
            self._since = self._etag = None
            return True
        if reply.status != 200:
            raise fetch.Failed(f"{self._url} answered {reply.status}")
        return self._take(reply)

    def _take(self, reply: fetch.Reply) -> bool:
        try:
            items = [(item["session_id"], _seconds(item["revoked_at"])) for item in reply.body["items"]]
            ended = {session_id: self._ended.get(session_id, 0) for session_id, _ in items}
            since, more, life = reply.body["next"], reply.body["more"], float(reply.body["token_life"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise fetch.Failed(f"{self._url} answered something else") from error
        for session_id, revoked_at in items:
            ended[session_id] = max(revoked_at, ended[session_id])
        self._heard |= dict.fromkeys(ended, time.monotonic())
        self._ended |= ended
        self._life = max(self._life, life)
        self._etag = reply.etag
        if more and since == self._since:
            raise fetch.Failed(f"{self._url} does not go on")
        if (items or more) and since != self._since:
            self._since, self._etag = since, None  # an ETag is of one address
        return bool(more)

    def _forget(self) -> None:
        """Drop the sessions whose last token has expired: by the clock that tokens are judged by and, as that may be
        put forward and back, also by the time that has passed since they were told.
        """
        span = self._life + self._leeway
        by_clock, passed = self._clock() - span, time.monotonic() - span
        gone = {each for each, at in self._ended.items() if at < by_clock and self._heard[each] < passed}
        if gone:
            self._ended = {each: at for each, at in self._ended.items() if each not in gone}
            self._heard = {each: at for each, at in self._heard.items() if each not in gone}


def _seconds(text: Any) -> float:
    return datetime.fromisoformat(text).timestamp()


def _keep_polling(which: weakref.ref[Revocations]) -> None:
    """The thread: it ends with the object."""
    while (feed := which()) is not None:
        stopped, every = feed._stopped, feed._every
        feed._try(1, wait=True)
        del feed
        if stopped.wait(every):
            return
