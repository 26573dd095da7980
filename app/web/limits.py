"""Limits by client address: the first fence, in memory or Redis. The budgets that count are in the database.

When Redis is away each process counts in memory until it is back; Flask-Limiter's logger tells both moments and
`/metrics` shows which it is.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, request
from flask_limiter import Limiter
from limits import RateLimitItem, WindowStats
from limits.strategies import RateLimiter

from app.config import Settings, SettingsError
from app.store_config import account
from app.web import cookies, transport

# A family of budgets per address and route. Clinics and schools share one address, so they are wide: what
# stops guessing is counted by identifier.
SENDS = "60 per minute"
GUESSES = "300 per minute"
TOKENS = "600 per minute"
REDIS_TIMEOUT_S = 0.25
LONGEST_WAIT_S = 60  # all limits are by the minute

T = TypeVar("T")


class _OrInMemory(RateLimiter):
    """Counts in Redis, and in memory from the first call on that Redis does not answer, or refuses: one that is full or
    a replica is read, and takes no write.
    """

    def __init__(self, redis: RateLimiter, memory: RateLimiter, is_away: Callable[[], None]) -> None:
        super().__init__(redis.storage)
        self._redis, self._memory, self._is_away = redis, memory, is_away

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return self._either(lambda counts: counts.hit(item, *identifiers, cost=cost))

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return self._either(lambda counts: counts.test(item, *identifiers, cost=cost))

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        return self._either(lambda counts: counts.get_window_stats(item, *identifiers))

    def _either(self, ask: Callable[[RateLimiter], T]) -> T:
        try:
            return ask(self._redis)
        except Exception:  # the client's own kinds would bring it in where there is no Redis
            self._is_away()
            return ask(self._memory)


class _Limiter(Limiter):
    """Flask-Limiter, which falls back to memory only where it counts before an answer, and only for the first of the
    requests that meet a dead Redis at once: here whatever it asks does. And which looks for limits before each
    request, where ours are all on views and are asked there.
    """

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        if not in_middleware:
            super()._check_request_limit(callable_name, in_middleware)

    @property
    def limiter(self) -> RateLimiter:
        counts, memory = super().limiter, self._fallback_limiter
        return counts if memory is None or counts is memory else _OrInMemory(counts, memory, self._is_away)

    def _is_away(self) -> None:
        if not self._storage_dead:
            self._storage_dead = True
            self.logger.warning("Rate limit storage unreachable - falling back to in-memory storage")


def build(app: Flask, settings: Settings) -> Limiter:
    """One limiter for one app. Raises SettingsError for a Redis that its client does not take, or a cluster of which no
    server answers: it is asked for its servers here.
    """
    if settings.redis_url is None:
        return _limiter(app, settings, "memory://", {})
    redis = settings.redis_url.get_secret_value()
    timeouts = {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S}
    try:
        return _limiter(app, settings, redis, {**timeouts, **account(redis)})
    except Exception as error:  # the client's own kinds would bring it in where there is no Redis
        why = f"its client does not take it, or no server of its cluster answers ({type(error).__name__})"
        raise SettingsError(f"REDIS_URL: {why}; see docs/scaling.md") from None


def _limiter(app: Flask, settings: Settings, storage: str, options: Any) -> Limiter:
    return _Limiter(
        key_func=lambda: _counted(settings),
        app=app,
        enabled=settings.ratelimit,
        strategy="sliding-window-counter",
        storage_uri=storage,
        storage_options=options,
        in_memory_fallback_enabled=settings.redis_url is not None,
        key_prefix="latchkey",
    )


def _counted(settings: Settings) -> str:
    """Whose budget a request spends. A page of another site may have its visitors' browsers send what is no JSON (Fetch
    asks us first for the rest); that has a budget of its own, or the page would spend theirs.
    """
    client = network(transport.address(settings))
    unasked = request.mimetype != "application/json" and cookies.is_foreign(settings)
    return f"foreign/{client}" if unasked else client


def network(address: str) -> str:
    """What is counted as one client: an IPv4 address, an IPv6 /64. Never empty: that would switch a limit off."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def retry_after(limiter: Limiter) -> int:
    """Seconds until the limit that was just met lets a request through, never a part of one less."""
    limit = limiter.current_limit
    if limit is None:
        return LONGEST_WAIT_S
    return min(LONGEST_WAIT_S, 1 + int(max(0.0, limit.window.reset_time - time.time())))
