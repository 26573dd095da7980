"""What a proxy says of a client's certificate is no proof of anybody here: no door takes it for a key, a token or a code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from app import SURFACES
from app.core.api_keys import Scope
from app.web.endpoint import Endpoint
from tests.conftest import World
from tests.lanes import SECRETS
from tests.mail import make_certificate
from tests.web.admins import of_role
from tests.web.test_machines import make_key

DOORS = [(surface.prefix, endpoint) for surface in SURFACES for endpoint in surface.endpoints if endpoint.guard.needed]
# nginx, Apache, Envoy, Traefik, HAProxy, AWS, Azure, Cloudflare, RFC 9440; and names that proxies give to a person.
CERTIFICATES = ("X-SSL-Client-Cert", "X-SSL-Cert", "Ssl-Client-Cert", "X-Client-Cert", "X-Client-Certificate",
                "X-Forwarded-Tls-Client-Cert", "X-Amzn-Mtls-Clientcert", "X-ARR-ClientCert", "Cf-Client-Cert-Der-Base64",
                "Client-Cert", "Client-Cert-Chain")  # fmt: skip
VERDICTS = (
    "X-SSL-Client-Verify",
    "Ssl-Client-Verify",
    "X-SSL-Client-Verified",
    "X-Client-Verify",
    "X-Client-Cert-Verified",
)
SUBJECTS = ("X-SSL-Client-S-DN", "X-SSL-Client-Subject", "X-SSL-Client-CN", "Ssl-Client-Subject-Dn", "X-Client-DN",
            "X-Forwarded-Tls-Client-Cert-Info", "X-Amzn-Mtls-Clientcert-Subject")  # fmt: skip
NAMES = ("Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Forwarded-Email", "X-Auth-Request-User", "X-User",
         "X-Authenticated-User", "X-Api-Key", "X-Admin-Token", "X-Inspection-Secret")  # fmt: skip
NEARBY = {"REMOTE_ADDR": "127.0.0.1"}  # the proxy itself, which is trusted
Told = tuple[dict[str, str], dict[str, str]]
NOTHING: Told = ({}, {})


def told(whose: str, folder: Path) -> Told:
    """What a proxy that has checked a certificate may pass on: as headers, and in the WSGI environment."""
    certificate = make_certificate(folder).read_text().partition("-----BEGIN CERTIFICATE-----")
    pem = certificate[1] + certificate[2]
    headers = dict.fromkeys(CERTIFICATES, quote(pem)) | dict.fromkeys(VERDICTS, "SUCCESS")
    headers |= dict.fromkeys(SUBJECTS, f"CN={whose},O=clinic") | dict.fromkeys(NAMES, whose)
    headers["X-Forwarded-Client-Cert"] = f'By=spiffe://clinic/latchkey;Hash=00;Subject="CN={whose}";URI={whose}'
    within = {"SSL_CLIENT_CERT": pem, "SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_S_DN": f"CN={whose}",
              "REMOTE_USER": whose, "AUTH_TYPE": "ssl", "wsgi.peercert": pem}  # fmt: skip
    return headers, within


def ask(world: World, what: str, token: str | None, told: Told, body: Any = None) -> tuple[int, str]:
    """Status and code of a request, `GET /path`, that is refused."""
    method, path = what.split(" ")
    headers, within = told
    given = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
    answer = world.app.test_client().open(
        path, method=method, headers=given, environ_base={**NEARBY, **within}, json=body
    )
    return answer.status_code, answer.get_json()["code"]


def example(endpoint: Endpoint) -> Any:
    """A body in the right form, for one that is none is refused before anybody is asked who they are."""
    return endpoint.body.model_config["json_schema_extra"]["examples"][0] if endpoint.body else None


@pytest.mark.one_lane
@pytest.mark.covers("asvs 12.1.3")
@pytest.mark.parametrize("caller", ["nobody", "user", "ended session", "key of another scope"])
def test_with_a_certificate_a_door_stays_as_closed_as_without(make_world: Any, tmp_path: Path, caller: str) -> None:
    world = make_world(ratelimit=False, trusted_proxies=1)
    admin, user = of_role(world, "admin"), world.person().sign_up()
    gone = world.person().sign_up()
    gone.api.post("/api/auth/logout", {}, gone.token).ok()
    keys = {scope: make_key(world, *(other for other in Scope if other is not scope)) for scope in Scope}
    tokens = {"nobody": None, "user": user.token, "ended session": gone.token}
    closed = {"nobody": 401, "ended session": 401}
    tried = 0
    for whose in (admin.email, admin.tokens["user"]["id"], SECRETS["api_key"]):
        shown = told(whose, tmp_path)
        for prefix, endpoint in DOORS:
            guard = endpoint.guard
            if caller == "user" and not guard.permission:
                continue  # theirs to open
            if caller == "key of another scope" and not guard.scope:
                continue
            token = keys[guard.scope] if caller == "key of another scope" and guard.scope else tokens.get(caller)
            door = f"{endpoint.method} {prefix}" + re.sub("<.*?>", str(uuid4()), endpoint.path)
            answer = ask(world, door, token, shown, example(endpoint))
            assert answer == ask(world, door, token, NOTHING, example(endpoint)), door
            assert answer[0] == closed.get(caller, answer[0]) in (401, 403), (door, answer)
            tried += 1
    assert tried >= 3 * (4 if caller == "key of another scope" else 20)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 12.1.3")
def test_with_a_certificate_nobody_is_signed_in_and_no_figure_is_shown(make_world: Any, tmp_path: Path) -> None:
    world = make_world(ratelimit=False, trusted_proxies=1)
    person = world.person().sign_up()
    shown = told(person.email, tmp_path)
    assert ask(world, "GET /metrics", None, shown) == (401, "token_missing")
    wrong = {"identifier": person.email, "password": "some horse 8"}
    assert ask(world, "POST /api/auth/login", None, shown, wrong) == (401, "invalid_credentials")
    asked = person.api.call("POST", "/api/auth/login", wrong | {"password": person.password}, **shown[0]).ok()
    assert asked["status"] == "otp_required"
    guess = {"challenge_id": asked["challenge_id"], "otp": "000000" if person.code() != "000000" else "000001"}
    assert ask(world, "POST /api/auth/login/verify", None, shown, guess) == (400, "invalid_code")
