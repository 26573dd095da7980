"""Prometheus metrics of the HTTP surface. Safe with many worker processes when PROMETHEUS_MULTIPROC_DIR is set."""

from __future__ import annotations

import os

from flask import Response, g, request
from flask_limiter import Limiter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
REQUESTS = Counter("latchkey_requests_total", "Requests by route and status", ["route", "method", "status"])
REFUSALS = Counter("latchkey_refusals_total", "Refusals by stable code", ["code"])
LIMITS_SHARED = Gauge(
    "latchkey_limits_shared",
    "1: address limits are counted in Redis; 0: Redis is away or not set, and each process counts in memory",
    multiprocess_mode="mostrecent",
)


def count(response: Response) -> None:
    route = str(request.url_rule) if request.url_rule else "none"
    method = request.method if request.method in METHODS else "other"  # a stranger must not make series
    REQUESTS.labels(route, method, response.status_code).inc()
    if code := g.get("code"):
        REFUSALS.labels(code).inc()


def scrape(limiter: Limiter, shared: bool) -> Response:
    """The figures of all workers."""
    LIMITS_SHARED.set(1 if shared and limiter.storage.check() else 0)
    registry: CollectorRegistry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
