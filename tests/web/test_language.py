"""In which language a message is: what the request asks for, then the person's own, then English."""

from __future__ import annotations

from typing import Any

import pytest

from app.models import OtpChallenge, User
from tests.conftest import World
from tests.people import Person
from tests.web import admins

HINDI = {"Accept-Language": "hi-IN,hi;q=0.9,en;q=0.5"}


def subjects(world: World, channel: str = "email") -> list[str]:
    world.deliver()
    return [m.subject for m in world.senders[channel].messages]


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("hi", "hi"),
        ("hi-IN, en;q=0.5", "hi"),
        ("en-GB,en;q=0.9,hi;q=0.8", "en"),
        ("fr", "en"),
        ("fr, hi;q=0.1", "hi"),
        ("*", "en"),
        ("", "en"),
        ("x" * 5000, "en"),
        ("hi;q=0, en", "en"),
        ("HI-in", "hi"),
        ("../../etc", "en"),
    ],
)
def test_a_code_comes_in_the_language_that_the_request_asks_for(world: World, asked: str, language: str) -> None:
    world.api(**{"Accept-Language": asked}).post(
        "/api/auth/signup", {"email": "a@example.com", "password": "correct horse 7"}
    ).ok()
    assert world.rows(OtpChallenge)[0].language == language
    assert world.senders["email"].messages[0].language == language


def test_the_sign_up_s_language_is_the_person_s_own(world: World) -> None:
    person = world.person()
    person.api.headers |= HINDI
    person.sign_up()
    assert person.tokens["user"]["language"] == "hi"
    person.api.headers.pop("Accept-Language")
    world.clock.advance(minutes=2)
    person.ask_signin().ok()
    assert world.senders["email"].messages[-1].language == "hi"


def test_notices_come_in_the_owner_s_language_whoever_caused_them(world: World, person: Person) -> None:
    person.api.patch("/api/auth/me", {"language": "hi"}, person.token).ok()
    stranger = world.api(**{"Accept-Language": "en"})
    stranger.post("/api/auth/signup", {"email": person.email, "password": "correct horse 7"}).ok()
    notice = world.senders["email"].messages[-1]
    assert (notice.kind, notice.language) == ("notice.signup_tried", "hi")


@pytest.mark.parametrize(("own", "language"), [("hi", "hi"), (None, "en")])
def test_what_an_admin_sends_somebody_is_in_their_language(
    world: World, person: Person, own: str | None, language: str
) -> None:
    """Their own, whatever the admin's browser asks for; of who chose none, as good a guess as any."""
    person.api.patch("/api/auth/me", {"language": own}, person.token).ok()
    admin = admins.of_role(world, "admin")
    admin.api.headers["Accept-Language"] = "en-GB,en;q=0.9"
    admins.act(admin, person, "send-password-reset", {}).ok()
    world.deliver()
    assert [m.language for m in world.senders["email"].messages if m.kind == "code.recovery"] == [language]


def test_the_language_of_messages_is_chosen_and_shown(person: Person) -> None:
    assert person.me()["language"] is None
    assert person.api.patch("/api/auth/me", {"language": "hi"}, person.token)["language"] == "hi"
    assert person.me()["language"] == "hi"
    refused = person.api.patch("/api/auth/me", {"language": "tlh"}, person.token)
    assert (refused.status, refused["errors"][0]["code"]) == (422, "unknown_language")


def test_a_resend_keeps_the_language_of_the_code(world: World) -> None:
    person = world.person()
    person.api.headers |= HINDI
    asked = person.ask_signup().ok()
    world.clock.advance(seconds=31)
    world.api().post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).ok()
    assert [m.language for m in world.senders["email"].messages] == ["hi", "hi"]


def test_an_operator_s_language_is_found(make_world: Any, tmp_path: Any) -> None:
    folder = tmp_path / "de"
    folder.mkdir()
    (folder / "words.txt").write_text("signup: die Anmeldung abzuschließen\n")
    (folder / "code.txt").write_text("Subject: Ihr Code: {{ code }}\n\nIhr Code, um {{ words[act] }}: {{ code }}\n")
    world = make_world(templates_dir=tmp_path)
    world.api(**{"Accept-Language": "de-AT,de"}).post(
        "/api/auth/signup", {"email": "a@example.com", "password": "correct horse 7"}
    ).ok()
    [mail] = world.senders["email"].messages
    assert mail.subject == f"Ihr Code: {mail.code}"
    assert "die Anmeldung abzuschließen" in mail.text


def test_it_is_in_the_export(world: World, person: Person) -> None:
    person.api.patch("/api/auth/me", {"language": "hi"}, person.token).ok()
    assert person.api.get("/api/auth/me/export", person.token)["user"]["language"] == "hi"
    assert world.rows(User)[0].language == "hi"
