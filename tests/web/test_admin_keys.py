"""Administration of API keys and of messages, and why a code did not arrive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.core.api_keys import Scope
from app.delivery.senders import Reason, SendFailed
from app.models import ApiKey, OutboxMessage
from app.web.present import instant
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person, wrong
from tests.web.admins import USERS, id_of, last, of_role, path

KEYS, DELIVERIES = "/api/admin/api-keys", "/api/admin/deliveries"


@pytest.fixture
def admin(world: World) -> Person:
    return of_role(world, "admin")


def make(admin: Person, *scopes: str, **more: Any) -> Answer:
    return admin.api.post(KEYS, {"name": "till server", "scopes": list(scopes), **more}, admin.token)


# API keys


@pytest.mark.covers("asvs 13.2.1")
def test_a_key_is_shown_once_and_works_by_its_scopes(world: World, admin: Person) -> None:
    made = make(admin, "users:read", "otp:verify").ok()
    [row] = world.rows(ApiKey)
    assert made["key"].startswith(made["prefix"])
    assert made["key"] not in str(vars(row))
    assert (made["scopes"], made["created_by"]) == (["otp:verify", "users:read"], str(id_of(admin)))
    server = world.api()
    assert len(server.get(USERS, made["key"]).ok()["items"]) == 1
    assert server.get(path(admin), made["key"]).ok()["id"] == str(id_of(admin))
    assert server.get("/api/v1/devices", made["key"]).code == "forbidden"
    assert server.get(KEYS, made["key"]).code == "token_invalid"
    [listed] = admin.api.get(KEYS, admin.token).ok()["items"]
    assert "key" not in listed
    row = last(world, "key.created")
    assert (row.user_id, row.actor_id, row.subject) == (UUID(made["id"]), id_of(admin), made["prefix"])
    assert row.facts == {"before": None, "after": {"scopes": made["scopes"], "expires_at": None}}


@pytest.mark.parametrize("scope", [s for s in Scope if s is not Scope.USERS])
def test_people_are_read_by_keys_with_that_scope_only(world: World, admin: Person, scope: Scope) -> None:
    key = make(admin, scope).ok()["key"]
    answer = world.api().get(USERS, key)
    assert (answer.status, answer.code) == (403, "forbidden")


def test_a_revoked_key_is_refused_from_the_next_request_on(world: World, admin: Person) -> None:
    made = make(admin, "users:read").ok()
    for _ in range(2):
        admin.api.delete(f"{KEYS}/{made['id']}", admin.token).ok()
    assert world.api().get(USERS, made["key"]).code == "token_invalid"
    assert len(world.audit(event="key.revoked")) == 1
    assert admin.api.delete(f"{KEYS}/{uuid4()}", admin.token).code == "not_found"


@pytest.mark.parametrize("end", ["demoted", "disabled", "deleted"])
def test_a_key_outlives_the_admin_who_made_it_and_says_who_that_was(world: World, admin: Person, end: str) -> None:
    """As docs/administration.md tells, with what to do."""
    made = make(admin, "users:read").ok()
    other = of_role(world, "admin")
    if end == "deleted":
        other.api.delete(path(admin), other.token).ok()
    else:
        wished = {"role": "user"} if end == "demoted" else {"disabled": True}
        other.api.patch(path(admin), wished, other.token).ok()
    world.api().get(USERS, made["key"]).ok()
    [listed] = other.api.get(KEYS, other.token).ok()["items"]
    assert listed["created_by"] == str(id_of(admin))
    other.api.delete(f"{KEYS}/{listed['id']}", other.token).ok()
    assert world.api().get(USERS, made["key"]).code == "token_invalid"


def test_keys_are_listed_newest_first_in_pages(admin: Person) -> None:
    made = [make(admin, "users:read").ok()["id"] for _ in range(3)]
    first = admin.api.get(f"{KEYS}?limit=2", admin.token).ok()
    rest = admin.api.get(f"{KEYS}?limit=2&cursor={first['next_cursor']}", admin.token).ok()
    assert [row["id"] for page in (first, rest) for row in page["items"]] == made[::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("bad", [[], ["everything"], ["users:read", "x"], "users:read", [None]])
def test_a_key_has_scopes_and_only_those_that_there_are(world: World, admin: Person, bad: Any) -> None:
    answer = admin.api.post(KEYS, {"name": "x", "scopes": bad}, admin.token)
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert world.count(ApiKey) == 0


def test_a_key_ends_when_it_was_told_to(world: World, admin: Person) -> None:
    ahead = instant(world.clock.now + timedelta(hours=1))
    made = make(admin, "users:read", expires_at=ahead).ok()
    assert made["expires_at"] == ahead
    world.api().get(USERS, made["key"]).ok()
    world.clock.advance(hours=2)
    assert world.api().get(USERS, made["key"]).code == "token_invalid"
    admin.sign_in()
    assert make(admin, "users:read", expires_at=ahead)["errors"][0]["code"] == "past"


# Messages


class Broken:
    """A provider that will not have anything, until it is mended."""

    name = "broken"

    def __init__(self, sender: Any) -> None:
        self.sender, self.mended = sender, False
        self.messages = sender.messages

    def send(self, message: Any) -> Any:
        if self.mended:
            return self.sender.send(message)
        raise SendFailed(Reason.PERMANENT, "550 no such mailbox", provider="broken")


@pytest.fixture
def broken(world: World, admin: Person, monkeypatch: pytest.MonkeyPatch) -> Broken:
    found = Broken(world.senders["email"])
    monkeypatch.setitem(world.courier._senders, "email", found)
    return found


def failed(admin: Person) -> dict[str, Any]:
    [found] = admin.api.get(f"{DELIVERIES}?status=failed", admin.token).ok()["items"]
    return found


def test_a_message_that_failed_is_found_and_sent_once_more(world: World, admin: Person, broken: Broken) -> None:
    jane = world.person()
    asked = jane.ask_signup().ok()
    world.deliver()
    shown = failed(admin)
    assert (shown["last_error"], shown["attempts"], shown["kind"]) == ("550 no such mailbox", 1, "code.signup")
    assert jane.email not in str(shown)
    broken.mended = True
    answer = admin.api.post(f"{DELIVERIES}/{shown['id']}/retry", None, admin.token).ok()
    assert answer["status"] == "queued"
    jane.verify_signup(asked["challenge_id"], jane.code()).ok()
    row = last(world, "message.retried")
    assert (row.facts["before"], row.facts["after"]) == ("failed", "queued")
    again = admin.api.post(f"{DELIVERIES}/{shown['id']}/retry", None, admin.token)
    assert (again.status, again.code) == (409, "conflict")


def test_a_repeated_retry_gets_the_first_answer_and_sends_nothing(world: World, admin: Person, broken: Broken) -> None:
    people = [world.person(), world.person()]
    for person in people:
        person.ask_signup().ok()
    world.deliver()
    ids = [row["id"] for row in admin.api.get(f"{DELIVERIES}?status=failed", admin.token).ok()["items"]]
    admin.api.headers["Idempotency-Key"] = "k"
    first = admin.api.post(f"{DELIVERIES}/{ids[0]}/retry", None, admin.token).ok()
    world.deliver()  # and it failed once more
    again = admin.api.post(f"{DELIVERIES}/{ids[0]}/retry", None, admin.token)
    assert (again.status, again.body) == (200, first.body)
    assert len(world.audit(event="message.retried")) == 1
    assert [row.state for row in world.rows(OutboxMessage) if str(row.id) in ids] == ["failed", "failed"]
    other = admin.api.post(f"{DELIVERIES}/{ids[1]}/retry", None, admin.token)
    assert (other.status, other.code) == (422, "idempotency_mismatch")


def test_a_code_that_has_ended_is_not_sent_again(world: World, admin: Person, broken: Broken) -> None:
    world.person().ask_signup().ok()
    world.deliver()
    shown = failed(admin)
    world.clock.advance(minutes=6)
    admin.api.get(DELIVERIES, admin.token).ok()
    answer = admin.api.post(f"{DELIVERIES}/{shown['id']}/retry", None, admin.token)
    assert (answer.status, answer.code) == (409, "conflict")
    assert last(world, "message.refused").reason == "conflict"


def test_a_notice_can_be_sent_late(world: World, admin: Person, broken: Broken) -> None:
    body = {"current_password": PASSWORD, "new_password": "a brand new horse"}
    admin.api.post("/api/auth/change-password", body, admin.token).ok()
    world.deliver()
    shown = failed(admin)
    broken.mended = True
    world.clock.advance(minutes=5)
    admin.api.post(f"{DELIVERIES}/{shown['id']}/retry", None, admin.token).ok()
    assert world.inbox(admin.email)[-1] == "notice.password_changed"


def test_what_was_sent_or_is_for_nobody_is_not_sent_again(world: World, admin: Person) -> None:
    admin.api.post("/api/auth/forgot-password", {"email": "nobody@example.com"}).ok()
    world.deliver()
    for row in world.rows(OutboxMessage):
        answer = admin.api.post(f"{DELIVERIES}/{row.id}/retry", None, admin.token)
        assert answer.code == ("not_found" if row.kind == "decoy" else "conflict")
    assert all(item["kind"] != "decoy" for item in admin.api.get(DELIVERIES, admin.token).ok()["items"])


def test_messages_are_filtered_and_come_in_pages(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    world.person().sign_up().sign_in()
    every = admin.api.get(DELIVERIES, admin.token).ok()["items"]
    assert [item["id"] for item in every] == sorted((item["id"] for item in every), reverse=True)
    for query in ("status=sent", "channel=email", "provider=memory", "provider=memory%20"):
        assert admin.api.get(f"{DELIVERIES}?{query}", admin.token).ok()["items"] == every
    for query in ("status=queued", "channel=sms", "provider=twilio"):
        assert admin.api.get(f"{DELIVERIES}?{query}", admin.token).ok()["items"] == []
    assert len(admin.api.get(f"{DELIVERIES}?user_id={id_of(jane)}", admin.token).ok()["items"]) == 1
    first = admin.api.get(f"{DELIVERIES}?limit=2", admin.token).ok()
    rest = admin.api.get(f"{DELIVERIES}?limit=200&cursor={first['next_cursor']}", admin.token).ok()
    assert first["items"] + rest["items"] == every


# The timeline


def test_the_timeline_tells_why_a_code_did_not_arrive(world: World, admin: Person, broken: Broken) -> None:
    broken.mended = True
    jane = world.person().sign_up()
    broken.mended = False
    asked = jane.ask_signin().ok()
    world.deliver()
    jane.verify_signin(asked["challenge_id"], "000000")
    shown = admin.api.get(path(jane, "/timeline"), admin.token).ok()["items"]
    told = [
        (i["kind"], (i["challenge"] or {}).get("purpose") or (i["message"] or {}).get("status") or i["event"]["event"])
        for i in shown
    ]
    assert told[:3] == [("event", "code.refused"), ("event", "message.dropped"), ("event", "signin.started")]
    assert ("message", "failed") in told
    assert told[-3:] == [("event", "signup.started"), ("message", "sent"), ("challenge", "signup")]
    assert told.index(("challenge", "signin")) > told.index(("message", "failed"))
    [message] = [i["message"] for i in shown if i["message"] and i["message"]["status"] == "failed"]
    assert message["last_error"] == "550 no such mailbox"
    assert jane.email not in str(shown)


def test_the_timeline_comes_in_pages_and_holds_no_code(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    asked = jane.ask_signin().ok()
    code = jane.code()
    jane.verify_signin(asked["challenge_id"], wrong(code))
    whole = admin.api.get(path(jane, "/timeline?limit=200"), admin.token).ok()["items"]
    seen, cursor = [], ""
    while cursor is not None:
        answer = admin.api.get(path(jane, f"/timeline?limit=3{cursor and '&cursor=' + cursor}"), admin.token).ok()
        seen += answer["items"]
        cursor = answer["next_cursor"]
    assert seen == whole
    assert len({item["id"] for item in whole}) == len(whole)
    assert [i["at"] for i in whole] == sorted((i["at"] for i in whole), reverse=True)
    assert code not in str(whole)
    assert [i["challenge"]["state"] for i in whole if i["challenge"]] == ["open", "answered"]


def test_a_code_to_a_new_address_is_in_the_timeline_of_who_asked(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    jane.api.post("/api/auth/change-email", {"email": "other@example.com"}, jane.token).ok()
    shown = admin.api.get(path(jane, "/timeline"), admin.token).ok()["items"]
    assert next(i["message"]["recipient"] for i in shown if i["message"]) == "o***@example.com"
