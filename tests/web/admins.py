"""People for the tests of administration."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.flows import administration
from app.models import AuditLog
from app.work import run
from tests.conftest import World
from tests.people import Answer, Person

USERS = "/api/admin/users"


def of_role(world: World, role: str, **details: Any) -> Person:
    """Somebody with a role, signed in a moment ago."""
    person = world.person(**details).sign_up()
    give(world, person, role)
    return person.sign_in()


def give(world: World, person: Person, role: str) -> None:
    """As `flask users set-role` does."""
    run(world.kit, lambda work: administration.change(work, id_of(person), {"role": role}))


def id_of(person: Person) -> UUID:
    return UUID(person.tokens["user"]["id"])


def path(person: Person, rest: str = "") -> str:
    return f"{USERS}/{id_of(person)}{rest}"


def act(admin: Person, whom: Person, what: str, body: Any = None) -> Answer:
    return admin.api.post(path(whom, f"/{what}"), body, admin.token)


def last(world: World, event: str) -> AuditLog:
    return world.audit(event=event)[-1]
