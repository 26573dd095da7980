"""Password checks and nothing else, for so many seconds by so many threads: a measure for sign-ins."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher


def main(seconds: float, threads: int, memory_kib: int, time_cost: int) -> None:
    """Print the checks a second and the CPU seconds of each."""
    hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
    stored = hasher.hash("correct horse 7")

    def check(until: float) -> int:
        done = 0
        while time.monotonic() < until:
            hasher.verify(stored, "correct horse 7")
            done += 1
        return done

    before, began = sum(os.times()[:2]), time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(check, [began + seconds] * threads))
    took = time.monotonic() - began
    sys.stdout.write(json.dumps({"rate": done / took, "cpu": (sum(os.times()[:2]) - before) / done}))


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:5]))
