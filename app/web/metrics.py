"""`GET /metrics`: what all workers have counted, and what is asked at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from flask import Response, g, request
from flask_limiter import Limiter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import figures, workers
from app.core.audit import Event
from app.core.challenges import CHANNELS
from app.delivery import tally, upkeep
from app.delivery.tally import Waiting
from app.errors import Unavailable
from app.version import VERSION
from app.web import problems
from app.work import Kit, run

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NOWHERE, OTHER = "none", "other"  # the route of what is not found, and a method that nobody knows


def start_at_zero() -> None:
    """Let what is counted by code, event, why or duty begin at 0, so that the first of each is seen as a rise."""
    for code in (*(refused.code for refused in problems.STATUS), problems.FAULT):
        figures.REFUSALS.labels(code)
    for event in Event:
        figures.EVENTS.labels(event.value)
    for channel in CHANNELS:
        figures.UNMADE.labels(channel)
        for why in tally.WHYS:
            figures.DROPPED.labels(channel, why)
    for duty in upkeep.DUTIES:
        figures.UPKEEP_FAILURES.labels(duty)


def count(response: Response, seconds: float) -> None:
    """Count the request that is being answered."""
    requests, durations = _of(route(), method(), response.status_code)
    requests.inc()
    durations.observe(seconds)
    if code := g.get("code"):
        figures.REFUSALS.labels(code).inc()


def route() -> str:
    """The request's route as it is declared, never as it was typed."""
    return request.url_rule.rule if request.url_rule else NOWHERE


def method() -> str:
    """The request's method, or `other`: a stranger must not make series."""
    return request.method if request.method in METHODS else OTHER


@cache
def _of(path: str, verb: str, status: int) -> tuple[Counter, Histogram]:
    return figures.REQUESTS.labels(path, verb, str(status)), figures.SECONDS.labels(path, verb)


def scrape(kit: Kit, limiter: Limiter) -> Response:
    """The figures of all workers, and those of this moment."""
    now = CollectorRegistry()
    now.register(Now(kit, limiter))
    return Response(workers.exposition() + generate_latest(now), content_type=CONTENT_TYPE_LATEST)


class Now(Collector):
    """What is looked up when somebody asks: the same whichever process is asked."""

    def __init__(self, kit: Kit, limiter: Limiter) -> None:
        self._kit, self._limiter = kit, limiter

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("latchkey_info", "Always 1; the label says which version runs", labels=["version"])
        info.add_metric([VERSION], 1)
        yield info
        counted = self._kit.settings.ratelimit and self._kit.settings.redis_url is not None
        shared = counted and self._limiter.storage.check()
        told = "1: address limits are counted in Redis; 0: Redis is away or not set, each process counts in memory"
        yield GaugeMetricFamily("latchkey_limits_shared", told, value=shared)
        try:
            queues = run(self._kit, tally.waiting, reads=True)
        except Unavailable:
            queues = None
        yield GaugeMetricFamily("latchkey_database_up", "1: the database answers", value=queues is not None)
        yield from _queues(queues or [])


def _queues(queues: list[Waiting]) -> Iterator[Metric]:
    length = GaugeMetricFamily(
        "latchkey_outbox_messages", f"Messages that wait, at most {tally.MOST} of each", labels=["channel", "state"]
    )
    lag = GaugeMetricFamily(
        "latchkey_outbox_lag_seconds", "How long the oldest due message could have been sent", labels=["channel"]
    )
    for queue in queues:
        length.add_metric([queue.channel, "due"], queue.due)
        length.add_metric([queue.channel, "later"], queue.later)
        lag.add_metric([queue.channel], queue.lag)
    yield length
    yield lag
