"""Administration at the same moment, against four gunicorn workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.core import locks
from app.models import Authenticator, BackupCode, Session, User
from tests.people import Answer, Person
from tests.races.conftest import Arena
from tests.races.test_factor_races import begin, challenges, enrol
from tests.service import at_once
from tests.web.admins import act, id_of, path

pytestmark = [pytest.mark.slow, pytest.mark.row_locks]

ROUNDS = 4
WAYS: dict[str, Callable[[Person, Person], Answer]] = {
    "demote": lambda a, b: a.api.call("PUT", path(b, "/role"), {"role": "user"}, a.token),
    "disable": lambda a, b: a.api.patch(path(b), {"disabled": True}, a.token),
    "lock": lambda a, b: act(a, b, "lock", {}),
    "leave": lambda a, _: a.api.delete("/api/auth/me", a.token),
    "delete": lambda a, b: a.api.delete(path(b), a.token),
}


def crowned(arena: Arena, *people: Person) -> None:
    """All of them admins who may sign in, and nobody else."""
    peace = {"role": "admin", "disabled_at": None, "locked_at": None, "locked_until": None}
    with arena.engine.begin() as connection:
        connection.execute(sa.update(User).values(role="user"))
        connection.execute(sa.update(User).where(User.id.in_([id_of(p) for p in people])).values(peace))


def sign_in(arena: Arena, person: Person) -> None:
    asked = person.ask_signin().ok()["challenge_id"]
    person.verify_signin(asked, arena.code_that_comes(asked, person.email)).ok()


def admins(arena: Arena) -> int:
    return arena.scalar(sa.select(sa.func.count()).where(User.role == "admin", locks.unlocked(datetime.now(UTC))))


@pytest.mark.covers("attack A33")
@pytest.mark.parametrize("how", WAYS)
def test_two_admins_who_end_each_other_at_once_leave_one(arena: Arena, how: str) -> None:
    pair = [arena.person().sign_up(), arena.person().sign_up()]
    for _ in range(1 if how in ("leave", "delete") else ROUNDS):
        crowned(arena, *pair)
        for one in pair:
            sign_in(arena, one)
        answers = at_once(2, lambda n, pair=pair: WAYS[how](pair[n], pair[1 - n]), threads=2)
        seen = [answer.code for answer in answers]
        assert None in seen, seen
        assert set(seen) <= {None, "last_admin", "token_revoked"}, seen
        assert admins(arena) == 1


MIXED = (("demote", "leave"), ("lock", "delete"))


def test_three_admins_who_end_each_other_by_different_acts_leave_one(arena: Arena) -> None:
    """In a ring, so that each act is a reason against the next one."""
    for first, second in MIXED:
        ring = [arena.person().sign_up() for _ in range(3)]
        crowned(arena, *ring)
        for one in ring:
            sign_in(arena, one)
        ways = (first, second, "lock")
        answers = at_once(3, lambda n, ring=ring, ways=ways: WAYS[ways[n]](ring[n], ring[(n + 1) % 3]), threads=3)
        assert {answer.code for answer in answers} <= {None, "last_admin", "token_revoked", "conflict", "not_found"}
        assert admins(arena) >= 1, (ways, [answer.body for answer in answers])


def test_of_many_who_lock_one_person_at_once_each_is_answered_and_the_person_is_out(arena: Arena) -> None:
    admin, jane = arena.person().sign_up(), arena.person().sign_up()
    crowned(arena, admin)
    sign_in(arena, admin)
    answers = at_once(20, lambda _: act(admin, jane, "lock", {}), threads=20)
    assert {answer.status for answer in answers} == {200}
    assert jane.me().code == "token_revoked"
    assert arena.scalar(sa.select(User.locked_at).where(User.id == UUID(jane.tokens["user"]["id"])))


def test_a_reset_of_factors_leaves_neither_factor_nor_session_whatever_comes_at_once(arena: Arena) -> None:
    admin = arena.person().sign_up()
    crowned(arena, admin)
    sign_in(arena, admin)
    before = arena.deadlocks()
    for _ in range(ROUNDS):
        person = arena.person().sign_up()
        app, backups = enrol(person)
        second, confirming = begin(person)
        asked = challenges(person, 2)
        ways: list[tuple[str, dict[str, str] | None]] = [
            (path(person, "/reset-mfa"), None),
            ("/api/auth/login/verify", {"challenge_id": asked[0], "otp": app.now()}),
            ("/api/auth/login/verify", {"challenge_id": asked[1], "otp": backups[0]}),
            (confirming, {"otp": second.now()}),
            ("/api/auth/factors/backup-codes", None),
        ]
        tokens = [admin.token, None, None, person.token, person.token]
        reset, *_ = at_once(5, lambda n: person.api.post(*ways[n], tokens[n]), threads=5)  # noqa: B023 (used before the next round)
        assert reset.status == 200, reset.body
        mine = id_of(person)
        for row in (Authenticator, BackupCode):
            assert arena.scalar(sa.select(sa.func.count()).where(row.user_id == mine)) == 0
        live = (Session.user_id == mine, Session.revoked_at.is_(None))
        assert arena.scalar(sa.select(sa.func.count()).where(*live)) == 0
        assert arena.scalar(sa.select(User.mfa).where(User.id == mine)) == ""
    assert arena.deadlocks() == before
