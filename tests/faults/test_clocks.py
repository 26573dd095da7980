"""Clocks that jump, clocks that differ, and days that are odd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app import clock, create_app
from app.delivery import upkeep
from app.models import OutboxMessage
from tests import lanes
from tests.authenticator import enrol, signin
from tests.conftest import World
from tests.lanes import Lane
from tests.people import Api, Clock, MemorySender, Person, flask_transport
from tests.web.admins import of_role

SIZES = {"90 s": timedelta(seconds=90), "an hour": timedelta(hours=1), "30 days": timedelta(days=30)}
BACK = {f"back by {size}": -by for size, by in SIZES.items()}
JUMPS = {f"forward by {size}": by for size, by in SIZES.items()} | BACK
APART = timedelta(seconds=120)
OTP_LIFE_S, TOKEN_LIFE_S = 300, 900
Start = Callable[..., World]


class Time(Clock):
    """What the time really is, and how far from it hosts and database are."""

    def __init__(self) -> None:
        super().__init__()
        self.host_is = self.database_is = timedelta(0)  # ahead by
        self.trip_s = 0.0  # that the question for the time takes, and again its answer

    def ticks(self) -> float:
        return (self() - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()

    def host(self) -> datetime:
        return self() + self.host_is

    def of_database(self, _line: sa.Connection) -> datetime:
        self.advance(seconds=self.trip_s)
        told = self() + self.database_is
        self.advance(seconds=self.trip_s)
        return told


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A time that the service's own clock has to find out."""
    real = Time()
    for name in ("ticks", "host", "of_database"):
        monkeypatch.setattr(clock, name, getattr(real, name))
    return real


@pytest.fixture
def start(lane: Lane, real: Time) -> Iterator[Start]:
    """Start the service, with its own clock, on hosts that are so far ahead."""
    senders = {channel: MemorySender(channel) for channel in ("email", "sms")}
    worlds: list[World] = []

    def starting(*ahead: timedelta) -> World:
        apps = []
        for host_is in ahead or [real.host_is]:
            real.host_is = host_is
            app = create_app(lane.settings(ratelimit=False), senders=senders)
            if ahead:
                app.wsgi_app = _on_host(app.wsgi_app, real, host_is)
            apps.append(app)
        worlds.append(World(apps[0], lane, real, senders, apps[1:]))
        return worlds[-1]

    first = starting()
    lanes.empty(first.engine)
    yield starting
    for world in worlds:
        world.let_go()


def _on_host(inner: Any, real: Time, host_is: timedelta) -> Any:
    def answer(environ: Any, respond: Any) -> Any:
        real.host_is = host_is
        return inner(environ, respond)

    return answer


def of_several_copies(lane: Lane) -> None:
    if lane.name == "sqlite":
        pytest.skip("all copies of a service on SQLite run on one host, and the host's clock at its start counts")


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What the clock has logged: the service's loggers pass nothing on."""
    monkeypatch.setattr(clock.log, "handlers", [caplog.handler])
    return lambda: caplog.messages


# The host's clock jumps


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
@pytest.mark.parametrize("again", [False, True], ids=["runs on", "starts again"])
@pytest.mark.covers("fault F24", "attack A71")
def test_a_jump_of_the_host_s_clock_changes_nothing(
    lane: Lane, real: Time, start: Start, jump: timedelta, again: bool
) -> None:
    world = start()
    person, early, late = world.person().sign_up(), world.person(), world.person()
    app = enrol(world, person)
    step = app.fresh()
    signin(person, step).ok()
    world.sends_at_once = False
    challenges = [each.ask_signup().ok()["challenge_id"] for each in (early, late)]
    real.host_is += jump
    if again:
        of_several_copies(lane)
        world = start()
        for each in (person, early, late):
            each.api, each.read = world.api(), world.read
    assert person.me().status == 200, "a token of just before"
    assert person.refresh().status == 200
    assert signin(person, step).code == "invalid_code", "a step that was used"
    codes = [each.code() for each in (early, late)]  # what was queued goes out
    real.advance(seconds=OTP_LIFE_S - 1)
    assert early.verify_signup(challenges[0], codes[0]).status == 200
    real.advance(seconds=2)
    assert late.verify_signup(challenges[1], codes[1]).code == "challenge_closed"


@pytest.mark.parametrize("jump", BACK.values(), ids=BACK.keys())
@pytest.mark.covers("fault F24", "attack A71")
def test_what_is_over_stays_over_when_the_host_s_clock_goes_back(real: Time, start: Start, jump: timedelta) -> None:
    world = start()
    person, asked = world.person().sign_up(), world.person()
    challenge = asked.ask_signup().ok()["challenge_id"]
    code = asked.code()
    real.advance(seconds=OTP_LIFE_S + 1)
    real.host_is = jump
    assert asked.verify_signup(challenge, code).code == "challenge_closed"
    real.host_is = timedelta(0)
    real.advance(seconds=TOKEN_LIFE_S - OTP_LIFE_S)
    real.host_is = jump
    assert person.me().code == "token_expired"
    real.host_is = timedelta(0)
    real.advance(days=7)
    real.host_is = jump
    assert person.refresh().status == 401


# Copies on hosts whose clocks differ, and a database whose clock is a third


@pytest.mark.covers("fault F25", "attack A71")
def test_copies_whose_hosts_differ_by_minutes_give_the_same_answers(lane: Lane, real: Time, start: Start) -> None:
    of_several_copies(lane)
    real.database_is = timedelta(seconds=-45)
    world = start(APART, -APART)
    here, there = (Api(flask_transport(app)) for app in (world.app, *world.copies))
    for first, second in ((here, there), (there, here)):
        person = Person(first, world.read).sign_up()
        person.api = second
        assert (person.me().status, person.refresh().status) == (200, 200)
        early, late = Person(first, world.read), Person(first, world.read)
        challenges = [each.ask_signup().ok()["challenge_id"] for each in (early, late)]
        codes = [each.code() for each in (early, late)]
        early.api = late.api = second
        real.advance(seconds=OTP_LIFE_S - 1)
        assert early.verify_signup(challenges[0], codes[0]).status == 200
        real.advance(seconds=2)
        assert late.verify_signup(challenges[1], codes[1]).code == "challenge_closed"
        body = {"identifier": person.email, "password": "wrong horse 7"}
        for _ in range(5):
            first.post("/api/auth/login", body)
        waits = [api.post("/api/auth/login", body)["retry_after"] for api in (first, second)]
        assert waits[0] - waits[1] in (0, 1)


@pytest.mark.covers("fault F25")
def test_the_service_goes_with_the_database_s_clock_and_says_that_it_jumped(
    lane: Lane, real: Time, start: Start, told: Callable[[], list[str]]
) -> None:
    of_several_copies(lane)
    world = start()
    person = world.person().sign_up()
    keeper = upkeep.Upkeep(world.kit)
    real.database_is = timedelta(hours=1)
    person.me().ok()
    real.advance(seconds=11)
    keeper.tick()
    assert person.me().code == "token_expired"
    assert "the database's clock has jumped by +3600.0 s, and the service with it" in told()


def test_half_the_way_of_the_answer_is_reckoned_with(lane: Lane, real: Time, start: Start) -> None:
    of_several_copies(lane)
    world, real.trip_s = start(), 0.4
    assert abs(world.kit.clock() - real.now) < timedelta(milliseconds=1)
    real.database_is, real.trip_s = timedelta(hours=1), 0.6
    world.kit.agree()
    assert abs(world.kit.clock() - real.now) < timedelta(milliseconds=1), (
        "an answer that took over a second says little"
    )


def test_a_host_whose_clock_is_off_is_told_of_once(real: Time, start: Start, told: Callable[[], list[str]]) -> None:
    world = start()
    for host_is in (0, 1.5, 3, 4, 0, -3):
        real.host_is = timedelta(seconds=host_is)
        world.kit.agree()
    assert told() == [
        f"the clock of this host is {off} s off the one that the service goes by" for off in ("+3.0", "-3.0")
    ]


def test_nobody_asks_for_the_time_before_the_fork(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(clock, "of_database", lambda line: asked.append(line) or datetime.now(UTC))
    kit = create_app(lane.settings()).extensions["courier"].kit
    assert asked == []
    kit.clock()
    kit.clock()
    assert len(asked) == (lane.name != "sqlite"), "once, and then it counts by itself"
    kit.writes.kw["bind"].dispose()


@pytest.mark.covers("fault F26")
def test_the_database_tells_utc_wherever_it_is(lane: Lane, world: World) -> None:
    of_several_copies(lane)
    with world.engine.connect() as line:
        line.execute(sa.text("SET TIME ZONE '+05:30'" if lane.name == "postgresql" else "SET time_zone = '+05:30'"))
        told = [clock.of_database(line) for _ in range(2)]
        assert abs(datetime.now(UTC) - told[1]) < timedelta(seconds=1)
        assert told[0] < told[1], "in one transaction, too, and to the microsecond"
        assert told[0].utcoffset() == timedelta(0)


# The one clock itself jumps: what happens is in docs/adr/0024


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS.keys())
@pytest.mark.covers("fault F24", "attack A71")
def test_nothing_is_accepted_twice_when_the_one_clock_jumps(world: World, person: Person, jump: timedelta) -> None:
    app = enrol(world, person)
    signin(person, app.fresh()).ok()
    backup = app.backup_codes[0]
    signin(person, backup).ok()
    person.refresh().ok()
    other, left, locked = world.person(), world.person().sign_up(), world.person()
    challenge = other.ask_signup().ok()["challenge_id"]
    code = other.code()
    other.verify_signup(challenge, code).ok()
    left.api.post("/api/auth/logout", None, left.token)
    while locked.ask_signin().status != 423:
        pass
    world.clock.now += jump
    assert person.refresh().status == 401, "a refresh token that was spent"
    assert left.refresh().status == left.me().status == 401, "a session that was ended"
    assert other.verify_signup(challenge, code).code in ("challenge_closed", "invalid_code")
    assert signin(person, backup).code == "invalid_code"
    assert signin(person, app.code()).status == (200 if jump > timedelta(0) else 400), "no step before the last one"
    assert locked.ask_signin().status in (401, 423)  # with at least a second to wait


def test_messages_wait_as_long_as_the_one_clock_has_gone_back(world: World) -> None:
    world.sends_at_once = False
    world.person().ask_signup().ok()
    world.clock.advance(minutes=-2)
    world.deliver()
    assert [row.state for row in world.rows(OutboxMessage)] == ["queued"]
    world.clock.advance(minutes=2)
    world.deliver()
    assert [row.state for row in world.rows(OutboxMessage)] == ["sent"]


@pytest.mark.one_copy
def test_upkeep_goes_on_when_the_one_clock_has_gone_back_by_days(world: World, person: Person) -> None:
    keeper = upkeep.Upkeep(world.kit)
    world.clock.advance(days=-30)
    keeper.tick()
    assert all(row.seal for row in world.audit())
    world.clock.advance(days=30)
    person.me().ok()
    world.clock.advance(days=-30)
    world.stamp()
    assert not world.kit.seen


# Odd moments. Nothing here knows a zone or counts seconds in 32 bits


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The process lives in another zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


BERLIN, AUCKLAND = "CET-1CEST,M3.5.0,M10.5.0/3", "NZST-12NZDT,M9.5.0,M4.1.0/3"
ODD = {
    "an hour comes twice": (BERLIN, datetime(2027, 10, 31, 0, 57, tzinfo=UTC)),
    "an hour is left out": (BERLIN, datetime(2027, 3, 28, 0, 57, tzinfo=UTC)),
    "a leap second": ("UTC0", datetime(2016, 12, 31, 23, 57, tzinfo=UTC)),
    "the seconds need 33 bits": ("EST5EDT,M3.2.0,M11.1.0", datetime(2038, 1, 19, 3, 11, tzinfo=UTC)),
    "2100 is no leap year": (AUCKLAND, datetime(2100, 2, 28, 23, 57, tzinfo=UTC)),
}


@pytest.mark.parametrize(("zone", "moment"), ODD.values(), ids=ODD.keys(), indirect=["zone"])
@pytest.mark.usefixtures("zone")
@pytest.mark.covers("fault F26")
def test_an_odd_moment_is_like_any_other(world: World, moment: datetime) -> None:
    world.clock.now = moment
    person, late = world.person(), world.person()
    challenges = [each.ask_signup().ok()["challenge_id"] for each in (person, late)]
    codes = [each.code() for each in (person, late)]
    world.clock.advance(seconds=OTP_LIFE_S - 1)
    person.verify_signup(challenges[0], codes[0]).ok()
    began = world.clock.now
    world.clock.advance(seconds=2)
    assert late.verify_signup(challenges[1], codes[1]).code == "challenge_closed"
    [session] = person.api.get("/api/auth/sessions", person.token)["items"]
    assert session["created_at"] == f"{began:%Y-%m-%dT%H:%M:%SZ}"
    app = enrol(world, person)
    step = app.code()
    assert (signin(person, step).code, signin(person, app.fresh()).status) == ("invalid_code", 200)
    world.clock.advance(seconds=TOKEN_LIFE_S - 2)
    assert person.me().status == 200
    world.clock.advance(seconds=3)
    assert person.me().code == "token_expired"
    assert person.refresh().status == 200
    world.clock.advance(days=8)
    assert person.refresh().status == 401
    world.clock.now = began + timedelta(days=29)
    assert upkeep.purge(world.kit)["messages"] == 0
    world.clock.advance(days=3)
    assert upkeep.purge(world.kit)["messages"] > 0
    upkeep.seal(world.kit)
    assert all(row.seal for row in world.audit())


@pytest.mark.covers("fault F26")
def test_a_leap_second_is_no_time_that_is_understood(world: World) -> None:
    admin = of_role(world, "admin")
    for path in ("/api/admin/audit-logs", "/api/admin/stats"):
        for name in ("from", "to"):
            assert admin.api.get(f"{path}?{name}=2016-12-31T23:59:60Z", admin.token).code == "validation_failed"
            assert admin.api.get(f"{path}?{name}=2016-12-31T23:59:59Z", admin.token).code != "internal_error"
