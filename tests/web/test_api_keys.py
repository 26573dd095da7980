"""The API keys of servers: what each opens, and when it does not any more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app import SURFACES
from app.core import api_keys
from app.core.api_keys import Scope
from app.models import ApiKey, Device
from app.work import run
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import Answer
from tests.web.test_machines import DEVICES, TILL, VERIFY, Server, make_key, server, till
from tests.web.test_sameness import statements

__all__ = ["server", "till"]

EVERY: dict[str, tuple[str, str, Any, Scope]] = {
    "register": ("POST", f"{DEVICES}/register", {"device_id": "till-8", "user_id": "x"}, Scope.DEVICES),
    "verify": ("POST", VERIFY, {"device_id": TILL, "otp": "123456"}, Scope.VERIFY),
    "list": ("GET", DEVICES, None, Scope.DEVICES),
    "show": ("GET", f"{DEVICES}/{TILL}", None, Scope.DEVICES),
    "audit": ("GET", f"{DEVICES}/{TILL}/audit", None, Scope.DEVICES),
    "deactivate": ("POST", f"{DEVICES}/{TILL}/deactivate", None, Scope.DEVICES),
    "reactivate": ("POST", f"{DEVICES}/{TILL}/reactivate", None, Scope.DEVICES),
    "rotate": ("POST", f"{DEVICES}/{TILL}/rotate-key", None, Scope.DEVICES),
    "revocations": ("GET", "/api/auth/revocations", None, Scope.INTROSPECT),
    "introspect": ("POST", "/api/auth/introspect", {"token": "x"}, Scope.INTROSPECT),
}


def ask(world: World, what: str, key: str | None) -> Answer:
    method, path, body, _ = EVERY[what]
    return world.api().call(method, path, body, key)


def test_every_endpoint_that_takes_a_key_is_in_the_table() -> None:
    keyed = [(s, e) for s in SURFACES for e in s.endpoints if e.guard.scope and not e.guard.permission]
    guarded = {(e.method, s.prefix + e.path, e.guard.scope) for s, e in keyed}  # administration has its own table
    assert guarded == {(m, p.replace(TILL, "<device_id>"), scope) for m, p, _, scope in EVERY.values()}


@pytest.mark.covers("asvs 8.2.1", "attack A73")
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("what", EVERY)
@pytest.mark.one_lane
def test_a_key_opens_what_its_scopes_name_and_no_more(world: World, till: Server, what: str, scope: Scope) -> None:
    answer = ask(world, what, make_key(world, scope))
    if scope is EVERY[what][3]:
        answer.ok()
    else:
        assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.parametrize("what", EVERY)
def test_the_key_of_the_environment_opens_everything(world: World, till: Server, what: str) -> None:
    ask(world, what, SECRETS["api_key"]).ok()


@pytest.mark.covers("asvs 8.2.1")
@pytest.mark.parametrize("what", EVERY)
@pytest.mark.one_lane
def test_without_a_key_nothing_opens(world: World, till: Server, what: str) -> None:
    answer = ask(world, what, None)
    assert (answer.status, answer.code) == (401, "token_missing")
    method, path, body, _ = EVERY[what]
    for query in ("?access_token=", "?api_key=", "?key="):
        assert world.api().call(method, path + query + SECRETS["api_key"], body).code == "token_missing"


def test_who_brings_no_key_is_refused_before_the_body_is_read(world: World) -> None:
    for what in ("register", "verify", "introspect"):
        answer = world.api().call("POST", EVERY[what][1], b"{", **{"Content-Type": "application/json"})
        assert answer.code == "token_missing"


def revoked(world: World) -> str:
    key = make_key(world, *Scope)
    [row] = world.rows(ApiKey)
    assert run(world.kit, lambda work: api_keys.revoke(work, row.id))
    assert not run(world.kit, lambda work: api_keys.revoke(work, row.id))
    return key


def expired(world: World) -> str:
    key = make_key(world, *Scope, expires_at=world.clock.now + timedelta(minutes=1))
    world.clock.advance(minutes=1)
    return key


def changed(world: World) -> str:
    key = make_key(world, *Scope)
    return key[:-1] + ("A" if key[-1] != "A" else "B")


BAD_KEYS: dict[str, Callable[[World], str]] = {
    "revoked": revoked,
    "expired": expired,
    "changed": changed,
    "made up": lambda _: "lk_00000000_" + "A" * 43,
    "no key at all": lambda _: "x",
    "its prefix": lambda world: make_key(world, *Scope)[:11],
    "almost the environment's": lambda _: SECRETS["api_key"][:-1],
    "its digest": lambda world: [make_key(world, *Scope), world.rows(ApiKey)[0].digest][1],
    "an access token": lambda world: world.person().sign_up().token,
    "a refresh token": lambda world: world.person().sign_up().tokens["refresh_token"],
    "the master secret": lambda _: SECRETS["master_secret"],
    "very long": lambda _: "lk_" + "x" * 20_000,
}


@pytest.mark.covers("asvs 6.5.6", "asvs 13.2.1", "attack A44")
@pytest.mark.parametrize("kind", BAD_KEYS)
def test_a_key_that_is_none_any_more_or_never_was_opens_nothing(world: World, till: Server, kind: str) -> None:
    key = BAD_KEYS[kind](world)
    for what in EVERY:
        answer = ask(world, what, key)
        assert (answer.status, answer.code) == (401, "token_invalid"), what
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_key_works_until_the_moment_it_expires(world: World, till: Server) -> None:
    key = make_key(world, Scope.VERIFY, expires_at=world.clock.now + timedelta(minutes=1))
    world.clock.advance(seconds=59)
    ask(world, "verify", key).ok()


def test_without_an_api_key_in_the_environment_none_is_the_empty_one(make_world: Callable[..., World]) -> None:
    world = make_world(api_key="")
    for authorization in ("Bearer", "Bearer ", "Bearer  ", "Basic x", ""):
        answer = world.api().get(DEVICES, **({"Authorization": authorization} if authorization else {}))
        assert (answer.status, answer.code) == (401, "token_missing")
    assert Server(world, make_key(world, Scope.DEVICES)).register().status == 201


@pytest.mark.covers("asvs 7.2.2", "asvs 8.3.3")
def test_a_key_is_no_session(world: World) -> None:
    for key in (SECRETS["api_key"], make_key(world, *Scope)):
        for path in ("/api/auth/me", "/api/auth/sessions", "/api/v1/auth/me"):
            assert world.api().get(path, key).code == "token_invalid"
        assert world.api().get("/protected", key).status == 401


@pytest.mark.covers("attack A73", "asvs 11.4.2")
def test_a_key_is_256_random_bits_behind_its_prefix_and_stored_as_a_digest(world: World) -> None:
    made = {make_key(world, Scope.VERIFY, Scope.DEVICES) for _ in range(20)}
    assert len(made) == 20
    assert {len(key) - len("lk_00000000_") for key in made} == {43}
    rows = world.rows(ApiKey)
    assert {row.prefix for row in rows} == {key[:11] for key in made}
    assert {row.digest for row in rows} == {hashlib.sha256(key.encode()).hexdigest() for key in made}
    assert {row.scopes for row in rows} == {"devices:write otp:verify"}
    assert not [key for key in made if key in str([vars(row) for row in rows])]


@pytest.mark.one_copy
def test_when_a_key_was_last_used_is_stamped_at_most_once_a_minute(world: World, till: Server) -> None:
    key = make_key(world, Scope.DEVICES)
    writes = [
        s for s in statements(world, lambda: ask(world, "show", key).ok()) if not s.startswith(("SELECT", "BEGIN"))
    ]
    assert writes == [], "no request waits for it"
    assert world.rows(ApiKey)[0].last_used_at is None
    used_at = world.clock.now
    world.clock.advance(seconds=61)
    world.stamp()
    assert world.rows(ApiKey)[0].last_used_at == pytest.approx(used_at, abs=timedelta(seconds=1))
    ask(world, "show", key).ok()
    world.stamp()
    assert world.rows(ApiKey)[0].last_used_at < world.clock.now - timedelta(seconds=60)
    world.clock.advance(seconds=61)
    world.stamp()
    assert world.rows(ApiKey)[0].last_used_at > world.clock.now - timedelta(seconds=65)
    assert world.kit.seen_keys == {}


def test_who_acted_is_the_key(world: World) -> None:
    server = Server(world, make_key(world, Scope.DEVICES, Scope.VERIFY))
    server.register().ok()
    server.verify()
    [key] = world.rows(ApiKey)
    assert {row.actor_id for row in world.audit(subject=TILL)} == {key.id}
    assert {row.user_id for row in world.audit(subject=TILL)} == {world.rows(Device)[0].id}


def test_what_a_key_may_not_is_audited(world: World, till: Server) -> None:
    for key in (None, "x", make_key(world, Scope.METRICS)):
        ask(world, "list", key)
    rows = world.audit(event="request.refused")
    assert [(row.reason, row.facts) for row in rows] == [
        (reason, {"route": "machines.list_devices"}) for reason in ("token_missing", "token_invalid", "forbidden")
    ]
    [metrics] = world.rows(ApiKey)
    assert [row.actor_id for row in rows] == [None, None, metrics.id]


def test_the_scopes_are_those_of_the_contract() -> None:
    assert set(Scope) == {"devices:write", "otp:verify", "tokens:introspect", "users:read", "metrics:read"}
