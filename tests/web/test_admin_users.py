"""Administration of people."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import sqlalchemy as sa

from app.core import accounts, lockout
from app.core.imports import Row
from app.crypto.passwords import Hasher
from app.errors import LastAdmin
from app.flows import administration, imports
from app.models import AuditLog, OtpChallenge, OutboxMessage, Session, User, UsernameHold
from app.web.present import instant
from app.work import run
from tests.conftest import World
from tests.people import PASSWORD, Person, while_hashing
from tests.web.admins import USERS, act, give, id_of, last, of_role, path
from tests.web.test_phone import Phone
from tests.web.test_trusted_devices import remember
from tests.web.test_trusted_devices import signin as on_device

NEW = "a brand new horse"
HASHED = Hasher(memory_kib=64, time_cost=1, slots=1, queue=1).hash(PASSWORD.encode())


@pytest.fixture
def admin(world: World) -> Person:
    return of_role(world, "admin", name="Ada Lovelace", username="ada")


def names(admin: Person, query: str) -> list[str]:
    return [item["name"] for item in admin.api.get(f"{USERS}?{query}", admin.token).ok()["items"]]


# Finding


def test_people_are_listed_newest_first_with_their_state(world: World, admin: Person) -> None:
    jane = world.person(name="Jane").sign_up()
    answer = admin.api.get(USERS, admin.token).ok()
    assert [item["name"] for item in answer["items"]] == ["Jane", "Ada Lovelace"]
    shown = answer["items"][0]
    assert (shown["id"], shown["status"], shown["has_password"]) == (jane.tokens["user"]["id"], "active", True)


@pytest.mark.parametrize(
    "query",
    ["find", "FIND.ME", "find.me@example.c", "find.me@example.com", "%2B9198765", "%2B91 98765-4", "00919876543", "zo%C3%A9",
     "ZOE\u0301 d", "zo\u00e9%20%20doe", "\uff3ao\u00e9"],
)  # fmt: skip
def test_somebody_is_found_by_how_name_or_address_begins(world: World, admin: Person, query: str) -> None:
    found = world.person(email="find.me@example.com", phone="+919876543210", username="find.me", name="Zo\u00e9 Doe")
    found.sign_up()
    asked = admin.api.post("/api/auth/change-phone", {"phone": "+919876543210"}, found.token).ok()
    code = world.read("sms", "+919876543210")
    found.api.post("/api/auth/verify-otp", {"challenge_id": asked["challenge_id"], "otp": code}).ok()
    world.person(name="Somebody Else", username="else").sign_up()
    assert names(admin, f"query={query}") == ["Zo\u00e9 Doe"]


def test_somebody_is_found_by_their_id_and_a_new_name(world: World, admin: Person) -> None:
    jane = world.person(name="Jane").sign_up()
    assert names(admin, f"query={id_of(jane)}") == ["Jane"]
    jane.api.patch("/api/auth/me", {"name": "Joan"}, jane.token).ok()
    assert names(admin, "query=joan") == ["Joan"]
    assert names(admin, "query=jane") == []


@pytest.mark.parametrize(
    "query", ["asha@exämple.com", "ASHA@EXÄMPLE.COM", "asha@ex\uff41\u0308mple.com", "asha@xn--ex"]
)
def test_somebody_is_found_by_an_address_as_they_spell_it(world: World, admin: Person, query: str) -> None:
    """Which is not how it is stored."""
    found = world.person(email="asha@xn--exmple-cua.com", name="Asha").sign_up()
    assert found.me()["email"] == "asha@xn--exmple-cua.com"
    assert names(admin, f"query={quote(query)}") == ["Asha"]


def test_a_filter_is_compared_without_blanks_around_it(admin: Person) -> None:
    """Of which MariaDB sees those behind it, and the others none."""
    for query in ("role=admin", "role=admin%20", "role=%20admin"):
        assert names(admin, query) == ["Ada Lovelace"], query


@pytest.mark.covers("attack A69")
@pytest.mark.parametrize("query", ["%25", "_", "a%25", "a\\", "[a]", "*", "ada' OR '1'='1", "%20", "\U0010ffff"])
def test_a_query_is_no_pattern(admin: Person, query: str) -> None:
    assert names(admin, f"query={query}") == []


@pytest.mark.parametrize("few", [1, 1000])
def test_many_matches_and_few_are_found_alike(
    world: World, admin: Person, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("app.core.people.FEW", few)
    for n in range(5):
        world.person(email=f"x_{n}@example.com", name="100% Jane").sign_up()
    world.person(email="xa@example.com", name="1000 Jane").sign_up()
    for query in ("x_", "100%25", "100%25 jane"):
        first = admin.api.get(f"{USERS}?limit=3&query={query}", admin.token).ok()
        second = admin.api.get(f"{USERS}?limit=3&query={query}&cursor={first['next_cursor']}", admin.token).ok()
        assert [u["email"] for u in first["items"] + second["items"]] == [f"x_{n}@example.com" for n in (4, 3, 2, 1, 0)]
        assert second["next_cursor"] is None


def test_people_are_filtered_by_role_state_and_age(world: World, admin: Person) -> None:
    people = {}
    for name in ("Active", "Locked", "Disabled"):
        world.clock.advance(hours=2)
        people[name] = of_role(world, "doctor" if name == "Locked" else "user", name=name)
    admin.sign_in()
    act(admin, people["Locked"], "lock", {}).ok()
    admin.api.patch(path(people["Disabled"]), {"disabled": True}, admin.token).ok()
    assert names(admin, "role=doctor") == ["Locked"]
    assert names(admin, "role=nobody") == []
    assert [names(admin, f"status={s}") for s in ("active", "locked", "disabled")] == [
        ["Active", "Ada Lovelace"], ["Locked"], ["Disabled"],
    ]  # fmt: skip
    made = world.rows(User, name="Locked")[0].created_at
    after, before = instant(made - timedelta(hours=1)), instant(made + timedelta(hours=1))
    assert names(admin, f"created_after={after}") == ["Disabled", "Locked"]
    assert names(admin, f"created_before={before}") == ["Locked", "Active", "Ada Lovelace"]
    assert names(admin, f"created_before={before}&created_after={after}&query=l") == ["Locked"]
    world.clock.advance(days=400)
    admin.sign_in()


def test_pages_neither_skip_nor_repeat_anybody_while_others_sign_up(world: World, admin: Person) -> None:
    for _ in range(4):
        world.person().sign_up()
    seen, cursor = [], ""
    while cursor is not None:
        answer = admin.api.get(f"{USERS}?limit=2{cursor and '&cursor=' + cursor}", admin.token).ok()
        seen += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        world.person().sign_up()
    before = sorted((str(user.id) for user in world.rows(User)), reverse=True)
    assert seen == before[-5:]


@pytest.mark.one_copy
@pytest.mark.covers("attack A36", "asvs 8.3.2")
def test_whoever_loses_the_role_while_a_password_is_hashed_opens_no_account(world: World, admin: Person) -> None:
    of_role(world, "admin")
    body = {"email": "mole@example.com", "role": "admin", "password": NEW}
    with while_hashing(world, lambda: give(world, admin, "user")):
        answer = admin.api.post(USERS, body, admin.token)
    assert answer.code == last(world, "user.refused").reason == "token_revoked"
    assert world.rows(User, email="mole@example.com") == []


@pytest.mark.one_lane
def test_a_bound_inside_a_millisecond_keeps_whoever_came_before_it(world: World) -> None:
    admin = of_role(world, "admin")
    [ada] = world.rows(User)
    just_after = (ada.created_at + timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    assert names(admin, f"created_before={just_after}") == [ada.name]
    assert names(admin, f"created_after={just_after}") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "status=gone", "created_after=2026-01-01T00:00:00",
                                   "query=", "query=a&query=b", "created_after=1"])  # fmt: skip
def test_a_filter_that_cannot_be_is_named(admin: Person, query: str) -> None:
    answer = admin.api.get(f"{USERS}?{query}", admin.token)
    assert (answer.status, answer["errors"][0]["field"]) == (422, query.partition("=")[0])


# Opening


def test_an_account_is_opened_with_a_password(world: World, admin: Person) -> None:
    body = {"email": "Asha@Example.com", "name": "Asha", "username": "asha", "role": "doctor", "password": PASSWORD}
    answer = admin.api.post(USERS, body, admin.token).ok()
    assert (answer["email"], answer["role"], answer["invitation"]) == ("asha@example.com", "doctor", None)
    asha = world.person(email="asha@example.com").sign_in()
    assert asha.me()["role"] == "doctor"
    row = last(world, "user.created")
    assert (row.actor_id, str(row.user_id), row.subject) == (id_of(admin), answer["id"], "a***@example.com")
    assert row.facts["before"] is None
    assert row.facts["after"] == {
        "role": "doctor",
        "name": "***",
        "username": "***",
        "invited": False,
        "password": True,
    }


def test_an_invited_person_sets_their_own_password(world: World, admin: Person) -> None:
    answer = admin.api.post(USERS, {"email": "asha@example.com", "invite": True}, admin.token).ok()
    assert not answer["has_password"]
    assert world.inbox("asha@example.com") == ["code.invite"]
    asha = world.person(email="asha@example.com", password=NEW)
    proof = {"challenge_id": answer["invitation"]["challenge_id"], "otp": asha.code(), "new_password": NEW}
    asha.api.post("/api/auth/reset-password", proof).ok()
    world.clock.advance(minutes=2)
    assert asha.sign_in().me()["id"] == answer["id"]


def test_an_invitation_s_code_is_random_is_right_once_for_ten_minutes_and_is_no_password(
    world: World, admin: Person
) -> None:
    """What of ASVS 6.4.1 holds: a password that an administrator sets stays one."""
    codes = []
    for n in range(3):
        asha = world.person(email=f"asha{n}@example.com")
        answer = admin.api.post(USERS, {"email": asha.email, "invite": True}, admin.token).ok()
        codes.append(asha.code())
        asked = {"challenge_id": answer["invitation"]["challenge_id"], "otp": codes[-1]}
        reset = "/api/auth/reset-password"
        assert asha.api.post(reset, {**asked, "new_password": codes[-1]}).code == "validation_failed"
        if n == 0:
            asha.api.post(reset, {**asked, "new_password": NEW}).ok()
        elif n == 1:
            world.clock.advance(seconds=600)
        else:
            assert asha.api.post("/api/auth/login", {"identifier": asha.email, "password": codes[-1]}).status == 401
            continue
        assert asha.api.post(reset, {**asked, "new_password": "another horse 10"}).code == "challenge_closed"
        admin = of_role(world, "admin")
    assert len(set(codes)) == 3


def test_a_phone_alone_opens_an_account_too(world: World, admin: Person) -> None:
    admin.api.post(USERS, {"phone": "+919876543210", "name": "Ravi"}, admin.token).ok()
    api = world.api()
    api.post("/api/v1/auth/send-otp", {"mobile_number": "+919876543210"}).ok()
    body = {"mobile_number": "+919876543210", "otp": world.read("sms", "+919876543210")}
    assert not api.post("/api/v1/auth/verify-otp", body).ok()["is_new_user"]


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "email"), ({"email": "a@example.com"}, "password"), ({"email": "a@example.com", "password": "short"}, "password"),
     ({"email": "a@example.com", "password": PASSWORD, "invite": True}, "invite"),
     ({"email": "a@example.com", "password": PASSWORD, "role": "root"}, "role"),
     ({"email": "a@example.com", "password": "a@example.com"}, "password")],
)  # fmt: skip
def test_an_account_that_nobody_could_use_is_not_opened(
    world: World, admin: Person, body: dict[str, Any], field: str
) -> None:
    answer = admin.api.post(USERS, body, admin.token)
    assert (answer.status, answer["errors"][0]["field"]) == (422, field)
    assert world.count(User) == 1


def test_an_address_or_username_that_has_an_owner_is_refused(world: World, admin: Person) -> None:
    taken = world.person(username="taken").sign_up()
    answer = admin.api.post(USERS, {"email": taken.email, "password": PASSWORD}, admin.token)
    assert (answer.code, answer["errors"][0]["field"]) == ("conflict", "email")
    body = {"email": "free@example.com", "username": "taken", "password": PASSWORD}
    assert admin.api.post(USERS, body, admin.token).code == "username_taken"
    assert world.count(User) == 2
    assert last(world, "user.refused").reason == "username_taken"


def test_invitations_have_the_budget_of_every_message(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    world.clock.advance(minutes=2)
    admin.sign_in()
    codes = [act(admin, jane, "send-password-reset", {}).code for _ in range(4)]
    assert codes == [None, None, None, "rate_limited"]


def test_an_admin_s_message_is_sent_or_refused(make_world: Callable[..., World]) -> None:
    """Strangers can spend half of an address's day. What goes beyond the whole is refused, before an account is made."""
    world = make_world(sends_per_day_email=4, ratelimit=False)
    admin, jane, asha = of_role(world, "admin"), world.person().sign_up(), world.person().sign_up()
    for _ in range(2):
        jane.api.post("/api/auth/forgot-password", {"email": jane.email}).ok()
        world.person(email="new@example.com").ask_signup().ok()
    world.person(email="new@example.com").ask_signup().ok()
    world.clock.advance(minutes=1)
    asked = act(admin, jane, "send-password-reset", {}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": jane.code(), "new_password": NEW}
    jane.api.post("/api/auth/reset-password", body).ok()
    admin.api.post(USERS, {"email": "new@example.com", "invite": True}, admin.token).ok()
    assert world.inbox("new@example.com")[-1] == "code.invite"
    for _ in range(3):
        asha.sign_in()
        world.clock.advance(minutes=1)
    assert act(admin, asha, "send-password-reset", {}).code == "rate_limited"
    assert last(world, "user.refused").reason == "rate_limited"
    asha.api.delete("/api/auth/me", asha.token).ok()
    assert admin.api.post(USERS, {"email": asha.email, "invite": True}, admin.token).code == "rate_limited"
    assert [user.email for user in world.rows(User) if user.email == asha.email] == []


def test_a_repeated_request_opens_one_account(world: World, admin: Person) -> None:
    body = {"email": "asha@example.com", "invite": True}
    answers = [admin.api.post(USERS, body, admin.token, **{"Idempotency-Key": "one"}).ok() for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert world.inbox("asha@example.com") == ["code.invite"]


# Changing


def test_name_username_and_role_are_changed_and_audited(world: World, admin: Person) -> None:
    jane = world.person(name="Jane", username="jane").sign_up()
    body = {"name": "Joan", "username": "joan", "role": "doctor", "email": "x@example.com", "password_hash": "x"}
    answer = admin.api.patch(path(jane), body, admin.token).ok()
    assert (answer["name"], answer["username"], answer["role"], answer["email"]) == (
        "Joan",
        "joan",
        "doctor",
        jane.email,
    )
    row = last(world, "user.changed")
    assert (row.actor_id, row.user_id) == (id_of(admin), id_of(jane))
    assert row.facts["before"] == {"role": "user", "name": "***", "username": "***"}
    assert row.facts["after"] == {"role": "doctor", "name": "***", "username": "***"}
    assert "jane" not in str(row.facts).lower()


def test_a_change_that_changes_nothing_is_no_act(world: World, admin: Person) -> None:
    jane = world.person(name="Jane").sign_up()
    admin.api.patch(path(jane), {"name": "Jane", "role": "user", "disabled": False}, admin.token).ok()
    assert jane.me().status == 200
    assert world.audit(event="user.changed", user_id=id_of(jane)) == []


def test_a_taken_username_is_refused(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    answer = admin.api.patch(path(jane), {"username": "ada", "name": "Other"}, admin.token)
    assert (answer.status, answer.code) == (409, "username_taken")
    assert world.rows(User, id=id_of(jane))[0].name == "Jane"


@pytest.mark.covers("asvs 7.4.2", "asvs 8.3.2", "attack A38", "attack A45")
@pytest.mark.parametrize("how", ["role", "patch", "lock", "disable", "revoke"])
def test_tokens_stop_working_at_once(world: World, admin: Person, how: str) -> None:
    jane = world.person().sign_up()
    pending = jane.ask_signin().ok()
    code = jane.code()
    if how == "role":
        admin.api.call("PUT", path(jane, "/role"), {"role": "doctor"}, admin.token).ok()
    elif how == "lock":
        act(admin, jane, "lock", {}).ok()
    elif how == "revoke":
        assert act(admin, jane, "revoke-sessions").ok()["sessions_ended"] == 1
    else:
        change = {"disabled": True} if how == "disable" else {"role": "doctor"}
        admin.api.patch(path(jane), change, admin.token).ok()
    assert jane.me().code == "token_revoked"
    assert jane.refresh().code == "token_revoked"
    assert jane.verify_signin(pending["challenge_id"], code).code == "challenge_closed"
    assert admin.me().status == 200


@pytest.mark.parametrize("body", [{}, {"seconds": 3600}])
def test_to_sign_in_to_a_locked_account_is_as_if_there_were_none(
    world: World, admin: Person, body: dict[str, Any]
) -> None:
    jane = world.person().sign_up()
    shown = act(admin, jane, "lock", body).ok()
    assert (shown["status"], shown["locked_until"] is None) == ("locked", not body)
    stranger = world.person(email="stranger@example.com")
    for who in (jane, stranger):
        answer = who.ask_signin()
        assert (answer.status, answer.code) == (401, "invalid_credentials")
    asked = [w.api.post("/api/auth/forgot-password", {"email": w.email}).ok() for w in (jane, stranger)]
    assert asked[0].body.keys() == asked[1].body.keys()
    assert "code.recovery" not in world.inbox(jane.email)
    world.clock.advance(hours=2)
    assert jane.ask_signin().code == (None if body else "invalid_credentials")
    admin.sign_in()
    assert act(admin, jane, "unlock").ok()["status"] == "active"
    jane.sign_in()
    row = last(world, "user.locked")
    assert (row.facts["before"]["status"], row.facts["after"]["status"]) == ("active", "locked")


def test_a_sign_in_that_was_half_done_does_not_get_past_a_lock(world: World, admin: Person) -> None:
    jane = world.person(phone="+919876543210").sign_up()
    asked = jane.api.post("/api/auth/forgot-password", {"email": jane.email}).ok()
    code = jane.code()
    act(admin, jane, "lock", {}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": code, "new_password": NEW}
    assert jane.api.post("/api/auth/reset-password", body).code == "invalid_code"


def test_a_lock_says_until_when_in_one_way(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    ahead, past = (instant(world.clock.now + timedelta(hours=h)) for h in (1, -1))
    assert act(admin, jane, "lock", {"until": ahead}).ok()["locked_until"] == ahead
    for body in ({"until": past}, {"until": ahead, "seconds": 60}, {"seconds": 0}, {"seconds": True}):
        assert act(admin, jane, "lock", body).status == 422


def test_unlocking_forgives_wrong_guesses_at_every_identifier(world: World, admin: Person) -> None:
    jane = world.person(username="jane").sign_up()
    for _ in range(5):
        jane.api.post("/api/auth/login", {"identifier": "jane", "password": "wrong horse 7"})
    assert jane.api.post("/api/auth/login", {"identifier": "jane", "password": PASSWORD}).code == "account_locked"
    locked = admin.api.get(path(jane), admin.token).ok()["guesses_locked_until"]
    assert act(admin, jane, "unlock").ok()["guesses_locked_until"] is None
    told = last(world, "user.unlocked").facts
    assert instant(datetime.fromisoformat(told["before"]["guesses_locked_until"])) == locked
    assert told["after"]["guesses_locked_until"] is None
    assert (
        jane.api.post("/api/auth/login", {"identifier": "jane", "password": PASSWORD}).ok()["status"] == "otp_required"
    )


def test_unlocking_forgives_wrong_guesses_on_a_remembered_device(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    token = remember(jane)
    while on_device(jane, token, "wrong horse 7").code != "account_locked":
        pass
    assert admin.api.get(path(jane), admin.token).ok()["guesses_locked_until"]
    assert act(admin, jane, "unlock").ok()["guesses_locked_until"] is None
    assert on_device(jane, token).ok()["status"] == "complete"


def test_unlocking_forgives_a_hundred_wrong_guesses_in_a_row_on_a_remembered_device(
    world: World, admin: Person
) -> None:
    jane, refused = world.person().sign_up(), 0
    token = remember(jane)
    while refused < lockout.STREAK_CAP:
        answer = on_device(jane, token, "wrong horse 7")
        refused += answer.code == "invalid_credentials"
        world.clock.advance(seconds=answer.body.get("retry_after", 0))
    world.clock.advance(days=1)
    assert on_device(jane, token).code == "invalid_credentials"
    act(admin.sign_in(), jane, "unlock").ok()
    assert on_device(jane, token).ok()["status"] == "complete"


def test_unlocking_gives_back_the_day_of_messages_that_a_stranger_asked_for(world: World, admin: Person) -> None:
    phone = Phone(world)
    opened = phone.sign_up()
    world.clock.advance(days=2)
    admin.sign_in()
    stranger = Phone(world)
    while stranger.ask().status == 200:
        world.clock.advance(seconds=30)
    assert phone.ask().code == "rate_limited"
    assert admin.api.post(f"{USERS}/{opened['user']['id']}/unlock", None, admin.token).status == 200
    told = last(world, "user.unlocked").facts
    assert (told["before"]["messages"], told["after"]["messages"]) == (10, 0)
    phone.ask().ok()
    assert phone.answer().ok()["user"]["id"] == opened["user"]["id"]


def test_unlocking_opens_the_way_back_that_a_stranger_has_spent(world: World, admin: Person) -> None:
    jane = world.person(username="jane").sign_up()
    for _ in range(40):
        jane.api.post("/api/auth/forgot-password", {"identifier": "jane"})
        world.clock.advance(seconds=30)
    admin.sign_in()
    assert jane.api.post("/api/auth/forgot-password", {"identifier": "jane"}).code == "rate_limited"
    assert act(admin, jane, "unlock").status == 200
    asked = jane.api.post("/api/auth/forgot-password", {"identifier": "jane"}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": jane.code(), "new_password": NEW}
    assert jane.api.post("/api/auth/reset-password", body).status == 200


def test_a_reset_that_an_admin_sends_sets_a_new_password(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    asked = act(admin, jane, "send-password-reset", {}).ok()
    assert jane.me().status == 200
    body = {"challenge_id": asked["challenge_id"], "otp": jane.code(), "new_password": NEW}
    jane.api.post("/api/auth/reset-password", body).ok()
    assert last(world, "user.sent_reset").subject == asked["destination"]
    assert act(admin, jane, "send-password-reset", {"channel": "sms"}).code == "conflict"
    act(admin, jane, "lock", {}).ok()
    assert act(admin, jane, "send-password-reset", {}).code == "conflict"


@pytest.mark.covers("gdpr 17")
def test_a_deleted_account_is_gone_and_its_owner_told(world: World, admin: Person) -> None:
    jane = world.person(name="Jane Roe").sign_up()
    who = id_of(jane)
    admin.api.delete(path(jane), admin.token).ok()
    assert jane.me().code == "token_revoked"
    assert world.inbox(jane.email)[-1] == "notice.account_erased"
    assert world.rows(User, id=who) == world.rows(Session, user_id=who) == []
    assert admin.api.delete(path(jane), admin.token).code == "not_found"
    kept = world.audit(user_id=who)
    assert {row.event for row in kept} >= {"user.deleted", "signup.completed"}
    assert all(row.subject is None and row.ip is None for row in kept)
    shown = admin.api.get(path(jane, "/audit-logs"), admin.token).ok()
    assert shown["items"][0]["event"] == "user.deleted"


def test_the_notice_of_a_deletion_does_not_tell_where_the_admin_sits(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    far = world.api("198.51.100.77")
    far.delete(path(jane), admin.token).ok()
    world.deliver()
    [told] = [m for m in world.senders["email"].messages if m.kind == "notice.account_erased"]
    assert "198.51.100.77" not in told.text + told.html
    assert "When: " in told.text


# Looking


def test_sessions_and_audit_rows_of_somebody_are_shown(world: World, admin: Person) -> None:
    jane = world.person().sign_up().sign_in()
    shown = admin.api.get(path(jane, "/sessions"), admin.token).ok()
    assert len(shown["items"]) == 2
    assert not any(item["current"] for item in shown["items"])
    rows = admin.api.get(path(jane, "/audit-logs?limit=2"), admin.token).ok()
    more = admin.api.get(path(jane, f"/audit-logs?limit=200&cursor={rows['next_cursor']}"), admin.token).ok()
    assert len(rows["items"] + more["items"]) == len(world.audit(user_id=id_of(jane)))
    assert all(item["user_id"] == str(id_of(jane)) for item in rows["items"])


def test_somebody_who_is_not_there_is_not_found(admin: Person) -> None:
    nobody = f"{USERS}/{uuid4()}"
    for method, rest, body in (
        ("GET", "", None), ("PATCH", "", {"name": "x"}), ("DELETE", "", None), ("PUT", "/role", {"role": "user"}),
        ("POST", "/lock", {}), ("POST", "/unlock", None), ("POST", "/revoke-sessions", None),
        ("POST", "/send-password-reset", {}), ("GET", "/sessions", None),
    ):  # fmt: skip
        answer = admin.api.call(method, nobody + rest, body, admin.token)
        assert (answer.status, answer.code) == (404, "not_found"), rest


def test_a_refused_act_says_which_it_was(world: World, admin: Person) -> None:
    jane = world.person().sign_up()
    admin.api.post(USERS, {"name": "Nobody", "password": NEW}, admin.token)
    act(admin, admin, "lock", {})
    admin.api.call("PUT", path(admin, "/role"), {"role": "user"}, admin.token)
    admin.api.delete(path(admin), admin.token)
    act(admin, jane, "send-password-reset", {"channel": "sms"})
    rows = world.audit(event="user.refused")
    assert {(row.reason, row.facts["act"]) for row in rows} == {
        ("validation_failed", "create"), ("last_admin", "lock"), ("last_admin", "change"), ("last_admin", "delete"),
        ("conflict", "send_reset"),
    }  # fmt: skip


# The last admin


ENDS = {
    "demote": lambda a, b: a.api.call("PUT", path(b, "/role"), {"role": "user"}, a.token),
    "change": lambda a, b: a.api.patch(path(b), {"role": "doctor"}, a.token),
    "disable": lambda a, b: a.api.patch(path(b), {"disabled": True}, a.token),
    "lock": lambda a, b: act(a, b, "lock", {"seconds": 60}),
    "delete": lambda a, b: a.api.delete(path(b), a.token),
    "erase": lambda a, _: a.api.delete("/api/auth/me", a.token),
}


@pytest.mark.covers("attack A33")
@pytest.mark.parametrize("how", ENDS)
def test_the_last_admin_stays_one(world: World, admin: Person, how: str) -> None:
    other = of_role(world, "admin")
    for kept_out in ("lock", "disable"):
        ENDS[kept_out](admin, other).ok()
        answer = ENDS[how](admin, admin)
        assert (answer.status, answer.code) == (409, "last_admin"), kept_out
        admin.api.patch(path(other), {"disabled": False}, admin.token).ok()
        act(admin, other, "unlock").ok()
    assert admin.me()["role"] == "admin"
    ENDS[how](admin, admin).ok()
    refused = world.audit(reason="last_admin")
    assert {row.user_id for row in refused} == {id_of(admin)}


@pytest.mark.covers("attack A33")
@pytest.mark.parametrize(
    ("settings", "has", "counts"),
    [
        ({}, {}, False),
        ({}, {"password_hash": HASHED}, False),
        ({}, {"email": "old.root@example.com"}, True),
        ({"mfa_policy": "optional"}, {}, False),
        ({"mfa_policy": "optional"}, {"password_hash": HASHED}, True),
        ({"mfa_policy": "optional", "mfa_required_roles": ("admin",)}, {"password_hash": HASHED}, False),
    ],
)
def test_an_admin_who_has_no_way_to_sign_in_is_no_other(
    make_world: Callable[..., World], settings: dict[str, Any], has: dict[str, str], counts: bool
) -> None:
    world = make_world(**settings)
    admin = world.person().sign_up()
    give(world, admin, "admin")
    row = Row(2, {"username": "old.root", "role": "admin", **has})
    assert run(world.kit, lambda work: imports.take(work, [row], set())).imported == 1
    with nullcontext() if counts else pytest.raises(LastAdmin):
        give(world, admin, "user")


def test_a_role_that_was_changed_meanwhile_is_a_conflict(
    world: World, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading somebody and holding the row, another admin made an admin of them: who is last was not asked."""
    jane, hold = world.person().sign_up(), accounts.hold

    def meanwhile(work: Any, user_id: Any) -> Any:
        work.changes(sa.update(User).where(User.id == user_id).values(role="admin"))
        return hold(work, user_id)

    monkeypatch.setattr(accounts, "hold", meanwhile)
    answer = admin.api.call("PUT", path(jane, "/role"), {"role": "doctor"}, admin.token)
    assert (answer.status, answer.code) == (409, "conflict")
    assert world.rows(User, id=id_of(jane))[0].role == "admin"


def test_what_is_refused_forgives_no_wrong_guesses(
    world: World, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    jane = world.person().sign_up()
    guess = {"identifier": jane.email, "password": "wrong horse 7"}
    assert [world.api().post("/api/auth/login", guess).status for _ in range(6)] == [401] * 5 + [423]
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(accounts, "hold", lambda *_: None)  # the account was erased meanwhile
        assert act(admin, jane, "unlock").code == "not_found"
    assert world.api().post("/api/auth/login", guess).status == 423
    assert act(admin, jane, "unlock").status == 200
    assert world.api().post("/api/auth/login", guess).status == 401


def test_what_is_refused_keeps_hold_of_no_username(
    world: World, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    jane = world.person().sign_up()
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(administration, "_check_free", lambda *_: None)  # somebody was faster
        new = {"email": jane.email, "username": "wanted", "password": NEW}
        assert admin.api.post(USERS, new, admin.token).code == "conflict"
    assert world.count(UsernameHold) == 0
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(accounts, "change", lambda *_: None)
        assert admin.api.patch(path(jane), {"username": "wanted"}, admin.token).code == "username_taken"
    assert world.count(UsernameHold) == 0
    world.person(username="wanted").sign_up()


def test_no_answer_holds_a_secret_or_a_field_that_is_not_documented(world: World, admin: Person) -> None:
    """`Api` holds each answer against the document; here the document is held against what is stored."""
    jane = world.person().sign_up()
    text = str([admin.api.get(p, admin.token).body for p in (USERS, path(jane), path(jane, "/sessions"))])
    row = world.rows(User, id=id_of(jane))[0]
    assert row.password_hash not in text
    for hidden in ("password_hash", "digest", "factor", "name_key", "client_key", "budget_key"):
        assert hidden not in text
    assert world.count(OtpChallenge) and world.count(OutboxMessage) and world.count(AuditLog)
