"""Things that must never leave the service by a side door, and somebody's day that uses all of them."""

from __future__ import annotations

from typing import Any

from tests.conftest import World
from tests.lanes import SECRETS

EMAIL, PHONE = "canary.bird@example.com", "+919812345678"
PASSWORD, WRONG, NEW = "canary horse 71", "canary donkey 72", "canary mule 73"
IN_A_PATH = "canary-0-path-segment-of-forty-characters-7"  # WEBHOOK_SECRET, as a provider calls with it
AGENT, QUERY = "canary-agent/7.1", "canary-query-7"


class Fault(Exception):
    """Something that nobody expected, whose text holds what it should not."""


def a_day(world: World, monkeypatch: Any, in_a_fault: str = "") -> list[str]:
    """Sign up, get a code wrong, sign in, meet a fault, recover, sign in by phone. Returns every canary.

    `in_a_fault`: what stands in the text of that fault's exception besides an address, a number, a code and a token.
    """
    person = world.person(email=EMAIL, password=PASSWORD)
    person.api.headers["User-Agent"] = AGENT
    person.sign_up()
    person.api.post("/api/auth/login", {"identifier": EMAIL, "password": WRONG})
    asked = person.ask_signin().ok()
    person.api.post("/api/auth/login/verify", {"challenge_id": asked["challenge_id"], "otp": "000000"})
    signed_in = person.verify_signin(asked["challenge_id"], world.read("email", EMAIL)).ok()
    person.api.get("/api/auth/me", signed_in["access_token"] + "x")
    _fail(world, monkeypatch, person.token, in_a_fault)
    asked = person.api.post("/api/auth/forgot-password", {"email": EMAIL}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": world.read("email", EMAIL), "new_password": NEW}
    person.api.post("/api/auth/reset-password", body).ok()
    world.api().post("/api/v1/auth/send-otp", {"mobile_number": PHONE}).ok()
    world.deliver()
    client = world.app.test_client()
    client.post(f"/api/webhooks/msg91/{IN_A_PATH}?q={QUERY}", json=[{"requestId": "none", "report": []}])
    client.get(f"/api/auth/me?q={QUERY}", headers={"Cookie": f"session={person.token}", "X-API-Key": QUERY})
    codes = [m.code for sender in world.senders.values() for m in sender.messages if m.code]
    assert len(set(codes)) >= 4
    tokens = [person.tokens[name] for name in ("access_token", "refresh_token")]
    secrets = [*SECRETS.values(), IN_A_PATH, AGENT, QUERY]
    return [EMAIL, PHONE, PHONE[1:], PASSWORD, WRONG, NEW, *codes, *tokens, signed_in["access_token"], signed_in["refresh_token"], *secrets]  # fmt: skip


def _fail(world: World, monkeypatch: Any, token: str, also: str) -> None:
    def broken(*_: Any) -> None:
        code = world.senders["email"].messages[-1].code
        raise Fault(f"Key (email)=({EMAIL}), ({PHONE}) and {code} with {token} {also}")

    with monkeypatch.context() as patched:
        patched.setattr("app.core.sessions.live_account", broken)
        answer = world.app.test_client().get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 500
