"""Keys of the audit log that were replaced: what they sign afterwards is found, and no honest rotation is a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.core import audit, inspection, seals, signatures
from app.core.inspection import Finding, Inspection
from app.core.signatures import Fault
from app.crypto.ids import uuid7
from app.crypto.keys import KeyRing
from app.delivery import upkeep
from app.flows import records
from app.models import AuditLog, AuditSeal
from app.work import Kit, run
from tests.conftest import World
from tests.lanes import SECRETS
from tests.web.test_rotation import Fleet, Worlds

OLD, NEW = SECRETS["secret_key"], "Rw7Tn2Kx9Vb4Qm6Zp1Lc8Hd3Jf5Gs0Ya2Ue7Io4Xt"
THIRD = "n9wKq2LxRv8TnYb4WcZz6HsDfGgJkEuIoAaSlP1X3c7"
USES_NEW = {"secret_key": NEW, "secret_key_previous": OLD}
DAY = timedelta(days=1)


def copy_of(world: World, *secrets: str) -> Kit:
    """A copy of the service with keys of its own, the first in force."""
    parts = {each.name: getattr(world.kit, each.name) for each in fields(world.kit)}
    return Kit(**{**parts, "keys": KeyRing(secrets)})


def write(world: World, secret: str) -> None:
    kit = copy_of(world, secret)
    run(kit, partial(audit.record, event=audit.Event.SIGNIN_REFUSED, reason="invalid_credentials"))


def seal(world: World, secret: str) -> None:
    assert upkeep.seal(copy_of(world, secret)) > 0


def serve(world: World, secret: str, hours: int) -> None:
    """A copy writes and seals once an hour."""
    for _ in range(hours):
        world.clock.advance(hours=1)
        write(world, secret)
        seal(world, secret)


def findings(world: World, *secrets: str) -> list[Finding]:
    return list(inspection.inspect(copy_of(world, *secrets), Inspection()))


def forge(world: World, secret: str, claims: timedelta = timedelta(0), **what: Any) -> UUID:
    """A row by whoever has a key and the database. Its id."""
    when = world.clock() + claims
    model = {column.name: None for column in AuditLog.__table__.columns}
    told = {"event": "user.changed", "success": True, "facts": {"after": {"role": "admin"}}}
    row = signatures.signed(KeyRing([secret]), {**model, **told, "id": uuid7(when), "at": when, **what})
    with world.engine.begin() as connection:
        connection.execute(sa.insert(AuditLog), row)
    return row["id"]


@pytest.mark.covers("asvs 16.4.2", "attack A74")
@pytest.mark.parametrize(
    ("later", "claims"),
    [(2 * DAY, timedelta(0)), (2 * DAY, -3 * DAY), (timedelta(0), 2 * DAY)],
    ids=["now", "the past", "the future"],
)
def test_a_row_that_a_retired_key_signed_is_found(make_world: Worlds, later: timedelta, claims: timedelta) -> None:
    fleet = Fleet(make_world)
    here = fleet({})
    here.person().sign_up()
    upkeep.seal(here.kit)
    there = fleet(USES_NEW)
    there.person().sign_up()
    upkeep.seal(there.kit)
    there.clock.now += later
    forged = forge(there, OLD, claims)
    upkeep.seal(there.kit)
    [row] = there.audit(event="user.changed")
    assert row.seal is not None
    assert list(inspection.inspect(there.kit, Inspection())) == [Finding(Fault.KEY_RETIRED.value, row.seal, forged)]
    flask = there.app.test_cli_runner().invoke
    told = flask(args=["audit-verify"])
    assert (told.exit_code, Fault.KEY_RETIRED.value in told.output) == (1, True)
    assert flask(args=["audit-verify", "--returned", "1"]).exit_code == 0, "an operator says that it came back for good"
    assert flask(args=["audit-verify", "--returned", "2"]).exit_code == 2, "there is no such key"


@pytest.mark.covers("asvs 16.4.2", "attack A74")
def test_a_seal_that_a_retired_key_made_is_found_and_what_follows_is_not(world: World) -> None:
    serve(world, OLD, 3)
    serve(world, NEW, 30)
    waiting = forge(world, OLD)
    assert findings(world, NEW, OLD) == [Finding(Fault.KEY_RETIRED.value, None, waiting)]
    seal(world, OLD)
    serve(world, NEW, 30)
    told = Fault.KEY_RETIRED.value
    assert findings(world, NEW, OLD) == [Finding(f"the seal {told}", 34), Finding(told, 34, waiting)]
    serve(world, THIRD, 3)
    assert len(findings(world, THIRD, NEW, OLD)) == 2


def a_copy_that_is_restarted_late(world: World) -> None:
    serve(world, OLD, 3)
    serve(world, NEW, 20)
    write(world, OLD)
    seal(world, NEW)
    serve(world, NEW, 20)
    write(world, OLD)
    seal(world, OLD)


def a_quiet_week_before(world: World) -> None:
    serve(world, OLD, 3)
    world.clock.advance(days=7)
    write(world, OLD)
    world.clock.advance(seconds=30)
    write(world, NEW)
    seal(world, NEW)


def rows_that_waited_for_a_week(world: World) -> None:
    serve(world, OLD, 3)
    for _ in range(7):
        write(world, OLD)
        world.clock.advance(days=1)
    for _ in range(4):
        run(copy_of(world, NEW), seals.seal_next)
        world.clock.advance(minutes=1)


def side_by_side(world: World, hours: int) -> None:
    serve(world, OLD, 3)
    for number in range(hours * 2):
        world.clock.advance(minutes=30)
        write(world, OLD)
        write(world, NEW)
        seal(world, (OLD, NEW)[number % 2])


def the_courier_first_and_the_others_days_later(world: World) -> None:
    serve(world, OLD, 3)
    for _ in range(5 * 24):
        world.clock.advance(hours=1)
        write(world, OLD)
        seal(world, NEW)


def a_command_with_the_next_key_days_before(world: World) -> None:
    serve(world, OLD, 3)
    write(world, NEW)
    seal(world, NEW)
    world.clock.advance(days=3)
    serve(world, OLD, 72)
    write(world, NEW)
    seal(world, OLD)
    serve(world, OLD, 72)


def a_quiet_weekend_after_such_a_command(world: World) -> None:
    serve(world, OLD, 3)
    write(world, NEW)
    seal(world, NEW)
    world.clock.advance(days=3)
    write(world, OLD)
    assert findings(world, NEW, OLD) == []
    seal(world, OLD)


def back_on_the_same_day(world: World) -> None:
    serve(world, OLD, 3)
    serve(world, NEW, 20)
    serve(world, OLD, 100)


def rows_that_are_purged(world: World) -> None:
    side_by_side(world, 1)
    end = run(world.kit, seals.newest).sequence
    serve(world, NEW, 30)
    assert run(copy_of(world, NEW), partial(records.purge, before=world.clock() - DAY, end=end)) > 0


HONEST = (
    a_copy_that_is_restarted_late,
    a_quiet_week_before,
    rows_that_waited_for_a_week,
    partial(side_by_side, hours=1),
    partial(side_by_side, hours=100),
    the_courier_first_and_the_others_days_later,
    a_command_with_the_next_key_days_before,
    a_quiet_weekend_after_such_a_command,
    back_on_the_same_day,
    rows_that_are_purged,
)


@pytest.mark.parametrize("rotate", HONEST)
def test_an_honest_rotation_is_no_finding(
    world: World, rotate: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if rotate is rows_that_waited_for_a_week:
        monkeypatch.setattr(seals, "BATCH", 2)  # several seals of them
    rotate(world)
    assert findings(world, OLD, NEW) == []
    assert findings(world, NEW, OLD) == []
    serve(world, NEW, 30)
    assert findings(world, NEW, OLD) == []
    serve(world, THIRD, 30)
    assert findings(world, THIRD, NEW, OLD) == []


def test_the_key_in_force_is_in_time_whatever_the_chain_says(world: World) -> None:
    """An operator has gone back to the old key after days, and says so by SECRET_KEY."""
    serve(world, OLD, 3)
    serve(world, NEW, 72)
    serve(world, OLD, 3)
    assert findings(world, OLD, NEW) == []
    assert {each.seal for each in findings(world, NEW, OLD)} == {76, 77, 78}


def test_a_key_that_came_back_for_good_stops_no_purge_once_an_operator_says_so(make_world: Worlds) -> None:
    fleet = Fleet(make_world)
    here = fleet({})
    for secret, hours in ((OLD, 3), (NEW, 48), (OLD, 3), (THIRD, 48)):
        serve(here, secret, hours)
    there = fleet({"secret_key": THIRD, "secret_key_previous": f"{NEW},{OLD}"})
    purge = ["audit-purge", "--before", f"{there.clock().date()}"]
    told = [there.app.test_cli_runner().invoke(args=[*purge, *more]) for more in ([], ["--returned", "2"])]
    assert [each.exit_code for each in told] == [1, 0], told


@pytest.mark.covers("asvs 16.4.2", "attack A74")
def test_a_purge_that_a_retired_key_signed_is_found(world: World) -> None:
    """Dated to the old key's time, or with a row that tells of it."""
    serve(world, OLD, 6)
    then, keys = world.clock(), KeyRing([OLD])
    serve(world, NEW, 30)
    with world.engine.begin() as connection:
        connection.execute(sa.delete(AuditLog).where(AuditLog.seal <= 4))
        connection.execute(sa.delete(AuditSeal).where(AuditSeal.sequence < 4))
    [anchor] = world.rows(AuditSeal, sequence=4)
    anchor.members, anchor.purged_at, anchor.purge_key_id = None, then, keys.current
    marked = {"members": None, "purged_at": then, "purge_key_id": keys.current}
    marked["purge_mac"] = seals.purge_mac(keys, anchor, keys.current)
    with world.engine.begin() as connection:
        connection.execute(sa.update(AuditSeal).where(AuditSeal.sequence == 4).values(marked))
    assert findings(world, NEW, OLD) == [Finding("its rows were purged, and no row tells of that", 4)]
    purge = {"at": then, "event": "audit.purged"}
    other = forge(world, OLD, **purge, facts=[4])
    assert {each.row or each.seal for each in findings(world, NEW, OLD)} >= {4, other}
    with world.engine.begin() as connection:
        connection.execute(sa.delete(AuditLog).where(AuditLog.id == other))
    told = forge(world, OLD, **purge, facts={"first": 1, "last": 4, "rows": 4})
    seal(world, NEW)
    assert findings(world, NEW, OLD) == [Finding(Fault.KEY_RETIRED.value, 37, told)]
