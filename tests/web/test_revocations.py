"""The feed of revocations: what it says and what introspection says are one, whatever ends a token and whenever."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
import sqlalchemy as sa

from app.core import revocations, sessions
from app.core.api_keys import Scope
from app.crypto.ids import uuid7
from app.flows import administration
from app.models import ErasedSession, Session
from app.work import Work, run
from tests.authenticator import enrol
from tests.conftest import World
from tests.lanes import ROOT, SECRETS
from tests.people import PASSWORD, Answer, Person
from tests.web.admins import act, give, id_of, path
from tests.web.test_machines import make_key

KEY = SECRETS["api_key"]
FEED = "/api/auth/revocations"
LIFE = 900
Worlds = Callable[..., World]


def asked(world: World, since: str | None = None, **headers: str) -> Answer:
    return world.api().get(f"{FEED}?since={since}" if since else FEED, KEY, **headers)


@dataclass
class Backend:
    """One that verifies tokens by itself and follows the feed."""

    world: World
    since: str | None = None
    refused: dict[str, str] = field(default_factory=dict)  # until when, by session
    fetched: int = 0

    def follow(self) -> Backend:
        more = True
        while more:
            answer = asked(self.world, self.since).ok()
            self.refused |= {item["session_id"]: item["revoked_at"] for item in answer["items"]}
            self.since, more = answer["next"], answer["more"]
            self.fetched += 1
        return self

    def takes(self, token: str) -> bool:
        claims = jwt.decode(token, options={"verify_signature": False})
        until = self.refused.get(claims["sid"], "")
        issued = datetime.fromtimestamp(claims["iat"], UTC)
        alive = claims["exp"] > self.world.clock.now.timestamp()
        return alive and not issued.strftime("%Y-%m-%dT%H:%M:%SZ") <= until


def active(world: World, token: str) -> bool:
    return bool(world.api().post("/api/auth/introspect", {"token": token}, KEY).ok()["active"])


@dataclass
class Scene:
    """Somebody signed in at two places, and an admin."""

    world: World
    admin: Person
    here: Person
    there: Person

    def by_admin(self, what: str, body: Any = None) -> None:
        act(self.admin, self.here, what, body or {}).ok()

    def post(self, path: str, body: Any = None) -> Answer:
        return self.there.api.post(f"/api/auth/{path}", body, self.there.token).ok()


def steal(s: Scene) -> None:
    old = s.here.tokens["refresh_token"]
    s.here.tokens = s.here.refresh().ok().body
    s.world.clock.advance(seconds=30)
    assert s.here.refresh(old).code == "token_reused"


def recover(s: Scene) -> None:
    begun = s.here.api.post("/api/auth/forgot-password", {"email": s.here.email}).ok()
    body = {"challenge_id": begun["challenge_id"], "otp": s.here.code(), "new_password": "another horse 9"}
    s.here.api.post("/api/auth/reset-password", body).ok()


def change_address(s: Scene) -> None:
    address = f"new.{s.here.email}"
    begun = s.post("change-email", {"email": address})
    code = s.world.read("email", address)
    s.post("verify-otp", {"challenge_id": begun["challenge_id"], "otp": code})


def lock_for_a_while(s: Scene) -> None:
    until = s.world.clock.now + timedelta(seconds=60)
    s.by_admin("lock", {"until": until.strftime("%Y-%m-%dT%H:%M:%SZ")})
    s.world.clock.advance(seconds=90)


def change_by_admin(s: Scene, **body: Any) -> None:
    s.admin.api.patch(path(s.here), body, s.admin.token).ok()


def sign_out_browser(s: Scene) -> None:
    """With a refresh token alone."""
    s.here.api.post("/api/auth/logout", {"refresh_token": s.here.tokens["refresh_token"]}).ok()


ACTS: dict[str, Callable[[Scene], object]] = {
    "sign out": lambda s: s.post("logout"),
    "sign out by refresh token": sign_out_browser,
    "sign out everywhere": lambda s: s.post("logout", {"everywhere": True}),
    "end another session": lambda s: s.there.api.delete(
        f"/api/auth/sessions/{s.here.tokens['session_id']}", s.there.token
    ).ok(),
    "end all others": lambda s: s.there.api.delete("/api/auth/sessions", s.there.token).ok(),
    "a stolen refresh token": steal,
    "another password": lambda s: s.post(
        "change-password", {"current_password": PASSWORD, "new_password": "another horse 9"}
    ),
    "recovery": recover,
    "another address": change_address,
    "a second factor": lambda s: enrol(s.world, s.there),
    "lock": lambda s: s.by_admin("lock"),
    "lock that has ended": lock_for_a_while,
    "lock by command": lambda s: s.world.app.test_cli_runner().invoke(args=["users", "lock", s.here.email]),
    "lock and unlock": lambda s: (s.by_admin("lock"), s.by_admin("unlock")),
    "disable": lambda s: change_by_admin(s, disabled=True),
    "disable and enable": lambda s: (change_by_admin(s, disabled=True), change_by_admin(s, disabled=False)),
    "another role": lambda s: s.admin.api.call("PUT", path(s.here, "/role"), {"role": "doctor"}, s.admin.token).ok(),
    "another role and back": lambda s: (change_by_admin(s, role="doctor"), change_by_admin(s, role="user")),
    "revoked by admin": lambda s: s.by_admin("revoke-sessions"),
    "factors reset": lambda s: s.by_admin("reset-mfa"),
    "deleted by admin": lambda s: s.admin.api.delete(path(s.here), s.admin.token).ok(),
    "erased": lambda s: s.there.api.delete("/api/auth/me", s.there.token).ok(),
    "signed out, then erased": lambda s: (sign_out_browser(s), s.there.api.delete("/api/auth/me", s.there.token).ok()),
}
REASONS = re.compile(
    r'(?:sessions\.revoke|revoke_all|credentials\.changed|everything_ended|\bend)\(work, [^"\n]*"(\w+)"'
)


@pytest.mark.covers("asvs 7.4.1", "asvs 7.4.2", "asvs 8.3.2")
@pytest.mark.one_lane("postgresql")
def test_the_feed_and_introspection_say_the_same_after_every_act(make_world: Worlds) -> None:
    """A backend that has followed from the start, and at the end of all tokens, one that begins then, too."""
    world = make_world(mfa_policy="optional", step_up_max_age=3600)
    admin = world.person().sign_up()
    give(world, admin, "admin")
    admin.tokens = admin.ask_signin().ok().body
    following, tokens, reasons = Backend(world), dict[str, str](), set[str | None]()
    for name, do in ACTS.items():
        here = world.person().sign_up()
        there = world.person(email=here.email)
        there.tokens = there.ask_signin().ok().body
        tokens |= {f"{name}: here": here.token, f"{name}: there": there.token}
        do(Scene(world, admin, here, there))
        following.follow()
        for which in (f"{name}: here", f"{name}: there"):
            assert following.takes(tokens[which]) == active(world, tokens[which]), which
        assert not (active(world, here.token) and active(world, there.token)), f"{name} ends nothing"
        reasons |= {row.revoked_why for row in world.rows(Session, user_id=id_of(here))}
        world.clock.advance(seconds=2)
    beginning = Backend(world).follow()
    for which, token in tokens.items():
        assert following.takes(token) == beginning.takes(token) == active(world, token), which
    source = "".join(path.read_text() for path in (ROOT / "app" / "flows").glob("*.py"))
    assert reasons - {None} == set(REASONS.findall(source)), "an act of the code is not among those above"
    world.clock.advance(seconds=LIFE + revocations.OVERLAP.total_seconds())
    assert asked(world).ok()["items"] == [], "what is no longer within its life is not told"


def test_an_end_is_told_until_its_last_token_has_expired(world: World, person: Person) -> None:
    person.api.post("/api/auth/logout", token=person.token).ok()
    [item] = asked(world).ok()["items"]
    assert item["session_id"] == person.tokens["session_id"]
    world.clock.advance(seconds=LIFE - 1)
    assert len(asked(world).ok()["items"]) == 1
    world.clock.advance(seconds=revocations.OVERLAP.total_seconds())
    assert len(asked(world).ok()["items"]) == 1, "one that was signed while it ended"
    world.clock.advance(seconds=2)
    assert asked(world).ok()["items"] == []


def test_a_token_that_is_signed_while_its_session_ends_is_refused_too(world: World, person: Person) -> None:
    """The unit that ends it began before the one that signs, and commits after it."""
    backend = Backend(world)
    began = world.clock.now
    world.clock.advance(seconds=9)
    token = person.refresh().ok()["access_token"]
    user_id, session_id = id_of(person), UUID(person.tokens["session_id"])

    def late(work: Work) -> None:
        work.now = began
        sessions.revoke(work, session_id, user_id, "signed_out")

    run(world.kit, late)
    assert not active(world, token)
    assert not backend.follow().takes(token)


@pytest.mark.one_lane("postgresql", "mariadb")
@pytest.mark.row_locks
def test_an_end_that_commits_late_is_not_missed(world: World) -> None:
    """Two units end sessions; the one that began first commits last, after a backend has read past it."""
    if world.lane.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    slow, quick = world.person().sign_up(), world.person().sign_up()
    backend, written, commit = Backend(world).follow(), threading.Event(), threading.Event()

    def late(work: Work) -> None:
        sessions.revoke_all(work, id_of(slow), "signed_out")
        written.set()
        assert commit.wait(30)

    thread = threading.Thread(target=lambda: run(world.kit, late))
    thread.start()
    assert written.wait(30)
    world.clock.advance(seconds=100)
    quick.api.post("/api/auth/logout", token=quick.token).ok()
    backend.follow()
    assert (backend.takes(slow.token), backend.takes(quick.token)) == (True, False)
    commit.set()
    thread.join(30)
    assert not active(world, slow.token)
    assert not backend.follow().takes(slow.token)


@pytest.mark.one_lane("postgresql", "mariadb")
@pytest.mark.row_locks
def test_whoever_signs_in_while_the_account_is_erased_is_in_the_feed(world: World, person: Person) -> None:
    """The sign-in holds the row of the account; the erasure waits for it, and then sees its session."""
    if world.lane.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    opened, commit = threading.Event(), threading.Event()
    added = uuid7(world.clock.now)

    def sign_in(work: Work) -> None:
        user = work.db.get(administration.User, id_of(person), with_for_update=True)
        assert user is not None
        [row] = sessions.all_of_user(work, user.id)
        copied = {c.key: getattr(row, c.key) for c in sa.inspect(Session).column_attrs}
        work.db.add(Session(**{**copied, "id": added}))
        work.db.flush()
        opened.set()
        assert commit.wait(30)

    first = threading.Thread(target=lambda: run(world.kit, sign_in))
    first.start()
    assert opened.wait(30)
    second = threading.Thread(target=lambda: administration_delete(world, person))
    second.start()
    second.join(0.3)
    assert second.is_alive(), "it waits"
    commit.set()
    first.join(30)
    second.join(30)
    assert str(added) in Backend(world).follow().refused


def administration_delete(world: World, person: Person) -> None:
    run(world.kit, lambda work: administration.delete(work, id_of(person)))


def end_many(world: World, person: Person, count: int) -> None:
    """So many sessions more, ended in one moment."""

    def story(work: Work) -> None:
        [row, *_] = sessions.all_of_user(work, id_of(person))
        copied = {c.key: getattr(row, c.key) for c in sa.inspect(Session).column_attrs}
        for _ in range(count):
            work.db.add(Session(**{**copied, "id": uuid7(work.now), "revoked_at": None}))
        work.db.flush()
        sessions.revoke_all(work, id_of(person), "signed_out")

    run(world.kit, story)


def test_many_ends_come_in_several_answers(world: World, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of one moment; and one that commits late while the answers are fetched."""
    monkeypatch.setattr(revocations, "MOST", 3)
    end_many(world, person, 6)
    other = world.person().sign_up()
    other.api.delete("/api/auth/me", other.token).ok()
    late = world.person().sign_up()
    began = world.clock.now
    end_many(world, person, 4)
    first = asked(world).ok()
    assert (len(first["items"]), first["more"]) == (3, True)
    world.clock.advance(seconds=60)
    end_many(world, person, 1)

    def before(work: Work) -> None:
        work.now = began - timedelta(seconds=50)
        sessions.revoke_all(work, id_of(late), "signed_out")

    run(world.kit, before)
    world.clock.advance(seconds=60)
    end_many(world, person, 1)
    backend = Backend(world, first["next"], {i["session_id"]: i["revoked_at"] for i in first["items"]}).follow()
    backend.follow()
    ended = {str(row.id) for row in world.rows(Session)} | {str(row.session_id) for row in world.rows(ErasedSession)}
    assert backend.refused.keys() == ended
    assert len(ended) == 1 + 6 + 4 + 1 + 1 + 1 + 1
    assert Backend(world).follow().refused == backend.refused


def test_what_is_as_it_was_is_not_sent_again(world: World, person: Person) -> None:
    first = asked(world).ok()
    tag = first.headers["ETag"]
    assert asked(world, **{"If-None-Match": tag}).status == 304
    person.api.post("/api/auth/logout", token=person.token).ok()
    second = asked(world, first["next"], **{"If-None-Match": tag}).ok()
    assert [item["session_id"] for item in second["items"]] == [person.tokens["session_id"]]
    tag = second.headers["ETag"]
    for _ in range(5):
        world.clock.advance(seconds=100)
        again = asked(world, second["next"], **{"If-None-Match": tag})
        assert (again.status, again.body) == (304, None)
        assert again.headers["Cache-Control"] == "no-store"
    other = world.person().sign_up()
    other.api.post("/api/auth/logout", token=other.token).ok()
    assert other.tokens["session_id"] in str(asked(world, second["next"], **{"If-None-Match": tag}).ok().body)


def test_the_answer_is_as_the_contract_says(world: World, person: Person) -> None:
    ended = world.clock.now + revocations.OVERLAP
    person.api.post("/api/auth/logout", token=person.token).ok()
    answer = asked(world).ok()
    assert answer.body == {
        "items": [
            {"session_id": person.tokens["session_id"], "revoked_at": ended.strftime("%Y-%m-%dT%H:%M:%SZ")}
        ],
        "next": answer["next"], "more": False, "token_life": LIFE,
    }  # fmt: skip
    assert asked(world, answer["next"]).ok()["next"] == answer["next"], "a place moves when there is something new"


@pytest.mark.one_lane
@pytest.mark.parametrize(
    "since", ["x", "-1", "1-2-3", "9" * 18, "1" * 81, f"1-{'0' * 32}", f"1-{'g' * 32}-1", "1.5", "%00", "1 ", "\u0661"]
)
def test_a_place_that_was_never_told_is_a_field_error(world: World, since: str) -> None:
    answer = asked(world, since)
    assert (answer.status, answer["errors"][0]["field"]) == (422, "since")


@pytest.mark.one_lane
@pytest.mark.parametrize("since", ["0", "9" * 17, f"0-{'0' * 32}-0", f"{'9' * 17}-{'f' * 32}-{'9' * 17}"])
def test_a_place_that_is_far_away_leads_back(world: World, person: Person, since: str) -> None:
    backend = Backend(world, since).follow()
    person.api.post("/api/auth/logout", token=person.token).ok()
    assert not backend.follow().takes(person.token)


@pytest.mark.one_lane
def test_a_server_without_the_scope_reads_no_feed(world: World, person: Person) -> None:
    for key, code in ((None, "token_missing"), ("nonsense", "token_invalid"), (person.token, "token_invalid")):
        assert world.api().get(FEED, key).code == code
    assert world.api().get(FEED, make_key(world, Scope.USERS)).code == "forbidden"
    assert world.api().get(FEED, make_key(world, Scope.INTROSPECT)).status == 200


def test_the_feed_is_read_by_its_indexes(world: World) -> None:
    """However many sessions have ended in all, only those of the last minutes are looked at."""
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        seen.append((statement, parameters))  # type: ignore[arg-type]

    sa.event.listen(world.engine, "before_cursor_execute", note)
    try:
        run(world.kit, lambda work: revocations.page(work, None), reads=True)
    finally:
        sa.event.remove(world.engine, "before_cursor_execute", note)
    plans = [explained(world, *each) for each in seen if "FROM " in each[0]]
    assert len(plans) == 2
    for plan, index in zip(plans, ("ix_sessions_revoked_at_id", "ix_erased_sessions_erased_at"), strict=True):
        assert index in plan, plan


def explained(world: World, statement: str, parameters: Any) -> str:
    how = "EXPLAIN QUERY PLAN " if world.lane.name == "sqlite" else "EXPLAIN "
    with world.engine.begin() as connection:
        if world.lane.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return str(connection.exec_driver_sql(how + statement, parameters).all())


@pytest.mark.one_lane
def test_what_is_kept_of_an_erased_session_goes_after_a_day(world: World, person: Person) -> None:
    person.api.delete("/api/auth/me", person.token).ok()
    purge = ["purge", "--json"]
    for hours, left in ((23, 1), (2, 0)):
        world.clock.advance(hours=hours)
        world.app.test_cli_runner().invoke(args=purge)
        assert world.count(ErasedSession) == left
