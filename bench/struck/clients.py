"""Clients that are a fault themselves."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from bench.load import until
from bench.slow_clients import KINDS, crowd
from bench.stage import Stage
from bench.struck.fault import fault

EACH = 40  # slow clients of each kind


@fault("slow clients", fails=False)
def slow_clients(stage: Stage) -> Iterator[None]:
    """Hundreds of slow clients of all kinds are there at once; who is let go comes again."""
    over, port = threading.Event(), urlsplit(stage.service.base).port or 0
    came: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    threads = [threading.Thread(target=crowd, args=(kind, EACH, port, over, came[kind])) for kind in KINDS]
    for thread in threads:
        thread.start()
    try:
        until(lambda: all(seen["came"] >= EACH for seen in came.values()))
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
