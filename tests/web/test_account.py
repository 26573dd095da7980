"""One's own account."""

from __future__ import annotations

import pytest

from app.core import accounts
from app.core.identifiers import Identifier, Kind
from app.db import Base
from app.models import AuditLog, OtpChallenge, OutboxMessage, RefreshToken, Session, Signup, User, UsernameHold
from app.work import run
from tests.conftest import World
from tests.people import PASSWORD, Person
from tests.web.admins import act, last, of_role

NEW = "a brand new horse"


def change_email(person: Person, email: str) -> str:
    return person.api.post("/api/auth/change-email", {"email": email}, person.token).ok()["challenge_id"]


def confirm(person: Person, challenge_id: str, code: str):
    return person.api.post("/api/auth/verify-otp", {"challenge_id": challenge_id, "otp": code})


@pytest.mark.covers("asvs 6.2.2")
def test_the_password_is_changed_with_the_current_one(world: World, person: Person) -> None:
    old = person.token
    person.sign_in()
    body = {"current_password": PASSWORD, "new_password": NEW}
    person.api.post("/api/auth/change-password", body, person.token).ok()
    assert person.me().status == 200
    assert person.api.get("/api/auth/me", old).code == "token_revoked"
    assert world.inbox(person.email)[-1] == "notice.password_changed"
    assert person.ask_signin().code == "invalid_credentials"
    person.password = NEW
    person.sign_in()


@pytest.mark.covers("asvs 6.2.3")
def test_a_wrong_current_password_changes_nothing_and_counts(world: World, person: Person) -> None:
    body = {"current_password": "wrong horse 7", "new_password": NEW}
    codes = [person.api.post("/api/auth/change-password", body, person.token).code for _ in range(6)]
    assert codes == ["invalid_credentials"] * 5 + ["account_locked"]
    assert person.ask_signin().status == 200
    world.clock.advance(minutes=15)
    person.sign_in()
    assert person.api.post("/api/auth/change-password", body, person.token).code == "invalid_credentials"
    body["current_password"] = PASSWORD
    assert person.api.post("/api/auth/change-password", body, person.token).status == 200


def test_a_weak_new_password_is_refused_with_its_reason(world: World) -> None:
    person = world.person(username="flora.x", name="Florentina Gray").sign_up()
    for password, code in {
        "2short": "too_short",
        "x" * 257: "too_long",
        "password": "too_common",
        "PASSWORD": "too_common",
        "latchkey2026": "too_common",
        "doctor123": "too_common",
        "florentina1": "contains_identifier",
        "Florentina Gray": "contains_identifier",
        "flora.x99": "contains_identifier",
        person.email: "contains_identifier",
    }.items():
        body = {"current_password": PASSWORD, "new_password": password}
        answer = person.api.post("/api/auth/change-password", body, person.token)
        assert (answer.status, answer["errors"][0]["field"], answer["errors"][0]["code"]) == (422, "new_password", code)


@pytest.mark.covers("asvs 6.2.5", "nist N09", "nist N04")
def test_no_composition_is_asked_for(world: World) -> None:
    for password in (
        "abcdefgh ijklmnop",
        "4815162342108",
        "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643",
        "\U0001f511" * 8,
        "i like my password a lot",
    ):
        world.person(password=password).sign_up()


def test_name_and_username_can_be_changed(world: World, person: Person) -> None:
    answer = person.api.patch("/api/auth/me", {"name": "Jane D.", "username": "Jane.D", "role": "admin"}, person.token)
    assert (answer["name"], answer["username"], answer["role"]) == ("Jane D.", "jane.d", "user")
    assert person.me().body == answer.body
    assert person.api.patch("/api/auth/me", {}, person.token).status == 200
    [row] = world.audit(event="account.changed")
    assert row.facts == {"fields": ["name", "username"]}


def test_an_address_is_given_to_nobody_who_is_gone(world: World, person: Person) -> None:
    [gone] = world.rows(User)
    person.api.delete("/api/auth/me", person.token).ok()
    address = Identifier(Kind.EMAIL, "late@example.com")
    assert not run(world.kit, lambda work: accounts.set_contact(work, gone, address))


def test_a_username_that_another_has_or_holds_is_refused(world: World, person: Person) -> None:
    world.person(username="taken").sign_up()
    world.person(username="held").ask_signup().ok()
    for username in ("taken", "held"):
        assert person.api.patch("/api/auth/me", {"username": username}, person.token).code == "username_taken"
    assert person.me()["username"] is None


def test_a_released_username_is_free_again(world: World, person: Person) -> None:
    person.api.patch("/api/auth/me", {"username": "first"}, person.token).ok()
    person.api.patch("/api/auth/me", {"username": "second"}, person.token).ok()
    other = world.person().sign_up()
    other.api.patch("/api/auth/me", {"username": "first"}, other.token).ok()


def test_the_address_changes_when_the_new_one_is_proven(world: World, person: Person) -> None:
    old_email, other_session = person.email, person.token
    person.sign_in()
    challenge = change_email(person, "new@example.com")
    assert person.me()["email"] == old_email
    answer = confirm(person, challenge, world.read("email", "new@example.com")).ok()
    assert answer["user"]["email"] == "new@example.com"
    assert person.me()["email"] == "new@example.com"
    assert person.api.get("/api/auth/me", other_session).code == "token_revoked"
    for address in (old_email, "new@example.com"):
        assert world.inbox(address)[-1] == "notice.contact_changed"
    person.email = "new@example.com"
    person.sign_in()
    assert world.person(email=old_email).ask_signin().code == "invalid_credentials"


def test_moving_to_a_taken_address_looks_the_same_and_tells_its_owner(world: World, person: Person) -> None:
    owner = world.person().sign_up()
    free = person.api.post("/api/auth/change-email", {"email": "free@example.com"}, person.token)
    taken = person.api.post("/api/auth/change-email", {"email": owner.email}, person.token)
    assert free.body.keys() == taken.body.keys()
    assert world.inbox(owner.email)[-1] == "notice.change_tried"
    assert confirm(person, taken["challenge_id"], "123456").code == "invalid_code"
    assert owner.me()["email"] == owner.email


@pytest.mark.covers("attack A26")
def test_an_address_taken_meanwhile_is_not_moved(world: World, person: Person) -> None:
    challenge = change_email(person, "wanted@example.com")
    code = world.read("email", "wanted@example.com")
    world.person(email="wanted@example.com").sign_up()
    assert confirm(person, challenge, code).code == "challenge_closed"
    assert person.me().status == 200


@pytest.mark.covers("attack A26")
def test_a_change_proves_exactly_the_address_it_was_asked_for(world: World, person: Person) -> None:
    own = change_email(person, "own@example.com")
    own_code = world.read("email", "own@example.com")
    victims = change_email(person, "victim@example.com")
    victims_code = world.read("email", "victim@example.com")
    if own_code != victims_code:
        assert confirm(person, victims, own_code).code == "invalid_code"
    confirm(person, own, own_code).ok()
    assert confirm(person, victims, victims_code).code == "challenge_closed"


def test_a_change_ends_with_the_session_that_began_it(world: World, person: Person) -> None:
    thief = world.person("198.51.100.7", email=person.email).sign_in()
    challenge = change_email(thief, "thief@example.com")
    code = world.read("email", "thief@example.com")
    person.api.delete(f"/api/auth/sessions/{thief.tokens['session_id']}", person.token).ok()
    assert confirm(thief, challenge, code).code == "invalid_code"
    assert person.me()["email"] == person.email


def test_the_phone_changes_by_sms(world: World, person: Person) -> None:
    asked = person.api.post("/api/auth/change-phone", {"phone": "+44 7400 123456"}, person.token).ok()
    assert (asked["channel"], asked["destination"]) == ("sms", "+44******3456")
    answer = confirm(person, asked["challenge_id"], world.read("sms", "+447400123456")).ok()
    assert answer["user"]["phone"] == "+447400123456"
    assert world.inbox(person.email)[-1] == "notice.contact_changed"


@pytest.mark.covers("nist N22", "nist N46")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/auth/change-email", {"email": "new@example.com"}),
        ("POST", "/api/auth/change-phone", {"phone": "+447400123456"}),
        ("DELETE", "/api/auth/me", None),
    ],
)
def test_a_recent_sign_in_is_asked_for(world: World, person: Person, method, path, body) -> None:
    world.clock.advance(seconds=601)
    answer = person.api.call(method, path, body, person.token)
    assert (answer.status, answer.code, answer["max_age"]) == (401, "insufficient_user_authentication", 600)
    assert 'max_age="600"' in answer.headers["WWW-Authenticate"]
    refreshed = person.refresh().ok()
    assert person.api.call(method, path, body, refreshed["access_token"]).status == 401
    person.sign_in()
    assert person.api.call(method, path, body, person.token).status == 200


def test_the_export_holds_all_that_is_stored_and_no_secret(world: World, person: Person) -> None:
    person.sign_in()
    exported = person.api.get("/api/auth/me/export", person.token).ok()
    assert exported["user"].items() >= person.me().body.items()
    assert len(exported["sessions"]) == 2
    assert [m["kind"] for m in exported["messages"]] == ["code.signup", "code.signin"]
    assert {"signup.completed", "signin.completed", "account.exported"} <= {r["event"] for r in exported["audit"]}
    text = repr(exported.body)
    for row in [*world.rows(User), *world.rows(OtpChallenge)]:
        for secret in (getattr(row, "password_hash", None), getattr(row, "digest", None), getattr(row, "factor", None)):
            assert not secret or secret not in text


def test_the_export_has_every_row_though_few_are_read_at_once(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(7):
        person.tokens = person.refresh().ok().body
        person.api.patch("/api/auth/me", {"name": "Jane"}, person.token).ok()
    monkeypatch.setattr("app.work.AT_ONCE", 3)
    exported = person.api.get("/api/auth/me/export", person.token).ok()
    assert exported.headers["Content-Disposition"] == 'attachment; filename="my-data.json"'
    assert [row["id"] for row in exported["refresh_tokens"]] == sorted(str(row.id) for row in world.rows(RefreshToken))
    theirs = world.audit(user_id=world.rows(User)[0].id)
    assert [row["id"] for row in exported["audit"]] == [str(row.id) for row in theirs]
    assert len(theirs) > len(exported["refresh_tokens"]) == 8


@pytest.mark.one_lane
def test_the_export_does_not_tell_which_admin_did_something_and_from_where(world: World, person: Person) -> None:
    admin = of_role(world, "admin")
    admin.api = world.api("198.51.100.77", **{"User-Agent": "Ada's own browser"})
    act(admin, person, "unlock").ok()
    row = last(world, "user.unlocked")
    exported = person.api.get("/api/auth/me/export", person.token).ok()
    told = next(each for each in exported["audit"] if each["event"] == "user.unlocked")
    assert told.items() >= {"id": str(row.id), "success": True, "actor_id": None, "facts": row.facts}.items()
    assert row.ip == "198.51.100.77"
    for theirs in (row.actor_id, row.session_id, row.ip, row.user_agent, row.request_id):
        assert str(theirs) not in repr(exported.body)
    assert all(each["ip"] == "203.0.113.5" for each in exported["audit"] if each["event"] == "signup.completed")


@pytest.mark.covers("nist N53", "asvs 7.4.2")
def test_deleting_the_account_leaves_nothing_of_the_person(world: World) -> None:
    person = world.person(username="jane", name="Jane Unusual", phone="+919876543210")
    asked = person.ask_signup(consent=True).ok()
    pending = person.verify_signup(asked["challenge_id"], person.code()).ok()["pending"]
    confirm(person, pending["challenge_id"], person.code("sms")).ok()
    world.clock.advance(minutes=2)
    person.sign_in()
    person.api.delete("/api/auth/me", person.token).ok()
    assert person.me().code == "token_revoked"
    assert world.inbox(person.email)[-1] == "notice.account_erased"
    assert person.ask_signin().code == "invalid_credentials"
    assert world.count(User) == world.count(Session) == world.count(Signup) == 0
    erased_at = world.audit(event="account.erased")[0].at
    with world.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            rows = [row for row in connection.execute(table.select()) if getattr(row, "at", erased_at) <= erased_at]
            for needle in (person.email, "+919876543210", "Jane Unusual", "203.0.113.5"):
                assert all(needle not in str(value) for row in rows for value in row), (table.name, needle)
    kept = world.rows(AuditLog, event="signup.completed")
    assert (kept[0].subject, kept[0].ip, kept[0].user_agent) == (None, None, None)


def test_the_username_of_an_earlier_sign_up_is_given_back_with_the_account(world: World) -> None:
    person, other = world.person(username="jane.unusual"), world.person(username="jane.usual")
    person.ask_signup().ok()
    other.ask_signup().ok()
    world.clock.advance(minutes=2)
    person.username = None
    person.sign_up()
    person.api.delete("/api/auth/me", person.token).ok()
    assert [row.username for row in world.rows(UsernameHold)] == ["jane.usual"]


def test_an_erased_address_may_sign_up_again(world: World, person: Person) -> None:
    person.api.delete("/api/auth/me", person.token).ok()
    world.clock.advance(minutes=2)
    again = world.person(email=person.email).sign_up()
    assert again.me()["id"] != person.tokens["user"]["id"]


def test_the_message_of_an_erasure_is_forgotten_once_sent(world: World, person: Person) -> None:
    world.sends_at_once = False
    person.api.delete("/api/auth/me", person.token).ok()
    assert [m.kind for m in world.rows(OutboxMessage)] == ["notice.account_erased"]
    world.deliver()
    assert world.count(OutboxMessage) == 0


@pytest.mark.parametrize("taken", [True, False])
def test_a_wrong_code_for_a_change_counts_against_the_new_address(world: World, taken: bool) -> None:
    """And against nobody else, or a count at the asker would tell whether the address is free."""
    asker, other = world.person(username="asker").sign_up(), world.person()
    if taken:
        other.sign_up()
    by_name = {"identifier": "asker", "password": "wrong horse 7"}
    assert [world.api().post("/api/auth/login", by_name).code for _ in range(4)] == ["invalid_credentials"] * 4
    for _ in range(2):
        world.clock.advance(minutes=1)
        challenge = change_email(asker, other.email)
        for _ in range(3):
            confirm(asker, challenge, "000000")
    asked = asker.api.post("/api/auth/step-up", {}, asker.token).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": asker.code()}
    asker.api.post("/api/auth/step-up/verify", body, asker.token).ok()
    assert other.ask_signin().code == "account_locked"
    asker.sign_in()


def test_an_address_that_is_one_s_own_already_is_refused(world: World, person: Person) -> None:
    before = world.inbox(person.email)
    answer = person.api.post("/api/auth/change-email", {"email": person.email.upper()}, person.token)
    assert (answer.status, answer["errors"][0]["code"]) == (422, "unchanged")
    assert world.inbox(person.email) == before


def test_deleting_the_account_forgets_its_earlier_addresses_and_names(world: World) -> None:
    person = world.person(username="first.name", name="Jane Unusual").sign_up()
    challenge = change_email(person, "second@example.com")
    confirm(person, challenge, world.read("email", "second@example.com")).ok()
    person.api.patch("/api/auth/me", {"username": "second.name"}, person.token).ok()
    person.api.delete("/api/auth/me", person.token).ok()
    with world.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(table.select()):
                for needle in (person.email, "second@example.com", "first.name", "second.name", "Jane Unusual"):
                    assert all(needle not in str(value) for value in row), (table.name, needle)


def test_deleting_the_account_forgets_recoveries_that_had_nowhere_to_go(world: World) -> None:
    """Of somebody without an e-mail address, asked for by e-mail: what was typed stands where an address would."""
    person = world.person(email="", username="jane.unusual", phone="+919876543210").sign_up()
    for typed in ({"identifier": "jane.unusual"}, {"phone": "+919876543210", "channel": "email"}):
        for _ in range(2):
            person.api.post("/api/auth/forgot-password", typed).ok()
    nowhere = {row.destination for row in world.rows(OtpChallenge, purpose="recovery")}
    assert len(nowhere) == 2, "one of its own for what was typed, and the same each time"
    person.api.delete("/api/auth/me", person.token).ok()
    with world.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(table.select()):
                for needle in ("jane.unusual", "9876543210"):
                    assert all(needle not in str(value) for value in row), (table.name, needle)


def test_what_became_of_a_message_is_the_person_s_too(world: World, person: Person) -> None:
    world.sends_at_once = False
    person.ask_signin().ok()
    world.clock.advance(minutes=6)
    world.deliver()
    exported = person.api.get("/api/auth/me/export", person.token)
    assert exported.status == 200
    assert [r["user_id"] for r in exported["audit"] if r["event"] == "message.dropped"] == [exported["user"]["id"]]
    assert {"signups", "challenges", "refresh_tokens"} <= exported.body.keys()
    assert [c["purpose"] for c in exported["challenges"]] == ["signup", "signin"]
    assert exported["user"]["password_changed_at"]


@pytest.mark.covers("attack A31")
def test_the_export_does_not_tell_who_else_has_an_account(world: World, person: Person) -> None:
    """Ask for a change to a taken and to a free address, guess, resend, and compare what is stored about oneself."""
    owner = world.person().sign_up()
    told = []
    for address in (owner.email, "free@example.com"):
        asker = world.person().sign_up()
        challenge = change_email(asker, address)
        confirm(asker, challenge, "000000")
        world.clock.advance(seconds=31)
        asker.api.post("/api/auth/resend-otp", {"challenge_id": challenge}).ok()
        world.clock.advance(minutes=6)
        world.deliver()
        exported = asker.api.get("/api/auth/me/export", asker.token).ok()
        kinds = {
            k: [(r.get("event"), r.get("kind"), r.get("purpose"), str(r.get("facts"))) for r in v]
            for k, v in exported.body.items()
            if k != "user"
        }
        told.append(kinds)
    assert told[0] == told[1]


def test_a_session_ended_while_the_password_is_hashed_changes_nothing(world: World, person: Person) -> None:
    thief = world.person("198.51.100.7", email=person.email).sign_in()

    class Slow:
        def __init__(self, real) -> None:
            self.real = real

        def __getattr__(self, name: str):
            return getattr(self.real, name)

        def hash(self, password: bytes) -> str:
            object.__setattr__(world.kit, "hasher", self.real)
            person.api.delete(f"/api/auth/sessions/{thief.tokens['session_id']}", person.token).ok()
            return self.real.hash(password)

    object.__setattr__(world.kit, "hasher", Slow(world.kit.hasher))
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert thief.api.post("/api/auth/change-password", body, thief.token).code == "token_revoked"
    assert person.me().status == 200
    person.sign_in()
