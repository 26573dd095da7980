"""integration_guide.md and the package's own page: each sample is run, or compared with what is."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any
from uuid import uuid4

import jwt
import latchkey_client
import pytest
from django.test import Client, override_settings
from django.urls import path
from latchkey_client import problems

from app.core.tokens import GRACE
from tests.backends import ROOT
from tests.clients import django_settings, hostile
from tests.clients.mint import KEY, OLD, Mint, private, shared
from tests.clients.stub import Stub
from tests.clients.test_frameworks import Answer, over_asgi

GUIDE = (ROOT / "integration_guide.md").read_text()
PACKAGE_PAGE = (ROOT / "clients" / "python" / "README.md").read_text()
SERVICE = "https://auth.example.com"

assert django_settings.settings.configured


def sections(page: str = GUIDE) -> dict[str, str]:
    return {part.splitlines()[0]: part for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]}


def blocks(section: str, language: str, page: str = GUIDE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", sections(page)[section], re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET_KEY", KEY)
    monkeypatch.setenv("JWT_PREVIOUS_SECRET_KEYS", OLD)
    monkeypatch.setenv("LATCHKEY_API_KEY", Stub.api_key)


@pytest.fixture
def mint() -> Mint:
    return replace(shared(KEY), now=int(time.time()), audience="latchkey")


def run(code: str, stub: Stub) -> dict[str, Any]:
    """The names that a sample defines, with the stub in the place of the service."""
    place: dict[str, Any] = {"__name__": "sample"}
    exec(code.replace(SERVICE, stub.base), place)
    return place


@pytest.mark.covers("asvs 7.1.3")
def test_the_fastapi_sample(mint: Mint, stub: Stub) -> None:
    [sample] = blocks("FastAPI", "python")
    place = run(sample, stub)

    def call(where: str, token: str | None = None) -> Answer:
        return asyncio.run(over_asgi(place["app"], where, token, "GET"))

    old = replace(shared(OLD), now=mint.now, audience="latchkey")
    session = str(uuid4())
    stub.revoke(session, mint.now)
    assert call("/me", mint.token()).body["role"] == "user"
    assert call("/me", old.token()).status == 200
    assert call("/me", mint.token(sid=session)).body["code"] == "token_revoked"
    assert call("/me").body["code"] == "token_missing"
    assert call("/patients", mint.token()).body["code"] == "forbidden"
    assert call("/patients", mint.token(role="admin")).status == 200
    place["auth"].verifier.revocations.close()


def test_the_flask_sample(mint: Mint, stub: Stub) -> None:
    [sample] = blocks("Flask", "python")
    client = run(sample, stub)["app"].test_client()
    for where, least in (("/me", "user"), ("/patients", "doctor"), ("/staff/rota", "doctor")):
        for role in ("user", "doctor", "admin"):
            got = client.get(where, headers={"Authorization": f"Bearer {mint.token(role=role)}"})
            assert got.status_code == (403 if least == "doctor" and role == "user" else 200), (where, role)
        assert client.get(where).status_code == 401


@pytest.fixture
def urls() -> Iterator[ModuleType]:
    module = sys.modules["urls_of_the_guide"] = ModuleType("urls_of_the_guide")
    yield module
    del sys.modules["urls_of_the_guide"]


def test_the_django_sample(mint: Mint, stub: Stub, urls: Any) -> None:
    in_settings, in_views, of_class = blocks("Django", "python")
    chosen, views = run(in_settings, stub), run(in_views + of_class, stub)
    prescriptions = path("prescriptions", views["Prescriptions"].as_view())
    urls.urlpatterns = [path("me", views["me"]), path("patients", views["patients"]), prescriptions]
    with override_settings(
        ROOT_URLCONF="urls_of_the_guide",
        LATCHKEY=chosen["LATCHKEY"],
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware", *chosen["MIDDLEWARE"]],
    ):
        client = Client(enforce_csrf_checks=True)
        assert client.get("/me").status_code == client.options("/prescriptions").status_code == 401
        for role, status in (("user", 403), ("doctor", 200)):
            headers = {"Authorization": f"Bearer {mint.token(role=role)}"}
            assert client.get("/me", headers=headers).json()["role"] == role
            assert client.get("/patients", headers=headers).status_code == status
            assert client.get("/prescriptions", headers=headers).status_code == 200
            assert client.post("/prescriptions", headers=headers).status_code == {403: 403, 200: 201}[status]


# Types of claims beside what PyJWT checks, a good token with a = at its end, and length: none of them lets a stranger in.
SLOPPY = re.compile(r"(sub|sid|role|jti|amr|auth_time) |no (jti|amr)|exp |iat 1.5|spelling 4|too long")


@pytest.mark.covers("asvs 9.1.2", "asvs 9.2.3", "attack A41")
def test_the_pyjwt_sample_lets_no_stranger_in(mint: Mint, stub: Stub) -> None:
    [sample] = blocks("PyJWT alone", "python")
    caller = run(sample, stub)["caller"]
    assert caller(mint.token(role="doctor"), [OLD, KEY], "latchkey", "latchkey")["role"] == "doctor"
    hostile_ones = hostile.tokens(replace(mint, audience="clinic"))
    passed = []
    for name, token in hostile_ones.items():
        try:
            caller(token, [KEY], "latchkey", "clinic")
        except jwt.InvalidTokenError:
            continue
        passed.append(name)
    assert [name for name in passed if not SLOPPY.match(name)] == []


@pytest.mark.covers("asvs 9.1.2", "attack A41")
def test_the_pyjwt_sample_takes_no_blank_and_no_short_secret(mint: Mint, stub: Stub) -> None:
    """An unset JWT_PREVIOUS_SECRET_KEYS, split at its commas, is one blank secret, by which anybody can sign."""
    [sample] = blocks("PyJWT alone", "python")
    caller = run(sample, stub)["caller"]
    for blank in ("", "  "):
        forged = replace(shared(blank), now=mint.now, audience="latchkey").token(role="admin")
        with pytest.raises(jwt.InvalidTokenError):
            caller(forged, [KEY, blank], "latchkey", "latchkey")
        assert caller(mint.token(), [KEY, blank], "latchkey", "latchkey")["role"] == "user"
    for weak in ([""], [KEY, "x" * 31], []):
        with pytest.raises(ValueError, match="32 bytes"):
            caller(mint.token(), weak, "latchkey", "latchkey")


def test_the_way_to_public_keys(mint: Mint, stub: Stub) -> None:
    [sample] = blocks("Public keys", "python")
    keys = replace(private("EdDSA", "ed"), now=mint.now, audience="latchkey")
    assert run(sample, stub)["verifier"].verify(keys.token(role="doctor")).role == "doctor"
    [made] = re.findall(r"`keys = (jwt\.PyJWKClient\(.+?\))`", GUIDE)
    [asked] = re.findall(r"`(keys\.get_signing_key_from_jwt\(token\))`", GUIDE)
    client = eval(made.replace(SERVICE, stub.base))
    key = eval(asked, {"keys": client, "token": keys.token()})
    assert jwt.decode(keys.token(), key, algorithms=["EdDSA"], audience="latchkey")["role"] == "user"


def test_the_package_s_own_page(mint: Mint, capsys: pytest.CaptureFixture[str]) -> None:
    [sample] = re.findall(r"^```python\n(.*?)^```", PACKAGE_PAGE, re.MULTILINE | re.DOTALL)
    exec(sample, {"SECRET": KEY, "TOKEN": mint.token(sub="7f", role="doctor")})
    assert capsys.readouterr().out == "7f doctor\n"
    for name in re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", PACKAGE_PAGE, re.MULTILINE):
        for part in filter(None, name):
            known = part in latchkey_client.Verifier.__init__.__annotations__ or hasattr(latchkey_client, part)
            assert known, part


def test_the_express_samples_are_those_of_the_example() -> None:
    program = (ROOT / "examples" / "node" / "server.js").read_text()
    samples = blocks("Express", "js")
    assert len(samples) == 2
    for sample in samples:
        assert sample in program


def test_the_fastapi_example_guards_as_the_guide_does() -> None:
    program = (ROOT / "examples" / "fastapi" / "main.py").read_text()
    for guard in re.findall(r"Depends\((auth\.\w+(?:\([^)]*\))?)\)", blocks("FastAPI", "python")[0]):
        assert f"Depends({guard})" in program


def test_the_answers_are_as_shown() -> None:
    [answer] = blocks("What your callers see", "json")
    assert json.loads(answer) == json.loads(problems.body(latchkey_client.Forbidden()))
    every = [each for each in vars(latchkey_client).values() if isinstance(each, type) and hasattr(each, "code")]
    for refused in (each for each in every if each is not latchkey_client.Refused):
        assert re.search(rf"`{refused.code}`.* \| {refused.status} \|", GUIDE), refused


def test_a_token_says_what_the_guide_says(mint: Mint, stub: Stub) -> None:
    [shown] = blocks("What a token says", "json")
    claims = json.loads(shown)
    assert claims.keys() == mint.claims().keys()
    judge = latchkey_client.Verifier(
        issuer="latchkey", audience="latchkey", secrets=[KEY], clock=lambda: claims["iat"] + 1
    )
    assert judge.verify(mint.signed(mint.header(), claims)).role == "doctor"


def test_the_feed_is_read_as_the_guide_shows_it(mint: Mint, stub: Stub) -> None:
    [shown] = blocks("Sign-outs", "json")
    stub.form = json.loads(shown)
    [item] = stub.form["items"]
    at = int(time.mktime(time.strptime(item["revoked_at"], "%Y-%m-%dT%H:%M:%SZ"))) - time.timezone
    judge = hostile.with_feed(latchkey_client, stub, audience="latchkey", clock=lambda: at, background=False)
    with pytest.raises(latchkey_client.TokenRevoked):
        judge.verify(mint.token(sid=item["session_id"], iat=at))


def test_the_deadlines_for_a_frontend_leave_room_for_the_repeat() -> None:
    """And those of the example are the same."""
    section = " ".join(sections()["Your own frontend"].split())
    [within], [wait] = re.findall(r"again within (\d+) seconds", section), re.findall(r"Wait (\d+) seconds", section)
    assert int(within) == GRACE.total_seconds()
    source = (ROOT / "examples" / "nextjs" / "lib" / "session.ts").read_text()
    [shown] = re.findall(r"^const REFRESH_PATIENCE_MS = \[([0-9_]+), ([0-9_]+)\]", source, re.MULTILINE)
    first, second = (int(text) / 1000 for text in shown)
    assert first == int(wait)
    assert first + second < GRACE.total_seconds()


@pytest.mark.parametrize(
    "name",
    ["integration_guide.md", "clients/python/README.md", "examples/fastapi/README.md", "examples/node/README.md"],
)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in slugs, link
