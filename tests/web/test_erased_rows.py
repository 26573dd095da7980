"""Of a person who was erased no audit row keeps address, network or program; not those of refusals either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.core import audit, inspection, signatures
from app.core.inspection import Inspection
from app.db import Base
from app.models import AuditLog, Signup
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person, while_hashing
from tests.web.admins import USERS, id_of, of_role, path
from tests.web.test_browser import Browser

NUMBER = "+919876543210"
NUMBERS = (NUMBER, "+919876543211")


def often(person: Person, path: str, body: dict[str, Any]) -> None:
    """Ask until it is too often."""
    while (answer := person.api.post(path, body)).status == 200:
        pass
    assert answer.code == "rate_limited"


def erase(world: World, person: Person) -> list[AuditLog]:
    """Erase their account; the rows of before, in which the person still stands."""
    before = {row.id for row in world.audit()}
    person.api.delete("/api/auth/me", person.token).ok()
    return [row for row in world.audit() if row.id in before and (row.subject or row.ip or row.user_agent or row.salt)]


@pytest.mark.covers("nist N53")
def test_refusals_of_somebody_known_are_theirs_and_are_forgotten_with_them(world: World) -> None:
    person = world.person(email="", phone=NUMBER).sign_up()
    often(person, "/api/v1/auth/send-otp", {"mobile_number": NUMBER})
    often(person, "/api/auth/forgot-password", {"phone": NUMBER, "channel": "sms"})
    refused = [row for row in world.audit() if row.reason == "rate_limited"]
    assert {row.event for row in refused} == {"signin.refused", "recovery.refused"}
    assert {str(row.user_id) for row in refused} == {person.tokens["user"]["id"]}
    assert erase(world, person) == []


def test_a_new_password_that_is_refused_in_the_browser_is_theirs(world: World, person: Person) -> None:
    browser = Browser(world)
    browser.post("/forgot-password", {"email": person.email})
    browser.post("/validate-otp", {"email": person.email, "otp": person.code()})
    browser.post("/reset-password", {"email": person.email, "new_password": "short"})
    [row] = world.audit(event="recovery.refused")
    assert (row.reason, str(row.user_id)) == ("validation_failed", person.tokens["user"]["id"])
    assert erase(world, person) == []


def test_rows_of_earlier_sign_ups_of_the_address_are_forgotten_too(world: World) -> None:
    """Whoever got no code and signs up once more. Not those of somebody who gave the address beside their own."""
    person, other = world.person(), world.person("198.51.100.4", email="other@example.com")
    for _ in range(2):
        person.ask_signup().ok()
        world.clock.advance(minutes=1)
    body = {"email": person.email, "phone": NUMBER, "password": PASSWORD, "channel": "sms"}
    theirs = other.api.post("/api/auth/signup", body).ok()["challenge_id"]
    proof = {"challenge_id": theirs, "otp": world.read("sms", NUMBER)}
    other.api.post("/api/auth/verify-otp", proof).ok()
    person.sign_up()
    assert {row.ip for row in erase(world, person)} == {"198.51.100.4"}
    assert list(inspection.inspect(world.kit, Inspection())) == []


def moved(world: World, person: Person, what: str, to: str) -> None:
    """The person has another address of this kind by now."""
    asked = person.api.post(f"/api/auth/change-{what}", {what: to}, person.token).ok()["challenge_id"]
    proof = {"challenge_id": asked, "otp": world.read("sms" if what == "phone" else "email", to)}
    person.api.post("/api/auth/verify-otp", proof, person.token).ok()


def stored(world: World, *words: str) -> set[str]:
    """In which columns one of these stands."""
    with world.engine.connect() as connection:
        rows = [(table, row) for table in Base.metadata.sorted_tables for row in connection.execute(sa.select(table))]
    return {
        f"{table.name}.{column}"
        for table, row in rows
        for column, value in row._mapping.items()
        if any(word in str(value) for word in words)
    }


@pytest.mark.parametrize(
    ("what", "first", "then"), [("email", "jane@example.com", "j@example.com"), ("phone", *NUMBERS)]
)
def test_an_earlier_sign_up_of_an_address_that_was_given_up_is_forgotten_too(
    world: World, what: str, first: str, then: str
) -> None:
    """Whoever got no code, signed up once more, and moved before they left."""
    given: dict[str, Any] = {"email": "", "phone": "", what: first}
    early = world.person(**given, username="first.try", name="Jane Unusual")
    early.ask_signup().ok()
    world.clock.advance(minutes=2)
    person = world.person(**given).sign_up()
    moved(world, person, what, then)
    assert stored(world, "Jane Unusual", "first.try") == {"signups.name", "signups.username", "username_holds.username"}
    assert erase(world, person) == []
    world.deliver()
    assert stored(world, first, "first.try", "Jane Unusual") == set()


def test_who_proves_an_address_that_was_given_up_is_somebody_else(world: World) -> None:
    """Whether they began before or after it was."""
    early = world.person("198.51.100.4", password="another horse 9")
    early.ask_signup().ok()
    world.clock.advance(minutes=2)
    person = world.person(email=early.email).sign_up()
    moved(world, person, "email", "j@example.com")
    world.clock.advance(minutes=2)
    early.verify_signup(early.ask_signin().ok()["challenge_id"], early.code()).ok()
    late = world.person("198.51.100.5", email=early.email)
    late.ask_signup().ok()
    assert {row.ip for row in erase(world, person)} == {"198.51.100.4", "198.51.100.5"}
    told = early.api.get("/api/auth/me/export", early.token).ok()
    assert [row["email"] for row in told["signups"]] == [early.email]
    assert person.tokens["user"]["id"] not in str(told.body)
    assert stored(world, late.email) >= {"signups.email", "users.email"}
    assert len(world.rows(Signup, completed_at=None)) == 1


def test_whoever_proved_a_number_that_was_given_up_keeps_their_registration(world: World) -> None:
    old = world.person(email="", phone=NUMBERS[0]).sign_up()
    send = {"mobile_number": NUMBERS[0]}
    old.api.post("/api/v1/auth/send-otp", send).ok()  # an ordinary sign-in by phone
    world.clock.advance(minutes=1)
    moved(world, old, "phone", NUMBERS[1])
    world.clock.advance(minutes=5)
    new = world.person("198.51.100.9", email="", phone=NUMBERS[0])
    new.api.post("/api/v1/auth/send-otp", send).ok()
    token = new.api.post("/api/v1/auth/verify-otp", {**send, "otp": world.read("sms", NUMBERS[0])}).ok()
    erase(world, old)
    body = {
        "registration_token": token["registration_token"],
        "name": "New",
        "consent": {"terms": True, "version": "1"},
    }
    assert new.api.post("/api/v1/auth/complete-registration", body).status == 201


def test_a_sign_up_by_one_s_own_mailbox_stays_whose_ever_the_number_beside_it_was(world: World) -> None:
    old = world.person(email="", phone=NUMBERS[0]).sign_up()
    world.clock.advance(minutes=2)
    new = world.person("198.51.100.7", email="new@example.com", phone=NUMBERS[0])
    asked = new.ask_signup(channel="email").ok()["challenge_id"]
    moved(world, old, "phone", NUMBERS[1])
    code = new.code()
    erase(world, old)
    new.verify_signup(asked, code).ok()
    told = new.api.get("/api/auth/me/export", new.token).ok()
    assert "given_up_by" not in str(told.body)


def test_whoever_began_a_sign_up_sees_nothing_of_a_change_of_its_address(world: World, person: Person) -> None:
    """Else whoever signs up with somebody's address could look whether it is an account's, once that moves."""
    stranger = world.person("198.51.100.4", email=person.email, password="another horse 9")
    asked = stranger.ask_signup().ok()["challenge_id"]
    look = lambda: stranger.api.get(f"/api/auth/challenges/{asked}").ok().body  # noqa: E731
    seen = look()
    moved(world, person, "email", "j@example.com")
    assert look() == seen
    assert stranger.ask_signin().status == 200


def test_rows_without_end_are_forgotten_some_at_a_time(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(8):
        world.clock.advance(seconds=n % 3)  # some rows are of one instant
        person.api.patch("/api/auth/me", {"name": f"Jane {n}"}, person.token).ok()
    theirs = len([row for row in world.audit() if row.ip])
    at_once: list[int] = []

    def count(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE audit_logs"):
            at_once.append(cursor.rowcount)

    monkeypatch.setattr(audit, "FORGOTTEN_AT_ONCE", 3)
    sa.event.listen(world.engine, "after_cursor_execute", count)
    try:
        assert erase(world, person) == []
    finally:
        sa.event.remove(world.engine, "after_cursor_execute", count)
    assert sum(at_once) >= theirs > max(at_once)
    assert len(at_once) > 3


NEW = "another horse 9"
JSON = {"Content-Type": "application/json"}


def leave(person: Person) -> None:
    person.api.delete("/api/auth/me", person.token).ok()


def named(world: World, person: Person) -> list[tuple[str, str | None]]:
    """Which of their rows still tell of the person; all that there are hold."""
    rows = world.audit(user_id=id_of(person))
    assert {signatures.fault(world.kit.keys, vars(row)) for row in rows} == {None}
    return [(row.event, row.reason) for row in rows if row.subject or row.ip or row.user_agent]


def changes_password(person: Person) -> Answer:
    return person.api.post(
        "/api/auth/change-password", {"current_password": PASSWORD, "new_password": NEW}, person.token
    )


def is_remembered(world: World, person: Person) -> Callable[[], Answer]:
    world.clock.advance(minutes=2)
    asked = person.ask_signin().ok()["challenge_id"]
    token = person.verify_signin(asked, person.code(), remember_device=True).ok()["device_token"]
    return lambda: person.ask_signin(device_token=token)


def has_proven_a_code(world: World, person: Person) -> Callable[[], object]:
    world.clock.advance(minutes=2)
    browser, mine = Browser(world), {"email": person.email}
    browser.post("/forgot-password", mine)
    browser.post("/validate-otp", {**mine, "otp": person.code()})
    return lambda: browser.post("/reset-password", {**mine, "new_password": NEW})


@pytest.mark.parametrize("where", ["/api/auth/logout", "/api/v1/auth/logout"])
def test_a_token_of_before_the_erasure_names_nobody(world: World, person: Person, where: str) -> None:
    """One that is long expired signs out, too."""
    leave(person)
    world.clock.advance(days=30)
    assert person.api.call("POST", where, b"[]", person.token, **JSON).code == "malformed_json"
    assert len(world.audit(user_id=id_of(person), reason="malformed_json")) == 1
    assert named(world, person) == []


def test_what_is_refused_at_the_edge_is_recorded_of_who_is_there_then(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = type(world.app.extensions["edge"])
    real, meanwhile = edge._is_new, [leave]

    def late(self: Any, kind: Any) -> bool:
        if meanwhile:
            meanwhile.pop()(person)
        return real(self, kind)

    monkeypatch.setattr(edge, "_is_new", late)
    assert person.api.call("PATCH", "/api/auth/me", b"[]", person.token, **JSON).code == "malformed_json"
    assert len(world.audit(user_id=id_of(person), reason="malformed_json")) == 1
    assert named(world, person) == []


@pytest.mark.parametrize(
    ("ready", "policy", "code"),
    [
        (lambda _, p: lambda: changes_password(p), "required", "token_revoked"),
        (lambda _, p: p.ask_signin, "optional", "invalid_credentials"),
        (is_remembered, "required", "invalid_credentials"),
        (has_proven_a_code, "required", "challenge_closed"),
    ],
)
def test_who_is_erased_while_a_password_is_hashed_is_not_named_again(
    make_world: Any, ready: Callable[[World, Person], Callable[[], object]], policy: str, code: str
) -> None:
    world: World = make_world(mfa_policy=policy)
    person = world.person().sign_up()
    act = ready(world, person)
    with while_hashing(world, lambda: leave(person)):
        act()
    assert len(world.audit(user_id=id_of(person), reason=code)) == 1
    assert named(world, person) == []


def test_an_admin_who_is_erased_while_a_password_is_hashed_is_not_named_again(world: World) -> None:
    boss, admin = of_role(world, "admin"), of_role(world, "admin")
    with while_hashing(world, lambda: boss.api.delete(path(admin), boss.token).ok()):
        answer = admin.api.post(USERS, {"email": "new@example.com", "password": NEW}, admin.token)
    assert answer.code == "token_revoked"
    assert named(world, admin) == []
