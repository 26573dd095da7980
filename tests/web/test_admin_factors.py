"""Administration takes second factors from somebody who lost them."""

from __future__ import annotations

from uuid import uuid4

import pytest

from app.models import Authenticator, BackupCode, Passkey, Session, TrustedDevice, User
from tests.authenticator import enrol
from tests.conftest import World
from tests.people import Person
from tests.security_key import Authenticator as SecurityKey
from tests.web.admins import USERS, act, id_of, last, of_role, path
from tests.web.test_passkeys import bind, start
from tests.web.test_passkeys import sign_in as sign_in_with_key
from tests.web.test_phone import NUMBER, Phone, by_recovery, owner_with_both

OWNED = (Authenticator, BackupCode, Passkey, TrustedDevice)


@pytest.fixture
def admin(world: World) -> Person:
    return of_role(world, "admin")


def equipped(world: World, key: SecurityKey | None = None) -> Person:
    """Somebody with a passkey, an app, another in setup, backup codes and a remembered device."""
    person = world.person().sign_up()
    world.clock.advance(minutes=2)
    bind(person, key or SecurityKey()).ok()
    app = enrol(world, person)
    person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    asked = person.ask_signin().ok()
    person.verify_signin(asked["challenge_id"], app.fresh(), remember_device=True).ok()
    return person


def rows(world: World, person: Person) -> list[int]:
    return [len(world.rows(model, user_id=id_of(person))) for model in OWNED]


def test_who_lost_their_factors_signs_in_by_password_and_code_again(world: World, admin: Person) -> None:
    key = SecurityKey()
    jane, other = equipped(world, key), equipped(world)
    assert rows(world, jane) == rows(world, other) == [2, 10, 1, 1]
    assert set(jane.me()["mfa"]) == {"totp", "passkey", "backup_code"}
    answer = act(admin.sign_in(), jane, "reset-mfa").ok()
    assert (answer["mfa"], answer["status"], answer["has_password"]) == ([], "active", True)
    assert rows(world, jane) == [0, 0, 0, 0]
    assert jane.me().code == "token_revoked"
    assert sign_in_with_key(jane.api, key).code == "invalid_credentials"
    world.clock.advance(minutes=2)
    assert jane.ask_signin().ok()["channel"] == "email"
    assert jane.sign_in().me()["mfa"] == []
    assert rows(world, other) == [2, 10, 1, 1]
    assert len(other.me()["mfa"]) == 3


def test_who_lost_the_mailbox_too_gets_in_by_the_phone_that_recovered(world: World, admin: Person) -> None:
    """The phone's code counts for nothing beside the password that it set, while there is an e-mail address. Whoever
    has lost that as well, or had it changed by a thief, has no other way but an administrator's word.
    """
    owner = owner_with_both(world)
    login = {"phone": NUMBER, "password": by_recovery(world, Phone(world))}
    assert owner.api.post("/api/auth/login", login).ok()["methods"] == ["email"]
    act(admin.sign_in(), owner, "reset-mfa").ok()
    assert last(world, "user.factors_reset").facts["before"] == {"mfa": [], "recovered_by": "sms"}
    assert "notice.factors_reset" in world.inbox(owner.email)
    world.clock.advance(minutes=2)
    asked = owner.api.post("/api/auth/login", login | {"channel": "sms"}).ok()
    assert (asked["methods"], asked["channel"]) == (["email", "sms"], "sms")
    owner.verify_signin(asked["challenge_id"], world.read("sms", NUMBER)).ok()


@pytest.mark.covers("asvs 6.3.7", "nist N59")
def test_every_address_is_told_and_not_where_the_admin_sits(world: World, admin: Person) -> None:
    jane = equipped(world)
    asked = jane.api.post("/api/auth/change-phone", {"phone": "+919876543210"}, jane.token).ok()
    proof = {"challenge_id": asked["challenge_id"], "otp": world.read("sms", "+919876543210")}
    jane.api.post("/api/auth/verify-otp", proof).ok()
    token = admin.sign_in().token
    world.api("198.51.100.77").post(path(jane, "/reset-mfa"), None, token).ok()
    assert world.inbox(jane.email)[-1] == "notice.factors_reset"
    assert world.inbox("+919876543210", "sms")[-1] == "notice.factors_reset"
    [told] = [m for m in world.senders["email"].messages if m.kind == "notice.factors_reset"]
    assert "198.51.100.77" not in told.text + told.html


@pytest.mark.covers("asvs 16.2.1")
def test_the_audit_log_says_who_took_what(world: World, admin: Person) -> None:
    jane = equipped(world)
    live = len([row for row in world.rows(Session, user_id=id_of(jane)) if row.revoked_at is None])
    act(admin.sign_in(), jane, "reset-mfa").ok()
    row = last(world, "user.factors_reset")
    assert (row.actor_id, row.user_id) == (id_of(admin), id_of(jane))
    assert row.facts["before"] == {"mfa": ["totp", "passkey", "backup_code"]}
    assert (row.facts["after"], row.facts["sessions_ended"]) == ({"mfa": []}, live)


def test_twice_is_as_good_as_once_and_whoever_has_none_is_not_told(world: World, admin: Person) -> None:
    jane = equipped(world)
    for _ in range(2):
        assert act(admin.sign_in(), jane, "reset-mfa").ok()["mfa"] == []
    assert world.inbox(jane.email).count("notice.factors_reset") == 1
    assert last(world, "user.factors_reset").facts["before"] == {"mfa": []}


def test_what_was_begun_is_over(world: World, admin: Person) -> None:
    key = SecurityKey()
    jane = equipped(world, key)
    begun = start(jane).ok()
    asked = jane.ask_signin().ok()
    act(admin.sign_in(), jane, "reset-mfa").ok()
    made = {"credential": SecurityKey().create(begun["options"])}
    path = f"/api/auth/factors/passkeys/{begun['challenge_id']}/confirm"
    assert jane.api.post(path, made, jane.token).code == "token_revoked"
    assert jane.verify_signin(asked["challenge_id"], "123456").code == "challenge_closed"


def test_a_reset_person_enrols_anew(world: World, admin: Person) -> None:
    jane = equipped(world)
    act(admin.sign_in(), jane, "reset-mfa").ok()
    world.clock.advance(minutes=2)
    jane.sign_in()
    app = enrol(world, jane)
    assert len(app.backup_codes) == 10
    assert jane.me()["mfa"] == ["totp", "backup_code"]


def test_after_a_recovery_too_the_reset_opens_the_way_by_mail(world: World, admin: Person) -> None:
    jane = equipped(world)
    asked = jane.api.post("/api/auth/forgot-password", {"email": jane.email}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": jane.code(), "new_password": "a brand new horse"}
    jane.api.post("/api/auth/reset-password", body).ok()
    jane.password = "a brand new horse"
    world.clock.advance(minutes=2)
    assert jane.ask_signin().ok()["channel"] == "totp"
    act(admin.sign_in(), jane, "reset-mfa").ok()
    world.clock.advance(minutes=2)
    assert jane.sign_in().me()["mfa"] == []


def test_a_stale_admin_and_nobody_s_id_are_refused(world: World, admin: Person) -> None:
    jane = equipped(world)
    admin.sign_in()
    assert admin.api.post(f"{USERS}/{uuid4()}/reset-mfa", None, admin.token).code == "not_found"
    assert last(world, "user.refused").facts == {"act": "reset_mfa"}
    world.clock.advance(minutes=11)
    assert act(admin, jane, "reset-mfa").code == "insufficient_user_authentication"
    assert rows(world, jane) == [2, 10, 1, 1]
    [row] = world.rows(User, id=id_of(jane))
    assert row.mfa == "totp passkey backup_code"
