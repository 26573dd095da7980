"""The development inbox: there in development, with the codes; not there in production."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.models import OtpChallenge, OutboxMessage
from tests.conftest import World
from tests.people import Person


def page(world: World, **headers: str) -> Any:
    return world.app.test_client().get("/dev/inbox", headers=headers)


def test_the_page_shows_the_last_messages_with_their_codes(world: World) -> None:
    person = world.person()
    person.ask_signup().ok()
    shown = page(world, Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert shown.mimetype == "text/html"
    assert person.email in shown.text
    assert person.code() in shown.text
    assert shown.headers["Cache-Control"] == "no-store"
    assert "script-src" not in shown.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.0.0.1", {}),
        ("203.0.113.9", {}),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}),
        ("127.0.0.1", {"Forwarded": "for=203.0.113.9"}),
        ("::1", {"X-Real-IP": "203.0.113.9"}),
        ("127.0.0.1", {"Via": "1.1 front"}),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}),
        ("127.0.0.1", {"Host": "codes.example.com"}),
        ("127.0.0.1", {"Host": "evil.example:5000"}),
        ("127.0.0.1", {"Host": "127.0.0.1.evil.example:5000"}),
    ],
)
def test_it_is_there_for_this_machine_alone(world: World, peer: str, headers: dict[str, str]) -> None:
    """Whoever forgets ENVIRONMENT=production behind a proxy shows nobody's code to anybody."""
    world.person().ask_signup().ok()
    asked = world.app.test_client().get("/dev/inbox", headers=headers, environ_overrides={"REMOTE_ADDR": peer})
    assert (asked.status_code, asked.get_json()["code"]) == (404, "not_found")
    assert page(world).status_code == 200


def test_nor_for_a_proxy_that_says_nothing_of_itself(world: World) -> None:
    """nginx, as it comes, asks by HTTP/1.0 and by the name of what it asks."""
    told = {"SERVER_PROTOCOL": "HTTP/1.0"}
    assert world.app.test_client().get("/dev/inbox", environ_overrides=told).status_code == 404


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5055", "[::1]:5000", "[::1]"])
def test_it_is_there_by_each_name_of_this_machine(world: World, host: str) -> None:
    assert page(world, Host=host).status_code == 200


@pytest.mark.parametrize("how", ["accept", "query"])
def test_a_program_gets_json(world: World, how: str) -> None:
    person = world.person(phone="+919876543210")
    person.ask_signup(channel="sms").ok()
    client = world.app.test_client()
    answer = (
        client.get("/dev/inbox", headers={"Accept": "application/json"})
        if how == "accept"
        else client.get("/dev/inbox?format=json")
    )
    [item] = answer.get_json()["items"]
    assert (item["to"], item["channel"], item["kind"], item["state"]) == ("+919876543210", "sms", "code.signup", "sent")
    assert item["code"] == person.code("sms")
    assert item["code"] in item["text"]


def test_the_newest_message_is_first_and_decoys_are_not_messages(world: World, person: Person) -> None:
    person.api.post("/api/auth/forgot-password", {"email": "nobody@example.com"}).ok()
    person.ask_signin().ok()
    kinds = [item["kind"] for item in page(world, Accept="application/json").get_json()["items"]]
    assert kinds == ["code.signin", "code.signup"]


def test_an_empty_inbox_says_so(world: World) -> None:
    assert "Nothing was sent yet." in page(world).text


@pytest.mark.parametrize("sends", [True, False])
def test_a_message_reads_as_it_was_sent_once_its_code_has_ended(world: World, sends: bool) -> None:
    person = world.person()
    person.ask_signup().ok()
    if sends:
        world.courier.round("email")
    world.clock.advance(minutes=30)
    [item] = page(world, Accept="application/json").get_json()["items"]
    assert "5 minutes" in item["text"]


def test_what_a_stranger_typed_is_text(world: World) -> None:
    world.api(**{"User-Agent": "<script>alert(1)</script>"}).post(
        "/api/auth/signup", {"email": "a@example.com", "password": "correct horse 7", "name": "<b>"}
    ).ok()
    assert "<script" not in page(world).text


def test_looking_changes_nothing(world: World, person: Person) -> None:
    asked = person.ask_signin().ok()
    before = [(row.id, row.state, row.attempts) for row in world.rows(OutboxMessage)]
    page(world)
    assert [(row.id, row.state, row.attempts) for row in world.rows(OutboxMessage)] == before
    assert not re.search(person.code(), str([vars(row) for row in world.rows(OtpChallenge)]))
    assert asked


@pytest.mark.covers("asvs 13.4.2")
def test_in_production_the_route_does_not_exist(make_world: Any) -> None:
    world = make_world(environment="production")
    answer = world.api().get("/dev/inbox")
    assert (answer.status, answer.code) == (404, "not_found")
