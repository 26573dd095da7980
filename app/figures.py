"""Figures: every metric of the service, declared once. Who knows a fact counts it; `web/metrics.py` serves them.

A leaf, as logging is: what Prometheus' library counts belongs to the process (with many workers, to its files),
whatever apps are in it. Facts that a unit of work could still undo are counted by `Work.count`, after its commit.

Every label has few values, all of them ours: a route as it is declared, a code of ours, a provider that the settings
name. Nothing that a caller writes may become one, or strangers could fill the memory of whoever collects the figures.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

ANSWERS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WAITS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)  # after a second the caller is told to come back
SENDS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)  # a send ends within 15 s
BY_WAY = ["channel", "provider"]

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it without types

REQUESTS = Counter("latchkey_requests_total", "Requests by route and status", ["route", "method", "status"])
SECONDS = Histogram(
    "latchkey_request_duration_seconds", "Time to the answer by route", ["route", "method"], buckets=ANSWERS_S
)
REFUSALS = Counter("latchkey_refusals_total", "Refused requests by stable code", ["code"])
EVENTS = Counter("latchkey_events_total", "Rows of the audit log by event", ["event"])

HASH_WAIT = Histogram("latchkey_hash_wait_seconds", "Wait for a slot to hash a password in", buckets=WAITS_S)
POOL_USED = Gauge("latchkey_database_connections", "Connections in use", multiprocess_mode="livesum")
POOL_SIZE = Gauge("latchkey_database_pool_size", "Connections that may be in use", multiprocess_mode="livesum")
POOL_TIMEOUTS = Counter("latchkey_database_pool_timeouts_total", "Units of work that got no connection in time")

CODES_SENT = Counter("latchkey_codes_sent_total", "Codes that a provider took", BY_WAY)
CODES_DELIVERED = Counter("latchkey_codes_delivered_total", "Codes that a provider reported as delivered", BY_WAY)
CODES_VERIFIED = Counter("latchkey_codes_verified_total", "Codes that came back right", BY_WAY)
SENDS = Counter("latchkey_sends_total", "Attempts to send a message by outcome", [*BY_WAY, "outcome"])
UNMADE = Counter("latchkey_messages_unmade_total", "Tries of messages that could not be made", ["channel"])
DROPPED = Counter("latchkey_messages_dropped_total", "Messages that do not go out, by why", ["channel", "why"])
SEND_SECONDS = Histogram("latchkey_send_duration_seconds", "Time that a provider took", BY_WAY, buckets=SENDS_S)

UPKEEP_FAILURES = Counter("latchkey_upkeep_failures_total", "Rounds of upkeep that failed, by duty", ["duty"])
