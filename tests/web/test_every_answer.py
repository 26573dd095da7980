"""What stands on every answer, whatever was asked and however it ended; and what no address of the service gives away."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from app.logs import JsonFormatter
from tests.conftest import World
from tests.people import DOCUMENT, PASSWORD, Person, wrong
from tests.test_logs import Lines, lines

__all__ = ["lines"]
LOGIN = "/api/auth/login"
HEADERS = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox",
}
# Status, and how to be answered with it.
ASKED: dict[int, tuple[str, str, dict[str, Any]]] = {
    200: ("GET", "/health", {}),
    400: ("POST", LOGIN, {"data": "{", "content_type": "application/json"}),
    401: ("GET", "/api/auth/me", {}),
    404: ("GET", "/nothing", {}),
    405: ("PUT", LOGIN, {}),
    413: ("POST", LOGIN, {"data": b"x" * 70_000, "content_type": "application/json"}),
    415: ("POST", LOGIN, {"data": "a=b", "content_type": "application/x-www-form-urlencoded"}),
    422: ("POST", LOGIN, {"json": {}}),
}


@pytest.mark.one_lane
@pytest.mark.covers("asvs 3.2.1", "asvs 3.4.1", "asvs 3.4.4", "asvs 3.4.5", "asvs 3.4.6", "asvs 3.5.8", "asvs 4.1.1")
@pytest.mark.covers("asvs 4.2.2", "asvs 14.3.2", "asvs 3.5.7", "attack A50")
@pytest.mark.parametrize("status", ASKED)
def test_the_same_headers_stand_on_every_answer(world: World, status: int) -> None:
    method, path, given = ASKED[status]
    page = {"Sec-Fetch-Dest": "document", "Accept": "text/html"}
    answer = world.app.test_client().open(path, method=method, headers=page, **given)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answer.content_type == ("application/json" if status < 400 else "application/problem+json")
    assert int(answer.headers["Content-Length"]) == len(answer.data)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 4.2.2")
def test_a_head_has_the_length_of_the_get_and_no_body(world: World) -> None:
    got, head = (world.app.test_client().open("/health/live", method=method) for method in ("GET", "HEAD"))
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.data))


@pytest.mark.covers("asvs 6.4.2", "nist N06", "asvs 3.7.2", "attack A55")
def test_nobody_can_ask_for_a_hint_a_question_or_a_way_to_be_sent_elsewhere() -> None:
    """Of what is not there nothing can be abused: no field or parameter by such a name, and no answer 3xx but "unchanged"."""
    names, statuses = set(), set()
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            statuses |= set(operation["responses"])
            names |= {each["name"].lower() for each in operation.get("parameters", []) if "name" in each}
    for schema in DOCUMENT["components"]["schemas"].values():
        names |= {name.lower() for name in schema.get("properties", {})}
    assert {"identifier", "password", "otp"} <= names, "the names were found"
    banned = (
        "hint",
        "question",
        "answer_to",
        "redirect",
        "return_to",
        "return_url",
        "next_url",
        "continue",
        "goto",
        "callback",
    )
    assert [name for name in names if any(word in name for word in banned)] == []
    assert [status for status in statuses if status.startswith("3") and status != "304"] == []


@pytest.mark.one_lane
@pytest.mark.covers("asvs 16.5.4", "asvs 16.3.4", "asvs 3.4.1", "asvs 4.1.1")
def test_a_fault_has_them_too_is_logged_and_the_next_request_is_served(
    world: World, person: Person, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bearer = world.app.test_client(), {"Authorization": f"Bearer {person.token}"}
    with monkeypatch.context() as broken:
        broken.setattr("app.core.sessions.live_account", lambda *_: 1 / 0)
        answer = client.get("/api/auth/me", headers=bearer)
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    [fault] = [line for line in lines.parsed if line["level"] == "error"]
    assert (fault["route"], fault["request_id"]) == ("/api/auth/me", answer.headers["X-Request-ID"])
    assert fault["exception"].endswith("ZeroDivisionError: division by zero")
    assert client.get("/api/auth/me", headers=bearer).status_code == 200


@pytest.mark.one_lane
@pytest.mark.covers("asvs 13.4.3", "asvs 13.4.7", "asvs 14.2.5")
@pytest.mark.parametrize(
    "path",
    [
        "/.env", "/.git/config", "/.git/HEAD", "/app.py", "/app/config.py", "/instance/latchkey.db", "/requirements.txt",
        "/static/", "/static/../config.py", "/static/..%2f..%2f.env", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/console",
        "/api/", "/api/auth/", "/api/auth/me/x.css", "/api/auth/me;x.css", "/api/auth/me%2fx.js", "/api/auth/me.json",
        "/api/auth/me/..%2fme", "/api/auth/sessions/x.png",
    ],
)  # fmt: skip
def test_no_file_and_no_listing_is_served_nor_an_answer_under_a_file_s_name(
    world: World, person: Person, path: str
) -> None:
    answer = world.app.test_client().get(path, headers={"Authorization": f"Bearer {person.token}"})
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.get_json()["code"] == "not_found"


@pytest.mark.one_lane
@pytest.mark.covers("asvs 14.2.1", "asvs 3.5.6")
@pytest.mark.parametrize("name", ["access_token", "token", "api_key", "Authorization", "bearer", "callback", "jsonp"])
def test_nothing_in_an_address_signs_anybody_in_or_changes_the_form_of_an_answer(
    world: World, person: Person, name: str
) -> None:
    answer = world.app.test_client().get("/api/auth/me", query_string={name: person.token})
    assert (answer.status_code, answer.get_json()["code"]) == (401, "token_missing")
    health = world.app.test_client().get("/health", query_string={name: "alert"})
    assert health.content_type == "application/json"
    assert b"alert" not in health.data


def stands(secret: str, text: str) -> bool:
    """True if it stands there by itself: six digits in the middle of an id or a digest are chance."""
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(secret)}(?![0-9A-Za-z])", text) is not None


@pytest.fixture
def log(world: World) -> Iterator[io.StringIO]:
    """What the service's loggers write, as production has it."""
    stream, ours = io.StringIO(), logging.getLogger("latchkey")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    ours.addHandler(handler)
    yield stream
    ours.removeHandler(handler)


@pytest.mark.one_lane
@pytest.mark.covers("attack A17", "attack A75", "asvs 16.2.5", "asvs 16.3.1")
def test_no_secret_of_a_whole_day_stands_in_an_answer_or_the_log_but_where_it_belongs(
    world: World, log: io.StringIO
) -> None:
    """Codes, passwords and tokens of everything a person does, also with flags that ask for them."""
    told: list[tuple[str, str]] = []  # path and text of every answer
    person = world.person(phone="+919812345678", username="canary")
    inner = person.api.transport

    def listening(method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        flags = {"debug": True, "return_code": True, "test": True} if isinstance(body, dict) else {}
        answer = inner(method, f"{path}?debug=1&return_code=1", {**body, **flags} if flags else body, headers)
        told.append((path, json.dumps(answer.body) + str(answer.headers)))
        return answer

    person.api.transport = listening
    codes, tokens = [], []
    asked = person.ask_signup().ok()
    codes.append(person.code())
    person.verify_signup(asked["challenge_id"], codes[-1]).ok()
    tokens += [person.tokens["access_token"], person.tokens["refresh_token"]]
    world.clock.advance(minutes=2)
    asked = person.ask_signin().ok()
    codes.append(person.code())
    person.verify_signin(asked["challenge_id"], wrong(codes[-1]))
    person.verify_signin(asked["challenge_id"], codes[-1]).ok()
    tokens += [person.tokens["access_token"], person.tokens["refresh_token"]]
    person.ask_signin(password="wrong canary 7")
    world.clock.advance(minutes=2)
    reset = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    codes.append(person.code())
    body = {"challenge_id": reset["challenge_id"], "otp": codes[-1], "new_password": "canary horse 9"}
    person.api.post("/api/auth/reset-password", body).ok()
    secrets = [*codes, PASSWORD, "wrong canary 7", "canary horse 9"]
    for path, text in told:
        assert [secret for secret in secrets if stands(secret, text)] == [], path
    rows = "\n".join(str(vars(row)) for row in world.audit())
    heard = log.getvalue()
    for secret in (*secrets, *tokens, person.email, "+919812345678"):
        assert not stands(secret, heard), secret
        assert not stands(secret, rows), secret
    assert "/api/auth/login" in heard, "the log was listened to"
    acts = [event for event in world.events() if event.startswith(("signup", "signin", "recovery", "code"))]
    assert acts == [
        "signup.started", "signup.completed", "signin.completed", "signin.started", "code.refused", "signin.completed",
        "signin.refused", "recovery.started", "recovery.completed",
    ]  # fmt: skip
