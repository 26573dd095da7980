"""Seals over the audit log: what was changed, removed, put in or moved is found and named; what is in order is not."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.core import audit, inspection, seals
from app.core.api_keys import Scope
from app.core.inspection import Finding, Inspection
from app.crypto.ids import uuid7
from app.crypto.keys import KeyRing
from app.db import UtcDateTime
from app.delivery import upkeep
from app.delivery.courier import Courier
from app.flows import keys, records
from app.models import AuditLog, AuditSeal, User
from app.work import Work, run
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import wrong

LOGS, SEALS = AuditLog.__table__, AuditSeal.__table__
BEFORE_SIGNING = ("salt", "person", "key_id", "mac", "seal")


def findings(world: World, head: str | None = None, seen: Inspection | None = None) -> list[Finding]:
    return list(inspection.inspect(world.kit, seen or Inspection(), head))


def seal(world: World) -> int:
    return upkeep.seal(world.kit)


def flask(world: World, *words: str) -> Any:
    return world.app.test_cli_runner().invoke(args=list(words))


@pytest.fixture
def sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Three and more seals over what some people did, one of whom was erased; and some rows that are not sealed yet."""
    monkeypatch.setattr(seals, "BATCH", 5)
    one, other = world.person().sign_up(), world.person(phone="+919876543210").sign_up()
    seal(world)
    asked = one.ask_signin()
    one.verify_signin(asked["challenge_id"], wrong(one.code()))
    one.sign_in()
    other.api.delete("/api/auth/me", other.token).ok()
    seal(world)
    world.clock.advance(minutes=2)
    one.sign_in()
    assert world.count(AuditSeal) >= 3
    return world


@pytest.fixture
def restoring(sealed: World) -> Iterator[Callable[[], None]]:
    """Puts both tables back as they were."""
    with sealed.engine.connect() as connection:
        kept = {table: [row._asdict() for row in connection.execute(sa.select(table))] for table in (LOGS, SEALS)}

    def restore() -> None:
        with sealed.engine.begin() as connection:
            for table, rows in kept.items():
                connection.execute(table.delete())
                connection.execute(table.insert(), rows)

    yield restore


def other_value(column: sa.Column[Any], value: Any, dice: random.Random) -> Any:
    """A value of a column that is not the one it has."""
    if value is not None and column.nullable and dice.random() < 0.3:
        return None
    some_time = datetime(2026, 1, 1, tzinfo=UTC)
    others: dict[Any, Callable[[], Any]] = {
        bool: lambda: not value,
        int: lambda: (value or 0) + dice.choice([-1, 1, 7]) * (1000 if column.primary_key else 1),
        UtcDateTime: lambda: (value or some_time) + timedelta(microseconds=dice.choice([-1, 1, 10**9])),
        UUID: lambda: uuid7(some_time + timedelta(seconds=dice.randrange(10**6))),
        sa.JSON: lambda: {**(value or {}), "forged": dice.randrange(100)},
        bytes: lambda: dice.randbytes(16) + (value or b"")[16:],
        str: lambda: ("0" if (value or "")[:1] != "0" else "1") + (value or "")[1:],
    }
    kind = type(column.type)
    return others[kind if kind in others else column.type.python_type]()


@pytest.mark.covers("asvs 16.4.2", "attack A74")
@pytest.mark.parametrize("table", [LOGS, SEALS], ids=lambda table: table.name)
def test_every_single_change_of_a_column_is_found(sealed: World, table: sa.Table) -> None:
    key = next(iter(table.primary_key))
    with sealed.engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(sa.select(table))]
    for column in table.columns:
        dice = random.Random(column.name)
        for row in dice.sample(rows, 3):
            changed = {**row, column.name: other_value(column, row[column.name], dice)}
            assert put(sealed, table, row[key.name], changed) == 1
            found = findings(sealed)
            assert found, (column.name, row[column.name], changed[column.name])
            if table is LOGS and column.name not in ("id", "seal"):
                assert {each.row for each in found} >= {row["id"]}
            assert put(sealed, table, changed[key.name], row) == 1
    assert findings(sealed) == []


def put(world: World, table: sa.Table, key: Any, row: dict[str, Any]) -> int:
    with world.engine.begin() as connection:
        return connection.execute(sa.update(table).where(next(iter(table.primary_key)) == key).values(row)).rowcount


@pytest.mark.covers("asvs 16.4.2", "attack A74")
def test_every_removal_is_found_and_named(sealed: World, restoring: Callable[[], None]) -> None:
    with sealed.engine.connect() as connection:
        rows = connection.execute(sa.select(LOGS.c.id, LOGS.c.seal).where(LOGS.c.seal.is_not(None))).all()
        sequences = connection.scalars(sa.select(SEALS.c.sequence)).all()
    for row in random.Random(1).sample(rows, 6):
        with sealed.engine.begin() as connection:
            connection.execute(sa.delete(LOGS).where(LOGS.c.id == row.id))
        assert Finding("was removed, or moved to another seal", row.seal, row.id) in findings(sealed)
        restoring()
    for sequence in sequences:
        with sealed.engine.begin() as connection:
            connection.execute(sa.delete(SEALS).where(SEALS.c.sequence == sequence))
        assert {each.seal for each in findings(sealed)} & {sequence, sequence + 1}
        restoring()


@pytest.mark.covers("asvs 16.4.2")
def test_a_row_put_in_is_found_whether_it_claims_a_seal_or_waits_for_one(
    sealed: World, restoring: Callable[[], None]
) -> None:
    with sealed.engine.connect() as connection:
        model = connection.execute(sa.select(LOGS).where(LOGS.c.seal == 2)).first()._asdict()
    for claim in (None, 1, 2, 99):
        forged = uuid7(model["at"])
        with sealed.engine.begin() as connection:
            connection.execute(sa.insert(LOGS), {**model, "id": forged, "seal": claim})
        assert forged in {each.row for each in findings(sealed)}, claim
        seal(sealed)
        assert forged in {each.row for each in findings(sealed)}, "sealing makes it no better"
        restoring()
    unsigned = {**model, **dict.fromkeys(BEFORE_SIGNING), "id": uuid7(model["at"])}
    with sealed.engine.begin() as connection:
        connection.execute(sa.insert(LOGS), unsigned)
    seal(sealed)
    assert next((each.row, each.seal) for each in findings(sealed)) == (unsigned["id"], None)


@pytest.mark.covers("asvs 16.4.2")
def test_rows_and_seals_that_change_places_are_found(sealed: World, restoring: Callable[[], None]) -> None:
    dice = random.Random(2)
    for table, names in ((LOGS, ["event", "at", "mac", "seal"]), (SEALS, ["mac", "digest", "members"])):
        key = next(iter(table.primary_key))
        for name in names:
            with sealed.engine.connect() as connection:
                rows = connection.execute(sa.select(key, table.c[name]).where(table.c[name].is_not(None))).all()
            a, b = next(pair for _ in iter(int, 1) if (pair := dice.sample(rows, 2))[0][1] != pair[1][1])
            with sealed.engine.begin() as connection:
                for at, value in ((a[0], b[1]), (b[0], a[1])):
                    connection.execute(sa.update(table).where(key == at).values({name: value}))
            assert findings(sealed), name
            restoring()


@pytest.mark.covers("asvs 16.4.2")
def test_a_chain_cut_off_at_its_end_is_found_by_the_head_that_was_kept(sealed: World) -> None:
    seal(sealed)
    before = flask(sealed, "audit-verify", "--json")
    head = json.loads(before.output)["head"]
    assert before.exit_code == 0
    last = int(head.partition(":")[0])
    with sealed.engine.begin() as connection:
        connection.execute(sa.delete(LOGS).where(LOGS.c.seal == last))
        connection.execute(sa.delete(SEALS).where(SEALS.c.sequence == last))
    assert findings(sealed) == []
    assert findings(sealed, head) != []
    sealed.person().sign_up()
    seal(sealed)
    sealed.clock.advance(seconds=1)
    told = flask(sealed, "audit-verify", "--head", head)
    assert told.exit_code == 1
    assert head in told.output
    for empty in ("", " "):  # a job whose file of heads is not there
        assert flask(sealed, "audit-verify", "--head", empty).exit_code == 2
    assert findings(sealed, "") != []


@pytest.mark.covers("asvs 16.4.2")
def test_erasing_a_person_is_no_finding_and_blotting_them_out_is(sealed: World) -> None:
    seen = Inspection()
    assert findings(sealed, seen=seen) == []
    assert seen.erased > 0
    standing = next(row for row in sealed.audit(event="signin.completed") if row.salt)
    blank = dict.fromkeys(("subject", "ip", "user_agent", "salt"))
    with sealed.engine.begin() as connection:
        connection.execute(sa.update(LOGS).where(LOGS.c.id == standing.id).values(blank))
    assert {each.row for each in findings(sealed)} == {standing.id}


@pytest.mark.covers("asvs 16.4.2", "attack A74")
def test_blotting_a_person_out_passes_for_no_erasure_where_no_account_stands(sealed: World) -> None:
    """Neither of a row about what never was an account, nor once the account is deleted by hand."""
    run(sealed.kit, lambda work: keys.create(work, "till server", [Scope.VERIFY]))
    sealed.person().ask_signup().ok()
    assert findings(sealed) == []
    rows = {sealed.audit(event=event)[-1] for event in ("key.created", "signup.started", "signin.completed")}
    blank = dict.fromkeys(("subject", "ip", "user_agent", "salt"))
    with sealed.engine.begin() as connection:
        connection.execute(sa.update(LOGS).where(LOGS.c.id.in_([row.id for row in rows])).values(blank))
        connection.execute(sa.delete(User).where(User.id.in_([row.user_id for row in rows])))
    assert {each.row for each in findings(sealed)} == {row.id for row in rows}


@pytest.mark.covers("asvs 16.4.2", "attack A74")
@pytest.mark.one_lane("mariadb")  # as SQLite does, it keeps ids as text and flags as numbers
def test_a_value_that_reads_the_same_and_is_found_by_no_filter_is_found_here(
    sealed: World, restoring: Callable[[], None]
) -> None:
    row = next(row for row in sealed.audit(event="signin.completed") if row.salt)
    for column, form in (("user_id", "UPPER(user_id)"), ("session_id", "UPPER(session_id)"), ("success", "2")):
        changed = sa.text(f"UPDATE audit_logs SET {column} = {form} WHERE id = :id")
        with sealed.engine.begin() as connection:
            assert connection.execute(changed, {"id": row.id.hex}).rowcount == 1
        assert findings(sealed) == [Finding(f"has {column} in a form that no filter finds", row.seal, row.id)]
        restoring()


def test_nobody_can_try_addresses_against_an_erased_row(sealed: World) -> None:
    erased = [row for row in sealed.audit() if row.subject is None and row.ip is None]
    assert erased
    assert all(row.salt is None for row in erased)


def test_rows_from_before_rows_were_signed_are_sealed_by_order_and_then_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an update: rows of a version without seals, and some of this one, which has sealed them."""
    world.person().sign_up()
    rows = len(world.audit())
    with world.engine.begin() as connection:
        connection.execute(sa.update(LOGS).values(dict.fromkeys(BEFORE_SIGNING)))
    world.person().sign_up()
    assert seal(world) == rows
    assert "not signed" in caplog.text
    told = flask(world, "audit-verify")
    assert (told.exit_code, told.output.count("is not signed")) == (1, rows)
    assert flask(world, "audit-seal", "--adopt").output.startswith(f"{rows} rows sealed; the head is 2:")
    assert [(each.adopted, each.count) for each in sorted(world.rows(AuditSeal), key=lambda each: each.sequence)] == [
        (False, rows),
        (True, rows),
    ]
    told = flask(world, "audit-verify")
    assert (told.exit_code, f"{rows} rows in 1 seals were adopted" in told.output) == (0, True), told.output
    caplog.clear()
    assert seal(world) == 0
    assert "not signed" not in caplog.text


@pytest.mark.covers("asvs 16.4.2", "attack A74")
def test_without_any_seal_forged_rows_are_not_taken_for_rows_of_an_earlier_version(
    sealed: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Who can write to the database takes all seals away, and what proves each row, and changes and adds rows."""
    with sealed.engine.begin() as connection:
        connection.execute(sa.delete(SEALS))
        connection.execute(sa.update(LOGS).values({**dict.fromkeys(BEFORE_SIGNING), "reason": "forged"}))
        model = connection.execute(sa.select(LOGS)).first()._asdict()
        connection.execute(sa.insert(LOGS), {**model, "id": uuid7(model["at"])})
    keeper = upkeep.Upkeep(sealed.kit)
    sealed.clock.advance(seconds=61)
    keeper.tick()
    assert "not signed" in caplog.text
    assert {each.row for each in findings(sealed)} >= {row.id for row in sealed.audit(reason="forged")}
    assert sealed.count(AuditSeal) == 0
    told = flask(sealed, "audit-verify")
    assert (told.exit_code, "all is as it was written" in told.output) == (1, False)


def test_a_process_with_another_secret_key_than_the_last_seal_s_says_so(
    sealed: World, caplog: pytest.LogCaptureFixture
) -> None:
    known = [SECRETS["secret_key"]]
    for ring, says in ((known, False), (["n" * 40, *known], False), (["n" * 40], True)):
        upkeep.seal(replace(sealed.kit, keys=KeyRing(ring)))
        assert ("SECRET_KEY that no setting has" in caplog.text) is says


@pytest.mark.parametrize(
    ("seals_in_turn", "says"),
    [("old", True), ("old new", True), ("old new 25h", False), ("old new old new 25h", False), ("old 25h new", True),
     ("old new 25h old", True), ("old new 25h old new", True), ("old new 25h old new 25h", False)],
)  # fmt: skip
def test_a_key_that_alone_has_sealed_for_a_day_is_the_service_s(world: World, seals_in_turn: str, says: bool) -> None:
    """A rotation ends so, also where copies changed their key one after the other. Who has the wrong key seals too."""
    rings = {"old": KeyRing(["o" * 40]), "new": KeyRing(["n" * 40])}
    for each in seals_in_turn.split():
        if each in rings:
            kit = replace(world.kit, keys=rings[each])
            run(
                kit,
                lambda work: audit.record(work, audit.Event.SIGNIN_REFUSED, "somebody", reason="invalid_credentials"),
            )
            assert upkeep.seal(kit) == 1
        else:
            world.clock.advance(hours=int(each.removesuffix("h")))
    assert run(replace(world.kit, keys=rings["new"]), seals.is_of_another_key, reads=True) is says


def test_a_row_that_nobody_seals_is_found(world: World) -> None:
    world.person().sign_up()
    assert findings(world) == []
    world.clock.advance(minutes=11)
    [found] = findings(world)
    assert "not sealed after 10 minutes" in found.what


@pytest.mark.slow
@pytest.mark.covers("asvs 16.4.2", "attack A74")
def test_no_row_is_missed_while_many_write_and_several_seal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows become visible when they are committed, here often long after their ids were made."""
    monkeypatch.setattr(seals, "BATCH", 40)
    over, rounds, writers, faults = threading.Event(), 25, 6, []

    def write(number: int) -> None:
        dice = random.Random(number)

        def act(work: Work) -> None:
            for _ in range(dice.randrange(1, 4)):
                audit.record(work, audit.Event.SIGNIN_REFUSED, f"writer {number}", reason="invalid_credentials")
                work.db.flush()
                over.wait(dice.random() * 0.01)

        for _ in range(rounds):
            run(world.kit, act)

    def keep_sealing() -> None:
        while not over.is_set():
            try:
                seal(world)
            except Exception as fault:
                faults.append(fault)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    sealers = [threading.Thread(target=keep_sealing) for _ in range(3)]
    for thread in (*threads, *sealers):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    for thread in sealers:
        thread.join()
    seal(world)
    assert faults == []
    seen = Inspection()
    assert findings(world, seen=seen) == []
    assert (seen.rows, seen.unsealed) == (world.count(AuditLog), 0)
    assert seen.rows >= rounds * writers
    sequences = sorted(each.sequence for each in world.rows(AuditSeal))
    assert sequences == list(range(1, len(sequences) + 1))


@pytest.mark.covers("asvs 14.2.7")
def test_old_rows_are_purged_by_whole_seals_and_the_chain_still_proves_the_rest(sealed: World) -> None:
    seal(sealed)
    head = json.loads(flask(sealed, "audit-verify", "--json").output)["head"]
    old = sealed.count(AuditLog)
    sealed.clock.advance(days=3)
    new = sealed.person().sign_up()
    seal(sealed)
    kept = [row.id for row in sealed.audit(user_id=UUID(new.tokens["user"]["id"]))]
    told = flask(sealed, "audit-purge", "--before", "2026-11-23")
    assert (told.exit_code, told.output.split()[0]) == (0, str(old)), told.output
    assert set(kept) <= {row.id for row in sealed.audit()}
    seal(sealed)
    seen = Inspection()
    assert findings(sealed, head, seen) == []
    assert seen.purged_to == int(head.partition(":")[0])
    [row] = sealed.audit(event="audit.purged")
    assert row.facts["rows"] == old
    assert "were purged" in flask(sealed, "audit-verify").output


@pytest.mark.covers("asvs 16.4.2")
def test_a_purge_that_was_not_one_is_found(sealed: World) -> None:
    """Rows and seals deleted from the beginning, and the next seal dressed up as the anchor."""
    with sealed.engine.begin() as connection:
        connection.execute(sa.delete(LOGS).where(LOGS.c.seal <= 2))
        connection.execute(sa.delete(SEALS).where(SEALS.c.sequence < 2))
        dressed = {
            "members": None,
            "purged_at": sealed.clock(),
            "purge_key_id": SEALS.c.key_id,
            "purge_mac": SEALS.c.mac,
        }
        connection.execute(sa.update(SEALS).where(SEALS.c.sequence == 2).values(dressed))
    assert {each.seal for each in findings(sealed)} == {2}


def test_a_purge_refuses_what_does_not_verify(sealed: World) -> None:
    with sealed.engine.begin() as connection:
        connection.execute(sa.update(LOGS).where(LOGS.c.seal == 1).values(event="forged"))
    sealed.clock.advance(days=3)
    before = sealed.count(AuditLog)
    told = flask(sealed, "audit-purge", "--before", "2026-11-23")
    assert told.exit_code == 1
    assert "was changed" in told.output
    assert sealed.count(AuditLog) == before


def test_a_purge_takes_no_day_that_is_still_to_come(sealed: World) -> None:
    seal(sealed)
    before = sealed.count(AuditLog)
    today = sealed.clock().date()
    told = flask(sealed, "audit-purge", "--before", f"{today + timedelta(days=1)}")
    assert (told.exit_code, sealed.count(AuditLog)) == (2, before), told.output
    assert flask(sealed, "audit-purge", "--before", f"{today}").exit_code == 0


def test_a_purge_deletes_no_seal_that_was_made_after_it_verified(
    sealed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of old that come late, of an earlier version: once they are adopted, a seal has nothing but old rows."""
    original, made = inspection.chain, []

    def then_seal(*span: Any) -> Iterator[Finding]:
        yield from original(*span)
        made.append(seal(sealed))

    monkeypatch.setattr(inspection, "chain", then_seal)
    end = run(sealed.kit, lambda work: seals.newest(work).sequence)
    sealed.clock.advance(days=3)
    told = flask(sealed, "audit-purge", "--before", f"{sealed.clock().date()}")
    assert (told.exit_code, made[0] > 0) == (0, True), told.output
    [row] = sealed.audit(event="audit.purged")
    assert row.facts["last"] == end


def test_a_purge_deletes_nothing_when_rows_vanish_under_its_hand(sealed: World) -> None:
    with sealed.engine.begin() as connection:
        one = connection.scalar(sa.select(LOGS.c.id).where(LOGS.c.seal == 1).limit(1))
        connection.execute(sa.delete(LOGS).where(LOGS.c.id == one))
    before = sealed.count(AuditLog)
    with pytest.raises(seals.Torn):
        run(sealed.kit, partial(records.purge, before=sealed.clock() + timedelta(days=1), end=2))
    assert sealed.count(AuditLog) == before


@pytest.mark.parametrize("is_first", [True, False])
def test_a_purge_in_the_middle_of_an_inspection_is_no_finding(
    sealed: World, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    original, purged = inspection._page_of_seals, []

    def purge(end: int) -> int:
        return run(sealed.kit, partial(records.purge, before=sealed.clock() + timedelta(days=1), end=end))

    def then_purge(work: Work, **span: int) -> list[AuditSeal]:
        page = original(work, **span)
        if not purged:
            purged.append(purge(run(sealed.kit, seals.newest).sequence))
        return page

    if not is_first:
        assert purge(1) > 0
        seal(sealed)  # with the row that tells of it
    monkeypatch.setattr(inspection, "_page_of_seals", then_purge)
    assert findings(sealed) == []
    assert purged[0] > 0
    assert sealed.audit(seal=1) == []


@pytest.mark.parametrize("column", ["at", "facts", "id", "seal"])
def test_what_cannot_be_read_is_a_finding(sealed: World, column: str) -> None:
    if sealed.lane.name != "sqlite":
        pytest.skip("the engine takes nothing but the column's type")
    with sealed.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE audit_logs SET {column} = 'garbage' || {column} WHERE seal = 2"))
    assert findings(sealed)
    assert flask(sealed, "audit-verify").exit_code == 1


def test_rows_signed_with_an_earlier_secret_verify_while_it_is_listed(sealed: World) -> None:
    new = "n9wKq2LxRv8TnYb4WcZz6HsDfGgJkEuIoAaSlP1X3c7"
    for ring, well in (([new, SECRETS["secret_key"]], True), ([new], False)):
        rotated = type(sealed.kit)(**{**_parts(sealed.kit), "keys": KeyRing(ring)})
        found = list(inspection.inspect(rotated, Inspection()))
        assert (found == []) is well
        assert all("SECRET_KEY_PREVIOUS" in each.what for each in found)


def _parts(kit: Any) -> dict[str, Any]:
    return {name: getattr(kit, name) for name in kit.__slots__}


def test_the_service_seals_by_itself_once_a_minute(world: World) -> None:
    keeper = upkeep.Upkeep(world.kit)
    world.person().sign_up()
    keeper.tick()
    assert world.count(AuditSeal) == 0
    world.clock.advance(seconds=60)
    keeper.tick()
    assert world.count(AuditSeal) == 1
    assert world.rows(AuditLog, seal=None) == []


def test_the_courier_does_the_upkeep_in_a_thread_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.delivery.courier.UPKEEP_S", 0.02)
    world.person().sign_up()
    keeper = Courier(world.kit, {}, {}, sends=False)
    keeper.start()
    try:
        for _ in range(200):
            world.clock.advance(seconds=61)
            if world.count(AuditSeal):
                break
            threading.Event().wait(0.05)
    finally:
        keeper.stop()
    assert world.count(AuditSeal) == 1
    assert findings(world) == []


def test_rows_are_read_in_their_order_however_they_lie(sealed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was written again, as an erased person's, may lie behind younger ones."""
    monkeypatch.setattr(inspection, "ROWS", 3)
    with sealed.engine.begin() as connection:
        first = connection.scalars(sa.select(LOGS.c.id).order_by(LOGS.c.id).limit(4)).all()
        connection.execute(sa.update(LOGS).where(LOGS.c.id.in_(first)).values(at=LOGS.c.at))
    assert findings(sealed) == []
