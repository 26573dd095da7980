"""Processes that end at the worst places (`bench/failpoints.py`): around a commit or a send, inside key rotation."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pyotp

from bench.failpoints import AFTER_COMMIT, BEFORE_COMMIT, BEFORE_MARK, BEFORE_SEND, IN_ROTATION
from bench.journal import Caller
from bench.rig import address
from bench.scene import NEXT_KEY
from bench.stage import ARMED, ENDED, Stage, Start
from bench.struck.fault import Felt, Make, again_and_again, fault
from tests.lanes import SECRETS

AT_COMMIT, AT_SEND, AT_ROTATION = 0.05, 0.3, 0.2  # how likely a process ends there each time
APPS = 8  # authenticator apps whose secrets are sealed anew
LOOK_S = 0.2
OF_WEB: dict[str, Any] = {"start": Start.FAILPOINTS, "felt": Felt.PERHAPS, "drops": True, "lives": False}
OF_COURIER: dict[str, Any] = {"start": Start.FAILPOINTS, "fails": False, "holds": ("email", "sms")}


@contextmanager
def _armed(stage: Stage, place: str, likely: float) -> Iterator[None]:
    """While processes end at a place. Some must have."""
    before = (stage.folder / ENDED).read_text().count(place)
    _arm(stage, f"{place}\n{likely}")
    try:
        yield
    finally:
        _arm(stage, "")
    ended = (stage.folder / ENDED).read_text().count(place) - before
    assert ended, f"no process ended {place}"
    stage.crowd.journal.killed[place] += ended


def _arm(stage: Stage, text: str) -> None:
    """Whole, in one step: processes read it all the time."""
    fresh = stage.folder / f"{ARMED}.new"
    fresh.write_text(text)
    os.replace(fresh, stage.folder / ARMED)


@contextmanager
def _kept(stage: Stage) -> Iterator[None]:
    """The courier is started again whenever it has ended, as a process manager does."""

    def keep() -> None:
        if stage.courier.poll() is not None:
            stage.start_courier()

    try:
        with again_and_again(keep, LOOK_S):
            yield
    finally:
        keep()


def _ends(place: str, likely: float) -> Make:
    """Whoever comes by: the workers, or the courier, who commits, too."""

    def make(stage: Stage) -> Iterator[None]:
        with _kept(stage), _armed(stage, place, likely):
            yield

    return make


for at in (BEFORE_COMMIT, AFTER_COMMIT):
    fault(f"worker ends {at}", **OF_WEB)(_ends(at, AT_COMMIT))
    fault(f"worker ends {at} (SQLite)", database="sqlite", **OF_WEB)(_ends(at, AT_COMMIT))
for at in (BEFORE_SEND, BEFORE_MARK):
    fault(f"courier ends {at}", **OF_COURIER)(_ends(at, AT_SEND))


@fault("key rotation killed", start=Start.FAILPOINTS, fails=False)
def key_rotation_killed(stage: Stage) -> Iterator[None]:
    """`flask rotate-keys` goes from one SECRET_KEY to the other and back, beside a service that knows both, and is
    killed on its way; in the end it comes through.
    """
    for _ in range(APPS):
        _enrol(stage)
    over = threading.Event()
    keys = itertools.cycle([(NEXT_KEY, SECRETS["secret_key"]), (SECRETS["secret_key"], NEXT_KEY)])

    def rotate() -> int:
        key, previous = next(keys)
        return stage.flask("rotate-keys", secret_key=key, secret_key_previous=previous).wait()

    def go_on() -> None:
        while not over.is_set():
            rotate()

    thread = threading.Thread(target=go_on)
    with _armed(stage, IN_ROTATION, AT_ROTATION):
        thread.start()
        yield
        over.set()
        thread.join()
    ended = [rotate(), rotate()]
    assert set(ended) <= {0, 1}, f"it does not come through: {ended}"


def _enrol(stage: Stage) -> None:
    """Somebody signs up and takes an authenticator app into use."""
    told = stage.signs("/signup", "/verify-otp", email=address())
    caller = Caller(stage.service.base, stage.crowd.journal, 20)
    _, begun = caller.ask("POST", "/api/auth/factors/totp", {}, told["access_token"])
    secret = begun["secret"]
    app = pyotp.TOTP(secret + "=" * (-len(secret) % 8))
    confirm = f"/api/auth/factors/totp/{begun['factor_id']}/confirm"
    status, _ = caller.ask("POST", confirm, {"otp": app.now()}, told["access_token"])
    assert status == 200, status
    with stage.crowd.journal.lock:
        stage.crowd.journal.secrets.add(secret)
        stage.crowd.journal.seeds[UUID(begun["factor_id"])] = secret
