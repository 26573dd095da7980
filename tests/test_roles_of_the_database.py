"""The service on PostgreSQL with a role that can add audit rows and neither change nor delete them, as docs/audit.md has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from app import create_app
from app.core import inspection, seals
from app.core.inspection import Inspection
from app.delivery import upkeep
from app.flows import records
from app.models import AuditLog, AuditSeal, User
from app.work import run
from tests import lanes
from tests.conftest import World
from tests.lanes import Lane
from tests.people import Clock, MemorySender, wrong

ROLE = f"latchkey_app_{lanes.CHECKOUT}"
SQL = re.findall(r"```sql\n(.+?)```", Path(lanes.ROOT, "docs", "audit.md").read_text(), re.DOTALL)

pytestmark = pytest.mark.skipif("postgresql" not in lanes.wanted(), reason="the roles are PostgreSQL's")


def a_world(url: str) -> World:
    lane, clock, senders = Lane("postgresql", url, None), Clock(), {c: MemorySender(c) for c in ("email", "sms")}
    return World(create_app(lane.settings(), clock=clock, senders=senders), lane, clock, senders)


@pytest.fixture
def revision() -> str:
    return "head"


@pytest.fixture
def owner_and_service(worker: str, revision: str) -> Iterator[tuple[World, World]]:
    role = f"{ROLE}_{worker}"
    with lanes.database("postgresql", f"roles_{worker}") as url:
        lanes.migrate(url, revision)
        owner = a_world(url)
        with owner.engine.begin() as connection:
            connection.execute(sa.text(f"DROP ROLE IF EXISTS {role}"))
            for statement in SQL[0].replace("latchkey_app", role).split(";\n")[:5]:
                connection.execute(sa.text(statement))
        service = a_world(
            sa.make_url(url).set(username=role, password="choose one").render_as_string(hide_password=False)
        )
        yield owner, service
        service.engine.dispose()
        with owner.engine.begin() as connection:
            connection.execute(sa.text(f"DROP OWNED BY {role}"))
            connection.execute(sa.text(f"DROP ROLE {role}"))
        owner.engine.dispose()


@pytest.mark.covers("asvs 16.4.2")
def test_the_service_can_write_its_audit_log_and_neither_edit_nor_delete_it(
    owner_and_service: tuple[World, World],
) -> None:
    owner, service = owner_and_service
    stays, leaves = service.person().sign_up(), service.person().sign_up()
    asked = stays.ask_signin()
    stays.verify_signin(asked["challenge_id"], wrong(stays.code()))
    stays.sign_in()
    assert upkeep.seal(service.kit) == service.count(AuditLog)
    leaves.api.delete("/api/auth/me", leaves.token).ok()
    assert service.count(User) == 1
    upkeep.seal(service.kit)
    seen = Inspection()
    assert list(inspection.inspect(service.kit, seen)) == []
    assert seen.erased > 0
    logs, own = AuditLog.__table__, AuditSeal.__table__
    refused = [
        sa.update(logs).values(event="forged"),
        sa.update(logs).values(at=service.clock()),
        sa.update(logs).values(mac=None),
        sa.delete(logs),
        sa.update(own).values(count=1),
        sa.delete(own),
    ]
    for statement in refused:
        with pytest.raises(ProgrammingError, match="permission denied"), service.engine.begin() as connection:
            connection.execute(statement)
    for definition in (
        "ALTER TABLE users ADD COLUMN more TEXT",
        "DROP TABLE audit_logs",
        "TRUNCATE users CASCADE",
        "CREATE TABLE public.more (id INT)",
        "CREATE FUNCTION public.more() RETURNS INT LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE audit_logs OWNER TO CURRENT_USER",
    ):
        with (
            pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
            service.engine.begin() as connection,
        ):
            connection.execute(sa.text(definition))
    purge = partial(records.purge, before=service.clock() + timedelta(days=1), end=1)
    with pytest.raises(ProgrammingError, match="permission denied"):
        run(service.kit, purge)
    assert run(owner.kit, purge) > 0
    assert list(inspection.inspect(service.kit, Inspection())) == []
    assert run(service.kit, seals.anchor, reads=True) is not None


@pytest.mark.parametrize("revision", ["0007", "0008"])
def test_the_owner_migrates_and_then_the_start_step_of_the_service_has_nothing_to_do(
    owner_and_service: tuple[World, World],
) -> None:
    """A newer version's tables are the service's to use as the older ones are."""
    owner, service = owner_and_service
    with pytest.raises(ProgrammingError, match=r"must be owner|permission denied"):
        lanes.migrate(service.lane.database_url)
    lanes.migrate(owner.lane.database_url)
    lanes.migrate(service.lane.database_url)
    health = service.app.test_client().get("/health").get_json()
    assert health["checks"]["database"] == "ok"
    service.person().sign_up().sign_in()
