"""Statistics: each act is counted once, live and when its hour is rolled up."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from app.core import stats
from app.delivery import upkeep
from app.models import HourlyCount, OutboxMessage
from tests.conftest import World
from tests.people import Person, wrong
from tests.security_key import Authenticator
from tests.web.admins import of_role
from tests.web.test_passkeys import sign_in, start_options

PATH = "/api/admin/stats"


@pytest.fixture
def admin(world: World) -> Person:
    return of_role(world, "admin")


def asked(admin: Person, query: str = "") -> list[dict[str, Any]]:
    return admin.api.get(f"{PATH}?{query}", admin.token).ok()["series"]


def a_busy_hour(world: World) -> Person:
    """Two sign-ups, three sign-ins, four refused ones and a lock; codes by mail and to India, one of them delivered."""
    phoned = world.person(email="", phone="+919876543210").sign_up()
    with world.engine.begin() as connection:
        connection.execute(
            sa.update(OutboxMessage.__table__).where(OutboxMessage.channel == "sms").values(state="delivered")
        )
    mailed = world.person().sign_up()
    question = mailed.ask_signin()
    mailed.verify_signin(question["challenge_id"], wrong(mailed.code()))
    mailed.verify_signin(question["challenge_id"], mailed.code()).ok()
    for _ in range(5):
        world.api().post("/api/auth/login", {"identifier": "nobody@example.com", "password": "wrong horse 7"})
    return phoned


def test_what_happened_stands_in_its_hour(world: World, admin: Person) -> None:
    before = asked(admin, "from=2026-11-21T10:00:00Z")[0]
    a_busy_hour(world)
    [hour] = asked(admin, "from=2026-11-21T10:00:00Z")
    assert hour["at"] == "2026-11-21T10:00:00Z"
    assert hour["signups"] - before["signups"] == 2
    assert hour["signins"]["ok"] - before["signins"]["ok"] == 3
    assert hour["signins"]["refused"] == 6
    assert hour["lockouts"] == 1
    assert hour["active_sessions"] - before["active_sessions"] == 3
    mail, sms = hour["codes"]
    assert sms == {"channel": "sms", "country": "IN", "sent": 1, "delivered": 1, "verified": 1}
    [mail_before] = before["codes"]
    assert (mail["channel"], mail["country"], mail["delivered"]) == ("email", None, 0)
    assert (mail["sent"] - mail_before["sent"], mail["verified"] - mail_before["verified"]) == (2, 2)


def test_a_refused_sign_in_is_one_that_was_tried(world: World, admin: Person) -> None:
    """A wrong code, and a passkey that is none here; not what was asked too often."""
    person = world.person().sign_up()

    def refused() -> int:
        count: int = asked(admin, "from=2026-11-21T10:00:00Z")[0]["signins"]["refused"]
        return count

    question = person.ask_signin()["challenge_id"]
    for _ in range(3):
        assert person.api.post("/api/auth/resend-otp", {"challenge_id": question}).code == "resend_too_soon"
    while (answer := person.api.post("/api/v1/auth/send-otp", {"mobile_number": "+919876543210"})).status == 200:
        pass
    assert (answer.code, refused()) == ("rate_limited", 0)
    assert person.verify_signin(question, wrong(person.code())).code == "invalid_code"
    assert refused() == 1
    stranger = Authenticator()
    stranger.create(start_options(person))
    assert sign_in(person.api, stranger).code == "invalid_credentials"
    assert refused() == 2


def test_a_code_that_was_sent_twice_is_verified_once(world: World, admin: Person) -> None:
    person = world.person()
    challenge = person.ask_signup().ok()["challenge_id"]
    before = asked(admin, "from=2026-11-21T10:00:00Z")[0]["codes"][0]
    assert before["sent"] - before["verified"] == 1, "nobody has answered it yet"
    world.clock.advance(seconds=31)
    person.api.post("/api/auth/resend-otp", {"challenge_id": challenge}).ok()
    person.verify_signup(challenge, person.code()).ok()
    after = asked(admin, "from=2026-11-21T10:00:00Z")[0]["codes"][0]
    assert (after["sent"] - before["sent"], after["verified"] - before["verified"]) == (1, 1)


def test_an_hour_reads_the_same_when_it_is_rolled_up(world: World, admin: Person) -> None:
    a_busy_hour(world)
    world.clock.advance(hours=1)
    a_later = world.person().sign_up()
    world.clock.advance(hours=3)
    a_later.sign_in()
    admin.sign_in()
    live = asked(admin, "from=2026-11-21T10:00:00Z")
    assert [bucket["signups"] for bucket in live] == [3, 1, 0, 0, 0]
    assert upkeep.count(world.kit) == 2
    assert world.count(HourlyCount) > 4
    assert asked(admin, "from=2026-11-21T10:00:00Z") == live
    assert upkeep.count(world.kit) == 0
    world.clock.advance(hours=24)
    admin.sign_in()
    assert upkeep.count(world.kit) == 24
    again = asked(admin, "from=2026-11-21T10:00:00Z&to=2026-11-21T15:00:00Z")
    assert again == live
    later = asked(admin, "from=2026-11-21T11:00:00Z&to=2026-11-21T15:00:00Z")
    assert later == live[1:], "what was counted before is in no bucket"
    [day] = asked(admin, "from=2026-11-21&to=2026-11-22&interval=day")
    assert day["signups"] == 4
    assert day["signins"]["ok"] == sum(bucket["signins"]["ok"] for bucket in live)
    assert day["codes"][1] == live[0]["codes"][1]
    assert day["active_sessions"] == live[-1]["active_sessions"]


def test_a_day_in_whose_last_hours_nothing_was_left_ends_with_no_session(world: World, admin: Person) -> None:
    world.clock.advance(hours=1)
    admin.api.post("/api/auth/logout", {"everywhere": True}, admin.token).ok()
    world.clock.advance(hours=26)
    upkeep.count(world.kit)
    admin.sign_in()
    [day] = asked(admin, "from=2026-11-21&to=2026-11-22&interval=day")
    assert (day["signups"], day["active_sessions"]) == (1, 0)


@pytest.mark.one_copy
@pytest.mark.one_lane("postgresql")  # SQLite shows a reader one moment
def test_an_hour_that_is_rolled_up_while_they_are_read_is_not_missed(world: World, admin: Person) -> None:
    a_busy_hour(world)
    world.clock.advance(hours=4)
    admin.sign_in()
    before = asked(admin, "from=2026-11-21T10:00:00Z")
    rolled: list[int] = []

    @sa.event.listens_for(world.engine, "after_cursor_execute")
    def roll(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "hourly_counts" in statement and not rolled:
            rolled.append(0)
            rolled[0] = upkeep.count(world.kit)

    try:
        assert asked(admin, "from=2026-11-21T10:00:00Z") == before
    finally:
        sa.event.remove(world.engine, "after_cursor_execute", roll)
    assert rolled == [2]


def test_what_was_rolled_up_outlives_its_rows(world: World, admin: Person) -> None:
    a_busy_hour(world)
    world.clock.advance(hours=4)
    admin.sign_in()
    before = asked(admin, "from=2026-11-21T10:00:00Z&to=2026-11-21T11:00:00Z")
    upkeep.count(world.kit)
    with world.engine.begin() as connection:
        connection.execute(sa.delete(OutboxMessage.__table__))
    assert asked(admin, "from=2026-11-21T10:00:00Z&to=2026-11-21T11:00:00Z") == before


def test_hours_that_a_clock_put_forward_and_back_had_counted_are_counted_when_they_come(
    world: World, admin: Person
) -> None:
    a_busy_hour(world)
    world.clock.advance(hours=30)
    assert upkeep.count(world.kit) == 28
    world.clock.advance(hours=-29)
    assert upkeep.count(world.kit) == 0  # within a minute
    world.person().sign_up()
    world.clock.advance(hours=4)
    admin.sign_in()
    live = asked(admin, "from=2026-11-21T10:00:00Z")
    assert upkeep.count(world.kit) == 3
    counted = asked(admin, "from=2026-11-21T10:00:00Z")
    assert [hour["signups"] for hour in counted] == [3, 1, 0, 0, 0, 0]
    assert counted == live
    assert upkeep.count(world.kit) == 0


def test_several_processes_count_an_hour_once(world: World, admin: Person) -> None:
    a_busy_hour(world)
    world.clock.advance(hours=9)
    admin.sign_in()
    live = asked(admin, "from=2026-11-21T10:00:00Z")
    faults: list[Exception] = []

    def roll() -> None:
        try:
            while upkeep.count(world.kit):
                pass
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=roll) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    upkeep.count(world.kit)
    assert faults == []
    assert len(world.rows(HourlyCount, metric="rolled")) == 7
    assert asked(admin, "from=2026-11-21T10:00:00Z") == live


def test_spans_that_cannot_be_are_refused(world: World, admin: Person) -> None:
    for query in (
        "from=2026-11-21T12:00:00Z",
        "from=2026-11-21T09:00:00Z&to=2026-11-21T08:00:00Z",
        "from=2026-10-01",
        "from=2025-01-01&interval=day",
        "from=0001-01-01&interval=day",
        "to=0001-01-01",
        "to=0001-01-01T00:00:00Z&interval=day",
        "to=9999-12-31T23:59:59Z",
        "interval=week",
    ):
        assert admin.api.get(f"{PATH}?{query}", admin.token).code == "validation_failed", query
    assert len(asked(admin)) == 24
    assert len(asked(admin, "interval=day")) == 30
    assert len(asked(admin, "from=2026-10-22&interval=hour")) == 30 * 24 + 11


@pytest.mark.covers("asvs 8.2.1")
def test_they_are_for_those_who_may(world: World) -> None:
    person = world.person().sign_up()
    assert person.api.get(PATH, person.token).code == "forbidden"


def test_an_upgrade_counts_what_was_there_before(world: World, admin: Person) -> None:
    world.clock.advance(days=5)
    assert upkeep.count(world.kit) == upkeep.MOST_HOURS
    assert upkeep.count(world.kit) == 5 * 24 - 2 - upkeep.MOST_HOURS
    assert stats.floor(world.clock.now) - max(row.hour for row in world.rows(HourlyCount)) == 3 * stats.HOUR
