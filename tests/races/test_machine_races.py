"""Devices, many at the same moment, against four gunicorn workers."""

from __future__ import annotations

import base64
import hashlib
import itertools
import time
from collections import Counter
from uuid import uuid4

import pytest
import sqlalchemy as sa

from app.models import AuditLog, Device
from tests.lanes import SECRETS
from tests.people import Answer
from tests.races.conftest import Arena
from tests.races.test_races import codes
from tests.service import at_once
from tests.web.test_machines import DEVICES, VERIFY, digits

pytestmark = pytest.mark.slow
KEY = SECRETS["api_key"]
_numbers = itertools.count(1)


class Racer:
    """A device of its own for each race."""

    def __init__(self, arena: Arena) -> None:
        self.arena, self.name, self.api = arena, f"racer-{next(_numbers)}", arena.service.api()

    def register(self, **headers: str) -> Answer:
        return self.api.post(f"{DEVICES}/register", {"device_id": self.name, "user_id": "a race"}, KEY, **headers)

    def rotate(self) -> Answer:
        return self.api.post(f"{DEVICES}/{self.name}/rotate-key", None, KEY)

    def verify(self, otp: str) -> bool:
        return self.api.post(VERIFY, {"device_id": self.name, "otp": otp}, KEY).ok()["data"]["valid"]

    def row(self, column: sa.orm.InstrumentedAttribute) -> object:
        return self.arena.scalar(sa.select(column).where(Device.device_id == self.name))


@pytest.fixture
def racer(arena: Arena) -> Racer:
    return Racer(arena)


def code(registered: Answer, ahead: int = 0) -> str:
    key = base64.b64decode(registered["data"]["derived_key"])
    return digits(key, int(time.time()) // 30 + ahead)


@pytest.mark.covers("attack A20", "attack A13", "asvs 6.5.1", "asvs 15.4.2")
def test_of_200_uses_of_one_code_one_is_right(racer: Racer) -> None:
    otp = code(racer.register().ok())
    answers = at_once(200, lambda _: racer.verify(otp))
    assert Counter(answers) == {True: 1, False: 199}
    assert (racer.row(Device.usage_count), racer.row(Device.failures)) == (1, 0)
    reasons = sa.select(sa.func.count()).where(AuditLog.subject == racer.name, AuditLog.reason == "replayed")
    assert racer.arena.scalar(reasons) == 199


@pytest.mark.covers("attack A20")
def test_of_the_three_steps_of_a_window_used_at_once_none_is_right_twice(racer: Racer) -> None:
    registered = racer.register().ok()
    window = [code(registered, ahead) for ahead in (-1, 0, 1)]
    answers = at_once(150, lambda n: (window[n % 3], racer.verify(window[n % 3])))
    right = Counter(otp for otp, valid in answers if valid)
    assert set(right.values()) == {1}
    assert 1 <= len(right) <= 3
    assert racer.row(Device.usage_count) == len(right)


@pytest.mark.covers("attack A01")
def test_of_200_wrong_codes_five_are_counted_and_no_right_one_gets_in_afterwards(racer: Racer) -> None:
    registered = racer.register().ok()
    near = {code(registered, ahead) for ahead in range(-2, 3)}
    wrong = [otp for otp in map("{:06}".format, range(250)) if otp not in near][:200]
    assert Counter(at_once(200, lambda n: racer.verify(wrong[n]))) == {False: 200}
    assert racer.row(Device.failures) == 5
    assert racer.row(Device.locked_until)
    assert not racer.verify(code(registered))


def test_devices_do_not_wait_for_each_other(arena: Arena) -> None:
    racers = [Racer(arena) for _ in range(40)]
    registered = at_once(40, lambda n: racers[n].register().ok())
    assert Counter(at_once(40, lambda n: racers[n].verify(code(registered[n])))) == {True: 40}


def test_one_id_goes_to_one_of_many(racer: Racer) -> None:
    answers = at_once(40, lambda _: racer.register())
    assert codes(answers) == {"ok": 1, "conflict": 39}
    [won] = [a for a in answers if a.status == 201]
    assert racer.verify(code(won))


def test_a_device_that_is_registered_anew_by_many_has_one_new_key(racer: Racer) -> None:
    racer.register().ok()
    racer.api.post(f"{DEVICES}/{racer.name}/deactivate", None, KEY).ok()
    assert codes(at_once(40, lambda _: racer.register())) == {"ok": 1, "conflict": 39}
    assert racer.row(Device.key_version) == 2


def test_50_registrations_with_one_idempotency_key_are_one(racer: Racer) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    answers = at_once(50, lambda _: racer.register(**key), threads=50)
    assert codes(answers) == {"ok": 50}
    assert len({a["data"]["derived_key"] for a in answers}) == 1


def test_of_keys_made_at_once_the_last_alone_is_right(racer: Racer) -> None:
    racer.register().ok()
    answers = at_once(20, lambda _: racer.rotate(), threads=20)
    made = [a for a in answers if a.status == 200]
    assert set(codes(answers)) <= {"ok", "conflict"}
    assert racer.row(Device.key_version) == 1 + len(made)
    digest = racer.row(Device.key_digest)
    [last] = [a for a in made if hashlib.sha256(base64.b64decode(a["data"]["derived_key"])).hexdigest() == digest]
    others = [a for a in made if a is not last]
    assert not any(racer.verify(code(a)) for a in others[:4])
    assert racer.verify(code(last))


def test_a_code_is_refused_from_the_moment_its_device_is_off(racer: Racer) -> None:
    """Off and a use at once: whichever came first in the database decides, and afterwards nothing gets in."""
    registered = racer.register().ok()
    off = f"{DEVICES}/{racer.name}/deactivate"
    at_once(20, lambda n: racer.verify(code(registered)) if n % 2 else racer.api.post(off, None, KEY).ok(), threads=20)
    assert not racer.verify(code(registered, 1))


def test_nothing_failed_on_the_way(arena: Arena) -> None:
    text = arena.service.log.read_text()
    assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:4000]
    assert "status=500" not in text
