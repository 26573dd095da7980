"""Known and unknown identifiers: the same answers, and the same work to make them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.delivery import messages
from app.models import OutboxMessage, Throttle, User
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person

ROUTES: dict[str, Callable[[Person, str], Answer]] = {
    "login": lambda p, who: p.api.post("/api/auth/login", {"identifier": who, "password": "wrong horse 7"}),
    "login with a device token": lambda p, who: p.api.post(
        "/api/auth/login", {"identifier": who, "password": "wrong horse 7", "device_token": "A" * 43}
    ),
    "signup": lambda p, who: p.api.post("/api/auth/signup", {"email": who, "password": PASSWORD}),
    "forgot-password": lambda p, who: p.api.post("/api/auth/forgot-password", {"email": who}),
    "forgot-password by sms": lambda p, who: p.api.post("/api/auth/forgot-password", {"email": who, "channel": "sms"}),
}


def statements(world: World, act: Callable[[], Any]) -> list[str]:
    """The SQL of one act, without its values."""
    seen: list[str] = []

    def note(_conn, _cursor, statement, *_rest) -> None:
        seen.append(" ".join(statement.split())[:60])

    world.sends_at_once = False
    sa.event.listen(world.engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        sa.event.remove(world.engine, "before_cursor_execute", note)
        world.sends_at_once = True
    return seen


@pytest.mark.covers("asvs 6.3.8", "attack A31")
@pytest.mark.parametrize("route", ROUTES)
def test_known_and_unknown_look_alike(world: World, person: Person, route: str) -> None:
    world.clock.advance(minutes=2)
    known = ROUTES[route](person, person.email)
    unknown = ROUTES[route](person, "pobody@example.com")
    for answer in (known, unknown):
        for varying in ("challenge_id", "request_id"):
            answer.body.pop(varying, None)
        for varying in ("X-Request-ID", "Date"):
            answer.headers.pop(varying, None)
    assert (known.status, known.body, known.headers) == (unknown.status, unknown.body, unknown.headers)


@pytest.mark.one_copy
@pytest.mark.covers("attack A31")
def test_a_wrong_password_locks_as_many_rows_and_loads_as_little_whoever_it_is_for(
    world: World, person: Person
) -> None:
    both, loaded = world.person().sign_up(), []

    def note(*_: Any) -> None:
        loaded.append(1)

    with world.engine.begin() as connection:
        connection.execute(sa.update(User).where(User.email == both.email).values(phone="+919876500000"))
        connection.execute(sa.delete(Throttle))
    sa.event.listen(User, "load", note)
    rows = [world.count(Throttle)]
    for who in (both.email, person.email, "pobody@example.com", "pobody"):
        assert ROUTES["login"](person, who).status == 401
        rows.append(world.count(Throttle))
    sa.event.remove(User, "load", note)
    assert [after - before for before, after in itertools.pairwise(rows)] == [6] * 4
    assert loaded == []


@pytest.mark.one_copy
@pytest.mark.covers("attack A31")
@pytest.mark.parametrize("route", ROUTES)
def test_known_and_unknown_cost_the_same_statements(world: World, person: Person, route: str) -> None:
    world.clock.advance(minutes=2)
    for who in (person.email, "warm@example.com"):
        ROUTES[route](person, who)  # the counters' rows exist from here on
    world.clock.advance(minutes=2)
    known = statements(world, lambda: ROUTES[route](person, person.email))
    unknown = statements(world, lambda: ROUTES[route](person, "warm@example.com"))
    assert known == unknown


class CountingHasher:
    def __init__(self, real: Any) -> None:
        self.real, self.calls = real, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def matches(self, *args: Any) -> bool:
        self.calls += 1
        return self.real.matches(*args)

    def hash(self, *args: Any) -> str:
        self.calls += 1
        return self.real.hash(*args)


@pytest.mark.one_copy
@pytest.mark.covers("attack A31", "attack A63", "asvs 6.2.9")
def test_a_password_is_hashed_for_nobody_too(world: World, person: Person) -> None:
    world.person(email="pending@example.com").ask_signup().ok()
    world.clock.advance(minutes=2)
    counting = CountingHasher(world.kit.hasher)
    object.__setattr__(world.kit, "hasher", counting)
    try:
        world.person(email=person.email).ask_signup().ok()
        # Where somebody signed up lately there is a second password to compare, whether or not there is an account.
        for who, hashes in (("nobody@example.com", 1), ("spook", 1), (person.email, 2), ("pending@example.com", 2)):
            before = counting.calls
            person.api.post("/api/auth/login", {"identifier": who, "password": "wrong horse 7"})
            assert counting.calls == before + hashes, who
        before = counting.calls
        person.api.post("/api/auth/login", {"identifier": person.email, "password": "x" * 257})
        assert counting.calls == before, "an over-long password costs no hash"
    finally:
        object.__setattr__(world.kit, "hasher", counting.real)


@pytest.mark.one_copy
def test_a_locked_identifier_costs_no_hash(world: World) -> None:
    counting = CountingHasher(world.kit.hasher)
    object.__setattr__(world.kit, "hasher", counting)
    try:
        for _ in range(8):
            world.api().post("/api/auth/login", {"identifier": "nobody@example.com", "password": "wrong horse 7"})
        assert counting.calls == 5
    finally:
        object.__setattr__(world.kit, "hasher", counting.real)


@pytest.mark.one_copy
def test_no_connection_is_held_while_a_password_is_hashed(world: World, person: Person) -> None:
    """A hash takes longer than all statements of its request; with a connection each, a few dozen would be all there are."""
    held: list[int] = []

    class Watched(CountingHasher):
        def matches(self, *args: Any) -> bool:
            held.append(world.engine.pool.checkedout())
            return super().matches(*args)

        def hash(self, *args: Any) -> str:
            held.append(world.engine.pool.checkedout())
            return super().hash(*args)

    watched = Watched(world.kit.hasher)
    object.__setattr__(world.kit, "hasher", watched)
    try:
        world.person(email="pending@example.com").ask_signup().ok()
        for who in (person.email, "nobody@example.com", "pending@example.com"):
            person.api.post("/api/auth/login", {"identifier": who, "password": "wrong horse 7"})
        change = {"current_password": PASSWORD, "new_password": "another horse 8"}
        person.api.post("/api/auth/change-password", change, person.token).ok()
        world.clock.advance(minutes=2)
        asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
        reset = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": "one more horse 9"}
        person.api.post("/api/auth/reset-password", reset).ok()
    finally:
        object.__setattr__(world.kit, "hasher", watched.real)
    assert held == [0] * len(held)
    assert len(held) == 8


BUDGETS = {"me": 1, "login": 6, "login/verify": 8, "refresh": 4}


def test_statements_a_request(world: World, person: Person) -> None:
    """The ceilings of the performance page, where the counters' rows exist already."""
    person.sign_in()
    world.clock.advance(minutes=2)
    counted = {"me": statements(world, person.me), "login": statements(world, person.ask_signin)}
    world.deliver()
    asked = person.ask_signin().ok()
    code = person.code()
    counted["login/verify"] = statements(world, lambda: person.verify_signin(asked["challenge_id"], code).ok())
    counted["refresh"] = statements(world, lambda: person.refresh().ok())
    for name, ceiling in BUDGETS.items():
        real = [s for s in counted[name] if not s.startswith(("BEGIN", "SAVEPOINT", "RELEASE"))]
        assert len(real) <= ceiling, "\n".join([name, *real])


def test_the_courier_does_the_same_for_a_message_to_nobody(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the sender: on one processor, its work slows down what is asked right after."""
    made: list[str] = []
    render = messages.render

    def rendering(settings: Any, kind: str, *rest: Any, **more: Any) -> Any:
        made.append(kind)
        return render(settings, kind, *rest, **more)

    monkeypatch.setattr(messages, "render", rendering)
    done = []
    for who in (person.email, "free@example.com"):
        world.deliver()
        world.sends_at_once = False
        world.api().post("/api/auth/forgot-password", {"identifier": who}).ok()
        made.clear()
        asked = statements(world, lambda: world.courier.round("email"))
        done.append((list(made), [each.split(" SET ")[0] for each in asked]))
    assert done[0] == done[1]
    assert done[0][0] == ["code.recovery"]
    assert world.rows(OutboxMessage, kind="decoy")[0].state == "dropped"
