"""Every way in, gone to its end: docs/factors.md says what each proves, and the token says the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from app import SURFACES
from app.models import OtpChallenge, Session
from tests.authenticator import enrol, signin
from tests.conftest import World
from tests.pages import named, table
from tests.people import DOCUMENT, Person
from tests.security_key import Authenticator
from tests.test_docs import ROOT
from tests.web import test_passkeys, test_trusted_devices
from tests.web.admins import USERS, act, of_role
from tests.web.test_browser import Browser
from tests.web.test_machines import Server
from tests.web.test_passkeys import claims
from tests.web.test_phone import Phone

PAGE = (ROOT / "docs" / "factors.md").read_text()
ROWS = {row[0]: row for row in table(PAGE, "Every way in")}
NEW = "another horse 9"
Way = Callable[[World], Any]  # the answer that holds an access token; None: nobody is in


def sign_up(world: World) -> Any:
    return world.person().sign_up().tokens


def by_mail(world: World) -> Any:
    return world.person().sign_up().sign_in().tokens


def by_sms(world: World) -> Any:
    person = world.person(phone="+919876543211").sign_up(channel="email")
    pending = person.tokens["pending"]["challenge_id"]
    person.api.post("/api/auth/verify-otp", {"challenge_id": pending, "otp": person.code("sms")}).ok()
    return person.sign_in(channel="sms").tokens


def by_app(world: World) -> Any:
    person = world.person().sign_up()
    return signin(person, enrol(world, person).fresh()).ok()


def by_backup_code(world: World) -> Any:
    person = world.person().sign_up()
    return signin(person, enrol(world, person).backup_codes[0], method="backup_code").ok()


def by_passkey_after_the_password(world: World) -> Any:
    person, phone = world.person().sign_up(), Authenticator()
    test_passkeys.bind(person, phone).ok()
    begun = person.ask_signin().ok()
    asked = test_passkeys.ask(person.api, begun["challenge_id"]).ok()
    return test_passkeys.answer(person, begun["challenge_id"], phone.get(asked["options"])).ok()


def by_passkey(world: World) -> Any:
    person, phone = world.person().sign_up(), Authenticator()
    test_passkeys.bind(person, phone).ok()
    return test_passkeys.sign_in(world.api(), phone).ok()


def where_it_is_remembered(world: World) -> Any:
    person = world.person().sign_up()
    return test_trusted_devices.signin(person, test_trusted_devices.remember(person)).ok()


def by_phone(world: World) -> Any:
    phone = Phone(world)
    phone.sign_up()
    world.clock.advance(minutes=2)
    phone.ask().ok()
    return phone.answer().ok()


def registered_by_phone(world: World) -> Any:
    return Phone(world).sign_up()


def by_phone_and_app(world: World) -> Any:
    phone = Phone(world)
    person = Person(world.api(), world.read, tokens=phone.sign_up().body)
    app = enrol(world, person)
    world.clock.advance(minutes=2)
    phone.ask().ok()
    asked = phone.answer().ok()
    assert asked["status"] == "factor_required"
    return person.verify_signin(asked["challenge_id"], app.fresh()).ok()


def by_phone_and_password(world: World) -> Any:
    person = world.person(phone="+919876543210").sign_up(channel="sms")
    world.clock.advance(minutes=2)
    phone = Phone(world)
    phone.ask().ok()
    asked = phone.answer().ok()
    body = {"challenge_id": asked["challenge_id"], "password": person.password}
    return person.api.post("/api/auth/login/verify", body).ok()


def in_a_browser(world: World) -> Any:
    browser = Browser(world)
    browser.sign_up()
    assert browser.log_in().status_code == 200
    assert browser.inside()
    newest = max(world.rows(Session), key=lambda row: row.id.bytes)
    assert "access_token" not in str(browser.send("GET", "/protected").get_json())
    return {"amr": newest.amr.split()}


def refreshed(world: World) -> Any:
    return world.person().sign_up().sign_in().refresh().ok()


def stepped_up(world: World) -> Any:
    person = world.person().sign_up()
    app = enrol(world, person)
    person.tokens = signin(person, app.backup_codes[0], method="backup_code").ok().body
    asked = person.api.post("/api/auth/step-up", {}, person.token).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": app.fresh()}
    return person.api.post("/api/auth/step-up/verify", body, person.token).ok()


def after_a_recovery(world: World) -> Any:
    person = world.person().sign_up()
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    return reset(person, asked["challenge_id"])


def after_a_reset_by_an_admin(world: World) -> Any:
    boss, person = of_role(world, "admin"), world.person().sign_up()
    world.clock.advance(minutes=2)
    act(boss, person, "send-password-reset", {}).ok()
    [row] = [row for row in challenges(world) if row.destination == person.email and row.purpose == "recovery"]
    return reset(person, str(row.id))


def invited(world: World) -> Any:
    boss, person = of_role(world, "admin"), world.person()
    made = boss.api.post(USERS, {"email": person.email, "invite": True}, boss.token).ok()
    return reset(person, made["invitation"]["challenge_id"])


def challenges(world: World) -> list[Any]:
    return world.rows(OtpChallenge)


def reset(person: Person, challenge_id: str) -> None:
    """Set a password by a code. It signs nobody in."""
    body = {"challenge_id": challenge_id, "otp": person.code(), "new_password": NEW}
    answer = person.api.post("/api/auth/reset-password", body).ok()
    assert set(answer.body) == {"message"}
    assert "Set-Cookie" not in answer.headers


def a_device(world: World) -> None:
    till = Server(world)
    till.register()
    assert till.verify()


WAYS: dict[str, Way] = {
    "sign-up": sign_up,
    "password and e-mail code": by_mail,
    "password and SMS code": by_sms,
    "password and authenticator app": by_app,
    "password and backup code": by_backup_code,
    "password and passkey": by_passkey_after_the_password,
    "passkey alone": by_passkey,
    "password on a remembered device": where_it_is_remembered,
    "phone alone": by_phone,
    "registration by phone": registered_by_phone,
    "phone and authenticator app": by_phone_and_app,
    "phone and password": by_phone_and_password,
    "browser's cookie": in_a_browser,
    "refresh": refreshed,
    "step-up, here of a sign-in by backup code": stepped_up,
    "recovery": after_a_recovery,
    "reset that an admin began": after_a_reset_by_an_admin,
    "invitation": invited,
    "device and API key": a_device,
}


@pytest.mark.covers("asvs 6.1.3")
def test_the_page_has_every_way() -> None:
    assert set(ROWS) == set(WAYS) | {"password alone, where policy asks no more", "token for one backend"}
    for way, ends_at, _, _, limits in ROWS.values():
        assert named(limits), way
        assert all(f"`{name}`" in LIMITS for name in re.findall(r"`([A-Z_]+)`", limits)), way
        assert named(ends_at), way


LIMITS = (ROOT / "docs" / "limits.md").read_text()
COOKIE = {"POST /login", "POST /verify-otp"}  # of the browser dialect: what they hand out is no field


@pytest.mark.covers("asvs 6.1.3", "asvs 6.3.4")
def test_nothing_else_hands_out_a_token_or_a_cookie() -> None:
    giving = set()
    for surface in SURFACES:
        for endpoint in surface.endpoints:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", surface.prefix + endpoint.path)
            answers = DOCUMENT["paths"][path][endpoint.method.lower()]["responses"]
            told = str([answers[status].get("content") for status in answers if status < "300"])
            named_in = re.findall(r"schemas/(\w+)", told)
            fields = {name for one in named_in for name in DOCUMENT["components"]["schemas"][one].get("properties", {})}
            if "access_token" in fields:
                giving.add(f"{endpoint.method} {surface.prefix}{endpoint.path}")
    assert giving | COOKIE == {name for row in ROWS.values() for name in named(row[1]) if row[3] != "nobody is in"}


@pytest.mark.covers("asvs 6.1.3")
@pytest.mark.parametrize("way", WAYS)
def test_the_token_says_what_the_page_says(world: World, way: str) -> None:
    answer = WAYS[way](world)
    _, _, _, amr, _ = ROWS[way]
    if answer is None:
        assert amr == "nobody is in"
    else:
        found = answer if isinstance(answer, dict) and "amr" in answer else claims(answer["access_token"])
        assert found["amr"] == named(amr)


@pytest.mark.covers("asvs 6.1.3")
def test_where_policy_asks_no_more_the_password_alone_says_so(make_world: Any) -> None:
    world = make_world(mfa_policy="optional")
    answer = world.person().sign_up().ask_signin().ok()
    assert claims(answer["access_token"])["amr"] == named(ROWS["password alone, where policy asks no more"][3])
