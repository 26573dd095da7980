"""Faults of the host's clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from bench.stage import Stage, Start
from bench.struck.fault import again_and_again, fault

JUMPS_S = (90, 3600, 30 * 86_400)


@fault("clocks jump", fails=False, start=Start.CLOCK)
def clocks_jump(stage: Stage) -> Iterator[None]:
    """Every second the clock of the service's and the courier's host jumps, and in the end it is right again. The
    database's stays right.
    """
    jumps = itertools.cycle(sign * size for size in JUMPS_S for sign in (1, -1))
    with again_and_again(lambda: stage.move_clock(next(jumps)), 1.0):
        yield
    stage.move_clock(0)
