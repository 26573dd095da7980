"""What a request does once it has the row that it had to wait for: on servers that lock rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.core import identifiers, lockout, roles, sends, throttles
from app.core.identifiers import Kind
from app.db import lost_a_race
from app.models import (
    Authenticator,
    BackupCode,
    OtpChallenge,
    OutboxMessage,
    Session,
    Signup,
    Throttle,
    User,
    UsernameHold,
)
from app.work import run
from tests.authenticator import enrol
from tests.conftest import World
from tests.people import PASSWORD, Answer, Person
from tests.web.admins import USERS, act, id_of, last, of_role, path
from tests.web.test_phone import NUMBER, Phone, by_recovery, owner_with_both

VERIFY = "/api/auth/verify-otp"
WAITS = 0.5  # seconds in which a request reaches the held row


@contextmanager
def holding(
    world: World, held: Person | str | sa.Executable, sent: list[Answer], send: Callable[[], Answer]
) -> Iterator[sa.Connection]:
    """Hold somebody's row, or a throttle, or what a statement locks, while a request waits for it; what is done in the
    block is committed before it goes on.
    """
    with world.engine.begin() as connection:
        if isinstance(held, sa.Executable):
            connection.execute(held)
        else:
            row = Throttle.key == held if isinstance(held, str) else User.id == id_of(held)
            assert connection.execute(sa.select(sa.literal(1)).where(row).with_for_update()).all()
        waiting = sending(sent, send)
        yield connection
    waiting.join(20)


def sending(sent: list[Answer], send: Callable[[], Answer]) -> threading.Thread:
    """A request that waits for a row by now."""
    waiting = threading.Thread(target=lambda: sent.append(send()))
    waiting.start()
    time.sleep(WAITS)
    assert waiting.is_alive()
    return waiting


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """Why units were done again."""
    met: list[BaseException | None] = []

    def noted(error: sa.exc.DBAPIError) -> bool:
        again = lost_a_race(error)
        met.extend([error.orig] if again else [])
        return again

    monkeypatch.setattr("app.work.lost_a_race", noted)
    return met


@pytest.mark.covers("attack A36", "asvs 7.4.1")
@pytest.mark.parametrize("act", ["remove", "renew", "begin"])
def test_a_session_that_ends_while_it_waits_changes_no_factor(locking: World, act: str) -> None:
    person = locking.person().sign_up()
    app = enrol(locking, person)
    acts = {
        "remove": lambda: person.api.delete(f"/api/auth/factors/{app.factor_id}", person.token),
        "renew": lambda: person.api.post("/api/auth/factors/backup-codes", {}, person.token),
        "begin": lambda: person.api.post("/api/auth/factors/totp", {}, person.token),
    }
    sent: list[Answer] = []
    with holding(locking, person, sent, acts[act]) as connection:
        ended = {"revoked_at": locking.clock.now, "revoked_why": "password_changed"}
        connection.execute(sa.update(Session).values(**ended))
    assert sent[0].code == "token_revoked"
    assert locking.rows(User)[0].mfa == "totp backup_code"


@pytest.mark.covers("attack A36", "asvs 7.4.1")
def test_a_session_that_ends_while_it_waits_changes_no_address(locking: World) -> None:
    person = locking.person().sign_up()
    old = person.email
    asked = person.api.post("/api/auth/change-email", {"email": "new@example.com"}, person.token).ok()["challenge_id"]
    given = {"challenge_id": asked, "otp": locking.read("email", "new@example.com")}
    sent: list[Answer] = []
    with holding(locking, person, sent, lambda: person.api.post(VERIFY, given, person.token)) as connection:
        connection.execute(sa.update(Session).values(revoked_at=locking.clock.now, revoked_why="signed_out"))
    assert sent[0].code == "challenge_closed"
    assert locking.rows(User)[0].email == old


@pytest.mark.covers("attack A36", "asvs 7.4.1")
def test_a_session_that_ends_while_it_waits_changes_no_password(locking: World) -> None:
    person = locking.person().sign_up()
    before = locking.rows(User)[0].password_hash
    given = {"current_password": PASSWORD, "new_password": "another horse 9"}
    sent: list[Answer] = []
    change = lambda: person.api.post("/api/auth/change-password", given, person.token)  # noqa: E731
    with holding(locking, person, sent, change) as connection:
        connection.execute(sa.update(Session).values(revoked_at=locking.clock.now, revoked_why="signed_out"))
    assert sent[0].code == "token_revoked"
    assert locking.rows(User)[0].password_hash == before


def waits_for(identifier: str) -> str:
    return lockout.key(identifiers.parse(identifier, ""))


@pytest.mark.covers("attack A36")
def test_a_code_to_a_number_that_is_no_longer_the_account_s_opens_nothing(locking: World) -> None:
    phone, sent = Phone(locking), list[Answer]()
    phone.sign_up()
    locking.clock.advance(minutes=5)
    phone.ask().ok()
    with holding(locking, waits_for(NUMBER), sent, phone.answer) as connection:
        connection.execute(sa.update(User).values(phone="+919876500000"))
    assert sent[0].code == "invalid_credentials"
    assert len(locking.rows(Session)) == 1


@pytest.mark.covers("attack A36")
def test_a_code_to_an_address_that_is_no_longer_the_account_s_sets_no_password(locking: World) -> None:
    person, sent = locking.person().sign_up(), list[Answer]()
    before = locking.rows(User)[0].password_hash
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()["challenge_id"]
    given = {"challenge_id": asked, "otp": person.code(), "new_password": "another horse 9"}
    reset = lambda: person.api.post("/api/auth/reset-password", given)  # noqa: E731
    with holding(locking, waits_for(person.email), sent, reset) as connection:
        connection.execute(sa.update(User).values(email="new@example.com"))
    assert sent[0].code == "challenge_closed"
    assert locking.rows(User)[0].password_hash == before


@pytest.mark.covers("attack A36")
def test_a_code_of_somebody_who_is_erased_meanwhile_names_nobody(locking: World) -> None:
    person, sent = locking.person().sign_up(), list[Answer]()
    asked, code = person.ask_signin().ok()["challenge_id"], person.code()
    with holding(locking, waits_for(person.email), sent, lambda: person.verify_signin(asked, code)) as connection:
        connection.execute(sa.delete(User))
    assert sent[0].code == "challenge_closed"
    [row] = locking.audit(event="code.refused")
    assert (row.user_id, row.subject) == (None, None)


@pytest.mark.covers("attack A36")
def test_a_code_by_phone_that_an_admin_has_ended_meanwhile_opens_nothing(locking: World) -> None:
    admin, phone, sent = of_role(locking, "admin"), Phone(locking), list[Answer]()
    user_id = phone.sign_up()["user"]["id"]
    locking.clock.advance(minutes=4)
    phone.ask().ok()
    with holding(locking, waits_for(NUMBER), sent, phone.answer):
        admin.api.post(f"{USERS}/{user_id}/revoke-sessions", None, admin.token).ok()
    assert sent[0].code == "challenge_closed"
    assert all(session.revoked_at for session in locking.rows(Session, user_id=UUID(user_id)))


@pytest.mark.covers("attack A36")
def test_a_recovery_that_an_admin_has_ended_meanwhile_sets_no_password(locking: World) -> None:
    admin, person, sent = of_role(locking, "admin"), locking.person().sign_up(), list[Answer]()
    given = {"challenge_id": forgot(person), "otp": person.code(), "new_password": "another horse 9"}
    reset = lambda: person.api.post("/api/auth/reset-password", given)  # noqa: E731
    with holding(locking, waits_for(person.email), sent, reset):
        act(admin, person, "revoke-sessions").ok()
    assert sent[0].code == "challenge_closed"
    person.sign_in()


def forgot(person: Person) -> str:
    return str(person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()["challenge_id"])


def test_a_recovery_and_an_admin_who_ends_it_take_their_locks_in_one_order(
    locking: World, undone: list[BaseException | None]
) -> None:
    admin, person, first, second = of_role(locking, "admin"), locking.person().sign_up(), list[Answer](), list[Answer]()
    person.ask_signin().ok()  # an older challenge, which the recovery ends
    asked = forgot(person)
    given = {"challenge_id": asked, "otp": person.code(), "new_password": "another horse 9"}
    reset = lambda: person.api.post("/api/auth/reset-password", given)  # noqa: E731
    theirs = sa.select(OtpChallenge.id).where(OtpChallenge.id == UUID(asked)).with_for_update()
    with holding(locking, theirs, first, reset):
        ending = sending(second, lambda: act(admin, person, "revoke-sessions"))
    ending.join(20)
    assert (first[0].status, second[0].status, undone) == (200, 200, [])


def becomes(connection: sa.Connection, world: World, person: Person, role: str) -> None:
    """As administration gives another role: with it every session ends."""
    mine = id_of(person)
    connection.execute(sa.update(User).where(User.id == mine).values(role=role))
    ended = {"revoked_at": world.clock.now, "revoked_why": "changed_by_admin"}
    connection.execute(sa.update(Session).where(Session.user_id == mine).values(**ended))


@pytest.mark.covers("attack A36", "asvs 8.3.2")
def test_a_sign_in_under_way_opens_nothing_once_the_role_is_another(locking: World) -> None:
    """The new role may ask for more than was proven."""
    person = locking.person().sign_up()
    asked, sent = person.ask_signin().ok()["challenge_id"], list[Answer]()
    code = person.code()
    with holding(locking, person, sent, lambda: person.verify_signin(asked, code)) as connection:
        becomes(connection, locking, person, "admin")
    assert sent[0].code == "invalid_credentials"
    assert all(session.revoked_at for session in locking.rows(Session))


def test_whoever_is_made_admin_is_not_erased_by_a_request_of_before(locking: World) -> None:
    """The admin who made them one may have left since: it would have been the last."""
    person, sent = locking.person().sign_up(), list[Answer]()
    with holding(locking, person, sent, lambda: person.api.delete("/api/auth/me", person.token)) as connection:
        becomes(connection, locking, person, "admin")
    assert sent[0].code == "token_revoked"
    assert [user.role for user in locking.rows(User)] == ["admin"]


def patch(person: Person, **given: str) -> Answer:
    return person.api.patch("/api/auth/me", given, person.token)


def test_a_change_of_one_s_name_writes_nothing_of_what_it_read(locking: World) -> None:
    """An admin gives another username meanwhile, a second request another language."""
    person, sent = locking.person(username="first").sign_up(), list[Answer]()
    with holding(locking, person, sent, lambda: patch(person, name="New")) as connection:
        connection.execute(sa.update(User).where(User.id == id_of(person)).values(username="second", language="hi"))
    assert (sent[0].ok()["name"], sent[0]["username"]) == ("New", "second")
    [user] = locking.rows(User)
    assert (user.name, user.name_key, user.username, user.language) == ("New", "new", "second", "hi")


def test_a_change_of_an_account_that_is_erased_meanwhile_is_refused(locking: World) -> None:
    person, sent = locking.person().sign_up(), list[Answer]()
    with holding(locking, person, sent, lambda: patch(person, username="late")) as connection:
        for kind in (User, Signup):
            connection.execute(sa.delete(kind).where(kind.id == id_of(person)))
    assert sent[0].code == "token_revoked"
    assert (locking.rows(User), locking.rows(UsernameHold)) == ([], [])
    assert [(row.subject, row.ip) for row in locking.audit(reason="token_revoked")] == [(None, None)]


@pytest.mark.parametrize(("act", "code"), [("refresh", "token_invalid"), ("resend", "challenge_closed")])
def test_who_waits_behind_an_erasure_finds_nobody(locking: World, act: str, code: str) -> None:
    person, sent = locking.person().sign_up(), list[Answer]()
    asked = person.ask_signin().ok()["challenge_id"]
    locking.clock.advance(minutes=1)
    acts = {
        "refresh": person.refresh,
        "resend": lambda: person.api.post("/api/auth/resend-otp", {"challenge_id": asked}),
    }
    with holding(locking, sa.delete(User).where(User.id == id_of(person)), sent, acts[act]):
        pass
    assert sent[0].code == code
    assert [(row.user_id, row.subject) for row in locking.audit(reason=code)] == [(None, None)]


def test_a_registration_whose_sign_up_is_erased_meanwhile_is_refused(locking: World) -> None:
    """As that of a number is, whose other account its owner erases."""
    phone, sent = Phone(locking), list[Answer]()
    token = phone.prove()
    number = throttles.key("guess", Kind.PHONE, phone.number)
    with holding(locking, number, sent, lambda: phone.register(token)) as connection:
        connection.execute(sa.delete(Signup))
    assert sent[0].code == "token_invalid"
    assert [(row.user_id, row.subject) for row in locking.audit(reason="token_invalid")] == [(None, None)]


@pytest.mark.covers("attack A36", "asvs 8.3.2")
def test_an_admin_whose_turn_comes_after_their_own_end_ends_nobody(locking: World) -> None:
    one, other, _ = (of_role(locking, "admin") for _ in range(3))
    run(locking.kit, lambda work: roles.another_admin(work, locking.rows(User)[0]))
    acts: list[tuple[Person, Callable[[], Answer]]] = [
        (one, lambda: one.api.call("PUT", path(other, "/role"), {"role": "user"}, one.token)),
        (other, lambda: other.api.delete("/api/auth/me", other.token)),
    ]
    for actor, ends in acts:
        sent: list[Answer] = []
        with holding(locking, throttles.key("admins"), sent, ends) as connection:
            becomes(connection, locking, actor, "doctor")
        assert sent[0].code == "token_revoked"
        with locking.engine.begin() as connection:
            becomes(connection, locking, actor, "admin")
    assert [user.role for user in locking.rows(User)] == ["admin"] * 3


@pytest.mark.covers("attack A36", "asvs 8.3.2")
def test_an_admin_who_is_none_any_more_once_a_code_lets_go_makes_nobody_one(locking: World) -> None:
    admin, person, sent = of_role(locking, "admin"), locking.person().sign_up(), list[Answer]()
    person.ask_signin().ok()

    def promote() -> Answer:
        return admin.api.call("PUT", path(person, "/role"), {"role": "admin"}, admin.token)

    theirs = sa.select(OtpChallenge.id).where(OtpChallenge.user_id == id_of(person)).with_for_update()
    with holding(locking, theirs, sent, promote) as connection:
        becomes(connection, locking, admin, "user")
    assert sent[0].code == "token_revoked"
    assert {user.role for user in locking.rows(User)} == {"user"}


@pytest.mark.covers("attack A36", "asvs 8.3.2")
@pytest.mark.parametrize("what", ["unlock", "revoke-sessions", "reset-mfa", "send-password-reset"])
def test_an_admin_who_is_none_any_more_once_a_row_lets_go_does_nothing(locking: World, what: str) -> None:
    admin, person, sent = of_role(locking, "admin"), locking.person().sign_up(), list[Answer]()
    enrol(locking, person)
    locking.clock.advance(minutes=2)
    counters = {
        "unlock": waits_for(person.email),
        "send-password-reset": sends.key(identifiers.parse(person.email, "")),
    }
    with holding(locking, counters.get(what, person), sent, lambda: act(admin, person, what, {})) as connection:
        becomes(connection, locking, admin, "user")
    assert (sent[0].code, last(locking, "user.refused").reason) == ("token_revoked", "token_revoked")
    assert person.me().ok()["mfa"] == ["totp", "backup_code"]
    assert locking.audit(event="recovery.started") == []
    assert locking.inbox(person.email)[-1] == "notice.factor_added"


@pytest.mark.parametrize("what", ["role", "lock", "unlock", "revoke-sessions", "delete"])
def test_an_act_on_somebody_who_is_erased_meanwhile_names_nobody(locking: World, what: str) -> None:
    admin, person, sent = of_role(locking, "admin"), locking.person().sign_up(), list[Answer]()
    ways = {"role": ("PUT", "/role", {"role": "doctor"}), "delete": ("DELETE", "", None)}
    method, rest, body = ways.get(what, ("POST", f"/{what}", {}))
    with holding(
        locking, person, sent, lambda: admin.api.call(method, path(person, rest), body, admin.token)
    ) as connection:
        for kind in (User, Signup):
            connection.execute(sa.delete(kind).where(kind.id == id_of(person)))
    assert sent[0].code == "not_found"
    [refused] = locking.audit(event="user.refused")
    assert (refused.subject, refused.reason) == (None, "not_found")
    assert refused.ip is None or refused.user_id == id_of(admin)
    assert locking.audit(event="user.signed_out") == []


def test_a_remembered_device_and_a_new_password_take_their_locks_in_one_order(
    locking: World, undone: list[BaseException | None]
) -> None:
    person, changed, entered = locking.person().sign_up(), list[Answer](), list[Answer]()
    asked = person.ask_signin().ok()["challenge_id"]
    token = person.verify_signin(asked, person.code(), remember_device=True).ok()["device_token"]
    given = {"current_password": PASSWORD, "new_password": "busy horse 7"}
    with holding(locking, person, changed, lambda: person.api.post("/api/auth/change-password", given, person.token)):
        entering = sending(entered, lambda: person.ask_signin(device_token=token))
    entering.join(20)
    assert (changed[0].status, entered[0].code, undone) == (200, "invalid_credentials", [])


def test_two_new_addresses_of_one_account_take_their_locks_in_one_order(
    locking: World, undone: list[BaseException | None]
) -> None:
    """Each ends the other's challenge, and a sign-in's."""
    person, first, second = locking.person().sign_up(), list[Answer](), list[Answer]()
    signin = UUID(person.ask_signin().ok()["challenge_id"])

    def confirm(kind: str, channel: str, address: str) -> Callable[[], Answer]:
        locking.clock.advance(seconds=1)
        asked = person.api.post(f"/api/auth/change-{kind}", {kind: address}, person.token).ok()["challenge_id"]
        given = {"challenge_id": asked, "otp": locking.read(channel, address)}
        return lambda: person.api.post(VERIFY, given, person.token)

    by_mail, by_phone = confirm("email", "email", "new@example.com"), confirm("phone", "sms", "+919876543210")
    held = sa.select(OtpChallenge.id).where(OtpChallenge.id == signin).with_for_update()
    with holding(locking, held, first, by_mail):
        confirming = sending(second, by_phone)
    confirming.join(20)
    assert (first[0].status, second[0].code, undone) == (200, "challenge_closed", [])


def test_a_password_after_a_code_by_sms_and_a_sign_in_by_e_mail_take_their_locks_in_one_order(
    locking: World, undone: list[BaseException | None]
) -> None:
    """The password that a code to the phone alone set is followed by a code to the e-mail address."""
    entered, mailed = list[Answer](), list[Answer]()
    for n in range(10, 40):  # until what is sent there comes before the account in the order of the keys
        number = f"+9198765432{n}"
        owner = owner_with_both(locking, number)
        to = sends.key(identifiers.parse(owner.email, ""))
        if to < lockout.keys("", id_of(owner))[1]:
            break
    thief = Phone(locking, number)
    password = by_recovery(locking, thief)
    thief.ask().ok()
    step = {"challenge_id": thief.answer().ok()["challenge_id"], "password": password}
    with holding(locking, to, mailed, lambda: owner.ask_signin(password="wrong horse 7")):
        entering = sending(entered, lambda: thief.api.post("/api/auth/login/verify", step))
    entering.join(20)
    assert (mailed[0].code, entered[0].status, undone) == ("invalid_credentials", 200, [])


def test_a_message_that_is_deleted_while_it_is_queued_again_is_not_found(locking: World) -> None:
    admin, person, sent = of_role(locking, "admin"), locking.person().sign_up(), list[Answer]()
    person.ask_signin().ok()
    [row] = locking.rows(OutboxMessage, kind="code.signin", recipient=person.email)
    with locking.engine.begin() as connection:
        connection.execute(sa.update(OutboxMessage).where(OutboxMessage.id == row.id).values(state="failed"))
    gone = sa.delete(OutboxMessage).where(OutboxMessage.id == row.id)
    retry = f"/api/admin/deliveries/{row.id}/retry"
    with holding(locking, gone, sent, lambda: admin.api.post(retry, {}, admin.token)):
        pass
    assert sent[0].code == "not_found"


@pytest.mark.covers("attack A36")
def test_a_request_for_too_many_codes_names_nobody_who_is_erased_meanwhile(locking: World) -> None:
    phone, sent = Phone(locking), list[Answer]()
    phone.sign_up()
    while phone.ask().status == 200:
        pass
    before = len(locking.audit(event="signin.refused"))
    with holding(locking, waits_for(NUMBER), sent, phone.ask) as connection:
        connection.execute(sa.delete(User))
        connection.execute(sa.delete(Signup))
    assert sent[0].code == "rate_limited"
    row = locking.audit(event="signin.refused")[before]
    assert (row.subject, row.ip) == (None, None)


def test_of_the_last_two_backup_codes_at_once_one_sees_that_none_is_left(locking: World) -> None:
    """A sign-in and a step-up have budgets of their own, so they may meet here."""
    person = locking.person().sign_up()
    codes = enrol(locking, person).backup_codes
    others = [row.id for row in sorted(locking.rows(BackupCode), key=lambda row: row.id)][1:]
    asked = person.ask_signin().ok()["challenge_id"]
    used = sa.update(BackupCode).where(BackupCode.id.in_(others)).values(used_at=locking.clock.now)
    sent: list[Answer] = []
    with holding(locking, used, sent, lambda: person.verify_signin(asked, codes[0])):
        pass
    assert (sent[0].status, locking.rows(User)[0].mfa) == (200, "totp")


def test_to_begin_an_app_takes_no_factor_with_the_account_in_hand(locking: World) -> None:
    """Whoever changes a credential locks them in the other order: a setup that was given up is left to retention."""
    person = locking.person().sign_up()
    person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    locking.clock.advance(minutes=16)
    person.sign_in()
    with locking.engine.begin() as connection:
        connection.execute(sa.select(Authenticator.id).with_for_update()).all()
        person.api.post("/api/auth/factors/totp", {}, person.token).ok()
