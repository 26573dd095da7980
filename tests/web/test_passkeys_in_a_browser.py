"""Passkeys in a real browser: its own readers of our options, its own idea of the origin, its own authenticator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import create_app
from tests import chromium, lanes
from tests.chromium import Browser
from tests.conftest import World
from tests.lanes import Lane
from tests.people import Clock, MemorySender, Person
from tests.web.test_passkeys import FACTORS
from tools import servers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.missing(), reason="Chromium or its driver is missing")]

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs" / "passkeys.md"


@dataclass
class Visit:
    """Somebody with an account, in front of a browser."""

    world: World
    browser: Browser
    person: Person

    def bind(self) -> str:
        """A passkey for the person; gives its id."""
        begun = self.browser.api("POST", f"{FACTORS}/passkeys", {"name": "This browser"}, self.person.token).ok()
        made = self.browser.create(begun["options"])
        path = f"{FACTORS}/passkeys/{begun['challenge_id']}/confirm"
        return self.browser.api("POST", path, {"credential": made}, self.person.token).ok()["factor_id"]


@pytest.fixture(scope="module")
def ground(worker: str) -> Iterator[Lane]:
    """One lane is enough: what is tested is the browser's side."""
    with lanes.open_lane("sqlite", f"browser_{worker}") as opened:
        yield opened


@pytest.fixture
def visit(ground: Lane, tmp_path: Path) -> Iterator[Visit]:
    port, clock = servers.free_port(), Clock()
    senders = {channel: MemorySender(channel) for channel in ("email", "sms")}
    world = World(create_app(ground.settings(port=port), clock=clock, senders=senders), ground, clock, senders)
    lanes.empty(world.engine)
    with chromium.serving(world.app, port) as base, chromium.browsing(base, tmp_path / "browser") as browser:
        yield Visit(world, browser, world.person().sign_up())


@pytest.mark.covers("nist N36")
def test_a_browser_makes_a_passkey_and_signs_in_with_nothing_else(visit: Visit) -> None:
    visit.bind()
    asked = visit.browser.api("POST", "/api/auth/passkeys/options", {}).ok()
    shown = visit.browser.get(asked["options"])
    body = {"challenge_id": asked["challenge_id"], "credential": shown}
    answered = visit.browser.api("POST", "/api/auth/passkeys/login", body).ok()
    assert answered["user"]["id"] == visit.person.me()["id"]
    again = visit.browser.api("POST", "/api/auth/passkeys/login", body)
    assert again.code == "challenge_closed"


def test_a_browser_gives_the_second_step(visit: Visit) -> None:
    visit.bind()
    asked = visit.person.ask_signin().ok()
    assert asked["channel"] == "passkey"
    ceremony = visit.browser.api("POST", "/api/auth/passkeys/options", {"challenge_id": asked["challenge_id"]}).ok()
    given = {"method": "passkey", "credential": visit.browser.get(ceremony["options"])}
    answered = visit.browser.api(
        "POST", "/api/auth/login/verify", {"challenge_id": asked["challenge_id"], **given}
    ).ok()
    assert answered["status"] == "complete"


def test_the_guide_s_own_code_does_it(visit: Visit) -> None:
    [code] = re.findall(r"^```js\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    run = visit.browser.driver.execute_script
    bound = run(f"{code}; return addPasskey(...arguments)", visit.person.token, "This browser")
    assert len(bound["backup_codes"]) == 10
    assert run(f"{code}; return signInWithPasskey()")["user"]["id"] == visit.person.me()["id"]
    asked = visit.person.ask_signin().ok()
    assert run(f"{code}; return answerWithPasskey(...arguments)", asked["challenge_id"])["status"] == "complete"


def test_a_browser_makes_no_second_passkey_on_one_authenticator(visit: Visit) -> None:
    visit.bind()
    begun = visit.browser.api("POST", f"{FACTORS}/passkeys", {}, visit.person.token).ok()
    assert visit.browser.create(begun["options"]) == {"error": "InvalidStateError"}


def test_a_browser_whose_user_cannot_unlock_it_gets_nothing(visit: Visit) -> None:
    visit.browser.unplug()
    visit.browser.plug_in(verifies=False)
    begun = visit.browser.api("POST", f"{FACTORS}/passkeys", {}, visit.person.token).ok()
    assert visit.browser.create(begun["options"]) == {"error": "NotAllowedError"}


def test_a_browser_at_another_origin_of_this_machine_gets_nothing(visit: Visit) -> None:
    """The page of another port: the passkeys are of the same domain, but the origin is none of ours."""
    visit.bind()
    elsewhere = servers.free_port()
    with chromium.serving(visit.world.app, elsewhere) as base:
        asked = visit.browser.api("POST", "/api/auth/passkeys/options", {}).ok()
        visit.browser.driver.get(base + chromium.PAGE_PATH)
        shown = visit.browser.get(asked["options"])
        body = {"challenge_id": asked["challenge_id"], "credential": shown}
        assert visit.browser.api("POST", "/api/auth/passkeys/login", body).code == "invalid_credentials"
