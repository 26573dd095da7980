"""The budgets of wrong guesses: what an attacker gets, and that honest people are let be."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import sqlalchemy as sa

from app import figures
from app.crypto.ids import uuid7
from app.models import OutboxMessage, User
from tests.conftest import World
from tests.people import PASSWORD, Person, wrong
from tests.security_key import Authenticator
from tests.test_monitoring import RULES
from tests.web import test_passkeys
from tests.web.admins import act, of_role
from tests.web.test_access import ENDPOINTS, address, body_of

BAD = "wrong horse 77"


def login(world: World, identifier: str, password: str = BAD) -> tuple[int, str | None, int | None]:
    answer = world.api().post("/api/auth/login", {"identifier": identifier, "password": password})
    return answer.status, answer.code, answer.body.get("retry_after")


@pytest.mark.covers("asvs 6.3.1", "attack A02", "asvs 2.3.2")
@pytest.mark.parametrize("known", [True, False])
def test_five_wrong_guesses_lock_an_identifier_known_or_not(world: World, person: Person, known: bool) -> None:
    identifier = person.email if known else "nobody@example.com"
    assert [login(world, identifier)[0] for _ in range(6)] == [401] * 5 + [423]
    assert login(world, identifier) == (423, "account_locked", 900)


def test_the_right_password_does_not_open_a_lock(world: World, person: Person) -> None:
    for _ in range(5):
        login(world, person.email)
    assert login(world, person.email, PASSWORD)[1] == "account_locked"
    world.clock.advance(seconds=899)
    assert login(world, person.email, PASSWORD) == (423, "account_locked", 1)
    world.clock.advance(seconds=1)
    assert login(world, person.email, PASSWORD)[0] == 200


@pytest.mark.covers("nist N31")
def test_each_lock_is_twice_as_long_up_to_a_day(world: World) -> None:
    locks = []
    for _ in range(9):
        for _ in range(5):
            login(world, "nobody@example.com")
        _, code, wait = login(world, "nobody@example.com")
        assert code == "account_locked"
        locks.append(wait)
        world.clock.advance(seconds=wait)
    assert locks[:7] == [900 * 2**n for n in range(7)]
    assert locks[7:] == [86_400, 86_400]


def test_a_complete_sign_in_forgives_a_password_alone_does_not(world: World, person: Person) -> None:
    for _ in range(3):
        login(world, person.email)
    person.ask_signin().ok()
    login(world, person.email)
    person.sign_in()
    assert [login(world, person.email)[0] for _ in range(6)] == [401] * 5 + [423]


@pytest.mark.covers("attack A02", "asvs 6.3.1")
@pytest.mark.parametrize("known", [True, False])
def test_the_password_of_one_s_own_sign_up_is_a_guess_at_the_account(world: World, known: bool) -> None:
    """Whoever signs up with somebody's number has their own password compared with the owner's, too."""
    victim = world.person(phone="+919876500000", username="jane.gray")
    if known:
        victim.sign_up(channel="sms")
    for n in range(5):
        thief = world.person(phone=victim.phone, password=f"guess horse {n}")
        thief.ask_signup(channel="email").ok()
        assert login(world, str(victim.phone), thief.password)[0] == 200
    assert login(world, str(victim.phone), victim.password)[1] == "account_locked"
    assert login(world, "jane.gray", victim.password)[0] == 401  # the account's own budget, or there is no account


def test_a_sign_up_that_is_proven_forgives_its_own_sign_ins(world: World) -> None:
    person = world.person()
    person.ask_signup().ok()
    for _ in range(4):
        asked = person.ask_signin().ok()
    person.verify_signin(asked["challenge_id"], person.code()).ok()
    assert [login(world, person.email)[0] for _ in range(6)] == [401] * 5 + [423]


@pytest.mark.parametrize("theirs", [True, False])
def test_one_s_own_sign_up_does_not_show_that_the_account_s_budget_is_spent(world: World, theirs: bool) -> None:
    """It would tell that the address and the username are of one person."""
    victim = world.person(username="jane.gray").sign_up()
    for _ in range(5):
        login(world, "jane.gray")
    email = victim.email if theirs else "free@example.com"
    thief = world.person(email=email, password="a guess at a horse")
    thief.ask_signup().ok()
    assert login(world, email, thief.password)[0] == 200


def test_after_a_quiet_day_old_failures_are_forgotten(world: World, person: Person) -> None:
    for _ in range(4):
        login(world, person.email)
    world.clock.advance(days=1)
    assert [login(world, person.email)[0] for _ in range(6)] == [401] * 5 + [423]


@pytest.mark.covers("attack A05", "nist N29")
def test_one_budget_covers_every_route_that_verifies(world: World, person: Person) -> None:
    """Two passwords, one sign-in code, one recovery code, one sign-up code of the same address: five guesses."""
    signin = person.ask_signin().ok()
    signin_code = person.code()
    reset = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    reset_code = person.code()
    world.clock.advance(minutes=1)
    decoy = world.person(email=person.email).ask_signup().ok()
    login(world, person.email)
    login(world, person.email)
    assert person.verify_signin(signin["challenge_id"], wrong(signin_code)).status == 400
    body = {"challenge_id": reset["challenge_id"], "otp": wrong(reset_code), "new_password": "another horse 9"}
    assert person.api.post("/api/auth/reset-password", body).status == 400
    assert person.verify_signup(decoy["challenge_id"], "000000").status == 400
    assert login(world, person.email)[1] == "account_locked"
    assert person.verify_signin(signin["challenge_id"], signin_code).code == "account_locked"
    assert person.api.post("/api/auth/reset-password", body | {"otp": reset_code}).code == "account_locked"


@pytest.mark.covers("attack A05")
def test_guesses_by_the_browser_s_way_without_id_or_cookie_count_at_the_account(world: World) -> None:
    """Whoever changes to another identifier there has no other budget."""
    person = world.person(username="jane").sign_up()
    world.clock.advance(minutes=2)
    for _ in range(3):
        world.clock.advance(minutes=1)
        person.api.post("/login", {"identifier": person.email, "password": PASSWORD}).ok()
        for _ in range(2):
            body = {"identifier": person.email, "otp": wrong(person.code())}
            last = person.api.post("/verify-otp", body).code
    assert last == "account_locked"
    assert login(world, "jane", PASSWORD) == (401, "invalid_credentials", None)


@pytest.mark.covers("attack A06")
def test_every_spelling_hits_one_counter(world: World, person: Person) -> None:
    local, domain = person.email.split("@")
    spellings = [
        person.email.upper(),
        f" {person.email} ",
        f"{local.title()}@{domain}",
        f"{local}@{domain.upper()}",
        person.email,
    ]
    for spelling in spellings:
        assert login(world, spelling)[0] == 401
    assert login(world, person.email)[1] == "account_locked"


def test_an_account_has_one_budget_over_its_identifiers_and_says_nothing_of_it(world: World) -> None:
    person = world.person(username="jane").sign_up()
    for _ in range(5):
        login(world, person.email)
    assert login(world, person.email)[1] == "account_locked"
    # The username looks untouched, and is: but no guess by it is right while the account's budget is spent.
    assert login(world, "jane", PASSWORD) == (401, "invalid_credentials", None)
    world.clock.advance(seconds=900)
    assert login(world, "jane", PASSWORD)[0] == 200


def test_a_locked_identifier_tells_nothing_of_another(world: World) -> None:
    person = world.person(username="jane").sign_up()
    for _ in range(5):
        login(world, person.email)
        login(world, "ghost@example.com")
    assert login(world, "jane")[0] == login(world, "spook")[0] == 401


@pytest.mark.covers("attack A02", "nist N20")
def test_a_new_challenge_does_not_refill_the_budget(world: World, person: Person) -> None:
    evaluated = 0
    for _ in range(4):
        world.clock.advance(seconds=31)
        asked = person.ask_signin()
        if asked.status != 200:
            break
        code = wrong(person.code())
        for _ in range(4):
            evaluated += person.verify_signin(asked["challenge_id"], code).code == "invalid_code"
    assert evaluated == 5


@pytest.mark.covers("nist N30", "attack A02")
def test_a_hundred_wrong_guesses_in_a_row_switch_the_password_off_until_recovery(world: World, person: Person) -> None:
    for _ in range(100):
        status, code, wait = login(world, person.email)
        if code == "account_locked":
            world.clock.advance(seconds=wait)
            status, code, _ = login(world, person.email)
        assert (status, code) == (401, "invalid_credentials")
        world.clock.advance(hours=1)
    world.clock.advance(days=30)
    assert login(world, person.email, PASSWORD) == (401, "invalid_credentials", None)
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": "a fresh horse 9"}
    person.api.post("/api/auth/reset-password", body).ok()
    person.password = "a fresh horse 9"
    person.sign_in()


def test_a_day_has_a_cap_however_guesses_are_paced(make_world) -> None:
    world = make_world(lockout_seconds=1)
    evaluated = 0
    for _ in range(400):
        status, _, wait = login(world, "nobody@example.com")
        evaluated += status == 401
        world.clock.advance(seconds=min(wait or 1, 120))
    assert evaluated <= 50


@pytest.mark.covers("attack A09")
def test_a_good_sign_in_of_the_attacker_does_not_clear_the_victims_counter(world: World, person: Person) -> None:
    attacker = world.person().sign_up()
    for n in range(5):
        assert login(world, person.email)[0] == 401
        if n % 2:
            world.clock.advance(minutes=1)
            attacker.sign_in()
    assert login(world, person.email)[1] == "account_locked"


@pytest.mark.covers("attack A03", "attack A04")
def test_without_address_limits_there_is_no_extra_guess(make_world) -> None:
    world = make_world(ratelimit=False)
    person = world.person().sign_up()
    assert [login(world, person.email)[0] for _ in range(20)].count(401) == 5


def test_the_budget_outlives_the_limiter_storage(world: World, person: Person) -> None:
    for _ in range(5):
        login(world, person.email)
        for limiter in world.app.extensions["limiter"]:
            limiter.reset()
    assert login(world, person.email)[1] == "account_locked"


def test_a_locked_refusal_is_audited(world: World) -> None:
    for _ in range(6):
        login(world, "nobody@example.com")
    rows = world.audit(event="signin.refused")
    assert [row.reason for row in rows] == ["invalid_credentials"] * 5 + ["account_locked"]


@pytest.mark.one_copy
def test_a_right_password_that_lands_after_the_lock_is_refused(world: World, person: Person) -> None:
    """Its hash is still being computed while five wrong guesses are settled."""

    class Held:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def matches(self, stored: str | None, password: bytes) -> bool:
            right = self.real.matches(stored, password)
            if right:
                object.__setattr__(world.kit, "hasher", self.real)
                assert [login(world, person.email)[0] for _ in range(5)] == [401] * 5
            return right

    object.__setattr__(world.kit, "hasher", Held(world.kit.hasher))
    assert login(world, person.email, PASSWORD)[1] == "account_locked"


def test_guesses_while_the_account_s_budget_is_spent_do_not_prolong_it(world: World) -> None:
    person = world.person(username="jane").sign_up()
    for _ in range(5):
        login(world, person.email)
    for _ in range(4):
        login(world, "jane")
    world.clock.advance(seconds=900)
    assert login(world, "jane", PASSWORD)[0] == 200


def test_the_day_of_guesses_begins_anew(make_world) -> None:
    world = make_world(lockout_seconds=1, lockout_threshold=20)
    assert [login(world, "nobody@example.com")[0] for _ in range(20)] == [401] * 20
    for _ in range(60):
        world.clock.advance(hours=1)
        login(world, "nobody@example.com")
    world.clock.advance(hours=30)
    assert login(world, "nobody@example.com")[0] == 401


def test_the_day_of_messages_begins_anew(world: World, person: Person) -> None:
    for _ in range(35):
        world.clock.advance(minutes=2)
        last = person.api.post("/api/auth/forgot-password", {"email": person.email}).status
    assert last == 429
    world.clock.advance(days=1)
    assert person.api.post("/api/auth/forgot-password", {"email": person.email}).status == 200


def test_a_code_that_waits_its_turn_is_taken_from_the_budget_when_it_goes(world: World, person: Person) -> None:
    world.clock.advance(minutes=2)
    for _ in range(6):
        person.ask_signin().ok()
    assert world.inbox(person.email).count("code.signin") == 3
    world.clock.advance(seconds=61)
    assert world.inbox(person.email).count("code.signin") == 6
    person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    assert "code.recovery" not in world.inbox(person.email), "the minute's three are gone: it waits its turn"
    world.clock.advance(seconds=61)
    assert world.inbox(person.email)[-1] == "code.recovery"


def test_to_wait_for_its_turn_is_not_to_be_tried(world: World, person: Person) -> None:
    world.clock.advance(minutes=2)
    for _ in range(7):
        person.ask_signin().ok()
    for sent in (3, 6, 7):
        assert world.inbox(person.email).count("code.signin") == sent
        world.clock.advance(seconds=61)
    assert [row.attempts for row in world.rows(OutboxMessage, kind="code.signin")] == [1] * 7


@pytest.mark.covers("attack A10")
def test_guesses_at_an_address_without_an_account_do_not_follow_it_for_ever(world: World) -> None:
    """A stranger who tried an address a hundred times must not keep its owner from ever signing up."""
    for _ in range(119):
        _, code, wait = login(world, "future@example.com")
        if code == "account_locked":
            world.clock.advance(seconds=wait)
    world.clock.advance(days=2)
    owner = world.person(email="future@example.com").sign_up()
    world.clock.advance(minutes=2)
    owner.sign_in()


@pytest.mark.covers("attack A10")
def test_a_lock_leaves_each_recovery_one_guess(world: World, person: Person) -> None:
    for _ in range(5):
        login(world, person.email)
    body = {"new_password": "another horse 9"}
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    code = person.code()
    first = person.api.post(
        "/api/auth/reset-password", body | {"challenge_id": asked["challenge_id"], "otp": wrong(code)}
    )
    second = person.api.post("/api/auth/reset-password", body | {"challenge_id": asked["challenge_id"], "otp": code})
    assert (first.code, second.code) == ("invalid_code", "account_locked")
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    person.api.post(
        "/api/auth/reset-password", body | {"challenge_id": asked["challenge_id"], "otp": person.code()}
    ).ok()
    person.password = "another horse 9"
    world.clock.advance(minutes=2)
    person.sign_in()


@pytest.mark.covers("attack A10", "attack A27")
def test_recoveries_by_another_identifier_do_not_show_that_the_account_s_budget_is_spent(world: World) -> None:
    person = world.person(username="jane").sign_up()
    for _ in range(5):
        login(world, person.email)
    seen = []
    for name in ("jane", "spook"):
        asked = world.api().post("/api/auth/forgot-password", {"identifier": name}).ok()["challenge_id"]
        body = {"challenge_id": asked, "otp": wrong(person.code()), "new_password": "another horse 9"}
        answers = [world.api().post("/api/auth/reset-password", body) for _ in range(5)]
        seen.append([(each.status, each.code, each.body.get("attempts_left")) for each in answers])
    assert seen[0] == seen[1]
    assert [code for _, code, _ in seen[0]][:2] == ["invalid_code"] * 2


def test_a_silent_lock_leaves_each_recovery_its_first_guess_and_no_other(world: World) -> None:
    person = world.person(username="jane").sign_up()
    for _ in range(5):
        login(world, person.email)
    body = {"new_password": "another horse 9"}
    asked = world.api().post("/api/auth/forgot-password", {"identifier": "jane"}).ok()["challenge_id"]
    for otp in (wrong(person.code()), person.code()):
        answer = world.api().post("/api/auth/reset-password", body | {"challenge_id": asked, "otp": otp})
        assert answer.code == "invalid_code"
    asked = world.api().post("/api/auth/forgot-password", {"identifier": "jane"}).ok()["challenge_id"]
    world.api().post("/api/auth/reset-password", body | {"challenge_id": asked, "otp": person.code()}).ok()


def test_a_decoy_s_recovery_has_one_guess_under_a_lock_too(world: World) -> None:
    for _ in range(5):
        login(world, "nobody@example.com")
    asked = world.api().post("/api/auth/forgot-password", {"email": "nobody@example.com"}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": "000000", "new_password": "another horse 9"}
    assert [world.api().post("/api/auth/reset-password", body).code for _ in range(2)] == [
        "invalid_code",
        "account_locked",
    ]


@pytest.mark.covers("attack A10", "attack A60")
def test_messages_that_anybody_can_ask_for_leave_the_owner_theirs(world: World, person: Person) -> None:
    for _ in range(60):
        world.clock.advance(minutes=1)
        person.api.post("/api/auth/forgot-password", {"email": person.email})
    assert world.inbox(person.email).count("code.recovery") == 14  # half a day's, less the sign-up's
    world.clock.advance(minutes=2)
    person.sign_in()


@pytest.mark.covers("attack A31")
@pytest.mark.covers("attack A60")
@pytest.mark.parametrize("known", [True, False])
def test_tags_of_an_address_share_the_messages_of_its_mailbox(world: World, known: bool) -> None:
    victim = world.person(email="jane@example.com")
    if known:
        victim.sign_up()
        world.clock.advance(days=2)
    statuses = []
    for n in range(40):
        tagged = {"email": f"jane+{n}@example.com"}
        statuses.append(world.api().post("/api/auth/forgot-password", tagged).status)
        statuses.append(world.api().post("/api/auth/signup", tagged | {"password": PASSWORD}).status)
        world.clock.advance(minutes=1)
    assert (statuses.count(200), statuses.count(201), statuses.count(429)) == (15, 15, 50)
    world.deliver()
    sent = [message for message in world.senders["email"].messages if message.recipient.startswith("jane+")]
    assert 5 <= len(sent) <= 15
    if known:
        victim.sign_in()
    assert world.api().post("/api/auth/forgot-password", {"email": "jane.+1@example.com"}).status == 200
    assert world.api().post("/api/auth/signup", {"email": "+1@example.com", "password": PASSWORD}).status == 201


def test_the_budget_of_messages_does_not_link_identifiers(world: World) -> None:
    """Spent by the username, asked for by an address: the answers are the same whoever it belongs to."""
    owner = world.person(username="bob.b").sign_up()
    other = world.person().sign_up()
    for _ in range(3):
        world.api().post("/api/auth/forgot-password", {"identifier": "bob.b"}).ok()
    statuses = [
        world.api().post("/api/auth/forgot-password", {"email": email}).status
        for email in (owner.email, other.email, "pobody@example.com")
    ]
    assert statuses == [200, 200, 200]


OWN = [(name, endpoint) for name, endpoint in ENDPOINTS.items() if endpoint.guard.needed and not endpoint.guard.scope]


@pytest.mark.one_lane
@pytest.mark.covers("nist N33")
def test_no_session_lifts_a_lock_but_an_admin_s_and_a_recovery_does(make_world: Any) -> None:
    """Whatever the owner asks for in a session of two factors that is a moment old; and another way in lifts none."""
    world = make_world(ratelimit=False)
    boss, person, phone = of_role(world, "admin"), world.person(username="jane.gray").sign_up(), Authenticator()
    test_passkeys.bind(person, phone).ok()
    person.tokens = test_passkeys.sign_in(person.api, phone).ok().body

    def lock() -> None:
        assert [login(world, person.email)[0] for _ in range(6)] == [401] * 5 + [423]

    lock()
    for name, endpoint in OWN:
        if not endpoint.guard.cookie and not name.startswith("DELETE"):
            body = body_of(endpoint, person)
            done = person.api.call(endpoint.method, address(name), body, person.token).status == 200
            if done and name == "POST /api/auth/change-password":
                person.password = body["new_password"]
        assert login(world, person.email, person.password)[1] == "account_locked", name
    test_passkeys.sign_in(world.api("198.51.100.9"), phone).ok()
    assert person.password != PASSWORD
    assert login(world, person.email, person.password)[1] == "account_locked"
    assert login(world, "jane.gray", person.password)[1] == "invalid_credentials", "the account's own lock"
    assert act(person, person, "unlock").status == 403
    act(boss, person, "unlock").ok()
    assert login(world, person.email, person.password)[0] == 200
    world.clock.advance(minutes=2)
    lock()
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    proof = {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": "another horse 9"}
    person.api.post("/api/auth/reset-password", proof).ok()
    assert login(world, person.email, "another horse 9")[0] == 200


MANY = 1000  # accounts, and as many addresses
SPRAYED = "Monsoon of 2026"  # good enough for every rule, and what many would come upon


def crowd(world: World) -> list[str]:
    """The addresses of many accounts, each with a password of its own but for one, which has the one that is tried."""
    hashes = world.kit.hasher.hash(PASSWORD.encode()), world.kit.hasher.hash(SPRAYED.encode())
    names = [f"crowd{n}@example.com" for n in range(MANY)]
    rows = [
        {"id": uuid7(world.clock.now), "email": name, "password_hash": hashes[n == MANY // 2], "role": "user",
         "mfa": "", "created_at": world.clock.now}
        for n, name in enumerate(names)
    ]  # fmt: skip
    with world.engine.begin() as connection:
        connection.execute(sa.insert(User), rows)
    return names


@pytest.mark.one_lane("sqlite")
@pytest.mark.covers("attack A12")
def test_one_guess_at_each_of_a_thousand_accounts_from_as_many_addresses(make_world: Any) -> None:
    """As docs/limits.md has it: nothing stops it, it opens nothing, locks nobody out, and is told."""
    world = make_world()
    names = crowd(world)
    before = figures.EVENTS.labels("signin.refused")._value.get()
    answers = {
        name: world.api(f"198.{18 + n // 250}.{n % 250}.7").post(
            "/api/auth/login", {"identifier": name, "password": SPRAYED}
        )
        for n, name in enumerate(names)
    }
    found = names[MANY // 2]
    refused = {(answer.status, answer.code) for name, answer in answers.items() if name != found}
    assert refused == {(401, "invalid_credentials")}
    assert answers[found].status == 200
    assert "access_token" not in answers[found].body
    assert world.inbox(found) == ["code.signin"], "its owner hears of it"
    told = figures.EVENTS.labels("signin.refused")._value.get() - before
    assert told == MANY - 1
    [rule] = [rule for rule in RULES if rule["alert"] == "LatchkeySpraying"]
    least, share = (float(found) for found in re.findall(r"> (\d+)", rule["expr"]))
    assert told > least
    assert told > share * len([answer for answer in answers.values() if answer.status == 200])
    assert len({row.ip for row in world.audit(event="signin.refused")}) == MANY - 1
    assert "identifier.locked" not in world.events()
    for name in names[:5]:
        world.person(email=name).sign_in()


@pytest.mark.one_lane("sqlite")
@pytest.mark.covers("attack A12")
def test_from_one_address_a_crowd_gets_no_more_guesses_than_the_address(make_world: Any) -> None:
    world = make_world()
    api = world.api("198.51.100.7")
    names = crowd(world)[: 2 * 300]
    began = time.monotonic()
    codes = [api.post("/api/auth/login", {"identifier": name, "password": "wrong horse 7"}).code for name in names]
    later = (time.monotonic() - began) * 300 / 60  # that a slow machine has let come free meanwhile
    assert 295 <= codes.count("invalid_credentials") <= 306 + later
    assert codes.count("invalid_credentials") + codes.count("rate_limited") == len(names)
