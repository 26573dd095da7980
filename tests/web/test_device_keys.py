"""Devices over time: off and on, other keys, another MASTER_SECRET, lists, audit rows, repeated requests."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from app.core import api_keys
from app.core.api_keys import Scope
from app.core.devices import Verdict
from app.models import AuditLog, Device, Repeat
from tests.conftest import World
from tests.lanes import SECRETS
from tests.web.test_machines import DEVICES, TILL, Server, assert_nowhere, make_key, server, till

__all__ = ["server", "till"]

# Off, on, another key


@pytest.mark.covers("asvs 6.5.6")
def test_a_device_is_switched_off_and_on_again(world: World, till: Server) -> None:
    off = till.act("deactivate").ok()
    assert (off["message"], off["data"]["is_active"]) == ("Device deactivated", False)
    assert off["data"]["deactivated_at"] == world.clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not till.verify()
    on = till.act("reactivate").ok()
    assert (on["message"], on["data"]["is_active"], on["data"]["deactivated_at"]) == ("Device reactivated", True, None)
    assert till.verify(), "with the key it had"


@pytest.mark.parametrize("what", ["deactivate", "reactivate"])
def test_twice_is_as_good_as_once(world: World, till: Server, what: str) -> None:
    if what == "reactivate":
        till.act("deactivate").ok()
    first = till.act(what).ok()
    world.clock.advance(minutes=5)
    assert till.act(what).ok().body == first.body
    assert len(world.audit(event=f"device.{what}d")) == 1


def test_a_code_used_before_a_pause_is_used_after_it(till: Server) -> None:
    code = till.code()
    assert till.verify(code)
    till.act("deactivate").ok()
    till.act("reactivate").ok()
    assert not till.verify(code)


def test_a_rotated_key_replaces_the_old_one_at_once(world: World, till: Server) -> None:
    old, old_code = till.keys[TILL], till.code(ahead=1)
    answer = till.rotate().ok()
    assert (answer.status, answer["message"]) == (200, "Device key rotated")
    assert set(answer["data"]) == {"device_id", "derived_key", "algorithm", "digits", "interval"}
    assert till.keys[TILL] != old
    assert not till.verify(old_code)
    assert till.verify()
    assert till.show()["key_version"] == 2
    assert_nowhere(world, till.keys[TILL])


@pytest.mark.one_copy
def test_a_code_of_the_key_that_is_rotated_meanwhile_is_refused(world: World, till: Server) -> None:
    """Between reading the device and taking the step, its key became another: the write asks for the version."""
    if world.lane.name == "sqlite":
        pytest.skip("one writer at a time")
    code, seen = till.code(), []

    def meanwhile(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE devices SET last_step") and not seen:
            seen.append(statement)
            till.rotate().ok()

    sa.event.listen(world.engine, "before_cursor_execute", meanwhile)
    try:
        assert not till.verify(code)
    finally:
        sa.event.remove(world.engine, "before_cursor_execute", meanwhile)
    assert seen
    assert till.verify(), "the new key's, in the same step"


def test_a_rotation_lifts_a_lock_and_starts_the_steps_anew(till: Server) -> None:
    assert till.verify()
    for _ in range(5):
        till.verify(till.wrong())
    till.rotate().ok()
    assert till.verify(), "the same step, of another key"


def test_a_rotation_switches_nothing_on(till: Server) -> None:
    till.act("deactivate").ok()
    till.rotate().ok()
    assert not till.verify()
    till.act("reactivate").ok()
    assert till.verify()


# MASTER_SECRET

OLD_MASTER, NEW_MASTER = SECRETS["master_secret"], "n8sVf3Kq6Wz1Xc5Bm9Lj2Hg7Dp4Ta0Ye8Ru5Oi3Qw"


@pytest.mark.covers("attack A22", "fault F35", "asvs 13.3.4")
def test_a_changed_master_secret_orphans_no_device(make_world: Callable[..., World]) -> None:
    before = Server(make_world())
    before.register().ok()
    after = Server(make_world(keep=True, master_secret=NEW_MASTER, master_secret_previous=OLD_MASTER))
    after.keys = before.keys
    assert after.verify()
    after.register("till-8").ok()
    assert after.verify(device_id="till-8")
    assert len({row.master_id for row in after.world.rows(Device)}) == 2
    after.rotate().ok()
    gone = Server(make_world(keep=True, master_secret=NEW_MASTER))
    gone.keys = after.keys
    gone.world.clock.advance(seconds=30)
    assert gone.verify(), "a rotated key comes from the new secret"


def test_a_device_whose_master_secret_is_gone_is_not_valid_and_not_locked(make_world: Callable[..., World]) -> None:
    before = Server(make_world())
    before.register().ok()
    gone = Server(make_world(keep=True, master_secret=NEW_MASTER))
    gone.keys = before.keys
    assert not any(gone.verify() for _ in range(10))
    assert set(gone.reasons()) == {"master_secret_missing"}
    back = Server(make_world(keep=True))
    back.keys = before.keys
    assert back.verify(), "a mistake of the operator voids no key"


@pytest.mark.covers("attack A22")
def test_the_key_needs_more_than_the_master_secret(world: World, till: Server) -> None:
    [row] = world.rows(Device)
    guesses = [
        hmac.digest(OLD_MASTER.encode(), text.encode(), "sha256") for text in (TILL, f"{TILL}{row.salt}", row.salt)
    ]
    assert till.keys[TILL] not in guesses
    with world.engine.begin() as connection:
        connection.execute(sa.update(Device).values(salt="0" * 32))
    assert not till.verify(), "a row that was changed has no key"
    assert till.reasons() == ["master_secret_missing"]


# Lists and audit


def test_devices_are_listed_in_pages_newest_first(server: Server) -> None:
    for n in range(5):
        server.register(f"till-{n}").ok()
    names, cursor, pages = [], "", 0
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = server.api.get(f"{DEVICES}?limit=2{more}", server.key).ok()["data"]
        names += [item["device_id"] for item in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (names, pages) == ([f"till-{n}" for n in (4, 3, 2, 1, 0)], 3)


def test_a_device_in_the_list_is_the_device_by_itself(till: Server) -> None:
    till.verify()
    [item] = till.api.get(DEVICES, till.key).ok()["data"]["items"]
    assert item == till.show()
    assert set(item) == {
        "device_id", "user_id", "is_active", "usage_count", "last_used", "key_version", "locked_until", "created_at", "deactivated_at",
    }  # fmt: skip


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=x", "limit=1&limit=2"])
def test_a_page_that_cannot_be_is_refused(till: Server, query: str) -> None:
    for path in (DEVICES, f"{DEVICES}/{TILL}/audit"):
        assert till.api.get(f"{path}?{query}", till.key).code == "validation_failed"


def test_everything_that_happens_to_a_device_is_in_its_audit_rows(world: World, till: Server) -> None:
    till.register("other").ok()
    till.verify()
    till.verify(till.wrong())
    till.register()
    till.act("deactivate").ok()
    till.act("reactivate").ok()
    till.rotate().ok()
    rows, cursor = [], ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = till.api.get(f"{DEVICES}/{TILL}/audit?limit=3{more}", till.key).ok()["data"]
        rows += page["items"]
        cursor = page["next_cursor"]
    assert [(row["event"], row["success"], row["reason"]) for row in rows] == [
        ("device.key_rotated", True, None),
        ("device.reactivated", True, None),
        ("device.deactivated", True, None),
        ("device.refused", False, "conflict"),
        ("device.code_refused", False, "wrong_code"),
        ("device.verified", True, None),
        ("device.registered", True, None),
    ]
    assert len({row["id"] for row in rows}) == 7
    assert {row["ip"] for row in rows} == {"203.0.113.5"}
    assert {row["actor_id"] for row in rows} == {str(api_keys.ENVIRONMENT)}


def test_another_s_row_as_a_cursor_shows_nothing_of_it(world: World, till: Server) -> None:
    till.register("other").ok()
    [other] = world.audit(subject="other")
    page = till.api.get(f"{DEVICES}/{TILL}/audit?cursor={other.id}", till.key).ok()["data"]
    assert [row["event"] for row in page["items"]] == ["device.registered"]
    assert till.api.get(f"{DEVICES}/{TILL}/audit?cursor={uuid4()}", till.key).ok()["data"]["items"] == []


def test_a_code_for_a_device_that_is_not_there_is_audited_too(world: World, server: Server) -> None:
    assert not server.verify("123456", "nobody")
    [row] = world.audit(event="device.code_refused")
    assert (row.subject, row.user_id, row.reason) == ("nobody", None, "unknown_device")


def test_no_code_and_no_key_is_audited(world: World, till: Server) -> None:
    code = till.code()
    till.verify(code)
    till.verify(till.wrong())
    text = str([(row.subject, row.reason, row.facts) for row in world.rows(AuditLog)])
    assert code not in text
    assert base64.b64encode(till.keys[TILL]).decode() not in text


# Idempotency-Key


@pytest.mark.parametrize("what", ["register", "rotate"])
def test_a_repeat_gets_the_same_key_and_makes_no_other(world: World, server: Server, what: str) -> None:
    if what == "rotate":
        server.register().ok()
    act = getattr(server, what)
    first, again = (act(**{"Idempotency-Key": "a1"}).ok() for _ in range(2))
    assert (again.status, again.body) == (first.status, first.body)
    assert world.rows(Device)[0].key_version == (2 if what == "rotate" else 1)
    assert server.verify()


@pytest.mark.covers("asvs 14.2.4")
def test_a_stored_answer_holds_no_key_in_the_clear(world: World, server: Server) -> None:
    server.register(**{"Idempotency-Key": "a1"}).ok()
    [row] = world.rows(Repeat)
    assert row.answer
    assert "derived_key" not in row.answer
    assert_nowhere(world, server.keys[TILL])


def test_the_same_idempotency_key_for_another_device_is_a_mismatch(server: Server) -> None:
    key = {"Idempotency-Key": "a1"}
    server.register(**key).ok()
    assert server.register("till-8", **key).code == "idempotency_mismatch"
    server.register("till-8").ok()
    server.rotate(TILL, **key).ok()
    assert server.rotate("till-8", **key).code == "idempotency_mismatch"


def test_two_servers_may_choose_the_same_idempotency_key(world: World, server: Server) -> None:
    key = {"Idempotency-Key": "a1"}
    other = Server(world, make_key(world, Scope.DEVICES))
    first, second = server.register(**key), other.register("till-8", **key)
    assert (first.status, second.status) == (201, 201)
    assert Server(world).register("till-9").status == 201


def test_the_page_for_backends_names_every_reason_and_every_scope() -> None:
    page = (Path(__file__).parents[2] / "docs" / "machines.md").read_text()
    for name in (*Scope, *(set(Verdict) - {Verdict.RIGHT})):
        assert f"| `{name}` |" in page, name
