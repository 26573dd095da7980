"""Passkeys through the front door, with a software authenticator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import jwt
import pyotp
import pytest
import sqlalchemy as sa

from app.core import passkeys
from app.models import OtpChallenge, Passkey, Session, User
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import Answer, Api, Person
from tests.security_key import EDDSA, RS256, UP, Authenticator, Key, text
from tests.web.test_refusals import snapshot

FACTORS = "/api/auth/factors"


def start(person: Person, **body: Any) -> Answer:
    return person.api.post(f"{FACTORS}/passkeys", body, person.token)


def confirm(person: Person, challenge_id: str, credential: Any, **body: Any) -> Answer:
    path = f"{FACTORS}/passkeys/{challenge_id}/confirm"
    return person.api.post(path, {"credential": credential, **body}, person.token)


def bind(person: Person, authenticator: Authenticator, **how: Any) -> Answer:
    """Give a person a passkey that this authenticator holds."""
    begun = start(person).ok()
    return confirm(person, begun["challenge_id"], authenticator.create(begun["options"], **how))


def ask(api: Api, challenge_id: str | None = None) -> Answer:
    return api.post("/api/auth/passkeys/options", {"challenge_id": challenge_id} if challenge_id else {})


def login(api: Api, challenge_id: str, credential: Any, **body: Any) -> Answer:
    return api.post("/api/auth/passkeys/login", {"challenge_id": challenge_id, "credential": credential, **body})


def sign_in(api: Api, authenticator: Authenticator, **wrong: Any) -> Answer:
    """Sign in with a passkey and nothing else."""
    asked = ask(api).ok()
    return login(api, asked["challenge_id"], authenticator.get(asked["options"], **wrong))


def answer(person: Person, challenge_id: str, credential: Any, **body: Any) -> Answer:
    given = {"challenge_id": challenge_id, "method": "passkey", "credential": credential, **body}
    return person.api.post("/api/auth/login/verify", given)


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRETS["jwt_secret_key"], ["HS256"], options={"verify_exp": False, "verify_aud": False, "verify_iat": False})  # fmt: skip


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator()


@pytest.fixture
def holder(person: Person, authenticator: Authenticator) -> Person:
    """Somebody with an account and a passkey on the authenticator."""
    bind(person, authenticator).ok()
    return person


@pytest.mark.covers("nist N36", "asvs 6.7.2")
def test_a_person_binds_a_passkey_and_signs_in_with_nothing_else(
    world: World, person: Person, authenticator: Authenticator
) -> None:
    begun = start(person, name="My phone").ok()
    assert begun.status == 201
    assert 0 < begun["expires_in"] <= 300
    options = begun["options"]
    assert options["user"] == {"id": text(UUID(person.me()["id"]).bytes), "name": person.email, "displayName": "Jane"}
    assert options["rp"] == {"name": "Latchkey", "id": "localhost"}
    bound = confirm(person, begun["challenge_id"], authenticator.create(options)).ok()
    assert len(bound["backup_codes"]) == 10
    assert person.me()["mfa"] == ["passkey", "backup_code"]
    [item] = person.api.get(FACTORS, person.token)["items"]
    assert (item["id"], item["type"], item["name"]) == (bound["factor_id"], "passkey", "My phone")
    assert item["last_used_at"] is None
    answered = sign_in(world.api(), authenticator).ok()
    assert answered["user"]["id"] == person.me()["id"]
    assert claims(answered["access_token"])["amr"] == ["pop", "user"]
    assert world.rows(Session, id=UUID(answered["session_id"]))[0].amr == "passkey"
    assert person.api.get(FACTORS, person.token)["items"][0]["last_used_at"]
    assert world.events()[-1] == "signin.completed"


@pytest.mark.parametrize("algorithm", [EDDSA, RS256])
def test_other_algorithms_do_as_well(
    world: World, person: Person, authenticator: Authenticator, algorithm: int
) -> None:
    bind(person, authenticator, key=Key(algorithm)).ok()
    sign_in(world.api(), authenticator).ok()


def test_a_name_given_last_wins_and_any_factor_can_be_renamed(person: Person, authenticator: Authenticator) -> None:
    begun = start(person, name="First").ok()
    bound = confirm(person, begun["challenge_id"], authenticator.create(begun["options"]), name="Second").ok()
    names = [item["name"] for item in person.api.get(FACTORS, person.token)["items"]]
    assert names == ["Second"]
    path = f"{FACTORS}/{bound['factor_id']}"
    person.api.patch(path, {"name": "  Third "}, person.token).ok()
    assert person.api.get(FACTORS, person.token)["items"][0]["name"] == "Third"
    for name in ("", " ", "x" * 101, "a\nb", None):
        assert person.api.patch(path, {"name": name}, person.token).code == "validation_failed"


def test_an_authenticator_app_can_be_renamed_too(world: World, person: Person) -> None:
    begun = person.api.post(f"{FACTORS}/totp", {"name": "First"}, person.token).ok()
    path = f"{FACTORS}/{begun['factor_id']}"
    assert person.api.patch(path, {"name": "Second"}, person.token).code == "not_found", "it is not in use yet"
    code = pyotp_code(begun["secret"], world)
    person.api.post(f"{FACTORS}/totp/{begun['factor_id']}/confirm", {"otp": code}, person.token).ok()
    person.api.patch(path, {"name": "Second"}, person.token).ok()
    assert person.api.get(FACTORS, person.token)["items"][0]["name"] == "Second"


def pyotp_code(secret: str, world: World) -> str:
    return pyotp.TOTP(secret.replace(" ", "")).at(world.clock.now)


def test_nobody_renames_or_removes_another_s_factor(world: World, holder: Person) -> None:
    stranger = world.person().sign_up()
    [item] = holder.api.get(FACTORS, holder.token)["items"]
    path = f"{FACTORS}/{item['id']}"
    assert stranger.api.patch(path, {"name": "Mine"}, stranger.token).code == "not_found"
    assert stranger.api.delete(path, stranger.token).code == "not_found"
    assert holder.api.get(FACTORS, holder.token)["items"] == [item]


@pytest.mark.covers("nist N49")
def test_several_passkeys_each_sign_in_and_none_is_bound_twice(world: World, holder: Person) -> None:
    first, second = Authenticator(), Authenticator()
    for authenticator in (first, second):
        bound = bind(holder, authenticator).ok()
        assert "backup_codes" not in bound.body, "they come with the first factor alone"
    excluded = start(holder).ok()["options"]["excludeCredentials"]
    assert {text(first.held[0].id), text(second.held[0].id)} < {credential["id"] for credential in excluded}
    for authenticator in (first, second):
        sign_in(world.api(), authenticator).ok()


@pytest.mark.parametrize("whose", ["one's own", "another's"])
def test_a_credential_that_is_bound_is_refused_to_everybody(
    world: World, holder: Person, authenticator: Authenticator, whose: str
) -> None:
    person = holder if whose == "one's own" else world.person().sign_up()
    held = authenticator.held[0]
    again = bind(person, authenticator, key=held.key, credential_id=held.id)
    assert (again.status, again.code) == (409, "conflict")
    assert world.count(Passkey) == 1


def test_one_too_many_is_refused(world: World, holder: Person, authenticator: Authenticator) -> None:
    begun = start(holder).ok()
    [row] = world.rows(Passkey)
    with world.kit.writes() as db:
        same = {c.key: getattr(row, c.key) for c in Passkey.__table__.columns}
        for n in range(passkeys.MOST - 1):
            db.add(Passkey(**{**same, "id": uuid4(), "credential_digest": f"{n:064x}"}))
        db.commit()
    assert start(holder).code == "conflict"
    late = confirm(holder, begun["challenge_id"], authenticator.create(begun["options"]))
    assert late.code == "conflict"


WRONG: dict[str, dict[str, Any]] = {
    "another origin": {"origin": "https://evil.example"},
    "another domain": {"rp_id": "evil.example"},
    "another challenge": {"challenge": text(b"x" * 32)},
    "no verified user": {"flags": UP},
    "a framed page": {"said": {"crossOrigin": True}},
}
WRONG_USE: dict[str, dict[str, Any]] = {
    **WRONG,
    "another key": {"key": Key()},
    "a lower counter": {"count": 1},
    "no counter": {"count": 0},
    "another user": {"handle": uuid4().bytes},
    "no user": {"handle": None},
}


@pytest.mark.covers("asvs 6.3.3")
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.one_lane
def test_a_wrong_answer_binds_nothing(world: World, person: Person, authenticator: Authenticator, wrong: str) -> None:
    refused = bind(person, authenticator, **WRONG[wrong])
    assert (refused.status, refused.code, refused["attempts_left"]) == (400, "invalid_code", 2)
    assert (world.count(Passkey), person.me()["mfa"]) == (0, [])


@pytest.mark.covers("asvs 6.3.3", "attack A39")
@pytest.mark.parametrize("wrong", WRONG_USE)
@pytest.mark.one_lane
def test_a_wrong_answer_opens_nothing(world: World, holder: Person, authenticator: Authenticator, wrong: str) -> None:
    sign_in(world.api(), authenticator).ok()
    refused = sign_in(world.api(), authenticator, **WRONG_USE[wrong])
    assert (refused.status, refused.code, refused["attempts_left"]) == (401, "invalid_credentials", 2)
    assert world.events()[-1] == "code.refused"
    sign_in(world.api(), authenticator).ok()


@pytest.mark.covers("asvs 6.7.2", "attack A13")
def test_an_assertion_is_right_once(world: World, holder: Person, authenticator: Authenticator) -> None:
    for counts in (True, False):
        key = Authenticator(counts=counts)
        bind(holder, key).ok()
        asked = ask(world.api()).ok()
        assertion = key.get(asked["options"])
        login(world.api(), asked["challenge_id"], assertion).ok()
        again = login(world.api(), asked["challenge_id"], assertion)
        assert (again.status, again.code) == (410, "challenge_closed")
        other = login(world.api(), ask(world.api()).ok()["challenge_id"], assertion)
        assert other.code == "invalid_credentials", "another challenge asks for another signature"


def test_a_challenge_bears_three_wrong_answers_and_no_more(
    world: World, holder: Person, authenticator: Authenticator
) -> None:
    asked = ask(world.api()).ok()
    for left in (2, 1, 0):
        wrong = login(world.api(), asked["challenge_id"], authenticator.get(asked["options"], key=Key()))
        assert wrong["attempts_left"] == left
    right = login(world.api(), asked["challenge_id"], authenticator.get(asked["options"]))
    assert right.code == "challenge_closed"


def test_a_challenge_ends_with_its_time(world: World, holder: Person, authenticator: Authenticator) -> None:
    asked = ask(world.api()).ok()
    assert asked["expires_in"] == asked["options"]["timeout"] / 1000 == 300
    world.clock.advance(seconds=301)
    late = login(world.api(), asked["challenge_id"], authenticator.get(asked["options"]))
    assert late.code == "challenge_closed"
    begun = start(holder).ok()
    world.clock.advance(seconds=301)
    assert confirm(holder, begun["challenge_id"], authenticator.create(begun["options"])).code == "challenge_closed"


@pytest.mark.covers("attack A10")
def test_a_stranger_who_locks_an_identifier_does_not_lock_its_passkey_out(
    world: World, holder: Person, authenticator: Authenticator
) -> None:
    for _ in range(6):
        locked = world.api().post("/api/auth/login", {"identifier": holder.email, "password": "wrong horse 7"})
    assert locked.code == "account_locked"
    for _ in range(12):
        sign_in(world.api(), authenticator, key=Key())
    sign_in(world.api(), authenticator).ok()
    assert holder.ask_signin().code == "account_locked", "which opens the passkey's way and no other"


def test_a_disabled_account_an_unknown_passkey_and_a_removed_one_are_one_answer(
    world: World, holder: Person, authenticator: Authenticator
) -> None:
    other, gone = Authenticator(), world.person().sign_up()
    bound = bind(gone, other).ok()
    gone.api.delete(f"{FACTORS}/{bound['factor_id']}", gone.token).ok()
    with world.kit.writes() as db:
        db.execute(sa.update(User).where(User.email == holder.email).values(disabled_at=world.clock.now))
        db.commit()
    unknown = Authenticator()
    unknown.create(start_options(gone))
    answers = [sign_in(world.api(), key) for key in (authenticator, other, unknown)]
    for refused in answers:
        refused.body.pop("request_id")
        assert refused.status == 401
    assert answers[0].body == answers[1].body == answers[2].body


def start_options(person: Person) -> dict[str, Any]:
    return start(person).ok()["options"]


def test_after_the_password_a_passkey_is_the_second_step(
    world: World, holder: Person, authenticator: Authenticator
) -> None:
    messages = len(world.inbox(holder.email))
    asked = holder.ask_signin().ok()
    assert (asked["channel"], asked["methods"]) == ("passkey", ["passkey", "backup_code", "email"])
    assert len(world.inbox(holder.email)) == messages, "nothing is sent unless it is asked for"
    ceremony = ask(holder.api, asked["challenge_id"]).ok()
    assert ceremony["challenge_id"] == asked["challenge_id"]
    assert [c["id"] for c in ceremony["options"]["allowCredentials"]] == [text(authenticator.held[0].id)]
    answered = answer(holder, asked["challenge_id"], authenticator.get(ceremony["options"], handle=None)).ok()
    assert claims(answered["access_token"])["amr"] == ["pwd", "pop", "user"]
    again = answer(holder, asked["challenge_id"], authenticator.get(ceremony["options"]))
    assert again.code == "challenge_closed"


def test_a_code_can_be_sent_in_place_of_a_passkey_and_a_backup_code_does_too(
    world: World, person: Person, authenticator: Authenticator
) -> None:
    codes = bind(person, authenticator).ok()["backup_codes"]
    asked = person.ask_signin().ok()
    person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"], "channel": "email"}).ok()
    person.verify_signin(asked["challenge_id"], person.code()).ok()
    person.verify_signin(person.ask_signin().ok()["challenge_id"], codes[0]).ok()
    asked = person.ask_signin(channel="email").ok()
    ceremony = ask(person.api, asked["challenge_id"]).ok()
    answer(person, asked["challenge_id"], authenticator.get(ceremony["options"])).ok()


def test_as_the_second_step_a_wrong_answer_counts_like_a_wrong_code(
    world: World, holder: Person, authenticator: Authenticator
) -> None:
    asked = holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    for left in (2, 1, 0):
        refused = answer(holder, asked["challenge_id"], authenticator.get(options, origin="https://evil.example"))
        assert (refused.status, refused.code, refused["attempts_left"]) == (400, "invalid_code", left)
    assert ask(holder.api, asked["challenge_id"]).code == "challenge_closed"


@pytest.mark.covers("attack A15")
def test_another_s_passkey_is_no_second_step(world: World, holder: Person) -> None:
    other, key = world.person().sign_up(), Authenticator()
    bind(other, key).ok()
    asked = holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    for handle in (key.held[0].handle, None, UUID(holder.me()["id"]).bytes):
        refused = answer(holder, asked["challenge_id"], key.get(options, held=key.held[0], handle=handle))
        assert refused.code == "invalid_code"
    [row] = [row for row in world.rows(Passkey) if row.credential_id == text(key.held[0].id)]
    assert row.last_used_at is None


@pytest.mark.covers("attack A14", "asvs 9.2.2")
def test_each_challenge_is_answered_at_its_own_route_only(
    world: World, holder: Person, authenticator: Authenticator
) -> None:
    alone = ask(world.api()).ok()
    assert answer(holder, alone["challenge_id"], authenticator.get(alone["options"])).code == "challenge_closed"
    assert login(holder.api, alone["challenge_id"], authenticator.get(alone["options"])).status == 200
    asked = holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    assert login(holder.api, asked["challenge_id"], authenticator.get(options)).code == "challenge_closed"
    assert step_up(holder, asked["challenge_id"], authenticator.get(options)).code == "challenge_closed"
    assert confirm(holder, asked["challenge_id"], authenticator.get(options)).code == "challenge_closed"
    begun = start(holder).ok()
    made = Authenticator().create(begun["options"])
    assert login(holder.api, begun["challenge_id"], made).code == "challenge_closed"
    assert answer(holder, begun["challenge_id"], made).code == "challenge_closed"
    confirm(holder, begun["challenge_id"], made).ok()


def step_up(person: Person, challenge_id: str, credential: Any) -> Answer:
    body = {"challenge_id": challenge_id, "method": "passkey", "credential": credential}
    return person.api.post("/api/auth/step-up/verify", body, person.token)


def test_no_code_answers_a_challenge_of_passkeys(world: World, holder: Person) -> None:
    """Their rows are made like those of codes: the digits that they stand for are nobody's."""
    for asked in (ask(world.api()).ok(), start(holder).ok()):
        for path in ("verify-otp", "login/verify", "step-up/verify"):
            body = {"challenge_id": asked["challenge_id"], "otp": "123456"}
            token = holder.token if path.startswith("step") else None
            assert holder.api.post(f"/api/auth/{path}", body, token).code == "challenge_closed"
        again = holder.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]})
        assert again.code == "challenge_closed"


def test_a_passkey_is_made_in_the_session_that_asked_alone(
    world: World, person: Person, authenticator: Authenticator
) -> None:
    begun = start(person).ok()
    made = authenticator.create(begun["options"])
    stranger = world.person().sign_up()
    assert confirm(stranger, begun["challenge_id"], made).code == "challenge_closed"
    elsewhere = Person(world.api(), world.read, email=person.email)
    elsewhere.sign_in()
    assert confirm(elsewhere, begun["challenge_id"], made).code == "challenge_closed"
    confirm(person, begun["challenge_id"], made).ok()


def test_options_are_given_for_what_a_passkey_can_answer_alone(world: World, holder: Person) -> None:
    without = world.person().sign_up()
    recovery = holder.api.post("/api/auth/forgot-password", {"email": holder.email}).ok()
    change = holder.api.post("/api/auth/change-email", {"email": "new@example.com"}, holder.token).ok()
    for challenge_id in (
        without.ask_signin().ok()["challenge_id"], recovery["challenge_id"], change["challenge_id"],
        start(holder).ok()["challenge_id"], ask(holder.api).ok()["challenge_id"], str(uuid4()),
    ):  # fmt: skip
        assert ask(holder.api, challenge_id).code == "challenge_closed"


def test_a_passkey_makes_a_session_fresh_again(world: World, holder: Person, authenticator: Authenticator) -> None:
    world.clock.advance(seconds=601)
    assert start(holder).code == "insufficient_user_authentication"
    asked = holder.api.post("/api/auth/step-up", {}, holder.token).ok()
    assert asked["methods"] == ["passkey", "backup_code", "email"]
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    assert step_up(holder, asked["challenge_id"], authenticator.get(options, key=Key())).code == "invalid_code"
    fresh = step_up(holder, asked["challenge_id"], authenticator.get(options)).ok()
    holder.tokens = {**holder.tokens, **fresh.body}
    start(holder).ok()
    assert claims(fresh["access_token"])["amr"][-2:] == ["pop", "user"]


def test_a_new_or_removed_passkey_ends_what_was_begun_before_and_is_told(
    world: World, person: Person, authenticator: Authenticator
) -> None:
    elsewhere = Person(world.api(), world.read, email=person.email)
    for act, notice in (
        (lambda: bind(person, authenticator), "notice.factor_added"),
        (lambda: remove(person), "notice.factor_removed"),
    ):
        world.clock.advance(minutes=2)
        asked = elsewhere.ask_signin(channel="email").ok()
        elsewhere.verify_signin(asked["challenge_id"], elsewhere.code()).ok()
        open_challenge = elsewhere.ask_signin(channel="email").ok()
        code = elsewhere.code()
        act().ok()
        assert elsewhere.me().code == "token_revoked"
        assert elsewhere.verify_signin(open_challenge["challenge_id"], code).code == "challenge_closed"
        person.me().ok()
        assert world.inbox(person.email)[-1] == notice
    assert person.me()["mfa"] == []
    assert sign_in(world.api(), authenticator).code == "invalid_credentials"


def remove(person: Person) -> Answer:
    [item] = person.api.get(FACTORS, person.token)["items"]
    return person.api.delete(f"{FACTORS}/{item['id']}", person.token)


def test_with_the_last_factor_the_backup_codes_go_and_not_before(world: World, holder: Person) -> None:
    bind(holder, Authenticator()).ok()
    for left, mfa in ((10, ["passkey", "backup_code"]), (0, [])):
        items = holder.api.get(FACTORS, holder.token)["items"]
        holder.api.delete(f"{FACTORS}/{items[0]['id']}", holder.token).ok()
        assert holder.api.get(FACTORS, holder.token)["backup_codes_left"] == left
        assert holder.me()["mfa"] == mfa


def test_a_passkey_is_enough_where_policy_asks_for_two_things_and_where_it_asks_for_none(
    make_world: Callable[..., World],
) -> None:
    for changes in ({"mfa_policy": "optional"}, {"mfa_required_roles": ("user",)}):
        world, key = make_world(**changes), Authenticator()
        person = world.person().sign_up()
        bind(person, key).ok()
        sign_in(world.api(), key).ok()


@pytest.mark.covers("attack A37")
def test_a_passkey_alone_does_not_make_a_password_good_that_a_code_alone_has_set(
    world: World, holder: Person, authenticator: Authenticator
) -> None:
    asked = holder.api.post("/api/auth/forgot-password", {"identifier": holder.email}).ok()
    new = {"challenge_id": asked["challenge_id"], "otp": holder.code(), "new_password": "a brand new horse"}
    holder.api.post("/api/auth/reset-password", new).ok()
    holder.password = "a brand new horse"
    before = holder.ask_signin().ok()["methods"]
    assert "email" not in before
    sign_in(world.api(), authenticator).ok()
    assert holder.ask_signin().ok()["methods"] == before


def test_the_export_lists_passkeys_without_keys(holder: Person) -> None:
    [row] = holder.api.get("/api/auth/me/export", holder.token).ok()["passkeys"]
    assert row["name"] == "Passkey"
    assert not {"public_key", "credential_id", "credential_digest"} & row.keys()


def test_with_an_account_its_passkeys_go(world: World, holder: Person, authenticator: Authenticator) -> None:
    holder.api.delete("/api/auth/me", holder.token).ok()
    assert world.count(Passkey) == 0
    assert sign_in(world.api(), authenticator).code == "invalid_credentials"


@pytest.mark.covers("asvs 6.7.2")
def test_nothing_that_is_stored_is_a_challenge(world: World, holder: Person) -> None:
    asked = ask(world.api()).ok()
    [row] = [row for row in world.rows(OtpChallenge) if str(row.id) == asked["challenge_id"]]
    stored = " ".join(str(getattr(row, c.key)) for c in OtpChallenge.__table__.columns)
    assert asked["options"]["challenge"] not in stored
    assert (row.user_id, row.purpose) == (None, "passkey")
    seen = {ask(world.api()).ok()["options"]["challenge"] for _ in range(20)}
    assert len(seen) == 20


@pytest.mark.parametrize(
    "path", ["/passkeys/options", "/passkeys/login", "/factors/passkeys", "/factors/passkeys/{}/confirm"]
)
def test_where_passkeys_are_off_there_is_nothing(make_world: Callable[..., World], path: str) -> None:
    world = make_world(public_url="https://192.0.2.7", environment="production", allow_sqlite=True)
    person = world.person().sign_up()
    body = {"challenge_id": str(uuid4()), "credential": {}}
    token = person.token if "factors" in path else None
    assert person.api.post("/api/auth" + path.format(uuid4()), body, token).code == "not_found"


@pytest.mark.parametrize("junk", [None, "", 1, [], "x" * 100, True])
@pytest.mark.one_lane
def test_what_is_no_object_is_a_field_error(world: World, holder: Person, junk: Any) -> None:
    asked = ask(world.api()).ok()
    refused = login(holder.api, asked["challenge_id"], junk)
    assert (refused.code, refused["errors"][0]["field"]) == ("validation_failed", "credential")
    assert confirm(holder, str(uuid4()), junk).code == "validation_failed"


JUNK = [{}, {"id": None}, {"id": "\ud800", "rawId": "\x00", "type": "public-key", "response": {}}, {"response": [1]}, {"id": {"$ne": 1}}]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.one_lane
def test_what_is_no_credential_is_a_wrong_one(world: World, holder: Person, junk: Any) -> None:
    assert login(holder.api, ask(world.api()).ok()["challenge_id"], junk).code == "invalid_credentials"
    assert confirm(holder, start(holder).ok()["challenge_id"], junk).code == "invalid_code"
    asked = holder.ask_signin().ok()
    assert answer(holder, asked["challenge_id"], junk).code == "invalid_code"


@pytest.mark.parametrize("junk", [*JUNK, {"\ud800": "\udfff"}])
@pytest.mark.one_lane
def test_with_an_idempotency_key_it_is_a_wrong_one_too(world: World, holder: Person, junk: Any) -> None:
    asked = start(holder).ok()
    holder.api.headers["Idempotency-Key"] = "k"
    assert confirm(holder, asked["challenge_id"], junk).code == "invalid_code"
    assert world.events()[-1] == "code.refused"


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
@pytest.mark.parametrize("depth", [16, 600])
@pytest.mark.one_lane
def test_a_credential_that_is_nested_without_end_is_a_field_error(
    world: World, holder: Person, depth: int, headers: dict[str, str]
) -> None:
    junk: Any = "x"
    for _ in range(depth):
        junk = [junk]
    junk = {"response": junk}
    asked = start(holder).ok()
    holder.api.headers |= headers
    for refused in (confirm(holder, asked["challenge_id"], junk), login(holder.api, str(uuid4()), junk)):
        [error] = refused["errors"]
        assert (refused.status, error["field"], error["code"]) == (422, "credential", "too_complex")


def test_a_confirmation_that_is_sent_twice_is_done_once(person: Person, authenticator: Authenticator) -> None:
    begun = start(person).ok()
    made = authenticator.create(begun["options"])
    person.api.headers["Idempotency-Key"] = "k"
    first = confirm(person, begun["challenge_id"], made).ok()
    assert confirm(person, begun["challenge_id"], made).body == first.body
    assert confirm(person, begun["challenge_id"], {**made, "id": "\ud800"}).code == "idempotency_mismatch"


@pytest.mark.parametrize(
    "body",
    [
        {"method": "passkey"},
        {"method": "passkey", "otp": "123456"},
        {"method": "totp", "credential": {}},
        {"otp": "123456", "credential": {}},
        {"password": "x", "credential": {}},
        {},
    ],
)
@pytest.mark.one_lane
def test_a_sign_in_is_answered_by_one_thing_in_the_form_of_its_method(holder: Person, body: dict[str, Any]) -> None:
    asked = holder.ask_signin().ok()
    refused = holder.api.post("/api/auth/login/verify", {"challenge_id": asked["challenge_id"], **body})
    assert refused.code == "validation_failed"
    ask(holder.api, asked["challenge_id"]).ok()


def test_a_device_is_remembered_by_a_passkey_too(holder: Person, authenticator: Authenticator) -> None:
    asked = holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    answered = answer(holder, asked["challenge_id"], authenticator.get(options), remember_device=True).ok()
    assert holder.ask_signin(device_token=answered["device_token"]).ok()["status"] == "complete"


def used_twice(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    asked = ask(world.api()).ok()
    assertion = key.get(asked["options"])
    login(world.api(), asked["challenge_id"], assertion).ok()
    return lambda: login(world.api(), asked["challenge_id"], assertion)


def too_late(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    asked = ask(world.api()).ok()
    world.clock.advance(seconds=301)
    return lambda: login(world.api(), asked["challenge_id"], key.get(asked["options"]))


def elsewhere(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    asked = ask(world.api()).ok()
    return lambda: answer(holder, asked["challenge_id"], key.get(asked["options"]))


def of_another_key(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    asked = ask(world.api()).ok()
    return lambda: login(world.api(), asked["challenge_id"], key.get(asked["options"], key=Key()))


def of_a_disabled_account(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    asked = ask(world.api()).ok()
    with world.kit.writes() as db:
        db.execute(sa.update(User).values(disabled_at=world.clock.now))
        db.commit()
    return lambda: login(world.api(), asked["challenge_id"], key.get(asked["options"]))


def wrong_second_step(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    asked = holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    return lambda: answer(holder, asked["challenge_id"], key.get(options, flags=UP))


def second_step_of_a_stranger(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    other, theirs = world.person().sign_up(), Authenticator()
    bind(other, theirs).ok()
    asked = holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    return lambda: answer(holder, asked["challenge_id"], theirs.get(options, held=theirs.held[0]))


def bound_before(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    begun, held = start(holder).ok(), key.held[0]
    made = key.create(begun["options"], key=held.key, credential_id=held.id)
    return lambda: confirm(holder, begun["challenge_id"], made)


def wrongly_made(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    begun = start(holder).ok()
    return lambda: confirm(holder, begun["challenge_id"], key.create(begun["options"], flags=UP))


def options_of_nothing(world: World, holder: Person, key: Authenticator) -> Callable[[], Answer]:
    return lambda: ask(world.api(), str(uuid4()))


REFUSED = {
    used_twice: "challenge_closed",
    too_late: "challenge_closed",
    elsewhere: "challenge_closed",
    of_another_key: "invalid_credentials",
    of_a_disabled_account: "invalid_credentials",
    wrong_second_step: "invalid_code",
    second_step_of_a_stranger: "invalid_code",
    bound_before: "conflict",
    wrongly_made: "invalid_code",
    options_of_nothing: "challenge_closed",
}


@pytest.mark.covers("asvs 2.3.3", "asvs 16.3.2", "attack A74")
@pytest.mark.parametrize("story", REFUSED, ids=lambda story: story.__name__)
def test_a_refusal_leaves_its_counter_and_one_audit_row(
    world: World, holder: Person, authenticator: Authenticator, story: Callable[..., Any]
) -> None:
    act = story(world, holder, authenticator)
    world.deliver()
    world.sends_at_once = False
    before, audited = snapshot(world), len(world.audit())
    refused = act()
    assert refused.code == REFUSED[story], refused.body
    assert [(row.success, row.reason) for row in world.audit()[audited:]] == [(False, refused.code)]
    assert snapshot(world) == before


def test_a_challenge_whose_key_was_dropped_is_over(world: World, holder: Person, authenticator: Authenticator) -> None:
    alone, begun, asked = ask(world.api()).ok(), start(holder).ok(), holder.ask_signin().ok()
    options = ask(holder.api, asked["challenge_id"]).ok()["options"]
    with world.kit.writes() as db:
        db.execute(sa.update(OtpChallenge).values(key_id="0badc0de"))
        db.commit()
    assert ask(holder.api, asked["challenge_id"]).code == "challenge_closed"
    assert answer(holder, asked["challenge_id"], authenticator.get(options)).code == "invalid_code"
    refused = login(world.api(), alone["challenge_id"], authenticator.get(alone["options"]))
    assert refused.code == "invalid_credentials"
    made = Authenticator().create(begun["options"])
    assert confirm(holder, begun["challenge_id"], made).code == "invalid_code"
    sign_in(world.api(), authenticator).ok()
