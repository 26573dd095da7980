"""Production takes nothing that came over clear HTTP, as far as the proxies in front say so (`X-Forwarded-Proto`)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app import SURFACES
from app.web.openapi_parts import OPERATIONS, WEBHOOKS
from tests.conftest import World

HTTPS = "https://auth.example.com"
PATHS = {**WEBHOOKS, **OPERATIONS}
KEPT = ("/metrics", "/.well-known/jwks.json")  # operations that tell nobody anything in the clear
GUESS = {"identifier": "jane@example.com", "password": "x" * 9}


def seen(make_world: Any, scheme: str | None, **settings: Any) -> Any:
    """What a guess gets, and the world in which it was made."""
    given = {"environment": "production", "public_url": HTTPS, "trusted_proxies": 1} | settings
    world: World = make_world(**given)
    headers = {} if scheme is None else {"X-Forwarded-Proto": scheme}
    return world.api("10.21.157.68").post("/api/auth/login", GUESS, **headers), world


@pytest.mark.covers("asvs 12.2.1", "asvs 4.1.2", "nist N13", "nist N40")
def test_a_password_in_the_clear_is_refused_before_it_is_read(make_world: Any) -> None:
    answer, world = seen(make_world, "http")
    assert (answer.status, answer.body["code"]) == (403, "https_required")
    assert "Location" not in answer.headers
    [row] = world.audit()
    assert (row.event, row.reason) == ("request.refused", "https_required")


@pytest.mark.covers("asvs 12.2.1", "asvs 4.1.2")
def test_no_endpoint_answers_in_the_clear(make_world: Any) -> None:
    """Every path of every dialect, with a body that is none and a token that is none: nothing of it was looked at."""
    world: World = make_world(environment="production", public_url=HTTPS, trusted_proxies=1, ratelimit=False)
    for method, path in declared():
        answer = world.app.test_client().open(path, method=method, headers={"X-Forwarded-Proto": "http"})
        assert answer.json is not None
        assert answer.json["code"] == "https_required", (method, path)


def declared() -> list[tuple[str, str]]:
    """Each endpoint, with an id that is nobody's."""
    nobody = "01940000-0000-7000-8000-000000000000"
    paths = [(each.method, surface.prefix + each.path) for surface in SURFACES for each in surface.endpoints]
    assert len(paths) > 60
    return [(method, re.sub("<[^>]+>", nobody, path)) for method, path in paths]


@pytest.mark.one_lane
def test_the_document_says_so_of_what_is_in_no_dialect_too(make_world: Any) -> None:
    world: World = make_world(environment="production", public_url=HTTPS, trusted_proxies=1)
    asked = {(method.upper(), path.format(secret="x")) for path in (*WEBHOOKS, *KEPT) for method in PATHS[path]}
    assert len(asked) == 6
    for method, path in asked:  # each answer is held against the document
        assert world.api().call(method, path, **{"X-Forwarded-Proto": "http"}).code == "https_required", path


@pytest.mark.one_lane
@pytest.mark.parametrize("scheme", ["HTTP", " http", "http, http", "ws"])
def test_whatever_is_not_https_is_clear(make_world: Any, scheme: str) -> None:
    answer, _ = seen(make_world, scheme)
    assert answer.body["code"] == "https_required"


@pytest.mark.one_lane
@pytest.mark.parametrize("scheme", ["https", "http, https", "https, http, http", "HTTPS", " https ", "", None])
def test_what_came_over_tls_or_says_nothing_is_taken(make_world: Any, scheme: str | None) -> None:
    """Health checks of platforms and backends of the same network come past the proxy, and say nothing."""
    answer, _ = seen(make_world, scheme)
    assert answer.body["code"] == "invalid_credentials"


@pytest.mark.one_lane
@pytest.mark.parametrize(
    "settings",
    [
        {"environment": "development"},
        {"trusted_proxies": 0},  # then `X-Forwarded-*` is anybody's word
        {"public_url": "http://localhost:8000"},  # tried out behind a proxy on this machine
    ],
    ids=["in development", "no proxy is trusted", "the address is http"],
)
def test_where_nobody_comes_over_tls_nothing_is_refused(make_world: Any, settings: dict[str, Any]) -> None:
    answer, _ = seen(make_world, "http", **settings)
    assert answer.body["code"] == "invalid_credentials"


@pytest.mark.one_lane
@pytest.mark.parametrize(
    ("scheme", "code"),
    [
        ("http", "invalid_credentials"),  # the inner one wrote its own over the outer one's: it says nothing of clients
        ("https", "invalid_credentials"),
        ("https, http", "invalid_credentials"),  # the way between the two is clear
        ("http, https", "invalid_credentials"),  # a client that makes itself out to be safe is the only one to lose
        ("http, http", "https_required"),
        ("http, http, http", "https_required"),
    ],
)
def test_behind_two_proxies_each_must_have_said_it(make_world: Any, scheme: str, code: str) -> None:
    answer, _ = seen(make_world, scheme, trusted_proxies=2)
    assert answer.body["code"] == code


def test_figures_take_no_key_in_the_clear(make_world: Any) -> None:
    world: World = make_world(environment="production", public_url=HTTPS, trusted_proxies=1, api_key="k" * 40)
    answer = world.app.test_client().get(
        "/metrics", headers={"X-Forwarded-Proto": "http", "Authorization": "Bearer " + "k" * 40}
    )
    assert (answer.status_code, world.audit()[-1].reason) == (403, "https_required")


def test_nobody_is_given_keys_to_verify_by_in_the_clear(make_world: Any) -> None:
    """Whoever asks for them over http takes those that anybody puts in their place."""
    world: World = make_world(environment="production", public_url=HTTPS, trusted_proxies=1)
    answer = world.app.test_client().get("/.well-known/jwks.json", headers={"X-Forwarded-Proto": "http"})
    assert answer.status_code == 403
    assert world.app.test_client().get("/.well-known/jwks.json").status_code == 200


def test_health_is_told_in_the_clear(make_world: Any) -> None:
    """A platform asks for it over plain HTTP, and it holds no secret."""
    world: World = make_world(environment="production", public_url=HTTPS, trusted_proxies=1)
    assert world.app.test_client().get("/health", headers={"X-Forwarded-Proto": "http"}).status_code == 200
