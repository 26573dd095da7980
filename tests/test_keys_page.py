"""docs/keys.md, followed: its settings in their order, its commands, its requests. Nobody is signed out on the way."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from app.crypto import signing
from app.delivery import upkeep
from app.production import weak
from tests.conftest import World
from tests.lanes import ROOT, SECRETS
from tests.people import Answer
from tests.web.test_rotation import KEY, Fleet, a_device, a_refresh_token_twice

PAGE = (ROOT / "docs" / "keys.md").read_text()
SECTIONS = {
    title: re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for title, text in re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
STEPS = [title for title, blocks in SECTIONS.items() if any(kind == "ini" for kind, _ in blocks)]
NEW = "Rw7Tn2Kx9Vb4Qm6Zp1Lc8Hd3Jf5Gs0Ya2Ue7Io4Xt"
PRIVATE, NEXT_PRIVATE = signing.make("EdDSA"), signing.make("EdDSA")
NAMES = {
    "NEW": NEW,
    "PRIVATE": signing.one_line(PRIVATE),
    "NEXT_PRIVATE": signing.one_line(NEXT_PRIVATE),
    "PUBLIC": signing.one_line(signing.public_pem(signing.private(PRIVATE))),
    "NEXT_PUBLIC": signing.one_line(signing.public_pem(signing.private(NEXT_PRIVATE))),
}


def old_of(text: str) -> str:
    """The secret in force before, of the setting that a section is about."""
    name = text.partition("=")[0]
    return SECRETS["jwt_secret_key" if name.startswith("JWT_") else name.lower().removesuffix("_previous")]


def settings_of(block: str) -> dict[str, str]:
    found = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        names = NAMES | {"OLD": old_of(block)}
        found[name.lower()] = re.sub(r"\$(\w+)", lambda match: names[match[1]], value)  # noqa: B023 - used at once
    return found


def go_on(made: Callable[[], World], there: Callable[[], World]) -> None:
    """Whoever is signed in, every device and every server, in one process after another."""
    here = made()
    person, same_successor, device = here.person().sign_up(), a_refresh_token_twice(here), a_device(here)
    key = here.settings.api_key.get_secret_value()
    other = there()
    assert other.api().get("/api/auth/me", person.token).status == 200
    assert other.api().post("/api/auth/introspect", {"token": person.token}, key).ok()["active"] is True
    assert same_successor(other)
    assert other.api().post("/api/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).status == 200
    assert device(other)


@pytest.mark.one_lane
@pytest.mark.parametrize("title", STEPS)
def test_the_steps_of_a_section_sign_nobody_out(make_world: Callable[..., World], title: str) -> None:
    fleet = Fleet(make_world)
    before: dict[str, str] = {}
    for kind, block in SECTIONS[title]:
        if kind == "ini":
            settings = settings_of(block)
            go_on(lambda: fleet(before), lambda: fleet(settings))  # noqa: B023 - used at once
            go_on(lambda: fleet(settings), lambda: fleet(before))  # noqa: B023 - used at once
            before = settings
        elif kind == "sh" and "flask" in block and "$ID" not in block:
            for line in block.splitlines():
                run(fleet(before | variables_of(line)), line)


@pytest.mark.one_lane
def test_after_the_last_step_commands_write_with_nobody_there_to_answer(make_world: Callable[..., World]) -> None:
    fleet = Fleet(make_world)
    *before, dropped = [settings_of(block) for kind, block in SECTIONS["`SECRET_KEY`"] if kind == "ini"]
    for settings in before:
        world = fleet(settings)
        world.person().sign_up()
        upkeep.seal(world.kit)
    world.clock.advance(hours=25)
    done = fleet(dropped).app.test_cli_runner().invoke(args=["users", "sign-out", "--everyone"], input="")
    assert (done.exit_code, done.stderr) == (0, "")


def variables_of(line: str) -> dict[str, str]:
    """What stands before a command for it alone."""
    return settings_of("\n".join(re.match(r"(?:[A-Z_]+=\S+ )*", line)[0].split()))  # type: ignore[index]


def run(world: World, line: str) -> str:
    """A command of the page, as it stands but for the folder of its program."""
    words = shlex.split(line)
    program = words.index(".venv/bin/flask")
    done = world.app.test_cli_runner().invoke(args=words[program + 1 :])
    devices = "--check" in words and "devices" in done.output
    assert done.exit_code == (1 if devices else 0), (line, done.output, done.exception)
    return done.stdout


@pytest.mark.one_lane
def test_an_api_key_is_changed_as_the_page_says(world: World) -> None:
    [(create, lister, revoke)] = [
        block.splitlines() for kind, block in SECTIONS["API keys"] if kind == "sh" and "$ID" in block
    ]
    keys = [re.findall(r"^key +(\S+)$", run(world, create), re.MULTILINE)[0] for _ in range(2)]
    for key in keys:
        world.api().post("/api/auth/introspect", {"token": "x"}, key).ok()
    assert "last_used_at" in run(world, f"{lister} --json")
    oldest = json.loads(run(world, f"{lister} --json"))[-1]["id"]
    run(world, revoke.replace("$ID", oldest))
    answers = [world.api().post("/api/auth/introspect", {"token": "x"}, key).status for key in keys]
    assert answers == [401, 200]


def curl(world: World, command: str, **variables: str) -> Answer:
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    words = shlex.split(command.replace("\\\n", " "))
    url = next(word for word in words if word.startswith("http://127.0.0.1:5000"))
    token = next(word for word in words if word.startswith("Authorization: Bearer ")).removeprefix(
        "Authorization: Bearer "
    )
    body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
    return world.api().call("POST" if body else "GET", url.removeprefix("http://127.0.0.1:5000"), body, token)


@pytest.mark.one_lane
def test_the_requests_of_the_page_are_answered_as_it_shows(make_world: Callable[..., World]) -> None:
    world = make_world(jwt_audiences="clinic,lab")
    person = world.person().sign_up()
    requests = [block for blocks in SECTIONS.values() for kind, block in blocks if block.startswith("curl")]
    shown: list[dict[str, Any]] = [
        json.loads(b) for blocks in SECTIONS.values() for kind, b in blocks if kind == "json"
    ]
    exchange, first, follow = requests
    answer = curl(world, exchange, TOKEN=person.token).ok()
    assert answer.body | {"access_token": "eyJ..."} == shown[0]
    since = curl(world, first, API_KEY=KEY).ok()["next"]
    person.api.post("/api/auth/logout", token=person.token).ok()
    answer = curl(world, follow, SINCE=since, API_KEY=KEY).ok()
    item = {"session_id": person.tokens["session_id"], "revoked_at": answer["items"][0]["revoked_at"]}
    assert answer.body == shown[1] | {"items": [item], "next": answer["next"]}
    assert [each.keys() for each in shown[1]["items"]] == [item.keys()]


def test_the_page_s_way_to_make_a_secret_makes_a_good_one(capsys: pytest.CaptureFixture[str]) -> None:
    [command] = [b for kind, b in SECTIONS["The order: accept, use, drop"] if kind == "sh"]
    exec(shlex.split(command)[2])
    assert weak(capsys.readouterr().out.strip()) is None
