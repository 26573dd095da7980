"""FastAPI, Flask and Django: one app in each, and the same requests get the same answers."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import flask
import latchkey_client.fastapi
import latchkey_client.flask
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from fastapi import Depends, FastAPI
from latchkey_client import Caller, Verifier
from latchkey_client import django as in_django
from latchkey_client import problems as shown
from latchkey_client.errors import Forbidden, StepUpNeeded, TokenMissing, Unavailable

from tests.clients import django_settings
from tests.clients.hostile import verifier
from tests.clients.mint import AUDIENCE, ISSUER, KEY, NOW, private, shared
from tests.clients.stub import Stub

MINT = shared(KEY)


def told(caller: Caller) -> dict[str, Any]:
    return {"id": caller.user_id, "role": caller.role}


def judge() -> Verifier:
    return Verifier(issuer=ISSUER, audience=AUDIENCE, secrets=[KEY], clock=lambda: NOW)


assert django_settings.settings.configured


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


Call = Callable[..., Answer]


def of_fastapi(*, installed: bool = True, judged_by: Verifier | None = None) -> Call:
    auth, app = latchkey_client.fastapi.Auth(judged_by or judge()), FastAPI()
    if installed:
        auth.install(app)
    recently = Annotated[Caller, Depends(auth.recent(600))]
    doctors = Annotated[Caller, Depends(auth.role("doctor", "admin"))]
    prescribers = Annotated[Caller, Depends(auth.role("doctor", max_age=600))]

    @app.get("/me")
    def me(caller: Annotated[Caller, Depends(auth.user)]) -> dict[str, Any]:
        return told(caller)

    @app.get("/patients")
    def patients(caller: doctors) -> dict[str, Any]:
        return told(caller)

    @app.post("/prescriptions")
    def prescribe(caller: prescribers) -> dict[str, Any]:
        return told(caller)

    @app.get("/recent")
    async def recent(caller: recently) -> dict[str, Any]:
        return told(caller)

    @app.get("/raised")
    def raised(caller: Annotated[Caller, Depends(auth.user)]) -> None:
        auth.verifier.require(caller, "admin")

    def call(where: str, token: str | None = None, method: str = "GET") -> Answer:
        return asyncio.run(over_asgi(app, where, token, method))

    return call


async def over_asgi(
    app: FastAPI,
    where: str,
    token: str | None,
    method: str,
    read: Callable[[bytes], Any] = json.loads,
    *,
    query: bytes = b"",
) -> Answer:
    """One request, as a server would hand it over."""
    sent: list[Any] = []
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": where,
        "raw_path": where.encode(), "query_string": query, "root_path": "", "headers": headers, "client": None, "server": None,
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *parts = sent
    body = b"".join(part["body"] for part in parts)
    return Answer(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, read(body))


def test_a_preflight_passes_the_guard_of_a_blueprint_where_no_view_would_see_it() -> None:
    auth, app = latchkey_client.flask.Auth(judge()), flask.Flask(__name__)
    closed = flask.Blueprint("closed", __name__)
    closed.before_request(auth.check())
    closed.get("/by-itself", endpoint="itself")(lambda: told(auth.caller))
    closed.route("/by-view", endpoint="view", methods=["GET", "OPTIONS"])(lambda: told(auth.caller))
    app.register_blueprint(closed)
    client = app.test_client()
    assert client.options("/by-itself").status_code == 200
    assert client.options("/by-itself").data == b""
    refused = (client.options("/by-view"), client.get("/by-itself"), client.head("/by-itself"))
    assert [each.status_code for each in refused] == [401] * 3


def of_flask() -> Call:
    auth, app = latchkey_client.flask.Auth(judge()), flask.Flask(__name__)
    auth.install(app)
    app.get("/me")(auth.user(lambda: told(auth.caller)))
    app.add_url_rule("/patients", "patients", auth.role("doctor", "admin")(lambda: told(auth.caller)))
    doctors = auth.role("doctor", max_age=600)(lambda: told(auth.caller))
    app.add_url_rule("/prescriptions", "prescriptions", doctors, methods=["POST"])
    app.add_url_rule("/recent", "recent", auth.recent(600)(lambda: told(auth.caller)))

    @app.get("/raised")
    @auth.user
    def raised() -> None:
        auth.verifier.require(auth.caller, "admin")

    closed = flask.Blueprint("closed", __name__)
    closed.before_request(auth.check("admin"))
    closed.get("/closed")(lambda: told(auth.caller))
    app.register_blueprint(closed)

    def call(where: str, token: str | None = None, method: str = "GET") -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        got = app.test_client().open(where, method=method, headers=headers)
        return Answer(got.status_code, {k.lower(): v for k, v in got.headers}, got.get_json(force=True))

    return call


@in_django.user
def me(request: Any) -> JsonResponse:
    return JsonResponse(told(request.caller))


@in_django.role("admin")
async def closed(request: Any) -> JsonResponse:
    return JsonResponse(told(request.caller))


@in_django.user
def raised(request: Any) -> None:
    settings.LATCHKEY.require(request.caller, "admin")


def anybody(request: Any) -> JsonResponse:
    return JsonResponse({"role": request.caller and request.caller.role})


class Coroutines(View):
    async def get(self, request: Any) -> JsonResponse:
        return JsonResponse(told(request.caller))


@method_decorator(in_django.user, name="dispatch")
class Prescriptions(View):
    async def get(self, request: Any) -> JsonResponse:
        return JsonResponse(told(request.caller))

    @method_decorator(in_django.role("doctor"))
    async def post(self, request: Any) -> JsonResponse:
        return JsonResponse(told(request.caller))


class Unguarded(View):
    @method_decorator(in_django.user)
    def post(self, request: Any) -> JsonResponse:
        return JsonResponse(told(request.caller))


@method_decorator(in_django.role("admin"), name="dispatch")
class OfAdmins(View):
    def get(self, request: Any) -> JsonResponse:
        return JsonResponse(told(request.caller))


urlpatterns = [
    path("class/of-coroutines", in_django.role("admin")(Coroutines.as_view())),
    path("class/prescriptions", Prescriptions.as_view()),
    path("class/unguarded", Unguarded.as_view()),
    path("class/of-admins", OfAdmins.as_view()),
    path("me", me),
    path("patients", in_django.role("doctor", "admin")(lambda request: JsonResponse(told(request.caller)))),
    path("prescriptions", in_django.role("doctor", max_age=600)(lambda request: JsonResponse(told(request.caller)))),
    path("recent", in_django.recent(600)(lambda request: JsonResponse(told(request.caller)))),
    path("raised", raised),
    path("closed", closed),
    path("anybody", anybody),
]


def of_django() -> Call:
    client = Client(enforce_csrf_checks=True)

    def call(where: str, token: str | None = None, method: str = "GET") -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with override_settings(ROOT_URLCONF=__name__, LATCHKEY=judge()):
            got = client.generic(method, where, headers=headers)
        return Answer(got.status_code, {k.lower(): v for k, v in got.headers.items()}, json.loads(got.content))

    return call


@pytest.fixture(params=[of_fastapi, of_flask, of_django], ids=["fastapi", "flask", "django"])
def call(request: pytest.FixtureRequest) -> Call:
    made: Call = request.param()
    return made


def test_who_may_pass_passes_and_is_known(call: Call) -> None:
    claims = MINT.claims(role="doctor", auth_time=NOW - 300)
    token = MINT.signed(MINT.header(), claims)
    for where, method in (("/me", "GET"), ("/patients", "GET"), ("/prescriptions", "POST"), ("/recent", "GET")):
        answer = call(where, token, method)
        assert (answer.status, answer.body) == (200, {"id": claims["sub"], "role": "doctor"}), where


def refusal(answer: Answer, status: int, code: str) -> str:
    """Checks what holds for every refusal; the challenge, if there is one."""
    assert (answer.status, answer.body["status"], answer.body["code"]) == (status, status, code)
    assert answer.body["type"] == f"urn:latchkey:problem:{code}"
    assert answer.body["title"]
    assert answer.body["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.headers.get("www-authenticate", "")


def test_without_a_token_the_challenge_names_no_error(call: Call) -> None:
    assert refusal(call("/me"), 401, "token_missing") == 'Bearer realm="clinic"'


def test_a_bad_token_is_401_with_the_challenge_of_rfc_6750(call: Call) -> None:
    challenge = refusal(call("/me", MINT.token()[:-4]), 401, "token_invalid")
    assert challenge.startswith('Bearer realm="clinic", error="invalid_token", error_description="')
    assert 'error="invalid_token"' in refusal(call("/patients", MINT.token(exp=NOW - 60)), 401, "token_expired")


def test_another_role_is_403(call: Call) -> None:
    for where, method in (("/patients", "GET"), ("/prescriptions", "POST")):
        assert 'error="insufficient_scope"' in refusal(call(where, MINT.token(), method), 403, "forbidden")


def test_an_old_sign_in_asks_for_a_step_up_as_rfc_9470_has_it(call: Call) -> None:
    token = MINT.token(role="doctor", auth_time=NOW - 700)
    for where, method in (("/prescriptions", "POST"), ("/recent", "GET")):
        answer = call(where, token, method)
        challenge = refusal(answer, 401, "insufficient_user_authentication")
        assert 'error="insufficient_user_authentication"' in challenge
        assert challenge.endswith(', max_age="600"')
        assert answer.body["max_age"] == 600


def test_a_refusal_that_a_view_raises_is_answered_in_the_same_form(call: Call) -> None:
    refusal(call("/raised", MINT.token()), 403, "forbidden")


def test_a_guard_without_roles_is_a_mistake() -> None:
    for role in (latchkey_client.fastapi.Auth(judge()).role, latchkey_client.flask.Auth(judge()).role, in_django.role):
        with pytest.raises(ValueError, match="name the roles"):
            role()


def publics(module: Any) -> list[str]:
    """What may be called of a module, or of its Auth: guards, and what a hurried reader may take for one."""
    found = vars(getattr(module, "Auth", module)).items()
    own = {name: each for name, each in found if getattr(each, "__module__", "") == module.__name__}
    return [name for name, each in own.items() if name[0] != "_" and callable(each)]


@pytest.mark.parametrize("name", publics(latchkey_client.fastapi))
@pytest.mark.parametrize("query", [b"", b"max_age=1", b"max_age=1&roles=user&app=x"])
def test_whatever_fastapi_is_given_without_a_call_lets_nobody_in(name: str, query: bytes) -> None:
    """`Depends(auth.recent)`: FastAPI would ask the client for what the call should have said."""
    auth, app, let_in = latchkey_client.fastapi.Auth(judge()), FastAPI(), []
    auth.install(app)
    with suppress(Exception):  # not taken at all, or told to the log
        app.get("/x", dependencies=[Depends(getattr(auth, name))])(lambda: let_in.append(name))
        asyncio.run(over_asgi(app, "/x", None, "GET", read=bytes, query=query))
    assert let_in == []


@pytest.mark.parametrize("name", publics(latchkey_client.flask))
@pytest.mark.parametrize("way", ["decorator", "before_request"])
def test_whatever_flask_is_given_without_a_call_lets_nobody_in(name: str, way: str) -> None:
    auth, app, let_in = latchkey_client.flask.Auth(judge()), flask.Flask(__name__), []

    def view(**_: str) -> str:
        let_in.append(name)
        return ""

    with suppress(AttributeError):  # not taken at all
        guard = getattr(auth, name)
        app.add_url_rule("/<view>", "x", guard(view) if way == "decorator" else view, methods=["GET", "OPTIONS"])
        app.before_request(guard if way == "before_request" else lambda: None)
        for method in ("GET", "OPTIONS"):
            assert app.test_client().open("/x", method=method).status_code >= 400
    assert let_in == []


@pytest.mark.parametrize("name", [name for name in publics(in_django) if name != "Middleware"])
def test_whatever_django_is_given_without_a_call_lets_nobody_in(name: str) -> None:
    let_in: list[Any] = []
    guard = getattr(in_django, name)
    with override_settings(LATCHKEY=judge()):
        views = [guard]
        with suppress(AttributeError):  # not taken at all
            views.append(guard(let_in.append))
        for view in views:
            with override_settings(ROOT_URLCONF=(path("x", view),)), suppress(AttributeError):  # of what is no answer
                assert Client(raise_request_exception=False).get("/x").status_code >= 400
    assert let_in == []


def test_fastapi_answers_with_status_and_challenge_even_if_nothing_is_installed() -> None:
    answer = of_fastapi(installed=False)("/me")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="clinic"')


def test_fastapi_documents_that_a_token_is_needed() -> None:
    auth, app = latchkey_client.fastapi.Auth(judge()), FastAPI()
    doctors = Annotated[Caller, Depends(auth.role("doctor"))]

    @app.get("/me")
    def me(caller: doctors) -> dict[str, Any]:
        return told(caller)

    document = app.openapi()
    assert document["paths"]["/me"]["get"]["security"] == [{"HTTPBearer": []}]
    assert document["components"]["securitySchemes"]["HTTPBearer"]["bearerFormat"] == "JWT"


def test_fastapi_closes_the_routes_of_one_app_and_neither_its_documents_nor_what_is_mounted() -> None:
    """The guide says so, and what to do."""

    def status(where: str, **given: Any) -> int:
        auth = latchkey_client.fastapi.Auth(judge())
        everybody = [Depends(auth.user)]
        app, inner, closed = FastAPI(dependencies=everybody, **given), FastAPI(), FastAPI(dependencies=everybody)
        for each in (app, inner, closed):
            auth.install(each)
            each.get("/x")(lambda: None)
        app.mount("/inner", inner)
        app.mount("/closed", closed)
        return asyncio.run(over_asgi(app, where, None, "GET", read=bytes)).status

    asked = ("/x", "/inner/x", "/closed/x", "/docs", "/redoc", "/openapi.json")
    assert [status(where) for where in asked] == [401, 200, 401, 200, 200, 200]
    assert [status(where, openapi_url=None) for where in asked[3:]] == [404] * 3


def test_keys_that_cannot_be_had_are_503_with_retry_after(stub: Stub) -> None:
    stub.broken = True
    mint = private("EdDSA")
    away = verifier(latchkey_client, mint, stub)
    answer = of_fastapi(judged_by=away)("/me", mint.token())
    assert refusal(answer, 503, "unavailable") == ""
    assert answer.headers["retry-after"] == str(answer.body["retry_after"]) == "5"


def test_a_whole_blueprint_is_closed() -> None:
    call = of_flask()
    refusal(call("/closed"), 401, "token_missing")
    refusal(call("/closed", MINT.token()), 403, "forbidden")
    assert call("/closed", MINT.token(role="admin")).status == 200


def test_flask_waits_for_views_that_are_coroutines() -> None:
    auth, app = latchkey_client.flask.Auth(judge()), flask.Flask(__name__)

    async def view() -> dict[str, Any]:
        return told(auth.caller)

    app.add_url_rule("/me", "me", auth.user(view))
    got = app.test_client().get("/me", headers={"Authorization": f"Bearer {MINT.token()}"})
    assert got.get_json()["role"] == "user"


def of_async_django() -> Call:
    client = AsyncClient(enforce_csrf_checks=True)

    def call(where: str, token: str | None = None, method: str = "GET") -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with override_settings(ROOT_URLCONF=__name__, LATCHKEY=judge()):
            got: Any = asyncio.run(client.generic(method, where, headers=headers))  # type: ignore[arg-type]
        return Answer(got.status_code, {k.lower(): v for k, v in got.headers.items()}, json.loads(got.content))

    return call


@pytest.mark.parametrize("make", [of_django, of_async_django], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("where", ["/closed", "/class/of-coroutines", "/class/of-admins"])
def test_django_guards_views_that_are_coroutines_or_classes(where: str, make: Callable[[], Call]) -> None:
    call = make()
    assert call(where, MINT.token(role="admin")).status == 200
    refusal(call(where, MINT.token()), 403, "forbidden")
    refusal(call(where), 401, "token_missing")


@pytest.mark.parametrize("make", [of_django, of_async_django], ids=["wsgi", "asgi"])
def test_a_guard_of_a_django_class_closes_its_methods_and_one_of_them_may_ask_for_more(
    make: Callable[[], Call],
) -> None:
    call, where = make(), "/class/prescriptions"
    assert call(where, MINT.token()).body["role"] == "user"
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        refusal(call(where, method=method), 401, "token_missing")
    refusal(call(where, MINT.token(), "POST"), 403, "forbidden")
    assert call(where, MINT.token(role="doctor"), "POST").body["role"] == "doctor", "and no CSRF token is asked for"


def test_django_goes_on_to_ask_for_its_csrf_token_where_a_method_alone_is_guarded() -> None:
    """A good token does not speak for the session cookie that may come with it, and other methods go by that."""
    with override_settings(ROOT_URLCONF=__name__, LATCHKEY=judge()):
        headers = {"Authorization": f"Bearer {MINT.token()}"}
        answer = Client(enforce_csrf_checks=True).post("/class/unguarded", headers=headers)
        assert (answer.status_code, b"CSRF" in answer.content) == (403, True)
        assert Client().post("/class/unguarded", headers=headers).status_code == 200


def test_a_django_view_without_a_guard_sees_who_calls_and_decides_itself() -> None:
    call = of_django()
    assert call("/anybody", MINT.token(role="doctor")).body == {"role": "doctor"}
    assert call("/anybody").body == call("/anybody", "bad").body == {"role": None}


def test_django_says_what_is_missing_in_its_settings() -> None:
    with pytest.raises(ImproperlyConfigured, match="LATCHKEY"):
        in_django.Middleware(lambda request: request)
    with override_settings(LATCHKEY=judge()), pytest.raises(ImproperlyConfigured, match="MIDDLEWARE"):
        me(HttpRequest())


def test_a_realm_cannot_break_out_of_its_quotes() -> None:
    header = shown.headers(TokenMissing(), 'a"b\\c\r\nSet-Cookie: é')["WWW-Authenticate"]
    assert header == 'Bearer realm="a\\"b\\\\c??Set-Cookie: ?"'
    assert shown.headers(Unavailable(retry_after=3), "x") == {"Cache-Control": "no-store", "Retry-After": "3"}
    assert "WWW-Authenticate" in shown.headers(Forbidden(), "x")
    assert 'max_age="9"' in shown.headers(StepUpNeeded(max_age=9), "x")["WWW-Authenticate"]
