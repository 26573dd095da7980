"""What an admin does whose act had to wait: the one who acts may have ended meanwhile, and what is changed be another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.models import ApiKey, OutboxMessage, User, UsernameHold
from tests.conftest import World
from tests.people import Answer, Person
from tests.races.test_held_rows import becomes, holding, sending
from tests.web.admins import USERS, act, id_of, last, of_role, path
from tests.web.test_admin_matrix import undelivered

Held = Person | sa.Executable


def _refused(world: World, held: Held, send: Callable[[Person], Answer]) -> None:
    """An act that waits for what is held, while its admin is made a user."""
    admin, sent = of_role(world, "admin"), list[Answer]()
    with holding(world, held, sent, lambda: send(admin)) as connection:
        becomes(connection, world, admin, "user")
    assert sent[0].code == "token_revoked"
    [row] = world.audit(reason="token_revoked")
    assert (row.success, row.actor_id) == (False, id_of(admin))


@pytest.mark.covers("attack A36", "asvs 8.3.2")
def test_an_admin_who_is_none_any_more_makes_no_admin(locking: World) -> None:
    new = {"email": "m2@example.com", "username": "mallory2", "role": "admin", "password": "another horse 8"}
    with locking.engine.begin() as connection:
        lapsed = {"username": "mallory2", "claimant": "somebody", "expires_at": locking.clock.now}
        connection.execute(sa.insert(UsernameHold).values(lapsed))
    held = sa.select(UsernameHold.username).with_for_update()
    _refused(locking, held, lambda admin: admin.api.post(USERS, new, admin.token))
    assert [row.email for row in locking.rows(User) if row.email == "m2@example.com"] == []
    assert locking.person(username="mallory2").ask_signup().status == 201


ACTS: dict[str, tuple[str, str, Any]] = {
    "enable": ("PATCH", "", {"disabled": False}),
    "name": ("PATCH", "", {"name": "Other"}),
    "username": ("PATCH", "", {"username": "other"}),
    "promote": ("PUT", "/role", {"role": "admin"}),
    "lock": ("POST", "/lock", {}),
    "unlock": ("POST", "/unlock", {}),
    "delete": ("DELETE", "", None),
}


@pytest.mark.covers("attack A36", "asvs 8.3.2")
@pytest.mark.parametrize("what", ACTS)
def test_an_admin_who_is_none_any_more_changes_nobody(locking: World, what: str) -> None:
    boss, person = of_role(locking, "admin"), locking.person().sign_up()
    boss.api.patch(path(person), {"disabled": True}, boss.token).ok()
    method, rest, body = ACTS[what]
    [before] = locking.rows(User, id=id_of(person))
    _refused(locking, person, lambda admin: admin.api.call(method, path(person, rest), body, admin.token))
    [after] = locking.rows(User, id=id_of(person))
    columns = sa.inspect(User).columns.keys()
    assert [getattr(before, name) for name in columns] == [getattr(after, name) for name in columns]


@pytest.mark.covers("attack A36", "asvs 8.3.2")
def test_an_admin_who_is_none_any_more_revokes_no_key(locking: World) -> None:
    boss = of_role(locking, "admin")
    key = boss.api.post("/api/admin/api-keys", {"name": "k", "scopes": ["users:read"]}, boss.token).ok()["id"]
    held = sa.select(ApiKey.id).with_for_update()
    _refused(locking, held, lambda admin: admin.api.delete(f"/api/admin/api-keys/{key}", admin.token))
    assert locking.rows(ApiKey)[0].revoked_at is None


@pytest.mark.covers("attack A36", "asvs 8.3.2")
def test_an_admin_who_is_none_any_more_sends_nothing_again(locking: World) -> None:
    message = undelivered(locking)
    held = sa.select(OutboxMessage.id).where(OutboxMessage.id == message).with_for_update()
    _refused(locking, held, lambda admin: admin.api.post(f"/api/admin/deliveries/{message}/retry", None, admin.token))
    assert locking.rows(OutboxMessage, id=message)[0].state == "failed"


@pytest.mark.parametrize(("what", "event"), [("lock", "user.locked"), ("unlock", "user.unlocked")])
def test_the_row_of_an_act_that_waited_says_what_was_before(locking: World, what: str, event: str) -> None:
    admin, person, sent = of_role(locking, "admin"), locking.person().sign_up(), list[Answer]()
    with holding(locking, person, sent, lambda: act(admin, person, what, {})) as connection:
        connection.execute(sa.update(User).where(User.id == id_of(person)).values(locked_at=locking.clock.now))
    assert (sent[0].status, last(locking, event).facts["before"]["status"]) == (200, "locked")


def test_a_reset_that_waited_goes_to_nobody_who_is_kept_out_by_then(locking: World) -> None:
    admin, person, sent = of_role(locking, "admin"), locking.person().sign_up(), list[Answer]()
    send = lambda: act(admin, person, "send-password-reset", {})  # noqa: E731
    with holding(locking, person, sent, send) as connection:
        connection.execute(sa.update(User).where(User.id == id_of(person)).values(disabled_at=locking.clock.now))
    assert (sent[0].status, sent[0].code) == (409, "conflict")


def test_the_same_username_given_twice_at_once_is_as_good_as_once(locking: World) -> None:
    admin, person, first, second = of_role(locking, "admin"), locking.person().sign_up(), list[Answer](), list[Answer]()
    send = lambda: admin.api.patch(path(person), {"username": "jane.doe"}, admin.token)  # noqa: E731
    with holding(locking, person, first, send):
        twice = sending(second, send)
    twice.join(20)
    assert (first[0].status, second[0].status) == (200, 200)
