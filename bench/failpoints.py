"""The service with places at which its processes can be made to end, as by `kill -9`. Nothing of this is in `app`.

`gunicorn 'bench.failpoints:service()'` and `flask --app bench.failpoints:service` start what `app:create_app` makes,
with some of its functions wrapped. The file FAILPOINT says which place is armed, and in a second line how likely a
process ends there each time; it is read each time. Whoever ends writes the place into the file FAILPOINT_ENDED first.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from flask import Flask

from app import create_app, work
from app.core import rotation
from app.delivery.courier import Courier

BEFORE_COMMIT, AFTER_COMMIT = "before a commit", "after a commit, before the answer"
BEFORE_SEND, BEFORE_MARK = "between claim and send", "between send and mark"
IN_ROTATION = "inside key rotation"
ROTATED_AT_ONCE = 2  # rows in one unit of a rotation, of which a program has but few
DICE = random.SystemRandom()  # not a generator that all workers have from the process that forked them


def service() -> Flask:
    """The application, wrapped."""
    work._commit = _around(work._commit, BEFORE_COMMIT, AFTER_COMMIT, lambda unit: unit.wrote)
    Courier._deliver_all = _around(Courier._deliver_all, BEFORE_SEND, "", lambda _, claimed: claimed)
    Courier._mark = _around(Courier._mark, BEFORE_MARK, "", lambda _, taken: taken)
    rotation.BATCH = ROTATED_AT_ONCE
    for name in ("_reseal", "_recognise"):
        setattr(rotation, name, _around(getattr(rotation, name), IN_ROTATION, IN_ROTATION, lambda *_, **__: True))
    return create_app(migrates=False)


def _around(act: Callable[..., Any], before: str, after: str, counts: Callable[..., Any]) -> Callable[..., Any]:
    """`counts`: given what the act is, whether this time is one of those that are meant."""

    @wraps(act)
    def wrapped(*given: Any, **named: Any) -> Any:
        meant = bool(counts(*given, **named))
        if meant:
            _pass(before)
        answer = act(*given, **named)
        if meant:
            _pass(after)
        return answer

    return wrapped


def _pass(place: str) -> None:
    armed, _, likely = Path(os.environ["FAILPOINT"]).read_text().partition("\n")
    if place and place == armed and DICE.random() < float(likely):
        with open(os.environ["FAILPOINT_ENDED"], "ab", buffering=0) as file:
            file.write(f"{place}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
