"""The audit log in administration: filters, pages, and exports that hold nothing open."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.core import audit
from app.core.trail import Filters
from app.errors import TokenRevoked
from app.models import AuditLog
from app.web import audit_export, streamed
from app.work import run
from tests.conftest import World
from tests.people import Answer, Person, wrong
from tests.web.admins import of_role, path

PATH = "/api/admin/audit-logs"


@pytest.fixture
def admin(world: World) -> Person:
    return of_role(world, "admin")


def listed(admin: Person, query: str = "") -> list[dict[str, Any]]:
    """Every row, page by page."""
    found, cursor = [], ""
    while cursor is not None:
        page = admin.api.get(f"{PATH}?limit=3{query}{cursor and f'&cursor={cursor}'}", admin.token).ok()
        found += page["items"]
        cursor = page["next_cursor"]
    return found


def download(world: World, admin: Person, query: str) -> Any:
    client = world.app.test_client(use_cookies=False)
    return client.get(f"{PATH}?{query}", headers={"Authorization": f"Bearer {admin.token}"})


def test_rows_come_newest_first_and_page_by_page(world: World, admin: Person) -> None:
    rows = [str(row.id) for row in reversed(world.audit())]
    assert [row["id"] for row in listed(admin)] == rows
    assert "salt" not in listed(admin)[0]


@pytest.mark.covers("asvs 16.3.2")
def test_each_filter_keeps_what_it_says(world: World, admin: Person) -> None:
    other = world.person("2001:db8::7").sign_up()
    world.person("::ffff:203.0.113.77").ask_signin()
    other.ask_signin()
    other.api.post("/api/auth/login", {"identifier": other.email, "password": "wrong horse 7"})
    user_id = other.tokens["user"]["id"]
    middle = world.clock().replace(microsecond=0) + timedelta(seconds=1)
    world.clock.advance(seconds=2)
    admin.me()
    admin.api.patch("/api/auth/me", {"name": "J"}, admin.token).ok()
    for query, keeps in {
        "event=signin.refused": lambda row: row.event == "signin.refused",
        f"user_id={user_id}": lambda row: str(row.user_id) == user_id,
        f"actor_id={admin.tokens['user']['id']}": lambda row: str(row.actor_id) == admin.tokens["user"]["id"],
        "ip=2001:0db8:0::7": lambda row: row.ip == "2001:db8::7",
        "ip=203.0.113.77": lambda row: row.ip == "203.0.113.77",
        "ip=::ffff:203.0.113.77": lambda row: row.ip == "203.0.113.77",
        "success=false": lambda row: not row.success,
        f"from={middle:%Y-%m-%dT%H:%M:%SZ}": lambda row: row.at >= middle,
        f"to={middle:%Y-%m-%dT%H:%M:%SZ}": lambda row: row.at < middle,
        "to=2026-11-21": lambda row: row.event == "never.was",
        f"success=true&user_id={user_id}": lambda row: row.success and str(row.user_id) == user_id,
    }.items():
        wanted = {str(row.id) for row in world.audit() if keeps(row)}
        assert {row["id"] for row in listed(admin, f"&{query}")} == wanted, query
        assert wanted or "2026-11-21" in query


def test_what_is_no_filter_is_refused(admin: Person) -> None:
    for query in ("event=%00", "event=x", "user_id=7", "ip=localhost", "from=yesterday", "from=0001-01-01T00:00:00%2B05:00",
                  "success=perhaps", "format=xlsx", "cursor=x", "limit=0"):  # fmt: skip
        assert admin.api.get(f"{PATH}?{query}", admin.token).code == "validation_failed", query


@pytest.mark.covers("asvs 8.2.1")
def test_it_is_for_those_who_may(world: World) -> None:
    person = world.person().sign_up()
    assert person.api.get(PATH, person.token).code == "forbidden"
    assert person.api.get(PATH).code == "token_missing"


@pytest.mark.covers("asvs 7.5.3")
def test_an_export_asks_for_a_recent_sign_in_and_a_page_does_not(world: World, admin: Person) -> None:
    world.clock.advance(minutes=11)
    assert listed(admin)
    answer = download(world, admin, "format=csv")
    assert (answer.status_code, answer.json["code"]) == (401, "insufficient_user_authentication")
    assert 'max_age="600"' in answer.headers["WWW-Authenticate"]
    assert world.audit(event="audit.exported") == []


def test_both_formats_hold_every_row_and_are_recorded(
    world: World, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.work.AT_ONCE", 2)
    asked = admin.ask_signin()
    admin.verify_signin(asked["challenge_id"], wrong(admin.code()))
    rows = [row for row in world.audit() if row.success]
    lines = download(world, admin, "format=ndjson&success=true")
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    assert lines.headers["Cache-Control"] == "no-store"
    found = [json.loads(line) for line in lines.text.splitlines()]
    assert [row["id"] for row in found[:-1]] == [str(row.id) for row in rows]
    assert found[-1]["event"] == "audit.exported"
    assert found[-1]["facts"] == {"format": "ndjson", "filters": ["success"]}
    table = download(world, admin, "format=csv&success=true")
    assert table.headers["Content-Disposition"] == 'attachment; filename="audit-logs.csv"'
    assert table.mimetype == "text/csv"
    header, *cells = csv.reader(io.StringIO(table.text))
    assert header == [*found[0]]
    assert [line[0] for line in cells[: len(rows)]] == [str(row.id) for row in rows]
    assert json.loads(cells[0][header.index("facts")]) == rows[0].facts


@pytest.mark.parametrize("agent", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\uff1d1", '=1,"2"'])
def test_a_spreadsheet_runs_nothing_of_it(world: World, admin: Person, agent: str) -> None:
    world.api(**{"User-Agent": agent.encode().decode("latin-1")}).post(
        "/api/auth/login", {"identifier": "x@example.com", "password": "wrong horse 7"}
    )
    [stored] = {row.user_agent for row in world.audit(event="signin.refused")}
    header, *cells = csv.reader(io.StringIO(download(world, admin, "format=csv&event=signin.refused").text))
    [cell] = {line[header.index("user_agent")] for line in cells}
    assert cell == (stored if stored[0] == "\u00ef" else f"'{stored}")
    assert audit_export._cell(agent) == f"'{agent}"
    for text in ("\tx", "\rx"):
        assert audit_export._cell(text) == f"'{text}"


@pytest.mark.parametrize("between", [";", "; ", "\t", "|", "\r\n", ';"', ";;"])
def test_a_spreadsheet_that_splits_at_another_sign_runs_nothing_of_it(
    world: World, admin: Person, between: str
) -> None:
    """In some languages a list's separator is the semicolon, and our quotes do not begin its cells."""
    agent = f"a{between}=cmd|' /C calc'!A0"
    shown = f"a{between}'=cmd|' /C calc'!A0"
    assert audit_export._cell(agent) == shown
    if between.isprintable():
        ask = {"identifier": "x@example.com", "password": "wrong horse 7"}
        world.api(**{"User-Agent": agent}).post("/api/auth/login", ask)
        header, *cells = csv.reader(io.StringIO(download(world, admin, "format=csv&event=signin.refused").text))
        assert {line[header.index("user_agent")] for line in cells} == {shown}


def test_a_slow_reader_holds_nothing_open(world: World, admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.work.AT_ONCE", 2)
    reply = download(world, admin, "format=ndjson")
    chunks = iter(reply.response)
    for _ in range(3):
        assert len(next(chunks).splitlines()) == 2
        assert world.engine.pool.checkedout() == 0
    there = world.count(AuditLog)
    world.clock.advance(seconds=1)
    world.person().sign_up()  # others write meanwhile
    assert sum(len(chunk.splitlines()) for chunk in chunks) + 6 == there


@pytest.mark.parametrize("whole", [True, False])
def test_by_http_1_0_a_body_that_its_reader_does_not_take_to_the_end_ends_with_an_error(
    world: World, whole: bool
) -> None:
    """Else it would look whole: its end is that of the connection."""
    broken: list[bool] = []
    asked = {"SERVER_PROTOCOL": "HTTP/1.0", streamed.RESET: partial(broken.append, True)}
    with world.app.test_request_context(environ_overrides=asked):
        answer = streamed.respond(streamed.Streamed(streamed.NDJSON, "rows.ndjson", iter([b"1\n", b"2\n"])), 200)
    taken = list(answer.response) if whole else next(iter(answer.response))
    answer.close()  # as the server does, whatever came of it
    assert (taken, broken) == (([b"1\n", b"2\n"], []) if whole else (b"1\n", [True]))


@pytest.mark.covers("attack A45", "asvs 7.4.2", "asvs 8.3.2")
@pytest.mark.parametrize(("end", "body"), [("lock", {}), ("role", {"role": "doctor"})])
def test_an_export_is_cut_off_where_its_admin_is_none_any_more(
    world: World, admin: Person, monkeypatch: pytest.MonkeyPatch, end: str, body: dict[str, str]
) -> None:
    boss = of_role(world, "admin")
    monkeypatch.setattr("app.work.AT_ONCE", 2)
    chunks = iter(download(world, admin, "format=ndjson").response)
    assert len(next(chunks).splitlines()) == 2
    boss.api.call("PUT" if end == "role" else "POST", path(admin, f"/{end}"), body, boss.token).ok()
    with pytest.raises(TokenRevoked):  # the server closes the connection without the body's end
        next(chunks)


@pytest.mark.one_lane
def test_an_export_takes_no_more_memory_for_more_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.work.AT_ONCE", 100)
    peaks = []
    for more in (300, 1200):
        each: dict[UUID, dict[str, Any]] = {uuid4(): {} for _ in range(more)}
        run(world.kit, partial(audit.record_each, event=audit.Event.ACCOUNT_IMPORTED, about=each))
        tracemalloc.start()
        rows = sum(len(chunk.splitlines()) for chunk in audit_export.chunks(world.kit, Filters(), "ndjson"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert rows == 1500
    assert peaks[1] < 1.5 * peaks[0], "five times the rows"


def test_the_command_writes_the_same(world: World, admin: Person) -> None:
    for kind in ("csv", "ndjson"):
        told = world.app.test_cli_runner().invoke(args=["audit-export", "--format", kind, "--to", "2026-11-22"])
        assert told.exit_code == 0
        reply: Answer | Any = download(world, admin, f"format={kind}&to=2026-11-22T00:00:00Z")
        got, expected = told.stdout_bytes.splitlines(), reply.data.splitlines()
        assert got == expected[: len(got)]
        assert b"audit.exported" in got[-1]
    assert world.app.test_cli_runner().invoke(args=["audit-export", "--from", "2026-11-22"]).stdout_bytes == b""
