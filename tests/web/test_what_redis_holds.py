"""What stands in Redis after somebody's day: counters by network and route, and nothing of anybody's."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis

from tests import canaries
from tests.conftest import World
from tests.lanes import Lane


def everything(store: Any) -> dict[str, str]:
    """Each key with what it holds, whatever its type."""
    read = {"string": store.get, "hash": store.hgetall, "set": store.smembers, "list": lambda k: store.lrange(k, 0, -1),
            "zset": lambda k: store.zrange(k, 0, -1, withscores=True)}  # fmt: skip
    return {key: str(read[store.type(key)](key)) for key in store.keys("*")}


@pytest.mark.covers("asvs 14.2.2")
def test_redis_holds_counters_that_end_and_nothing_of_anybody(
    make_world: Any, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lane.redis_url is None:
        pytest.skip("this lane counts in memory")
    world: World = make_world(webhook_secret=canaries.IN_A_PATH, sms_provider="msg91", msg91_auth_key="k")
    store = redis.Redis.from_url(lane.redis_url, decode_responses=True)
    store.flushdb()
    secrets = canaries.a_day(world, monkeypatch)
    held = everything(store)
    left = {key: store.ttl(key) for key in held}
    store.close()
    assert len(held) > 5, "the day left its counts"
    text = "\n".join(f"{key} {value}" for key, value in held.items())
    assert [secret for secret in secrets if re.search(rf"(?<!\d){re.escape(secret)}(?!\d)", text, re.IGNORECASE)] == []
    assert all(re.fullmatch(r"\d+", value) for value in held.values())
    assert all(0 < seconds <= 180 for seconds in left.values()), left
