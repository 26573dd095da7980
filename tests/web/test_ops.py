"""Health, the document, its pages, metrics and headers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from app import work
from app.answers import UNREAD
from app.core.api_keys import Scope
from app.db import Base
from app.errors import Unavailable
from app.version import VERSION
from app.web import metrics, problems, transport
from app.web.openapi_parts import FIELD_CODES
from app.web.ops import STATIC
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import DOCUMENT, Person
from tests.web.test_machines import make_key

APP = Path(work.__file__).parent


@pytest.mark.one_copy
def test_health_names_its_checks(world: World) -> None:
    world.courier.start()
    try:
        answer = world.api().get("/health")
    finally:
        world.courier.stop()
        world.courier._stopping.clear()
    limits = "ok" if world.lane.redis_url else "not used"
    checks = {"database": "ok", "redis": limits, "courier": "ok"}
    assert (answer.status, answer.body) == (200, {"status": "ok", "version": VERSION, "checks": checks})


def test_health_is_degraded_without_a_courier(world: World) -> None:
    answer = world.api().get("/health")
    assert (answer.status, answer["status"], answer["checks"]["courier"]) == (200, "degraded", "degraded")


def test_health_is_degraded_when_messages_wait_too_long(make_world) -> None:
    world = make_world(courier="worker")
    world.courier.start()
    try:
        assert world.api().get("/health")["status"] == "ok"
        world.sends_at_once = False
        world.person().ask_signup().ok()
        world.clock.advance(seconds=61)
        assert world.api().get("/health")["checks"]["courier"] == "degraded"
    finally:
        world.courier.stop()
        world.courier._stopping.clear()


def test_health_that_is_down_says_when_to_ask_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise Unavailable(retry_after=work.RETRY_AFTER_S)

    monkeypatch.setattr("app.web.ops.run", away)
    down = world.api().transport("GET", "/health", None, {})
    assert (down.status, down["status"], down["checks"]["database"]) == (503, "down", "down")
    assert down.headers.get("Retry-After") == str(down.body.get("retry_after")) == str(work.RETRY_AFTER_S)
    told = DOCUMENT["paths"]["/health"]["get"]["responses"]["503"]
    assert "Retry-After" in told["headers"]
    assert "retry_after" in DOCUMENT["components"]["schemas"]["Health"]["properties"]
    monkeypatch.undo()
    well = world.api().get("/health")
    assert "Retry-After" not in well.headers
    assert "retry_after" not in well.body


def test_being_alive_asks_nobody(world: World) -> None:
    assert world.api().get("/health/live").body == {"status": "ok"}


def test_a_method_that_nobody_declared_makes_no_series(make_world) -> None:
    world = make_world(metrics_public=True)
    for n in range(5):
        world.app.test_client().open("/api/auth/me", method=f"BLAH{n}")
    text = world.app.test_client().get("/metrics").text
    assert 'method="other"' in text
    assert "BLAH" not in text


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


@pytest.mark.covers("asvs 2.1.1")
def test_every_string_of_a_body_has_a_longest_form() -> None:
    def check(schema, where) -> None:
        kinds = schema.get("anyOf", [schema])
        for kind in kinds:
            if kind.get("type") == "string" and "format" not in kind and "enum" not in kind and "const" not in kind:
                assert "maxLength" in kind, where

    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            body = operation.get("requestBody")
            if body:
                name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
                for field, schema in DOCUMENT["components"]["schemas"][name]["properties"].items():
                    check(schema, (name, field))


def test_every_operation_says_what_it_does() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            assert len(operation["description"]) > 10, path
            assert operation["summary"], path
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.one_lane("sqlite")
def test_every_list_says_whether_it_goes_on() -> None:
    """But that of one's factors, which the contract gives another form, and the feed of revocations, whose place is kept."""
    bare, lists = [], 0
    for path, operations in DOCUMENT["paths"].items():
        answer = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        fields = _fields(answer.get("application/json", {}).get("schema", {}))
        fields = _fields(fields.get("data", {})) or fields  # in the envelope of the machines
        lists += "items" in fields
        bare += [path] if "items" in fields and "next_cursor" not in fields else []
    assert (bare, lists > 10) == (["/api/auth/factors", "/api/auth/revocations"], True)


def _fields(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    return (DOCUMENT["components"]["schemas"][name] if name else schema).get("properties", {})


@pytest.mark.one_lane("sqlite")
def test_what_is_no_id_is_not_found_and_the_document_says_so(world: World) -> None:
    asked = 0
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            if any(given["schema"].get("format") == "uuid" for given in operation.get("parameters", [])):
                answer = world.api().call(method.upper(), re.sub(r"{\w+}", "no-id", path))
                assert (answer.status, answer.code) == (404, "not_found")
                asked += 1
    assert asked > 10


@pytest.mark.one_lane("sqlite")
def test_every_operation_that_takes_an_idempotency_key_says_what_it_does_with_a_bad_one() -> None:
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    repeatable = [o for o in operations if "Idempotency-Key" in {p["name"] for p in o.get("parameters", [])}]
    for operation in repeatable:
        assert "`validation_failed`" in operation["responses"]["422"]["description"], operation["operationId"]
    assert len(repeatable) > 10


def test_the_examples_of_the_document_are_taken(world: World) -> None:
    """What the page fills in must get somebody who just presses 'Execute' somewhere."""
    body = DOCUMENT["components"]["schemas"]["SignupBody"]["examples"][0]
    assert world.api().post("/api/auth/signup", body).status == 201
    assert next(iter(DOCUMENT["paths"])) == "/api/auth/signup"


def test_the_document_names_every_code_of_a_refusal_and_of_a_field() -> None:
    """By what the code raises, so that a new one is not forgotten."""
    sources = "\n".join(path.read_text() for path in APP.rglob("*.py"))
    fields = set(re.findall(r'ValidationFailed\.field\(\s*(?:"[^"]*"|[^",]+),\s*"(\w+)"', sources))
    fields |= set(re.findall(r'_refused\(field, "(\w+)"', sources)) | {*transport.CODES.values(), *transport.OWN_CODES}
    fields |= {"taken", "wrong_type", "invalid"}
    assert len(fields) > 15
    assert fields <= {*FIELD_CODES}
    told = json.dumps(DOCUMENT)
    codes = {refused.code for refused in problems.STATUS} | {code for _, code, _ in UNREAD.values()}
    assert {code for code in codes | fields if f"`{code}`" not in told} == set()


@pytest.mark.covers("asvs 3.6.1", "asvs 14.2.3")
def test_the_pages_come_from_own_files(world: World) -> None:
    client = world.app.test_client()
    for page in ("/docs", "/redoc"):
        response = client.get(page)
        assert (response.status_code, response.mimetype) == (200, "text/html")
        assert "https:" not in response.text
        for name in response.text.split('src="')[1:] + response.text.split('href="')[1:]:
            with client.get(name.split('"')[0]) as file:
                assert file.status_code == 200
    assert client.get("/openapi.json").get_json()["openapi"] == "3.1.0"
    pages = [path.read_text() for path in STATIC.iterdir() if path.suffix in (".js", ".html")]
    assert not any("cdn." in page for page in pages)
    for outside in ("x" * 300, "..%2fops.py", "%2e%2e/ops.py", "x.js", "../../config.py"):
        assert client.get(f"/docs/static/{outside}").status_code == 404


def test_their_files_come_whole_whatever_range_is_asked_for_and_once(world: World) -> None:
    client, path = world.app.test_client(), "/docs/static/start-redoc.js"
    size = (STATIC / "start-redoc.js").stat().st_size
    for asked in ("bytes=0-9", "bytes=99999-", "bytes=9-1", "lines=1"):
        with client.get(path, headers={"Range": asked}) as answer:
            assert (answer.status_code, len(answer.get_data())) == (200, size), asked
    with client.get(path, headers={"If-None-Match": answer.headers["ETag"]}) as again:
        assert (again.status_code, again.get_data()) == (304, b"")


@pytest.mark.one_lane
@pytest.mark.parametrize("path", ["/.well-known/jwks.json", "/api/auth/revocations", "/docs/static/start-redoc.js"])
def test_what_has_a_tag_is_given_whatever_tag_a_write_would_be_meant_for(world: World, path: str) -> None:
    """The document knows no 412, and the body would be no problem."""
    given = {"If-Match": '"x"', "Authorization": f"Bearer {SECRETS['api_key']}"}
    with world.app.test_client().get(path, headers=given) as answer:
        assert (answer.status_code, bool(answer.headers["ETag"])) == (200, True)


@pytest.mark.covers("asvs 13.4.5")
def test_docs_are_not_served_unless_asked_for(make_world) -> None:
    client = make_world(docs=False).app.test_client()
    for path in ("/docs", "/redoc", "/openapi.json", "/docs/static/swagger-ui.css"):
        assert client.get(path).status_code == 404


@pytest.mark.covers("asvs 13.4.5")
def test_metrics_are_for_keys_that_may_read_them(world: World, person: Person) -> None:
    for token, status, code in (
        (None, 401, "token_missing"),
        ("x", 401, "token_invalid"),
        (person.token, 401, "token_invalid"),
        (make_key(world, Scope.USERS, Scope.DEVICES), 403, "forbidden"),
    ):
        answer = world.api().get("/metrics", token)
        assert (answer.status, answer.code) == (status, code)
    assert {row.facts["route"] for row in world.audit(event="request.refused")} == {"ops.metrics"}
    for key in (make_key(world, Scope.METRICS), SECRETS["api_key"]):
        response = world.app.test_client().get("/metrics", headers={"Authorization": f"Bearer {key}"})
        assert (response.status_code, response.mimetype) == (200, "text/plain")
        assert "latchkey_requests_total" in response.text


def test_metrics_count_requests_and_refusals(make_world) -> None:
    world = make_world(metrics_public=True)
    world.api().get("/api/auth/me")
    text = world.app.test_client().get("/metrics").text
    assert 'latchkey_requests_total{method="GET",route="/api/auth/me",status="401"}' in text
    assert 'latchkey_refusals_total{code="token_missing"}' in text
    assert f"latchkey_limits_shared {1.0 if world.lane.redis_url else 0.0}" in text


@pytest.mark.covers("asvs 3.5.3")
def test_reading_changes_nothing(world: World, person: Person) -> None:
    def everything() -> list[str]:
        with world.engine.connect() as connection:
            return [str(connection.execute(table.select()).all()) for table in Base.metadata.sorted_tables]

    asked = person.ask_signin().ok()
    before = everything()
    for path in (
        "/api/auth/me",
        "/api/auth/sessions",
        f"/api/auth/challenges/{asked['challenge_id']}",
        "/health",
        "/docs",
    ):
        for method in ("GET", "HEAD", "OPTIONS"):
            world.app.test_client().open(path, method=method, headers={"Authorization": f"Bearer {person.token}"})
    assert everything() == before


@pytest.mark.covers("asvs 16.5.1")
def test_an_unexpected_fault_tells_nothing(world: World, person: Person, monkeypatch) -> None:
    monkeypatch.setattr("app.core.sessions.live_account", lambda *_: 1 / 0)
    response = world.app.test_client().get("/api/auth/me", headers={"Authorization": f"Bearer {person.token}"})
    assert (response.status_code, response.get_json()["code"]) == (500, "internal_error")
    assert "Zero" not in response.text
    assert set(response.get_json()) == {"type", "title", "status", "detail", "code", "request_id"}


@pytest.mark.covers("asvs 16.5.1")
def test_a_fault_while_an_answer_is_completed_is_no_fault_of_the_caller(world: World, monkeypatch, caplog) -> None:
    count, broken = metrics.count, [ZeroDivisionError()]

    def once(*given: Any) -> None:
        if broken:
            raise broken.pop()
        count(*given)

    monkeypatch.setattr(metrics, "count", once)
    response = world.app.test_client().get("/health/live")
    assert (response.status_code, response.get_json()["code"]) == (500, "internal_error")
    assert "Zero" not in response.text
    assert response.headers["X-Request-ID"] == response.get_json()["request_id"]
    assert "unexpected ZeroDivisionError" in caplog.messages


@pytest.mark.covers("attack A08", "asvs 15.3.4", "asvs 4.1.3")
def test_a_forwarded_address_is_believed_only_from_trusted_hops(make_world) -> None:
    cases = {0: "203.0.113.5", 1: "192.0.2.3", 2: "198.51.100.2", 3: "203.0.113.5"}
    for hops, expected in cases.items():
        world = make_world(trusted_proxies=hops, ratelimit=False)
        headers = {"X-Forwarded-For": "198.51.100.2, 192.0.2.3", "X-Real-IP": "1.1.1.1", "Forwarded": "for=2.2.2.2"}
        world.api().post("/api/auth/login", {"identifier": "a@example.com", "password": "x" * 8}, **headers)
        assert world.audit()[-1].ip == expected


@pytest.mark.covers("attack A08")
@pytest.mark.parametrize(
    "junk",
    [
        "",
        "junk",
        "1.2.3",
        "::::",
        "x" * 60_000,
        "1.2.3.4.5",
        "'; DROP TABLE",
        "1.2.3.4:http",
        "[::1",
        "fe80::1%" + "a" * 60,
    ],
)
def test_a_junk_forwarded_address_is_ignored(make_world, junk: str) -> None:
    world = make_world(trusted_proxies=1, ratelimit=False)
    world.api().post(
        "/api/auth/login", {"identifier": "a@example.com", "password": "x" * 8}, **{"X-Forwarded-For": junk}
    )
    assert world.audit()[-1].ip == "203.0.113.5"


def test_an_ipv4_address_in_ipv6_clothes_is_ipv4(make_world) -> None:
    world = make_world(trusted_proxies=1, ratelimit=False)
    headers = {"X-Forwarded-For": "::ffff:198.51.100.2"}
    world.api().post("/api/auth/login", {"identifier": "a@example.com", "password": "x" * 8}, **headers)
    assert world.audit()[-1].ip == "198.51.100.2"


def test_a_long_or_hostile_user_agent_is_cut_and_cleaned(world: World) -> None:
    person = world.person()
    person.api.headers["User-Agent"] = "A" * 1000 + "\x7f"
    person.sign_up()
    [session] = person.api.get("/api/auth/sessions", person.token)["items"]
    assert session["user_agent"] == "A" * 255
