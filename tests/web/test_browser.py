"""The browser dialect: both sets of routes, its cookies, and what other sites may not do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from werkzeug.test import TestResponse

from app.models import OtpChallenge, Session, User
from tests.authenticator import enrol
from tests.conftest import World
from tests.lanes import ROOT
from tests.pages import named, table
from tests.people import PASSWORD, Person, check_document, while_hashing, wrong

EMAIL = "jane@example.com"
HTTPS = "https://auth.example.com"
OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}


class Browser:
    """A client that keeps cookies, as curl does with a jar and a browser does by itself."""

    def __init__(self, world: World, **headers: str) -> None:
        self.world, self.headers = world, headers
        self.client = world.app.test_client()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        given = {"json": body} if body is not None else {}
        answer = self.client.open(path, method=method, headers={**self.headers, **headers}, **given)
        self.world.deliver()
        shown = type("Shown", (), {"status": answer.status_code, "body": answer.get_json(), "code": (answer.get_json() or {}).get("code")})  # fmt: skip
        check_document(method, path, shown)
        return answer

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        return self.send("POST", path, body, **headers)

    def code(self, email: str = EMAIL) -> str:
        return self.world.read("email", email)

    def sign_up(self, email: str = EMAIL) -> TestResponse:
        self.post("/signup", {"name": "Jane", "email": email, "password": PASSWORD})
        return self.post("/verify-otp", {"email": email, "otp": self.code(email)})

    def log_in(self, email: str = EMAIL, password: str = PASSWORD) -> TestResponse:
        self.world.clock.advance(minutes=2)
        self.post("/login", {"email": email, "password": password})
        return self.post("/verify-otp", {"email": email, "otp": self.code(email)})

    def inside(self) -> bool:
        return self.send("GET", "/protected").status_code == 200

    @property
    def cookie(self) -> str:
        found = self.client.get_cookie("session")
        return found.value if found else ""


@pytest.fixture
def browser(world: World) -> Browser:
    return Browser(world)


def json_of(answer: TestResponse) -> Any:
    return answer.get_json()


def cookies_set(answer: TestResponse) -> dict[str, str]:
    return {line.partition("=")[0]: line for line in answer.headers.getlist("Set-Cookie")}


def test_the_first_set_of_routes_with_exactly_its_messages(browser: Browser) -> None:
    made = browser.post("/signup", {"name": "Jane", "email": EMAIL, "password": PASSWORD})
    assert (made.status_code, json_of(made)["message"]) == (200, "Account created successfully")
    assert (json_of(made)["expires_in"], json_of(made)["expires_in_seconds"]) == ("5 minutes", 300)
    done = browser.post("/verify-otp", {"email": EMAIL, "otp": browser.code()})
    assert (done.status_code, json_of(done)["message"]) == (200, "Login successful")
    assert json_of(done)["user"]["email"] == EMAIL
    assert browser.post("/logout").get_json() == {"message": "Logged out successfully"}
    assert not browser.inside()
    browser.world.clock.advance(minutes=2)
    asked = json_of(browser.post("/login", {"email": EMAIL, "password": PASSWORD}))
    assert (asked["message"], asked["expires_in"]) == ("OTP sent to your email", "5 minutes")
    assert asked["challenge_id"]
    browser.world.clock.advance(seconds=31)
    assert browser.post("/resend-otp", {"email": EMAIL}).get_json() == {"message": "New OTP sent to your email"}
    assert (
        json_of(browser.post("/verify-otp", {"email": EMAIL, "otp": browser.code()}))["message"] == "Login successful"
    )
    welcome = browser.send("GET", "/protected")
    assert json_of(welcome)["message"] == "Welcome to protected area"
    assert json_of(welcome)["user"]["email"] == EMAIL


def test_the_second_set_of_routes_with_exactly_its_messages(world: World, browser: Browser) -> None:
    body = {"username": "jane", "email": EMAIL, "phone": "+919876543210", "password": PASSWORD}
    made = browser.post("/register", body)
    assert (made.status_code, json_of(made)["message"]) == (200, "User registered successfully")
    done = browser.post("/verify-otp", {"identifier": EMAIL, "otp": browser.code()})
    assert json_of(done)["user"]["username"] == "jane"
    pending = json_of(done)["pending"]
    assert (pending["channel"], pending["expires_in"], pending["expires_in_seconds"]) == ("sms", "3 minutes", 180)
    proven = browser.post("/verify-otp", {"identifier": "+919876543210", "otp": world.read("sms", "+919876543210")})
    assert json_of(proven)["user"]["phone"] == "+919876543210"
    world.clock.advance(minutes=2)
    assert json_of(browser.post("/forgot-password", {"identifier": "jane"})) == {"message": "OTP sent successfully"}
    checked = browser.post("/validate-otp", {"identifier": "jane", "otp": browser.code()})
    assert json_of(checked) == {"message": "OTP verified. Proceed to reset password."}
    changed = browser.post("/reset-password", {"identifier": "jane", "new_password": "another horse 8"})
    assert json_of(changed) == {"message": "Password reset successful"}
    assert not browser.inside(), "a reset ends every session"
    world.clock.advance(minutes=2)
    for name in ("jane", EMAIL, "+919876543210"):
        asked = browser.post("/login", {"identifier": name, "password": "another horse 8"})
        assert asked.status_code == 200, name


def test_with_the_code_a_reset_is_one_step(browser: Browser) -> None:
    browser.sign_up()
    browser.world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    body = {"identifier": EMAIL, "new_password": "another horse 8", "otp": browser.code()}
    assert browser.post("/reset-password", body).status_code == 200
    assert browser.post("/reset-password", body).status_code == 410


@pytest.mark.parametrize("granted", [True, False], ids=["by a grant", "by the code"])
def test_a_reset_ends_also_the_session_of_somebody_else_in_this_browser(
    world: World, browser: Browser, granted: bool
) -> None:
    """Its cookie is cleared, so that nobody could end it here any more."""
    Browser(world).sign_up("other@example.com")
    browser.sign_up()
    kept = browser.cookie
    world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": "other@example.com"})
    answer = {"identifier": "other@example.com", "otp": browser.code("other@example.com")}
    if granted:
        browser.post("/validate-otp", answer)
        del answer["otp"]
    assert browser.post("/reset-password", answer | {"new_password": "another horse 8"}).status_code == 200
    thief = Browser(world)
    thief.client.set_cookie("session", kept)
    assert not thief.inside()


def test_a_grant_does_not_wait_for_whoever_signs_in_next(world: World, browser: Browser) -> None:
    Browser(world).sign_up("other@example.com")
    browser.sign_up()
    world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": "other@example.com"})
    browser.post("/validate-otp", {"identifier": "other@example.com", "otp": browser.code("other@example.com")})
    browser.log_in()
    reset = browser.post("/reset-password", {"identifier": "other@example.com", "new_password": "another horse 8"})
    assert reset.status_code == 410


@pytest.mark.covers("asvs 6.4.3", "attack A18")
def test_identifier_and_new_password_alone_reset_nothing(browser: Browser) -> None:
    browser.sign_up()
    body = {"identifier": EMAIL, "new_password": "another horse 8"}
    assert browser.post("/reset-password", body).status_code == 410
    browser.world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    assert browser.post("/reset-password", body).status_code == 410
    browser.post("/validate-otp", {"identifier": EMAIL, "otp": browser.code()})
    stranger = Browser(browser.world)
    assert stranger.post("/reset-password", body).status_code == 410, "the grant is this browser's alone"
    assert browser.post("/reset-password", body).status_code == 200


def test_a_grant_is_for_one_account_once_and_for_five_minutes(browser: Browser) -> None:
    browser.sign_up()
    Browser(browser.world).sign_up("other@example.com")
    browser.world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    browser.post("/validate-otp", {"identifier": EMAIL, "otp": browser.code()})
    other = {"identifier": "other@example.com", "new_password": "another horse 8"}
    assert browser.post("/reset-password", other).status_code == 410
    weak = browser.post("/reset-password", {"identifier": EMAIL, "new_password": "password"})
    assert (weak.status_code, json_of(weak)["errors"][0]["field"]) == (422, "new_password")
    browser.world.clock.advance(minutes=5)
    assert browser.post("/reset-password", other | {"identifier": EMAIL}).status_code == 410


def test_a_grant_that_was_used_while_the_password_was_hashed_is_used(world: World, browser: Browser) -> None:
    browser.sign_up()
    world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    browser.post("/validate-otp", {"identifier": EMAIL, "otp": browser.code()})

    def use() -> None:
        with world.kit.writes.begin() as db:
            db.execute(sa.update(OtpChallenge).values(grant_digest=None))

    with while_hashing(world, use):
        late = browser.post("/reset-password", {"identifier": EMAIL, "new_password": "another horse 8"})
    assert late.status_code == 410
    assert browser.inside(), "nothing was changed"


def test_a_grant_is_void_once_the_password_was_changed(world: World, browser: Browser) -> None:
    browser.sign_up()
    world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    browser.post("/validate-otp", {"identifier": EMAIL, "otp": browser.code()})
    person = world.person(email=EMAIL).sign_in()
    body = {"current_password": PASSWORD, "new_password": "changed horse 9"}
    person.api.post("/api/auth/change-password", body, person.token).ok()
    again = browser.post("/reset-password", {"identifier": EMAIL, "new_password": "another horse 8"})
    assert again.status_code == 410


def test_known_and_unknown_are_told_alike_when_they_forget(browser: Browser) -> None:
    browser.sign_up()
    browser.world.clock.advance(minutes=2)
    answers = [
        Browser(browser.world).post("/forgot-password", {"identifier": who}) for who in (EMAIL, "no@example.com")
    ]
    assert json_of(answers[0]) == json_of(answers[1])
    assert [sorted(cookies_set(a)) for a in answers] == [["challenge"], ["challenge"]]
    for who in (EMAIL, "no@example.com"):
        guesses = [Browser(browser.world).post("/validate-otp", {"identifier": who, "otp": "000000"}) for _ in range(3)]
        assert [a.status_code for a in guesses] == [400, 400, 410], "the last guess is its holder's"


def test_where_policy_asks_no_code_the_cookie_is_set_at_once(make_world: Any) -> None:
    world = make_world(mfa_policy="optional")
    browser = Browser(world)
    browser.sign_up()
    other = Browser(world)
    answer = other.post("/login", {"email": EMAIL, "password": PASSWORD})
    assert json_of(answer)["message"] == "Login successful"
    assert other.inside()


def test_some_roles_always_give_a_code(make_world: Any) -> None:
    world = make_world(mfa_policy="optional", mfa_required_roles=("admin", "doctor"))
    browser = Browser(world)
    browser.sign_up()
    with world.kit.writes.begin() as db:
        db.query(User).update({"role": "doctor"})
    asked = Browser(world).post("/login", {"email": EMAIL, "password": PASSWORD})
    assert json_of(asked)["message"] == "OTP sent to your email"


@pytest.mark.covers("asvs 3.3.1", "asvs 3.3.2", "asvs 3.3.4", "asvs 7.2.4", "asvs 3.3.3")
@pytest.mark.covers("nist N42", "asvs 3.3.5")
def test_the_cookies_of_production(make_world: Any) -> None:
    world = make_world(environment="production", public_url="https://auth.example.com")
    browser = Browser(world)
    answer = browser.client.post(
        "/signup", json={"name": "Jane", "email": EMAIL, "password": PASSWORD}, base_url="https://auth.example.com"
    )
    world.deliver()
    done = browser.client.post(
        "/verify-otp", json={"email": EMAIL, "otp": browser.code()}, base_url="https://auth.example.com"
    )
    line = cookies_set(done)["__Host-session"]
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(line.split("; "))
    assert "Domain" not in line
    assert re.search(r"__Host-session=[\w-]{43};", line)
    assert "__Host-challenge" in cookies_set(answer)


@pytest.mark.covers("asvs 3.1.1")
def test_what_browsers_must_know_is_what_is_sent_and_read(make_world: Any) -> None:
    """The page about it names each attribute of the cookie and each header of an answer that a browser acts on."""
    rows = table((ROOT / "docs" / "moving-from-a-cookie-session-flask-app.md").read_text(), "What browsers must know")
    told = {name for row in rows for name in named(row[1])}
    assert all(row[2] and row[3] for row in rows)
    world = make_world(environment="production", public_url="https://auth.example.com")
    browser = Browser(world)
    browser.client.post("/signup", json={"name": "Jane", "email": EMAIL, "password": PASSWORD}, base_url=HTTPS)
    world.deliver()
    done = browser.client.post("/verify-otp", json={"email": EMAIL, "otp": browser.code()}, base_url=HTTPS)
    name, *attributes = cookies_set(done)["__Host-session"].split("; ")
    sent = {name.partition("=")[0], "__Host-", *attributes} - {
        a for a in attributes if a.startswith(("Max-Age", "Expires"))
    }
    sent |= set(done.headers.keys()) - {
        "Set-Cookie", "Content-Length", "Cache-Control", "X-Request-ID", "Vary", "Date", "Server", "Connection",
    }  # fmt: skip
    assert told == sent | {"Origin", "Sec-Fetch-Site"}


def test_nginx_passes_on_what_is_answered_here_and_leaves_the_pages_of_the_app_to_it(world: World) -> None:
    page = (ROOT / "docs" / "moving-from-a-cookie-session-flask-app.md").read_text()
    ours = re.compile("|".join(re.findall(r'^    "~(\^.*\$)" 1;', page, re.MULTILINE)) or "(?!)")
    [asked] = re.findall(r"^    location ~ (\^.*\$) \{$", page, re.MULTILINE)
    rules = [rule for rule in world.app.url_map.iter_rules() if rule.endpoint.startswith("browser.")]
    answered = {(method, rule.rule) for rule in rules for method in rule.methods or ()}
    assert ("POST", "/login") in answered
    for path in {path for _, path in answered}:
        assert re.match(asked, path), path
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            assert bool(ours.match(f"{method} {path}")) == ((method, path) in answered), (method, path)
    assert not ours.match("POST /login/next")
    assert not ours.match("GET /protected/a")


def test_the_cookie_is_the_same_session_that_everybody_lists_and_ends(world: World, browser: Browser) -> None:
    browser.sign_up()
    person = world.person(email=EMAIL)
    world.clock.advance(minutes=2)
    person.sign_in()
    listed = person.api.get("/api/auth/sessions", person.token)["items"]
    [theirs] = [s for s in listed if not s["current"]]
    assert theirs["amr"] == ["pwd", "email"]
    person.api.delete(f"/api/auth/sessions/{theirs['id']}", person.token).ok()
    assert not browser.inside()


def test_the_cookie_is_stored_as_its_digest_only(world: World, browser: Browser) -> None:
    browser.sign_up()
    assert browser.cookie
    assert browser.cookie not in str([vars(row) for row in world.rows(Session)])


@pytest.mark.covers("asvs 7.2.4", "attack A48")
def test_a_cookie_planted_before_sign_in_is_not_taken_over(world: World, browser: Browser) -> None:
    browser.client.set_cookie("session", "A" * 43)
    browser.client.set_cookie("challenge", "01a1fc6a-56ed-7069-9126-f35c15146f3c")
    browser.sign_up()
    assert browser.cookie != "A" * 43
    first = browser.cookie
    browser.log_in()
    assert browser.cookie != first
    planted = Browser(world)
    planted.client.set_cookie("session", "A" * 43)
    assert not planted.inside()


@pytest.mark.covers("attack A49", "nist N39")
def test_a_signed_out_cookie_is_dead_also_for_who_kept_it(world: World, browser: Browser) -> None:
    browser.sign_up()
    kept = browser.cookie
    answer = browser.post("/logout")
    assert "Max-Age=0" in cookies_set(answer)["session"]
    thief = Browser(world)
    thief.client.set_cookie("session", kept)
    assert json_of(thief.send("GET", "/protected"))["code"] == "token_revoked"
    assert browser.post("/logout").status_code == 200


@pytest.mark.covers("asvs 14.3.1")
def test_a_browser_forgets_at_sign_out_what_it_kept_and_nobody_else_s_page_can_have_it_do_so(browser: Browser) -> None:
    """Not its cookies: those would be the ones of every other service of the same domain, too."""
    browser.sign_up()
    assert "Clear-Site-Data" not in browser.send("GET", "/protected").headers
    assert "Clear-Site-Data" not in browser.post("/logout", Origin="https://evil.example").headers
    for _ in range(2):
        assert browser.post("/logout").headers["Clear-Site-Data"] == '"cache", "storage"'


def test_a_cookie_ends_with_the_password(world: World, browser: Browser) -> None:
    browser.sign_up()
    person = world.person(email=EMAIL)
    world.clock.advance(minutes=2)
    person.sign_in()
    body = {"current_password": PASSWORD, "new_password": "changed horse 9"}
    person.api.post("/api/auth/change-password", body, person.token).ok()
    assert not browser.inside()


def test_a_cookie_ends_when_idle_and_in_the_end_anyway(world: World, browser: Browser) -> None:
    browser.sign_up()
    for _ in range(4):
        world.clock.advance(days=6)
        assert browser.inside()
        world.stamp()
    world.clock.advance(days=6)
    assert not browser.inside(), "thirty days"
    browser.log_in()
    world.clock.advance(days=7, seconds=1)
    assert not browser.inside(), "a week unused"


def test_a_cookie_is_no_token_and_a_token_no_cookie(world: World, browser: Browser, person: Person) -> None:
    browser.sign_up()
    assert person.refresh(browser.cookie).code == "token_invalid"
    assert person.api.get("/api/auth/me", browser.cookie).code == "token_invalid"
    for token in (person.token, person.tokens["refresh_token"]):
        other = Browser(world)
        other.client.set_cookie("session", token)
        assert not other.inside()
    assert browser.send("GET", "/api/auth/me").status_code == 401, "a cookie opens nothing outside its dialect"


FOREIGN = {
    "another site": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    "a sibling": {"Origin": "http://evil.localhost", "Sec-Fetch-Site": "same-site"},
    "another port": {"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-site"},
    "null": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    "null, an old browser": {"Origin": "null"},
    "an old browser": {"Origin": "https://evil.example"},
    "no origin, a sibling": {"Sec-Fetch-Site": "same-site"},
    "no origin, cross-site": {"Sec-Fetch-Site": "cross-site"},
    "a navigation": {"Sec-Fetch-Site": "none"},
    "a look-alike": {"Origin": "http://localhost.evil.example"},
    "another scheme": {"Origin": "file://localhost"},
    "its page in the clear": {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    "a sibling by another name": {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
}
SITES = ["same-origin", "same-site", "cross-site", "none"]
WRITES = ["/signup", "/register", "/login", "/verify-otp", "/resend-otp", "/logout", "/forgot-password", "/validate-otp", "/reset-password"]  # fmt: skip


@pytest.mark.covers("asvs 3.5.1", "asvs 3.5.3", "attack A52", "nist N43")
@pytest.mark.parametrize("whence", FOREIGN)
def test_a_write_from_elsewhere_is_refused(browser: Browser, whence: str) -> None:
    browser.sign_up()
    for path in WRITES:
        answer = browser.post(path, {"email": EMAIL, "password": PASSWORD}, **FOREIGN[whence])
        assert (answer.status_code, json_of(answer)["code"]) == (403, "cross_site_request"), path
    assert browser.inside()
    refused = [row.reason for row in browser.world.audit(event="request.refused")]
    assert refused.count("cross_site_request") == len(WRITES)


UNASKED: dict[str, dict[str, Any]] = {"a text": {"data": "x", "content_type": "text/plain"}, "nothing": {}}
SENDERS = {"/forgot-password": {"identifier": EMAIL}, "/api/auth/forgot-password": {"identifier": EMAIL},
           "/api/v1/auth/send-otp": {"mobile_number": "+919876543210"}}  # fmt: skip


@pytest.mark.parametrize("what", UNASKED)
@pytest.mark.parametrize("path", SENDERS)
def test_a_page_of_another_site_does_not_spend_its_visitors_limit(make_world: Any, path: str, what: str) -> None:
    """What it has their browsers send without asking first, as `fetch` in mode `no-cors` does, is counted apart."""
    world = make_world(ratelimit=True)
    client = world.app.test_client()
    refused = [client.post(path, headers=FOREIGN["another site"], **UNASKED[what]).status_code for _ in range(70)]
    assert refused.count(429) in range(5, 11), "nor is it without a limit"
    assert len(world.audit(event="request.refused")) == 2, "the first of each kind"
    assert client.post(path, json=SENDERS[path], headers=OWN).status_code == 200


@pytest.mark.covers("asvs 3.1.1")
def test_one_s_own_page_and_no_browser_at_all_may_write(browser: Browser) -> None:
    for headers in (OWN, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert browser.post("/logout", **headers).status_code == 200


@pytest.mark.covers("asvs 3.5.2", "attack A52", "attack A68")
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_what_a_form_can_send_is_refused(browser: Browser, kind: str) -> None:
    answer = browser.client.post("/login", data=b'{"email": "a@example.com", "password": "x"}', content_type=kind)
    assert (answer.status_code, json_of(answer)["code"]) == (415, "unsupported_media_type")


def test_with_a_public_url_the_whole_origin_counts(make_world: Any) -> None:
    browser = Browser(make_world(public_url="https://auth.example.com"))
    allowed = browser.post("/logout", Origin="https://auth.example.com", Host="internal:8000")
    assert allowed.status_code == 200
    for origin in ("http://auth.example.com", "https://auth.example.com:444", "https://internal:8000"):
        assert browser.post("/logout", Origin=origin, Host="internal:8000").status_code == 403
    own = {"Origin": "https://auth.example.com"}
    statuses = [browser.post("/logout", **own, **{"Sec-Fetch-Site": site}).status_code for site in SITES]
    assert statuses == [200, 403, 403, 403]


APP = "https://app.example.com"


def test_an_origin_that_is_named_with_its_usual_port_is_the_one_that_browsers_send(make_world: Any) -> None:
    browser = Browser(make_world(public_url="https://auth.example.com", cors_origins=("https://app.example.com:443",)))
    asked = browser.post("/logout", Origin="https://app.example.com", **{"Sec-Fetch-Site": "same-site"})
    assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example.com")


@pytest.mark.covers("asvs 3.4.2", "attack A56")
def test_listed_origins_may_call_with_cookies_and_others_get_no_word(make_world: Any) -> None:
    world = make_world(cors_origins=(APP,))
    client = world.app.test_client()
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for path in ("/login", "/api/auth/login", "/api/v1/auth/send-otp"):
        answer = client.options(path, headers={"Origin": APP, **ask})
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        for origin in ("https://evil.example", "null", "https://app.example.com.evil.example", "https://xapp.example.com", "http://app.example.com"):  # fmt: skip
            headers = client.options(path, headers={"Origin": origin, **ask}).headers
            assert not [name for name, _ in headers if name.startswith("Access-Control-Allow")], origin
    for site in ("cross-site", "same-site"):
        listed = Browser(world).post("/logout", **{"Origin": APP, "Sec-Fetch-Site": site})
        assert (listed.status_code, listed.headers["Access-Control-Allow-Origin"]) == (200, APP)
    refused = client.post("/api/auth/login", json={}, headers={"Origin": APP})
    assert refused.headers["Access-Control-Allow-Origin"] == APP, "a page must be able to read its errors"


@pytest.mark.parametrize("path", ["/.well-known/jwks.json", "/docs/static/start-redoc.js"])
@pytest.mark.parametrize("listed", [(APP,), (APP, "https://other.example.com")], ids=["one", "two"])
def test_what_may_be_kept_says_that_it_goes_by_the_origin(make_world: Any, listed: tuple[str, ...], path: str) -> None:
    """Or a page would be given what was kept for another, without leave to read it (Fetch, CORS protocol and caches)."""
    client = make_world(cors_origins=listed).app.test_client()
    for origin in ("", APP, "https://evil.example"):
        with client.get(path, headers={"Origin": origin} if origin else {}) as answer:
            assert "max-age" in answer.headers["Cache-Control"]
            assert answer.headers.getlist("Vary") == ["Origin"], origin


def test_without_a_list_no_header_says_anything(browser: Browser) -> None:
    for method in ("OPTIONS", "POST"):
        headers = browser.client.open("/login", method=method, headers={"Origin": APP}).headers
        assert not [name for name, _ in headers if name.startswith("Access-Control")]


def test_the_challenge_is_this_browser_s_even_if_a_stranger_asked_later(world: World, browser: Browser) -> None:
    """A stranger who signs up with the same address after the owner does not get in the owner's way."""
    browser.post("/signup", {"name": "Jane", "email": EMAIL, "password": PASSWORD})
    code = browser.code()
    Browser(world).post("/signup", {"name": "Mallory", "email": EMAIL, "password": "mallory horse 6"})
    done = browser.post("/verify-otp", {"email": EMAIL, "otp": code})
    assert json_of(done)["user"]["name"] == "Jane"


def test_without_the_cookie_the_identifier_finds_the_newest(world: World, browser: Browser) -> None:
    browser.post("/signup", {"name": "Jane", "email": EMAIL, "password": PASSWORD})
    other = Browser(world)
    assert other.post("/verify-otp", {"identifier": EMAIL, "otp": browser.code()}).status_code == 200
    assert other.inside()


@pytest.mark.covers("attack A01", "attack A49")
def test_guesses_without_cookie_share_the_identifier_s_budget(world: World, browser: Browser) -> None:
    browser.sign_up()
    statuses = []
    for _ in range(3):
        world.clock.advance(minutes=2)
        browser.post("/login", {"email": EMAIL, "password": PASSWORD})
        code = browser.code()
        statuses += [
            Browser(world).post("/verify-otp", {"email": EMAIL, "otp": wrong(code)}).status_code for _ in range(3)
        ]
    assert statuses == [400, 400, 410, 400, 400, 410, 400, 423, 423]


@pytest.mark.parametrize("method", ["totp", "backup_code"])
def test_where_a_challenge_allows_one_guess_it_is_the_holder_s_and_nobody_uses_a_code_up(
    make_world: Any, method: str
) -> None:
    world = make_world(otp_max_attempts=1)
    app = enrol(world, world.person(email=EMAIL).sign_up())
    browser = Browser(world)
    world.clock.advance(minutes=2)
    browser.post("/login", {"email": EMAIL, "password": PASSWORD})
    given = {"email": EMAIL, "otp": app.code() if method == "totp" else app.backup_codes[0], "method": method}
    assert json_of(Browser(world).post("/verify-otp", given))["code"] == "challenge_closed"
    assert browser.post("/verify-otp", given).status_code == 200


def test_nobody_s_challenge_is_closed(browser: Browser) -> None:
    answer = browser.post("/verify-otp", {"email": "no@example.com", "otp": "123456"})
    assert (answer.status_code, json_of(answer)["code"]) == (410, "challenge_closed")
    again = browser.post("/resend-otp", {"email": "no@example.com"})
    assert (again.status_code, json_of(again)["code"]) == (410, "challenge_closed")


def test_without_a_cookie_the_protected_area_is_closed(browser: Browser) -> None:
    answer = browser.send("GET", "/protected")
    assert (answer.status_code, json_of(answer)["code"]) == (401, "token_missing")


def test_a_disabled_account_s_cookie_is_dead(world: World, browser: Browser) -> None:
    browser.sign_up()
    with world.kit.writes.begin() as db:
        db.query(User).update({"disabled_at": world.clock.now})
    assert not browser.inside()


STRANGER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"}


@pytest.mark.covers("attack A10", "attack A25")
def test_a_stranger_by_identifier_alone_finds_nobody_s_challenge(world: World, browser: Browser) -> None:
    """From another kind of browser or another network there is nothing to guess at, to burn, or to resend."""
    browser.sign_up()
    world.clock.advance(minutes=2)
    for start, answer in (("/login", "/verify-otp"), ("/forgot-password", "/validate-otp")):
        browser.post(start, {"email": EMAIL, "password": PASSWORD})
        code = browser.code()
        stranger = Browser(world, **STRANGER)
        assert stranger.post(answer, {"email": EMAIL, "otp": code}).status_code == 410
        assert stranger.post("/resend-otp", {"email": EMAIL}).status_code == 410
        assert browser.post(answer, {"email": EMAIL, "otp": code}).status_code == 200


def test_what_was_begun_in_another_dialect_is_not_found_here(world: World, browser: Browser) -> None:
    browser.sign_up()
    person = world.person(email=EMAIL)
    world.clock.advance(minutes=2)
    person.ask_signin().ok()
    assert Browser(world).post("/verify-otp", {"email": EMAIL, "otp": person.code()}).status_code == 410
    person.api.post("/api/auth/forgot-password", {"email": EMAIL}).ok()
    assert Browser(world).post("/validate-otp", {"email": EMAIL, "otp": person.code()}).status_code == 410


@pytest.mark.covers("attack A10")
def test_under_a_lock_the_one_guess_is_the_holder_s(world: World, browser: Browser) -> None:
    browser.sign_up()
    for _ in range(5):
        Browser(world).post("/login", {"email": EMAIL, "password": "wrong horse 7"})
    world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    code = browser.code()
    assert Browser(world).post("/validate-otp", {"identifier": EMAIL, "otp": wrong(code)}).status_code == 423
    assert browser.post("/validate-otp", {"identifier": EMAIL, "otp": code}).status_code == 200


def test_a_recovery_s_cookie_does_not_tell_whose_other_identifiers_are(world: World) -> None:
    world.person(email=EMAIL, username="jane").sign_up()
    world.clock.advance(minutes=2)
    browser = Browser(world)
    browser.post("/forgot-password", {"identifier": "jane"})
    answers = [browser.post("/resend-otp", {"identifier": who}) for who in (EMAIL, "no@example.com")]
    assert [a.status_code for a in answers] == [410, 410]


@pytest.mark.covers("attack A25")
def test_a_wrong_code_never_opens_another_s_sign_up(world: World, browser: Browser) -> None:
    """A stranger signs up with the same address later; its owner types the newest code until their own is closed."""
    browser.post("/signup", {"name": "Jane", "email": EMAIL, "password": PASSWORD})
    Browser(world).post("/signup", {"name": "Mallory", "email": EMAIL, "password": "mallory horse 6"})
    newest = browser.code()
    statuses = [browser.post("/verify-otp", {"email": EMAIL, "otp": newest}).status_code for _ in range(5)]
    assert statuses == [400, 400, 400, 410, 410]
    assert world.count(User) == 0


@pytest.mark.parametrize("which", ["email", "username", "phone"])
@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a login"])
def test_a_sign_up_is_finished_by_whatever_identifier_it_gave(
    world: World, browser: Browser, which: str, again: bool
) -> None:
    given = {"username": "janedoe", "email": EMAIL, "phone": "+919876543210", "password": PASSWORD}
    assert browser.post("/register", given).status_code == 200
    if again:
        world.clock.advance(minutes=2)
        assert browser.post("/login", {"identifier": given[which], "password": PASSWORD}).status_code == 200
    code = browser.code()
    world.clock.advance(seconds=31)
    assert browser.post("/resend-otp", {"identifier": given[which]}).status_code == 200
    assert browser.post("/verify-otp", {"identifier": "johndoe", "otp": code}).status_code == 410
    assert browser.post("/verify-otp", {"identifier": given[which], "otp": wrong(code)}).status_code == 400
    assert browser.post("/verify-otp", {"identifier": given[which], "otp": code}).status_code == 200


def test_by_a_username_too_a_taken_address_answers_as_a_free_one(world: World, browser: Browser) -> None:
    world.person(email=EMAIL).sign_up()
    world.clock.advance(minutes=2)
    given = {"username": "janedoe", "email": EMAIL, "phone": "+919876543210", "password": PASSWORD}
    assert browser.post("/register", given).status_code == 200
    answers = [browser.post("/verify-otp", {"identifier": "janedoe", "otp": f"12345{n}"}) for n in range(2)]
    assert [(each.status_code, json_of(each)["code"]) for each in answers] == [(400, "invalid_code")] * 2


def test_the_second_address_is_asked_of_this_browser(world: World, browser: Browser) -> None:
    body = {"username": "jane", "email": EMAIL, "phone": "+919876543210", "password": PASSWORD}
    browser.post("/register", body)
    browser.post("/verify-otp", {"identifier": EMAIL, "otp": browser.code()})
    own = world.read("sms", "+919876543210")
    other = {"phone": "+919876543210", "password": "mallory horse 6", "name": "Mallory"}
    world.api().post("/api/auth/signup", other).ok()
    done = browser.post("/verify-otp", {"identifier": "+919876543210", "otp": own})
    assert json_of(done)["user"]["phone"] == "+919876543210"
    assert json_of(done)["user"]["email"] == EMAIL


def test_a_new_sign_in_ends_the_session_that_this_browser_had(world: World, browser: Browser) -> None:
    browser.sign_up()
    before = browser.cookie
    browser.log_in()
    old = Browser(world)
    old.client.set_cookie("session", before)
    assert not old.inside()
    assert browser.inside()


@pytest.mark.parametrize(
    "origin", ["http://[", "http://]", "http://a]b", "http://localhost:99999", "http://localhost:x"]
)
def test_an_origin_that_is_none_is_another_site(browser: Browser, origin: str) -> None:
    assert browser.post("/logout", Origin=origin).status_code == 403


@pytest.mark.parametrize(
    "spelled", ["https://auth.example.com:443", "https://AUTH.example.com", "https://auth.example.com/"]
)
def test_a_public_url_may_be_spelled_with_its_port_or_in_capitals(make_world: Any, spelled: str) -> None:
    browser = Browser(make_world(public_url=spelled))
    assert browser.post("/logout", Origin="https://auth.example.com").status_code == 200


def test_an_account_that_is_disabled_while_the_password_is_hashed_is_not_reset(world: World, browser: Browser) -> None:
    browser.sign_up()
    world.clock.advance(minutes=2)
    browser.post("/forgot-password", {"identifier": EMAIL})
    browser.post("/validate-otp", {"identifier": EMAIL, "otp": browser.code()})
    real = world.kit.hasher

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def hash(self, password: bytes) -> str:
            with world.kit.writes.begin() as db:
                db.query(User).update({"disabled_at": world.clock.now})
            return real.hash(password)

    object.__setattr__(world.kit, "hasher", Slow())
    try:
        answer = browser.post("/reset-password", {"identifier": EMAIL, "new_password": "another horse 8"})
    finally:
        object.__setattr__(world.kit, "hasher", real)
    assert answer.status_code == 410
