"""Databases and Redis that are away, slow or full of junk."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
import sqlalchemy as sa
import sqlalchemy.orm
from flask import Flask
from limits.storage import RedisStorage

from app import create_app
from app.errors import Unavailable
from app.models import AuditLog, Session, Throttle, User
from app.work import Kit, Work, run
from bench.faults import UNFORESEEN
from bench.proxy import Proxy, proxy
from tests.conftest import World
from tests.lanes import Lane
from tests.people import Answer, Api, Person, flask_transport
from tools import servers


@pytest.fixture
def alone(lane: Lane) -> Flask:
    """An application whose database is not there."""
    url = sa.make_url(lane.database_url)
    gone = f"sqlite:////no/such/folder/{url.database}" if lane.name == "sqlite" else url.set(port=1)
    text = gone if isinstance(gone, str) else gone.render_as_string(hide_password=False)
    return create_app(lane.settings(database_url=text, redis_url=None))


@pytest.fixture
def unreachable(alone: Flask) -> Api:
    return Api(flask_transport(alone))


def test_a_courier_without_the_database_says_why_it_waits(alone: Flask, caplog: pytest.LogCaptureFixture) -> None:
    courier = alone.extensions["courier"]
    courier.start()
    try:
        for _ in range(100):
            if "the database is away (OperationalError" in caplog.text:
                break
            time.sleep(0.1)
    finally:
        courier.stop()
    assert "the database is away (OperationalError" in caplog.text


@pytest.mark.covers("fault F01", "asvs 16.5.2")
def test_without_the_database_the_answer_is_503_and_says_when_to_come_back(
    unreachable: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "latchkey.request")
    started = time.monotonic()
    answer = unreachable.post("/api/auth/login", {"identifier": "a@example.com", "password": "x" * 8})
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "unavailable", "2")
    assert "OperationalError" in causes(caplog)[0], "the log says why, and the answer does not"
    assert "cause" not in answer.body
    assert time.monotonic() - started < 5
    health = unreachable.transport("GET", "/health", None, {})
    assert (health.status, health.body["status"], health.body["checks"]["database"]) == (503, "down", "down")
    assert unreachable.get("/health/live").status == 200
    assert unreachable.post("/api/auth/login", {}).code == "validation_failed", "nobody asks what time it is"


def causes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the lines of requests say of the database."""
    told = [record.__dict__["fields"] for record in caplog.records if record.name == "latchkey.request"]
    return [fields["cause"] for fields in told if "cause" in fields]


@pytest.fixture
def cutting(_apps: dict[Any, World]) -> Iterator[None]:
    """Other worlds of this worker keep connections to the same database: they must not find theirs cut as well."""
    yield
    for world in _apps.values():
        world.engine.dispose()


@pytest.mark.usefixtures("cutting")
@pytest.mark.covers("fault F02")
def test_connections_that_the_server_closed_are_replaced_without_an_error(world: World, person: Person) -> None:
    if world.lane.name == "sqlite":
        pytest.skip("a file has no connections to close")
    for _ in range(3):
        person.me().ok()
        close_all(world)
        assert person.me().status == 200
        close_all(world)
        assert person.api.post("/api/auth/login", {"identifier": "x@example.com", "password": "x" * 8}).status == 401


def close_all(world: World) -> None:
    """End every connection of the application from the server's side."""
    admin = sa.create_engine(world.engine.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        if world.lane.name == "postgresql":
            ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(sa.text(ending))
        else:
            name = world.engine.url.database
            query = "SELECT id FROM information_schema.processlist WHERE db = :d AND id <> CONNECTION_ID()"
            for number in connection.scalars(sa.text(query), {"d": name}).all():
                connection.execute(sa.text(f"KILL {number}"))


AT_ONCE_S = 1.5  # on a busy machine; whoever waits for a frozen server takes longer


@dataclass
class Remote:
    """An application whose database is behind a proxy that can freeze it."""

    api: Api
    kit: Kit
    between: Proxy
    identifier: str = field(default_factory=lambda: f"{uuid4()}@example.com")

    def ask(self) -> tuple[Answer, float]:
        """Somebody's sign-in with a wrong password, and how long its answer took."""
        began = time.monotonic()
        answer = self.api.post("/api/auth/login", {"identifier": self.identifier, "password": "wrong horse 7"})
        return answer, time.monotonic() - began

    def ask_at_once(self, times: int) -> list[float]:
        """Many of them, all turned away. How long each took, the longest last."""
        with ThreadPoolExecutor(6) as pool:
            told = list(pool.map(lambda _: self.ask(), range(times)))
        assert all(is_away(answer) for answer, _ in told), {(answer.status, answer.code) for answer, _ in told}
        return sorted(took for _, took in told)

    @property
    def told(self) -> int:
        """The rows of the audit log."""
        return int(run(self.kit, lambda work: work.db.scalar(sa.select(sa.func.count(AuditLog.id))), reads=True))


def is_away(answer: Answer) -> bool:
    return (answer.status, answer.code, answer.headers.get("Retry-After")) == (503, "unavailable", "2")


@pytest.fixture
def remote(lane: Lane) -> Iterator[Remote]:
    if lane.name != "postgresql":
        pytest.skip("PyMySQL waits no longer than it is told, and a file always answers")
    url = sa.make_url(lane.database_url)
    with proxy(url.port or 5432) as between:
        through = url.set(host="127.0.0.1", port=between.port).render_as_string(hide_password=False)
        app = create_app(lane.settings(database_url=through, ratelimit=False))
        kit = app.extensions["courier"].kit
        yield Remote(Api(flask_transport(app)), kit, between)
        between.become("pass")
        kit.writes.kw["bind"].dispose()


@pytest.mark.covers("fault F03")
def test_a_database_that_takes_connections_and_never_answers_is_away(remote: Remote) -> None:
    """Whoever is there when it freezes waits for a pulse, whoever comes later is turned away at once, and all is well
    as soon as it answers again. What was given up leaves nothing.
    """
    before = remote.told
    assert remote.ask()[0].status == 401
    each = remote.told - before
    remote.between.become("hang")
    assert remote.ask_at_once(6)[-1] < 3
    assert remote.ask_at_once(60)[-2] < AT_ONCE_S, "more than the one who looks waited"
    began = time.monotonic()
    health = remote.api.transport("GET", "/health", None, {})
    assert (health.status, health.body["checks"]["database"]) == (503, "down")
    assert time.monotonic() - began < 3
    assert remote.api.get("/health/live").status == 200
    remote.between.become("pass")
    thawed = time.monotonic()
    while (answer := remote.ask()[0]).status == 503 and time.monotonic() - thawed < 5:
        time.sleep(0.1)
    assert answer.status == 401
    assert remote.told == before + 2 * each


@pytest.mark.covers("fault F03")
def test_one_at_a_time_looks_whether_the_database_is_back(remote: Remote) -> None:
    """They have no connection from before; all others are turned away meanwhile."""
    remote.between.become("hang")
    began, waited = time.monotonic(), []

    def go_on(_: int) -> None:
        while time.monotonic() - began < 6:
            answer, took = remote.ask()
            assert is_away(answer)
            if took > AT_ONCE_S:
                waited.append((time.monotonic() - took, time.monotonic()))
            time.sleep(0.02)

    assert is_away(remote.ask()[0])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(go_on, range(4)))
    assert waited, "nobody looked"
    assert max(end - start for start, end in waited) < 3
    assert all(end <= start for (_, end), (start, _) in pairwise(sorted(waited)))


SLOW_S = 4.0  # longer than anybody waits for a frozen server


@pytest.mark.covers("fault F03")
def test_a_statement_that_takes_long_is_not_cut(lane: Lane, remote: Remote) -> None:
    """Neither one that works, nor one that waits for a row; and nobody is turned away for it."""
    tried: list[float] = []

    def sleeps(work: Work) -> None:
        tried.append(time.monotonic())
        work.db.execute(sa.text(f"SELECT pg_sleep({SLOW_S})"))

    assert remote.ask()[0].status == 401
    holder = sa.create_engine(lane.database_url, poolclass=sa.NullPool)
    with ThreadPoolExecutor(3) as pool:
        with holder.begin() as other:
            other.execute(sa.select(Throttle).with_for_update())
            asked, slept = pool.submit(remote.ask), pool.submit(run, remote.kit, sleeps)
            while time.monotonic() < (tried or [time.monotonic()])[0] + SLOW_S:
                assert remote.api.transport("GET", "/health", None, {}).body["checks"]["database"] == "ok"
                time.sleep(0.2)
        answer, took = asked.result()
        slept.result()
    assert (answer.status, len(tried)) == (401, 1)
    assert took > SLOW_S - 1


READS_ONLY = {
    "postgresql": "SET default_transaction_read_only = on",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


@pytest.fixture
def read_only(world: World) -> Iterator[Callable[[], None]]:
    """What makes every connection of the application refuse to write; they may again afterwards."""

    def refuse(connection: Any, *_: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(READS_ONLY[world.lane.name])
        cursor.close()
        connection.commit()

    def begin() -> None:
        world.engine.dispose()
        sa.event.listen(world.engine, "connect", refuse)

    yield begin
    sa.event.remove(world.engine, "connect", refuse)
    world.engine.dispose()


@pytest.mark.covers("fault F04")
def test_a_database_that_only_reads_refuses_acts_and_goes_on_knowing_who_is_who(
    world: World, person: Person, read_only: Callable[[], None]
) -> None:
    world.sends_at_once = False
    read_only()
    assert person.me().status == 200
    for answer in (person.ask_signin(), person.refresh(), person.ask_signin(password="wrong horse 7")):
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "unavailable", "2")


@pytest.mark.covers("fault F04")
def test_a_refusal_that_a_database_does_not_take_is_one_line_and_no_fault(
    world: World, read_only: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    read_only()
    assert world.api().get("/api/auth/me", "no.good.token").code == "token_invalid"
    assert world.api().post("/api/auth/login", {}).code == "validation_failed"
    said = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in said] == ["a refusal has no audit row"] * 2
    assert [record.__dict__["fields"]["code"] for record in said] == ["token_invalid", "validation_failed"]
    assert all(record.__dict__["fields"]["cause"] for record in said)
    assert not any(record.exc_info for record in caplog.records)
    assert not UNFORESEEN.search(caplog.text)


@pytest.mark.covers("fault F05", "asvs 13.1.2", "asvs 13.2.6")
def test_an_exhausted_pool_answers_503_and_heals(
    world: World, person: Person, caplog: pytest.LogCaptureFixture
) -> None:
    world.sends_at_once = False
    caplog.set_level("INFO", "latchkey.request")
    size = world.engine.pool.size()
    held = [world.engine.connect() for _ in range(size)]
    try:
        started = time.monotonic()
        answer = person.me()
        assert (answer.status, answer.code) == (503, "unavailable")
        assert causes(caplog) == ["no connection was free"]
        assert time.monotonic() - started < 4
    finally:
        for connection in held:
            connection.close()
    assert person.me().status == 200


def test_a_unit_whose_connection_breaks_at_its_commit_is_not_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it took hold is not known: done again, it could have been done twice."""
    done: list[int] = []

    def broken(_session: object) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, OSError("gone"), connection_invalidated=True)

    def story(_work: Work) -> None:
        done.append(1)

    monkeypatch.setattr(sa.orm.Session, "commit", broken)
    with pytest.raises(Unavailable):
        run(world.kit, story)
    assert done == [1]


@pytest.mark.covers("fault F07")
def test_a_unit_that_always_loses_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def story(_work: Work) -> None:
        tries.append(1)
        raise sa.exc.OperationalError("UPDATE", {}, Exception("40001"))

    monkeypatch.setattr("app.work.lost_a_race", lambda _error: True)
    with pytest.raises(Unavailable):
        run(world.kit, story)
    assert len(tries) == 4


@pytest.mark.covers("fault F07", "asvs 15.4.3")
@pytest.mark.parametrize("savepoint", [False, True])
def test_a_deadlock_is_resolved_by_doing_the_unit_again(world: World, savepoint: bool) -> None:
    """Two units take two rows in crossed order; both get done, each once."""
    if world.lane.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    people = [world.person().sign_up() for _ in range(2)]
    ids = [p.tokens["user"]["id"] for p in people]
    meet, tries = threading.Barrier(2, timeout=5), [0, 0]

    def unit(n: int) -> None:
        def story(work: Work) -> None:
            tries[n] += 1
            order = ids if n == 0 else ids[::-1]
            for step, user_id in enumerate(order):
                named = sa.update(User).where(User.id == UUID(user_id)).values(name=f"by {n}")
                write = partial(work.db.execute, named, execution_options={"synchronize_session": False})
                if savepoint and step == 1:
                    assert work.if_free(write)
                else:
                    write()
                if step == 0 and tries[n] == 1:
                    meet.wait()

        run(world.kit, story)

    threads = [threading.Thread(target=unit, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tries) == [1, 2]
    assert len({p.me()["name"] for p in people}) == 1


@pytest.mark.covers("asvs 16.5.3", "attack A80")
def test_a_fault_leaves_nothing_behind(world: World, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.count(AuditLog)
    monkeypatch.setattr("app.flows.door.tokens.access", lambda *_: 1 / 0)
    asked = person.ask_signin().ok()
    code = person.code()
    body = {"challenge_id": asked["challenge_id"], "otp": code}
    response = world.app.test_client().post("/api/auth/login/verify", json=body)
    assert response.status_code == 500
    monkeypatch.undo()
    assert world.count(AuditLog) == before + 1
    person.verify_signin(asked["challenge_id"], code).ok()


GUARDS = {  # what a right and a wrong password are answered where the guard cannot say
    "accounts.look_up": (500, 500),
    "passwords.matches": (500, 500),
    "lockout.hold": (500, 500),
    "lockout.count_wrong": (200, 500),
    "policy.next_step": (500, 401),
    "accounts.note_signin": (500, 401),
}


@pytest.mark.covers("attack A80", "asvs 16.5.3")
@pytest.mark.parametrize("guard", GUARDS)
def test_a_guard_that_fails_lets_nobody_in(make_world: Any, monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    """Where the password alone would open the door."""
    world = make_world(mfa_policy="optional")
    person = world.person().sign_up()
    before = world.count(Session)
    monkeypatch.setattr(f"app.flows.signin.{guard}", lambda *_, **__: 1 / 0)
    client = world.app.test_client()
    given = [{"identifier": person.email, "password": password} for password in (person.password, "wrong horse 7")]
    answers = [client.post("/api/auth/login", json=each) for each in given]
    assert tuple(answer.status_code for answer in answers) == GUARDS[guard]
    opened = [answer for answer in answers if "access_token" in answer.get_json()]
    assert len(opened) == GUARDS[guard].count(200) == world.count(Session) - before


@pytest.fixture
def redis_world(make_world: Any, lane: Lane) -> World:
    if lane.redis_url is None:
        pytest.skip("this lane counts in memory")
    return make_world()


def hammer(world: World, times: int) -> list[Answer]:
    return [world.api().post("/api/auth/forgot-password", {"email": f"h{n}@example.com"}) for n in range(times)]


def test_the_limit_by_address_refuses_and_says_when_to_come_back(make_world: Any) -> None:
    world = make_world()
    answers = hammer(world, 70)
    refused = [a for a in answers if a.status == 429]
    assert len(refused) in range(9, 12)
    assert {a.code for a in refused} == {"rate_limited"}
    assert 1 <= refused[0]["retry_after"] <= 60
    assert [row.reason for row in world.audit(event="request.refused")] == ["rate_limited"]
    assert world.api("198.51.100.9").post("/api/auth/forgot-password", {"email": "other@example.com"}).status == 200


@pytest.mark.covers("attack A08")
def test_ipv6_addresses_of_one_network_are_one_client(make_world: Any) -> None:
    world = make_world()
    statuses = [
        world.api(f"2001:db8:1:2::{n:x}").post("/api/auth/forgot-password", {"email": f"v{n}@example.com"}).status
        for n in range(1, 70)
    ]
    assert statuses.count(429) in range(8, 11)


@pytest.mark.covers("fault F08")
def test_when_redis_is_away_each_process_counts_by_itself(lane: Lane) -> None:
    if lane.redis_url is None:
        pytest.skip("this lane counts in memory")
    app = create_app(lane.settings(redis_url="redis://127.0.0.1:1/0", metrics_public=True))
    api = Api(flask_transport(app, "198.51.100.77"))
    started = time.monotonic()
    statuses = [api.post("/api/auth/forgot-password", {"email": f"r{n}@example.com"}).status for n in range(70)]
    assert statuses.count(429) in range(9, 12)
    assert set(statuses) == {200, 429}
    assert time.monotonic() - started < 20
    assert "latchkey_limits_shared 0.0" in app.test_client().get("/metrics").text
    health = api.transport("GET", "/health", None, {})
    assert (health.status, health.body["checks"]["redis"]) == (200, "degraded")


@pytest.mark.covers("fault F08")
def test_redis_that_takes_connections_and_never_answers_is_away_for_all_at_once(lane: Lane) -> None:
    if lane.redis_url is None:
        pytest.skip("this lane counts in memory")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as mute:
        app = create_app(lane.settings(redis_url=f"redis://127.0.0.1:{mute.getsockname()[1]}/0"))
        meet = threading.Barrier(6)

        def ask(number: int) -> int:
            meet.wait(5)
            body = {"email": f"h{number}@example.com"}
            return Api(flask_transport(app, "198.51.100.78")).post("/api/auth/forgot-password", body).status

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(ask, range(6))) == [200] * 6


@pytest.mark.covers("fault F09")
def test_flushing_redis_gives_no_extra_guess(redis_world: World) -> None:
    world = redis_world
    person = world.person().sign_up()
    store = redis.Redis.from_url(world.lane.redis_url)
    codes = []
    for _ in range(12):
        store.flushdb()
        codes.append(person.api.post("/api/auth/login", {"identifier": person.email, "password": "wrong horse 7"}).code)
    store.close()
    assert codes == ["invalid_credentials"] * 5 + ["account_locked"] * 7


@dataclass
class OwnRedis:
    """A Redis that nobody else uses, so that it may be filled, made a replica and started again."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [str(servers.redis_bin()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not servers._listens(self.port):
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)

    def is_emptied(self) -> None:
        with redis.Redis.from_url(self.url) as store:
            store.flushall()

    def is_started_again_empty(self) -> None:
        self.stop()
        self.start()

    def is_full(self) -> None:
        with redis.Redis.from_url(self.url) as store:
            store.config_set("maxmemory", "1")

    def is_a_replica(self) -> None:
        """One that lost its master, and takes no write."""
        with redis.Redis.from_url(self.url) as store:
            store.replicaof("127.0.0.1", "1")


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    if servers.redis_bin() is None:
        pytest.skip("*** NOT TESTED, no Redis to start ***")
    own = OwnRedis(servers.free_port())
    own.start()
    yield own
    own.stop()


@pytest.mark.one_lane
@pytest.mark.covers("fault F09")
@pytest.mark.parametrize("what", ["is_emptied", "is_started_again_empty", "is_full", "is_a_replica"])
def test_whatever_becomes_of_redis_there_is_no_extra_guess_no_error_and_still_a_limit(
    make_world: Any, own_redis: OwnRedis, what: str
) -> None:
    world = make_world(redis_url=own_redis.url)
    body = {"identifier": f"{what}@example.com", "password": "wrong horse 7"}
    codes = []
    for _ in range(7):
        codes.append(world.api().post("/api/auth/login", body).code)
        getattr(own_redis, what)()
    assert codes == ["invalid_credentials"] * 5 + ["account_locked"] * 2
    answers = hammer(world, 70)
    assert {answer.status for answer in answers} == {200, 429}
    assert len([answer for answer in answers if answer.status == 429]) in range(9, 12)


@pytest.mark.one_lane
@pytest.mark.covers("fault F09")
@pytest.mark.parametrize("what", ["is_full", "is_a_replica", "stop"])
def test_a_report_that_is_refused_stays_so_whatever_becomes_of_redis_and_is_counted(
    make_world: Any, own_redis: OwnRedis, what: str
) -> None:
    """It is counted once it is answered: a Redis that is read and takes no write shows itself only then."""
    world = make_world(redis_url=own_redis.url, webhook_secret="w" * 40)
    client = world.app.test_client()
    getattr(own_redis, what)()
    refused = [client.post("/api/webhooks/msg91/x", json={}).status_code for _ in range(340)]
    assert set(refused) == {404, 429}


@pytest.mark.one_lane
@pytest.mark.covers("fault F08")
def test_redis_that_goes_away_while_a_request_is_refused_makes_no_fault_of_it(
    make_world: Any, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(redis_url=own_redis.url)
    asked = RedisStorage.get_sliding_window

    def too_late(*request: Any) -> Any:
        own_redis.stop()
        return asked(*request)

    monkeypatch.setattr(RedisStorage, "get_sliding_window", too_late)
    answers = hammer(world, 62)
    assert {answer.status for answer in answers} == {200, 429}
    assert own_redis.process
    assert own_redis.process.poll() is not None, "it was asked how long to wait"


@pytest.mark.one_lane
@pytest.mark.parametrize("begun", [20.4, 33.3, 41.9, 50.7])
def test_whoever_waits_as_long_as_a_limit_says_is_let_through(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, begun: float
) -> None:
    """Where the minute before counts too, room comes at odd moments. `begun`: so far into the second minute."""
    world, minute = make_world(redis_url=None), 4_000_000_020.0
    now = minute
    monkeypatch.setattr("time.time", lambda: now)
    assert {answer.status for answer in hammer(world, 7)} == {200}
    now = minute + 60 + begun
    refused = hammer(world, 60)[-1]
    assert refused.status == 429
    now += refused["retry_after"]
    assert hammer(world, 1)[0].status == 200
    now -= 1
    assert refused["retry_after"] == 1 or hammer(world, 60)[-1].status == 429, "nor is it told to wait in vain"


@pytest.mark.covers("fault F10")
def test_junk_in_redis_is_no_error(redis_world: World) -> None:
    world = redis_world
    store = redis.Redis.from_url(world.lane.redis_url)
    hammer(world, 3)
    keys = store.keys("*")
    assert keys
    for key in keys:
        store.delete(key)
        store.rpush(key, "junk")
    answers = hammer(world, 3)
    store.flushdb()
    store.close()
    assert {a.status for a in answers} == {200}


@pytest.mark.parametrize(("waited", "tries"), [(0.1, 4), (10.0, 1)])
def test_a_database_that_was_silent_is_not_waited_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch, waited: float, tries: int
) -> None:
    now, begun = [0.0], []

    def story(_work: Work) -> None:
        begun.append(now[0])
        now[0] += waited
        raise sa.exc.OperationalError("SELECT", {}, Exception(), connection_invalidated=True)

    monkeypatch.setattr("app.work.time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))
    with pytest.raises(Unavailable):
        run(world.kit, story)
    assert len(begun) == tries


def test_mariadb_must_greet_sooner_than_it_must_answer(world: World) -> None:
    """PyMySQL has one patience for both, and the host of a server that is stopped still takes connections."""
    if world.lane.name != "mariadb":
        pytest.skip("asks PyMySQL")
    asked = []

    def note(_dialect: Any, _record: Any, _given: Any, named: dict[str, Any]) -> None:
        asked.append(named["read_timeout"])

    sa.event.listen(world.engine, "do_connect", note)
    try:
        world.engine.dispose()
        with world.engine.connect() as connection:
            answers_in = connection.connection.dbapi_connection._read_timeout
    finally:
        sa.event.remove(world.engine, "do_connect", note)
    assert (asked, answers_in) == ([2], 10)
