"""Bad input: the documented 4xx with a stable code, never a 5xx, nothing half written."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from app import SURFACES
from app.models import AuditLog, Device, OtpChallenge, OutboxMessage, Session, Signup, Throttle, User
from app.web.fields import SOME_ID
from app.web.paging import Page
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import DOCUMENT, PASSWORD, Person, as_json
from tests.web.admins import id_of, of_role

JSON = {"Content-Type": "application/json"}
BODIES = [(re.sub(r"<uuid:\w+>", SOME_ID, s.prefix + e.path), e) for s in SURFACES for e in s.endpoints if e.body]
GOOD: dict[str, Any] = {
    "email": "new@example.com",
    "phone": "+919876543210",
    "identifier": "new@example.com",
    "username": "newbie",
    "name": "New",
    "password": PASSWORD,
    "new_password": "another horse 8",
    "current_password": PASSWORD,
    "otp": "123456",
    "challenge_id": SOME_ID,
    "refresh_token": "A" * 43,
    "channel": "email",
    "device_info": {"a": 1},
    "consent": True,
    "everywhere": False,
    "language": "en",
    "mobile_number": "+919876543210",
    "registration_token": "A" * 43,
    "terms": True,
    "privacy": True,
    "version": "1",
    "device_id": "till-7",
    "user_id": "shop 12",
    "token": "A" * 43,
    "audience": "clinic",
    "device_token": "A" * 43,
    "method": "email",
    "remember_device": False,
    "credential": {"id": "eA", "rawId": "eA", "type": "public-key", "response": {}},
    "role": "user",
    "invite": False,
    "disabled": False,
    "until": "2030-01-01T00:00:00Z",
    "seconds": 60,
    "scopes": ["otp:verify"],
    "expires_at": "2030-01-01T00:00:00Z",
}


@pytest.fixture
def world(make_world: Any) -> World:
    """Hundreds of bad bodies from one address: without the address limits."""
    return make_world(ratelimit=False)


@pytest.fixture
def person(world: World) -> Person:
    """Who may call whatever a person can: what is wrong with a request is told to nobody else."""
    return of_role(world, "admin")


def tables(world: World) -> dict[str, int]:
    return {m.__name__: world.count(m) for m in (User, Signup, OtpChallenge, OutboxMessage, Session, Throttle, Device)}


def good(endpoint: Any) -> dict[str, Any]:
    found = {name: GOOD[name] for name in endpoint.body.model_fields}
    if "identifier" in found:
        found = {k: v for k, v in found.items() if k not in ("email", "phone", "username")}
    return found


def token(endpoint: Any, person: Person) -> str:
    """What the endpoint's callers bring."""
    return SECRETS["api_key"] if endpoint.guard.scope else person.token


RAW = {
    b" ": "malformed_json",
    b"{": "malformed_json",
    b"[]": "malformed_json",
    b'"text"': "malformed_json",
    b"null": "malformed_json",
    b"{}{}": "malformed_json",
    b'{"password": NaN}': "malformed_json",
    b'{"password": Infinity}': "malformed_json",
    b'{"a": 1, "a": 2}': "malformed_json",
    b'{"x": {"a": 1, "a": 2}}': "malformed_json",
    b"\xff\xfe{\x00}\x00": "malformed_json",
    b"\xef\xbb\xbf{}": "malformed_json",
    '{"a": 1}'.encode("utf-16"): "malformed_json",
    b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}": "malformed_json",
    b'{"a": ' + b"9" * 10_000 + b"}": "malformed_json",
    b'{"a": "' + b"x" * 70_000 + b'"}': "payload_too_large",
    b'{"password": "\xff"}': "malformed_json",
}


def test_a_body_without_a_length_is_bounded_too(world: World) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(80):
            yield b" " * 1024

    response = world.app.test_client().post(
        "/api/auth/signup", input_stream=io.BytesIO(b"".join(chunks())), content_type="application/json",
        environ_base={"wsgi.input_terminated": True},
    )  # fmt: skip
    assert (response.status_code, response.get_json()["code"]) == (413, "payload_too_large")
    assert "Connection" not in response.headers, "that is the server's to say (PEP 3333): waitress makes it a 500"


@pytest.mark.covers("attack A62", "asvs 15.3.7", "fault F31")
@pytest.mark.parametrize("raw", list(RAW), ids=lambda raw: repr(raw[:20]))
@pytest.mark.one_lane
def test_a_body_that_is_not_an_object_is_refused(world: World, raw: bytes) -> None:
    before = tables(world)
    answer = world.api().call("POST", "/api/auth/signup", raw, **JSON)
    assert answer.code == RAW[raw]
    assert answer.status == (413 if answer.code == "payload_too_large" else 400)
    assert tables(world) == before


@pytest.mark.parametrize("headers", [{}, JSON], ids=["no type", "JSON"])
@pytest.mark.one_lane
def test_no_body_is_an_empty_object_whether_or_not_it_is_called_json(world: World, headers: dict[str, str]) -> None:
    """Clients that name the type with every request name it with an empty one too."""
    lacking = world.api().call("POST", "/api/auth/signup", b"", **headers)
    assert (lacking.status, lacking.code) == (422, "validation_failed")
    person = world.person().sign_up()
    world.api().call("POST", "/api/auth/logout", b"", person.token, **headers).ok()
    assert person.me().code == "token_revoked"


@pytest.mark.covers("asvs 3.5.2", "attack A68")
@pytest.mark.parametrize(("path", "endpoint"), BODIES, ids=[p for p, _ in BODIES])
@pytest.mark.one_lane
def test_every_body_must_be_json(world: World, person: Person, path: str, endpoint: Any) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"):
        answer = person.api.call(
            endpoint.method, path, as_json(good(endpoint)), token(endpoint, person), **{"Content-Type": kind}
        )
        assert (answer.status, answer.code) == (415, "unsupported_media_type"), kind
    zipped = {**JSON, "Content-Encoding": "gzip"}
    assert (
        person.api.call(endpoint.method, path, as_json(good(endpoint)), token(endpoint, person), **zipped).status == 415
    )


def test_a_body_that_an_endpoint_has_no_use_for_keeps_the_rules_too(world: World, person: Person) -> None:
    bare = [(s, e) for s in SURFACES for e in s.endpoints if e.writes and not e.body]
    assert len(bare) > 15
    as_form = {"Content-Type": "application/x-www-form-urlencoded"}
    for surface, endpoint in bare:
        if surface.cookies:
            continue
        path = re.sub(r"<uuid:\w+>", SOME_ID, surface.prefix + endpoint.path)
        refused = {b"everywhere=1": (as_form, 415), b" " * 70_000: (JSON, 413), b"{": (JSON, 400), b"[]": (JSON, 400)}
        for raw, (headers, status) in refused.items():
            answer = person.api.call(endpoint.method, path, raw, token(endpoint, person), **headers)
            assert answer.status == status, (path, raw[:9])
    chunked = {"Transfer-Encoding": "chunked"}
    person.api.call("DELETE", "/api/auth/trusted-devices", b"", person.token, **chunked).ok()
    person.api.call("POST", "/api/v1/auth/logout", b"", person.token, **as_form).ok()


HOSTILE = {
    "null": None,
    "true": True,
    "number": 7,
    "float": 1.5,
    "huge": 10**400,
    "list": ["x"],
    "object": {"$ne": ""},
    "empty": "",
    "nul": "a\x00b",
    "surrogate": "\ud800",
    "crlf": "a\r\nBcc: victim@example.com",
    "long": "x" * 5000,
    "line separator": "a\u2028b",
    "newline": "a\nb",
}
FREE = {
    "everywhere": {"true"},
    "remember_device": {"true"},
    "terms": {"true"},
    "privacy": {"true"},
    "version": {"empty"},
    "consent": {"true"},
    "device_info": {"object"},
    "credential": {"object"},
    "/api/v1/otp/verify otp": {"number"},
    "/api/auth/introspect token": {"empty", "nul", "crlf", "long", "line separator", "newline"},
    "invite": {"true"},
    "disabled": {"true"},
    "seconds": {"number"},
}
NULLABLE_ABSENT = "null"


@pytest.mark.covers("asvs 15.3.5", "attack A61", "attack A29", "attack A57")
@pytest.mark.covers("asvs 2.2.2")
@pytest.mark.parametrize(("path", "endpoint"), BODIES, ids=[p for p, _ in BODIES])
@pytest.mark.one_lane("postgresql")  # it takes the fewest strings
def test_a_hostile_value_in_any_field_is_a_field_error(world: World, person: Person, path: str, endpoint: Any) -> None:
    before = tables(world)
    for name, field in endpoint.body.model_fields.items():
        for label, value in HOSTILE.items():
            free = FREE.get(name, set()) | FREE.get(f"{path} {name}", set())
            if label in free or (label == "null" and not field.is_required()):
                continue
            if "password" in name and label in ("crlf", "newline", "line separator"):
                continue  # any characters but NUL may stand in a password
            body = good(endpoint) | {name: value}
            if name in ("email", "phone", "username") and "identifier" in body:
                body.pop("identifier")
            answer = person.api.call(endpoint.method, path, json.dumps(body).encode(), token(endpoint, person), **JSON)
            assert (answer.status, answer.code) == (422, "validation_failed"), (name, label, answer.body)
            assert answer["errors"][0]["field"].startswith(("identifier", name)), (name, label, answer.body)
            assert "x" * 50 not in str(answer.body)
    assert tables(world) == before


@pytest.mark.parametrize(("path", "endpoint"), BODIES, ids=[p for p, _ in BODIES])
@pytest.mark.one_lane
def test_a_missing_field_is_named(person: Person, path: str, endpoint: Any) -> None:
    for name, field in endpoint.body.model_fields.items():
        if field.is_required():
            body = {k: v for k, v in good(endpoint).items() if k != name}
            answer = person.api.call(endpoint.method, path, body, token(endpoint, person))
            assert answer.status == 422
            assert {"field": name, "code": "required"} in [
                {k: e[k] for k in ("field", "code")} for e in answer["errors"]
            ]


@pytest.mark.covers("attack A19")
@pytest.mark.parametrize(
    "otp",
    [True, 123456, 81804.0, "81804", " 081804", "081804 ", "0818045", "\uff10\uff11\uff12\uff13\uff14\uff15",
     "\u0660\u0661\u0662\u0663\u0664\u0665", ["081804"], {"$ne": ""}, 1e300, "12345a", "-12345", "123 456", ""],
)  # fmt: skip
@pytest.mark.one_lane
def test_a_code_is_a_string_of_six_ascii_digits(person: Person, otp: Any) -> None:
    asked = person.ask_signin().ok()
    answer = person.api.post("/api/auth/login/verify", {"challenge_id": asked["challenge_id"], "otp": otp})
    assert (answer.status, answer["errors"][0]["field"]) == (422, "otp")
    person.verify_signin(asked["challenge_id"], person.code()).ok()


@pytest.mark.covers("attack A28", "attack A29")
@pytest.mark.parametrize(
    "email",
    ["plain", "@example.com", "a@", "a@b", "a@b..com", "a b@example.com", "a@example.com,b@example.com",
     "a@example.com b@example.com", "a@example.com;b@example.com", '"a b"@example.com', "a@[127.0.0.1]", "a@localhost",
     "Jane <a@example.com>", "a@example.com\r\nBcc: b@example.com", "a\uff20example.com", "j\u0430ne@example.com",
     "a@exa\u0000mple.com", "x" * 65 + "@example.com", "a@" + "x" * 250 + ".com", "a@example.com.", "a@-x.com"],
)  # fmt: skip
@pytest.mark.one_lane
def test_what_is_no_address_is_refused(world: World, email: str) -> None:
    answer = world.api().post("/api/auth/signup", {"email": email, "password": PASSWORD})
    assert (answer.status, answer["errors"][0]["field"]) == (422, "email")
    assert world.count(OutboxMessage) == 0


@pytest.mark.covers("attack A29")
@pytest.mark.one_lane("postgresql")  # SQLite takes any length
def test_text_that_grows_in_its_one_spelling_is_measured_in_it(world: World, person: Person) -> None:
    """NFC makes three characters of U+FB2C, for it has no composed form."""
    ways = [
        ("POST", "/api/auth/signup", {"email": "new@example.com", "password": PASSWORD}, "name", 100, None),
        ("PATCH", "/api/auth/me", {}, "name", 100, person.token),
        ("POST", "/api/auth/factors/totp", {}, "name", 100, person.token),
        ("POST", "/api/v1/devices/register", {"device_id": "till-7"}, "user_id", 255, SECRETS["api_key"]),
    ]
    for method, path, body, field, longest, token in ways:
        answer = world.api().call(method, path, {**body, field: "\ufb2c" * longest}, token)
        assert (answer.status, answer["errors"][0]["code"]) == (422, "too_long"), (path, answer.body)
        world.api().call(method, path, {**body, field: "\ufb2c" * (longest // 3)}, token).ok()


@pytest.mark.covers("asvs 16.2.5")
@pytest.mark.one_lane("postgresql")
def test_the_longest_address_is_masked_into_its_column(world: World) -> None:
    """A mask hides by three asterisks, and may be longer than what it hides."""
    address = f"a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 57}.example.com"
    assert len(address) == 254
    jane = world.person(email=address).sign_up()
    asked = world.api().post("/api/auth/forgot-password", {"identifier": address}).ok()
    assert asked["destination"].startswith("a***@b")
    assert jane.sign_in().me()["email"] == address


@pytest.mark.parametrize(
    "phone",
    ["12345", "+", "+1", "98765 43210", "+91 98765 4321", "+91987654321012345", "1-800-FLOWERS", "+91 98765 43210 ext 5",
     "\uff0b\uff19\uff11 9876543210", "+91;9876543210", "tel:+919876543210", "+999123456789", "nine"],
)  # fmt: skip
@pytest.mark.one_lane
def test_what_is_no_number_is_refused(world: World, phone: str) -> None:
    answer = world.api().post("/api/auth/signup", {"phone": phone, "password": PASSWORD})
    assert (answer.status, answer["errors"][0]["field"]) == (422, "phone")


@pytest.mark.covers("attack A30", "asvs 2.2.3")
@pytest.mark.parametrize(
    "username",
    ["ab", "a" * 33, "jane@example.com", "9876543210", "+919876543210", "a b", "-jane", "jane-", "ja..ne", "j\u00e4ne",
     "ja\u200bne", "123", "1.2.3", "<b>jane"],
)  # fmt: skip
@pytest.mark.one_lane
def test_a_username_never_looks_like_an_address_or_a_number(world: World, username: str) -> None:
    answer = world.api().post(
        "/api/auth/signup", {"email": "a@example.com", "password": PASSWORD, "username": username}
    )
    assert (answer.status, answer["errors"][0]["field"]) == (422, "username")


@pytest.mark.parametrize(
    "info",
    [
        {"k": "v" * 201},
        {str(n): 1 for n in range(21)},
        {"k": [1]},
        {"k": {"a": 1}},
        {"k" * 65: 1},
        {"k": "a\x00"},
        {"k": 2**60},
    ],
)
@pytest.mark.one_lane
def test_device_info_is_small_and_flat(person: Person, info: Any) -> None:
    asked = person.ask_signin().ok()
    body = {"challenge_id": asked["challenge_id"], "otp": person.code(), "device_info": info}
    assert person.api.post("/api/auth/login/verify", body).code == "validation_failed"


def test_device_info_takes_decimal_numbers_that_are_finite(person: Person) -> None:
    info = {"ratio": 2.5, "tiny": 1e-7, "great": 1e300, "cores": 8, "touch": True, "gpu": None, "model": "Pixel 8"}
    asked = person.ask_signin().ok()
    body = {"challenge_id": asked["challenge_id"], "otp": person.code(), "device_info": info}
    for infinite in (b"1e999", b"-1e999"):  # JSON, and beyond what a double holds
        text = json.dumps(body).encode().replace(b"2.5", infinite)
        refused = person.api.call("POST", "/api/auth/login/verify", text, **JSON)
        assert (refused.status, refused["errors"][0]["field"]) == (422, "device_info")
    person.verify_signin(asked["challenge_id"], body["otp"], device_info=info).ok()
    assert person.api.get("/api/auth/sessions", person.token)["items"][0]["device_info"] == info


@pytest.mark.one_lane
def test_the_document_says_what_device_info_is() -> None:
    schema = DOCUMENT["components"]["schemas"]["AnswerBody"]["properties"]["device_info"]
    check = jsonschema.Draft202012Validator(schema)
    for taken in (None, {}, {"a": "b", "c": 2.5, "d": True, "e": None}, {str(n): n for n in range(20)}):
        assert check.is_valid(taken), taken
    for refused in ({"a": [1]}, {"a": {}}, {str(n): n for n in range(21)}, {"a": "v" * 201}, {"k" * 65: 1}, "a"):
        assert not check.is_valid(refused), refused


@pytest.mark.one_lane
@pytest.mark.parametrize("body", ["RegistrationBody", "SignupBody"])
def test_the_document_knows_the_short_form_of_consent(body: str) -> None:
    schema = DOCUMENT["components"]["schemas"][body]["properties"]["consent"]
    check = jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    for taken in (True, {"terms": True}, {"terms": True, "privacy": False, "version": "2026-11"}):
        assert check.is_valid(taken), taken
    for refused in (False, 1, "true", {}, {"terms": False}):
        assert not check.is_valid(refused), refused


def test_unknown_fields_are_ignored(world: World) -> None:
    world.person().sign_up(unknown={"deep": ["x", None]}, role="admin", **{"$where": 1})


@pytest.mark.covers("attack A07", "asvs 4.1.4")
@pytest.mark.parametrize(
    "path", ["//api/auth/login", "/api//auth/login", "/api/auth/login/", "/api/auth/LOGIN", "/api/auth/login;x",
             "/api/auth/./login/x", "/api/auth/login%2f", "/.env", "/app.py", "/console", "/api/auth/me/x.css"]
)  # fmt: skip
@pytest.mark.one_lane
def test_another_spelling_of_a_path_is_not_there(world: World, path: str) -> None:
    answer = world.api().post(path, {"identifier": "a@example.com", "password": PASSWORD})
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.covers("attack A07", "asvs 4.1.4")
@pytest.mark.parametrize(
    "path", ["/api/%61dmin/users", "/api%2Fadmin/users", "/api%2fadmin%2fusers", "/%2Fapi/admin/users", "/api/admin/user%73?limit=1",
             "//api/admin/users", "/api/admin/users/{id}%2Fsessions", "/api/admin/users/{id}/%73essions"]
)  # fmt: skip
@pytest.mark.one_lane
def test_an_escaped_spelling_of_a_path_is_not_there_whoever_asks(world: World, path: str) -> None:
    """What a proxy closes by its name stays closed. An id may be escaped as its sender likes."""
    boss = of_role(world, "admin")
    answer = boss.api.get(path.format(id=id_of(boss)), boss.token)
    other = boss.api.post("/api/%61uth/me", {}, boss.token)  # by a method that the path does not take
    assert {(answer.status, answer.code), (other.status, other.code)} == {(404, "not_found")}
    server = SECRETS["api_key"]
    world.api().post("/api/v1/devices/register", {"device_id": "till 7\u00e9", "user_id": "x"}, server).ok()
    assert world.api().get("/api/v1/devices/%74ill%207%C3%A9", server).status == 200
    whole = {"RAW_URI": "http://auth.example.com/health/live?x=1"}  # as a proxy may be asked
    assert world.app.test_client().get("/health/live", environ_overrides=whole).status_code == 200


@pytest.mark.covers("asvs 13.4.4")
def test_another_method_is_refused_and_the_right_ones_are_named(world: World) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "TRACE"):
        answer = world.api().call(method, "/api/auth/login")
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "OPTIONS, POST"


LISTS = [(s.prefix + e.path, e) for s in SURFACES for e in s.endpoints if e.query and issubclass(e.query, Page)]


@pytest.mark.covers("attack A61")
@pytest.mark.parametrize("path", [path for path, _ in LISTS])
@pytest.mark.one_lane
def test_a_cursor_that_nobody_gave_out_is_some_place_or_a_field_error(world: World, person: Person, path: str) -> None:
    endpoint = dict(LISTS)[path]
    world.api().post("/api/v1/devices/register", {"device_id": "till-7", "user_id": "x"}, SECRETS["api_key"])
    place = re.sub("<.*?device_id>", "till-7", path.replace("<uuid:user_id>", str(id_of(person))))
    bearer = person.token if endpoint.guard.permission or not endpoint.guard.scope else SECRETS["api_key"]
    for forged in ("f" * 32, "0" * 32, SOME_ID, str(id_of(person))):
        answer = world.api().get(f"{place}?cursor={forged}", bearer).ok()
        assert set(answer.body.get("data", answer.body)) >= {"items", "next_cursor"}
    for bad in ("x", "%00", "1 OR 1=1", "f" * 5000):
        assert world.api().get(f"{place}?cursor={bad}", bearer).code == "validation_failed", bad


def test_a_malformed_id_in_the_path_is_not_there(person: Person) -> None:
    for bad in ("x", "1", "01a1fc6a-56ed-7069-9126", "%00", "\u00e9"):
        assert person.api.delete(f"/api/auth/sessions/{bad}", person.token).code == "not_found"


@pytest.mark.covers("asvs 16.3.3")
def test_what_the_edge_refuses_is_audited_once_a_minute(world: World) -> None:
    for _ in range(5):
        world.api().call("POST", "/api/auth/signup", b"{", **JSON)
        world.api().get("/api/auth/me")
    rows = world.audit(event="request.refused")
    assert [(row.reason, row.facts) for row in rows] == [
        ("malformed_json", {"route": "auth.start_signup"}),
        ("token_missing", {"route": "auth.me"}),
    ]
    world.clock.advance(minutes=1)
    world.api().get("/api/auth/me")
    assert len(world.audit(event="request.refused")) == 3


def test_the_callers_request_id_is_kept_if_it_is_harmless(world: World) -> None:
    assert world.api().get("/health/live", **{"X-Request-ID": "abc-1.2_3"}).headers["X-Request-ID"] == "abc-1.2_3"
    for bad in ("x" * 65, "a b", "<x>", "a\u00e9"):
        kept = world.api().get("/health/live", **{"X-Request-ID": bad}).headers["X-Request-ID"]
        assert kept != bad
    world.api().post(
        "/api/auth/login", {"identifier": "a@example.com", "password": "x" * 8}, **{"X-Request-ID": "mine"}
    )
    assert world.rows(AuditLog)[0].request_id == "mine"
