"""Faults of Redis: what counts by client address there must never cost an answer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress

import redis

from app.web.limits import REDIS_TIMEOUT_S
from bench.stage import Stage
from bench.struck.fault import again_and_again, fault, through

# Each way, of its answers: within the time-out of one, and beyond it.
SLOW_S, TOO_SLOW_S = REDIS_TIMEOUT_S / 4, REDIS_TIMEOUT_S

fault("Redis slow", fails=False)(through("store", "delay", delay_s=SLOW_S))
fault("Redis slower than its time-out", fails=False)(through("store", "delay", delay_s=TOO_SLOW_S))
fault("Redis network resets", fails=False)(through("store", "reset"))
fault("Redis answers break off", fails=False)(through("store", "cut", mark=b"EVALSHA", every=3))


@fault("Redis killed", fails=False)
def redis_killed(stage: Stage) -> Iterator[None]:
    stage.redis.kill()
    yield
    stage.redis.start()


@fault("Redis hung", fails=False)
def redis_hung(stage: Stage) -> Iterator[None]:
    stage.redis.send(signal.SIGSTOP)
    yield
    stage.redis.send(signal.SIGCONT)


@fault("Redis flushed", fails=False)
def redis_flushed(stage: Stage) -> Iterator[None]:
    client = stage.redis.client()
    with again_and_again(client.flushall, 0.2):
        yield


@fault("Redis full of junk", fails=False)
def redis_full_of_junk(stage: Stage) -> Iterator[None]:
    """Each of the service's keys becomes a list, or a text that is no number, ten times a second."""
    client = stage.redis.client()

    def spoil() -> None:
        for number, key in enumerate(client.scan_iter("*latchkey*")):
            with client.pipeline() as batch:
                batch.delete(key)
                batch.rpush(key, "junk") if number % 2 else batch.set(key, "junk")
                batch.execute()

    with again_and_again(spoil, 0.1):
        yield
    client.flushall()


@fault("Redis out of memory", fails=False)
def redis_out_of_memory(stage: Stage) -> Iterator[None]:
    client = stage.redis.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    with suppress(redis.ResponseError):
        for number in range(100_000):
            client.set(f"filler{number}", "x" * 1000)
    yield
    client.config_set("maxmemory", "0")
    client.flushall()


@fault("Redis read-only", fails=False)
def redis_read_only(stage: Stage) -> Iterator[None]:
    """It becomes the replica of a server that is not there."""
    client = stage.redis.client()
    client.replicaof("127.0.0.1", 1)
    yield
    client.replicaof("NO", "ONE")
