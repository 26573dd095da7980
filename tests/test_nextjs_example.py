"""The Next.js example, built and started by its README, driven in a real browser beside the real service."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import jwt
import pyotp
import pytest
import requests
import sqlalchemy as sa
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from app.core.tokens import GRACE
from app.models import AuditLog, OutboxMessage
from tests import chromium, lanes, nextjs, node
from tests.lanes import SECRETS
from tests.people import PASSWORD, Person, wrong
from tests.security_key import Authenticator
from tests.service import Service
from tests.service import running as serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.missing(), reason="Chromium or its driver is missing"),
    pytest.mark.skipif(node.missing(), reason="Node.js is missing"),
]

NARROW, WIDE = 320, 900
# Every place in which a page can leave something behind.
KEPT = """return (async () => ({
  cookies: document.cookie, storage: JSON.stringify({...localStorage, ...sessionStorage, "sign-in": undefined}),
  tab: sessionStorage.getItem("sign-in"),
  bases: (await indexedDB.databases()).length, caches: (await caches.keys()).length,
}))()"""
AXE = "return axe.run(document, {resultTypes: ['violations']})"
_emails = count(1)


@dataclass
class Visit:
    """A browser at the example, and the service behind it."""

    driver: Chrome
    base: str
    service: Service
    engine: sa.Engine

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)

    def find(self, css: str) -> WebElement:
        return self.until(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, css)), None), css)

    def until(self, look: Callable[[], Any], what: str) -> Any:
        ready = WebDriverWait(self.driver, chromium.PATIENCE_S, 0.05, [StaleElementReferenceException])
        return ready.until(lambda _: look(), f"{what} on {self.driver.current_url}")

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            self.find(f"input[name={name}]").send_keys(Keys.CONTROL, "a")
            self.find(f"input[name={name}]").send_keys(value)

    def send(self) -> None:
        self.find(".send:enabled").click()

    def press(self, words: str) -> None:
        button = f"//button[normalize-space()='{words}' and not(@disabled)]"
        self.until(lambda: next(iter(self.driver.find_elements(By.XPATH, button)), None), words).click()

    def reads(self, words: str) -> None:
        """Wait until the page has these words. Read in one step: between two the page may be another."""
        read = "return document.querySelector('main')?.innerText ?? ''"
        self.until(lambda: words in self.driver.execute_script(read), words)

    def code(self, act: Callable[[], Any]) -> str:
        """The code that is sent because of an act."""
        seen = len(self.service.codes())
        act()
        self.until(lambda: len(self.service.codes()) > seen, "a code")
        return self.service.codes()[-1]

    def person(self, name: str = "Jane") -> Person:
        """Somebody with an account, which was made at the service itself."""
        email = f"visitor{next(_emails)}@example.com"
        person = Person(self.service.api(), lambda _channel, _address: "", email=email, name=name)
        asked: list[str] = []
        code = self.code(lambda: asked.append(person.ask_signup().ok()["challenge_id"]))
        person.verify_signup(asked[0], code).ok()
        return person

    def sign_in(self, person: Person) -> None:
        self.open("/sign-in")
        self.fill(identifier=person.email, password=person.password)
        code = self.code(self.send)
        self.fill(otp=code)
        self.reads(f"Hello, {person.name}")

    def refreshes(self, person: Person) -> int:
        """How often the sessions of somebody were refreshed, as the service noted it."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(AuditLog.user_id).where(AuditLog.event == "session.refreshed"))
            return [str(user_id) for (user_id,) in rows].count(person.tokens["user"]["id"])

    def is_accessible(self) -> None:
        """No rule of axe is broken, light or dark, and nothing is wider than a small phone."""
        self.until(lambda: self.driver.title, "a title")  # it comes a moment after what a link leads to
        self.driver.execute_script((nextjs.CACHE / "app/node_modules/axe-core/axe.min.js").read_text())
        for theme, width in (("light", WIDE), ("dark", NARROW)):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            size = {"width": width, "height": 720, "deviceScaleFactor": 1, "mobile": False}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            broken = self.driver.execute_script(AXE)["violations"]
            assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in broken] == []
            assert self.driver.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def ground(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("nextjs")
    with lanes.database("sqlite", f"nextjs_{worker}") as url:
        lanes.migrate(url)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with (
            serving(url, folder, web_concurrency=1) as service,
            nextjs.running(service.base, folder) as base,
            chromium.driving(folder / "browser") as driver,
        ):
            yield Visit(driver, base, service, engine)


@pytest.fixture
def visit(ground: Visit) -> Visit:
    """The browser with one tab and no cookies."""
    driver = ground.driver
    for handle in driver.window_handles[1:]:
        driver.switch_to.window(handle)
        driver.close()
    driver.switch_to.window(driver.window_handles[0])
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    driver.get("about:blank")
    return ground


def test_signing_up_with_a_code_that_is_pasted(visit: Visit) -> None:
    visit.open("/")  # the protected page sends a stranger to the sign-in
    visit.reads("Welcome back")
    visit.is_accessible()
    visit.driver.find_element(By.LINK_TEXT, "Create an account").click()
    visit.reads("It takes a minute")
    visit.fill(name="Jane", email="jane@example.com", password="short")
    visit.send()
    refused = visit.find("input[name=password][aria-invalid=true]")
    says = visit.driver.find_element(By.ID, refused.get_attribute("aria-describedby"))
    assert says.text == "Use at least 8 characters."
    assert visit.driver.switch_to.active_element == refused
    visit.is_accessible()

    visit.fill(password=PASSWORD)
    code = visit.code(visit.send)
    field = visit.find("input[name=otp]")
    assert (field.get_attribute("autocomplete"), field.get_attribute("inputmode")) == ("one-time-code", "numeric")
    visit.reads("We sent a code to j***@example.com.")
    visit.find("[data-delivery=sent]")
    visit.reads("Send again in 0:")
    visit.fill(otp=wrong(code))
    visit.reads("That code is not right. 2 tries are left.")
    visit.is_accessible()

    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": visit.base}
    visit.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    visit.driver.execute_script(f"return navigator.clipboard.writeText('Your code: {code[:3]} {code[3:]}.')")
    visit.find("input[name=otp]").send_keys(Keys.CONTROL, "v")
    visit.reads("Hello, Jane")
    visit.reads("jane@example.com")
    visit.is_accessible()


@pytest.mark.covers("asvs 6.2.6", "asvs 6.2.7", "nist N10")
def test_a_password_is_masked_may_be_looked_at_and_comes_from_a_manager_or_the_clipboard(visit: Visit) -> None:
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": visit.base}
    visit.driver.execute_cdp_cmd("Browser.grantPermissions", grant)

    def is_as_it_should_be(name: str, kind: str) -> None:
        field = visit.find(f"input[name={name}]")
        assert (field.get_attribute("type"), field.get_attribute("autocomplete")) == ("password", kind)
        assert field.get_attribute("maxlength") is None
        visit.driver.execute_script("return navigator.clipboard.writeText(arguments[0])", f"{PASSWORD} of {name}")
        field.send_keys(Keys.CONTROL, "v")
        visit.until(lambda: field.get_attribute("value") == f"{PASSWORD} of {name}", "what was pasted")
        for words, shown in (("Show the password", "text"), ("Hide the password", "password")):
            visit.press(words)
            visit.until(lambda shown=shown: field.get_attribute("type") == shown, shown)  # type: ignore[misc]

    visit.open("/sign-in")
    assert visit.find("input[name=identifier]").get_attribute("autocomplete") == "username"
    is_as_it_should_be("password", "current-password")
    visit.open("/sign-up")
    assert visit.find("input[name=email]").get_attribute("autocomplete") == "username"
    is_as_it_should_be("password", "new-password")
    visit.open("/forgot")
    visit.fill(identifier="nobody@example.com")
    visit.send()
    is_as_it_should_be("new_password", "new-password")


@pytest.mark.covers("asvs 3.2.2", "asvs 7.4.4")
def test_what_somebody_is_called_is_text_and_signing_out_is_a_button_beside_it(visit: Visit) -> None:
    person = visit.person(name='<b id="planted">Jane</b><img src=x onerror="window.ran=1">')
    visit.sign_in(person)
    assert visit.driver.find_elements(By.ID, "planted") == []
    assert visit.driver.execute_script("return window.ran") is None
    assert visit.driver.find_element(By.XPATH, "//button[normalize-space()='Sign out']").is_displayed()


@pytest.mark.covers("asvs 14.3.3", "nist N41")
def test_no_script_of_a_page_can_read_a_token_that_lasts(visit: Visit) -> None:
    person = visit.person()
    visit.open("/sign-in")
    visit.driver.execute_script("sessionStorage.clear()")  # of the tests before
    visit.fill(identifier=person.email, password=person.password)
    code = visit.code(visit.send)
    visit.find("input[name=otp]")
    halfway = visit.driver.execute_script(KEPT)
    assert set(json.loads(halfway["tab"])["asked"]) >= {"challenge_id"}, "which outlives a reload, and opens nothing"
    assert [secret for secret in (person.password, code, "token") if secret in str(halfway)] == []
    visit.fill(otp=code)
    visit.reads(f"Hello, {person.name}")
    assert visit.driver.execute_script(KEPT) == {"cookies": "", "storage": "{}", "tab": None, "bases": 0, "caches": 0}
    [cookie] = visit.driver.get_cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("latchkey-refresh", True, "Strict")
    asking = "return fetch('/api/auth/refresh', {method: 'POST', body: '{}'}).then(answer => answer.json())"
    answered = visit.driver.execute_script(asking)
    assert "access_token" in answered
    assert "refresh_token" not in answered
    visit.driver.refresh()
    visit.reads("Hello, ")


def test_the_code_step_outlives_a_reload_and_starts_again_when_its_code_is_spent(visit: Visit) -> None:
    person = visit.person()
    visit.open("/sign-in")
    visit.fill(identifier=person.email, password="some horse 8")
    visit.send()
    visit.reads("Address and password do not go together.")
    visit.fill(password=person.password)
    code = visit.code(visit.send)
    visit.find("input[name=otp]")
    visit.find("[data-delivery=sent]")
    with visit.engine.begin() as connection:
        connection.execute(sa.update(OutboxMessage).values(state="delivered"))
    visit.reads("Delivered")
    visit.driver.refresh()
    for left in ("2 tries are left", "One try is left"):
        visit.fill(otp=wrong(code))
        visit.reads(left)
    visit.fill(otp=wrong(code))
    visit.reads("That code was not right either.")
    assert visit.find("input[name=password]").get_attribute("value") == ""


def test_who_is_locked_out_sees_how_long(visit: Visit) -> None:
    person = visit.person()
    for _ in range(5):
        person.api.post("/api/auth/login", {"identifier": person.email, "password": "some horse 8"})
    visit.open("/sign-in")
    visit.fill(identifier=person.email, password=person.password)
    visit.send()
    visit.reads("Too many wrong tries.")
    visit.reads("Try again in 14:5")
    assert not visit.find(".send").is_enabled()
    visit.is_accessible()
    visit.fill(identifier="somebody.else@example.com")
    assert visit.find(".send").is_enabled()


def test_signing_in_by_app_or_backup_code_or_message_on_a_device_that_is_remembered(visit: Visit) -> None:
    person = visit.person()
    factor = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    app = pyotp.TOTP(factor["secret"])
    confirm = f"/api/auth/factors/totp/{factor['factor_id']}/confirm"
    backup_codes = person.api.post(confirm, {"otp": app.now()}, person.token).ok()["backup_codes"]

    visit.open("/sign-in")
    visit.fill(identifier=person.email, password=person.password)
    visit.send()
    visit.reads("Open your authenticator app")
    code = visit.code(lambda: visit.press("Get a code by e-mail"))
    visit.reads("Check your e-mail")
    visit.press("Use the authenticator app")
    visit.reads("Open your authenticator app")
    visit.fill(otp=wrong(code))
    visit.reads("That code is not right.")
    visit.press("Get a code by e-mail")  # it is there already, so none is sent
    visit.fill(otp=code)
    visit.reads(f"Hello, {person.name}")
    visit.press("Sign out")

    visit.reads("Welcome back")
    visit.fill(identifier=person.email, password=person.password)
    visit.find("input[type=checkbox]").click()
    visit.send()
    visit.reads("Open your authenticator app")
    visit.press("Use a backup code")
    visit.fill(otp=backup_codes[0])
    visit.send()
    visit.reads(f"Hello, {person.name}")
    visit.press("Sign out")

    visit.reads("Welcome back")
    visit.fill(identifier=person.email, password=person.password)
    visit.send()
    visit.reads(f"Hello, {person.name}")


def test_a_forgotten_password_is_set_anew(visit: Visit) -> None:
    person = visit.person()
    visit.open("/forgot")
    visit.fill(identifier=person.email)
    code = visit.code(visit.send)
    visit.fill(otp=code, new_password="a new horse 9")
    visit.is_accessible()
    visit.send()
    visit.reads("Your password was changed. Sign in with it.")
    person.password = "a new horse 9"
    visit.sign_in(person)


def test_tabs_share_one_session_and_refresh_it_once(visit: Visit) -> None:
    person = visit.person()
    visit.sign_in(person)
    first = visit.driver.current_window_handle
    visit.driver.switch_to.new_window("tab")
    second = visit.driver.current_window_handle
    visit.open("/account")
    visit.reads(f"Hello, {person.name}")
    assert visit.refreshes(person) == 0  # the new tab had its token from the other

    run = visit.driver.execute_script
    for tab in (first, second):
        visit.driver.switch_to.window(tab)
        run("""window.go = new BroadcastChannel("go")
               window.go.onmessage = () => document.querySelector(".buttons .send").click()""")
    _sleep(visit, person)
    for tab in (first, second):
        visit.driver.switch_to.window(tab)
        visit.find('[data-renewed="1"]')
    run('window.go.postMessage(""); window.go.onmessage()')
    renewed = set()
    for tab in (first, second):
        visit.driver.switch_to.window(tab)
        visit.find("[data-asked]")
        renewed.add(visit.find("[data-renewed]").get_attribute("data-renewed"))
    assert len(renewed) == 1
    assert renewed != {"1"}
    assert visit.refreshes(person) == 1

    visit.press("Sign out")
    visit.reads("Welcome back")
    visit.driver.switch_to.window(first)
    visit.reads("Welcome back")
    visit.open("/account")
    visit.reads("Welcome back")
    assert visit.driver.get_cookies() == []


def _sleep(visit: Visit, person: Person) -> None:
    """As if all tabs had slept until their token had expired: it is what the service refuses, not what they think."""
    held = {"token": _expired(person), "freshUntil": 4e12, "renewedAt": 1, "user": person.tokens["user"]}
    tell = 'new BroadcastChannel("latchkey").postMessage({kind: "in", held: arguments[0]})'
    visit.driver.execute_script(tell, held)
    visit.find('[data-renewed="1"]')


# The answer of the first refresh does not arrive: it is lost, never begins, or never ends.
LOSES = """const real = window.fetch
const given = arguments[0]
let lost = false
window.fetch = async (to, options) => {
  const answer = await real(to, options)
  if (lost || !to.includes("/refresh")) return answer
  lost = true
  if (given === "lost") throw new TypeError("the answer was lost")
  const given_up = new Promise((_, reject) => options.signal?.addEventListener("abort", () => reject(options.signal.reason)))
  return given === "no answer" ? given_up : new Response(new ReadableStream({pull: () => given_up}))
}"""


@pytest.mark.parametrize("how", ["lost", "no answer", "half an answer"])
def test_a_page_that_loses_the_answer_of_a_refresh_stays_signed_in(visit: Visit, how: str) -> None:
    person = visit.person()
    visit.sign_in(person)
    visit.driver.execute_script(LOSES, how)
    _sleep(visit, person)
    begun = time.monotonic()
    visit.driver.execute_script('document.querySelector(".buttons .send").click()')
    visit.find("[data-asked]")
    assert time.monotonic() - begun < GRACE.total_seconds(), "or the spent token is taken for a stolen one"
    assert visit.refreshes(person) == 2


AWAY = """const real = window.fetch
window.fetch = (to, ...rest) => to.includes("/logout") && window.away
  ? Promise.resolve(new Response('{"code": "unavailable"}', {status: window.away})) : real(to, ...rest)"""


def test_whoever_signs_out_unheard_stays_signed_in_and_is_told(visit: Visit) -> None:
    person = visit.person()
    visit.sign_in(person)
    run = visit.driver.execute_script
    run(AWAY)
    for status in (503, 429):
        run("window.away = arguments[0]", status)
        visit.press("Sign out")
        visit.find("[role=alert]")
        visit.reads(f"Hello, {person.name}")
        visit.driver.refresh()
        visit.reads(f"Hello, {person.name}")
        run(AWAY)
    visit.press("Sign out")
    visit.reads("Welcome back")


def test_the_cookie_goes_only_when_the_session_has_and_a_lost_refresh_is_asked_for_again(tmp_path: Path) -> None:
    said, lost, cut = [], ["refresh", "login"], ["refresh", "login"]

    class Latchkey(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            route = self.path.rpartition("/")[2]
            if route in lost:  # the answer never arrives
                return lost.remove(route)
            self.send_response(said[-1])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            if not lost and route in cut:  # half of it arrives
                cut.remove(route)
                self.wfile.write(b"{")
                return None
            self.wfile.write(b"{}")
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Latchkey) as stub:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        with nextjs.running(f"http://127.0.0.1:{stub.server_port}", tmp_path) as base:
            for status, goes in ((503, False), (429, False), (500, False), (401, True), (200, True)):
                said.append(status)
                given = {"headers": {"Origin": base}, "cookies": {"latchkey-refresh": "x" * 43}}
                answer = requests.post(f"{base}/api/auth/logout", json={}, timeout=30, **given)
                assert (answer.status_code, "Max-Age=0" in answer.headers.get("Set-Cookie", "")) == (status, goes)
            for path, status in (("refresh", 200), ("login", 503)) * 2:
                assert requests.post(f"{base}/api/auth/{path}", json={}, timeout=30, **given).status_code == status
        stub.shutdown()


def test_the_pages_code_for_passkeys_is_passed_on_and_its_token_goes_into_the_cookie(visit: Visit) -> None:
    page = (nextjs.ROOT / "docs" / "passkeys.md").read_text()
    asked = set(re.findall(r'call\(["`](/[^"`]+)', page))
    assert len(asked) >= 5
    person = visit.person()
    ours = {"Origin": visit.base, "Sec-Fetch-Site": "same-origin"}
    given = {**ours, "Authorization": f"Bearer {person.token}"}

    def call(path: str, body: Any, headers: dict[str, str] = ours, **ids: str) -> requests.Response:
        asked.discard(path)
        for name, value in ids.items():
            path = path.replace(f"${{asked.{name}}}", value)
        answer = requests.post(f"{visit.base}/api/auth{path}", json=body, headers=headers, timeout=30)
        assert answer.ok, answer.text
        return answer

    key = Authenticator(f"http://localhost:{visit.service.base.rpartition(':')[2]}")
    begun = call("/factors/passkeys", {"name": "My phone"}, given).json()
    bound = {"credential": key.create(begun["options"])}
    call("/factors/passkeys/${asked.challenge_id}/confirm", bound, given, challenge_id=begun["challenge_id"])

    def used(**about: str) -> dict[str, Any]:
        begun = call("/passkeys/options", about).json()
        return {"challenge_id": begun["challenge_id"], "credential": key.get(begun["options"])}

    alone = call("/passkeys/login", used())
    step = call("/login", {"identifier": person.email, "password": person.password}).json()
    second = call("/login/verify", {**used(challenge_id=step["challenge_id"]), "method": "passkey"})
    for answer in (alone, second):
        assert "access_token" in answer.json()
        assert "refresh_token" not in answer.json()
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert len(answer.cookies["latchkey-refresh"]) >= 40
    assert asked == set()


def _expired(person: Person) -> str:
    """A good access token of somebody, but for its end."""
    claims = jwt.decode(person.token, options={"verify_signature": False})
    past = {**claims, "iat": int(time.time()) - 900, "exp": int(time.time()) - 1}
    return jwt.encode(past, SECRETS["jwt_secret_key"], "HS256", jwt.get_unverified_header(person.token))


def test_over_https_the_cookie_is_bound_to_its_host(ground: Visit, tmp_path: Path) -> None:
    """Behind a proxy that ends TLS, as in production: what counts is the address that people type."""
    origin = "https://app.example.com"
    with nextjs.running(ground.service.base, tmp_path, origin) as base:

        def post(path: str, **body: str) -> requests.Response:
            return requests.post(f"{base}/api/auth/{path}", json=body, headers={"Origin": origin}, timeout=30)

        asked: list[requests.Response] = []
        sign_up = {"email": f"visitor{next(_emails)}@example.com", "password": PASSWORD}
        code = ground.code(lambda: asked.append(post("signup", **sign_up)))
        answered = post("verify-otp", challenge_id=asked[0].json()["challenge_id"], otp=code)
        cookie = answered.headers["Set-Cookie"]
        assert re.match(r"__Host-latchkey-refresh=[\w-]{40,}; Path=/; ", cookie)
        assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert "max-age=31536000" in requests.get(f"{base}/sign-in", timeout=30).headers["Strict-Transport-Security"]


def test_no_other_site_writes_and_nothing_else_of_the_service_can_be_reached(ground: Visit) -> None:
    def post(path: str, **headers: str) -> requests.Response:
        return requests.post(f"{ground.base}/api/auth/{path}", json={}, headers=headers, timeout=30)

    ours = {"Origin": ground.base, "Sec-Fetch-Site": "same-origin"}
    refused = [
        post("login"),
        post("login", Origin="https://evil.example"),
        post("login", **{**ours, "Sec-Fetch-Site": "same-site"}),
    ]
    assert [answer.json()["code"] for answer in refused] == ["cross_site_request"] * 3
    assert post("login", **ours).json()["code"] == "validation_failed"
    assert post("refresh", **ours).json()["code"] == "token_missing"
    assert post("introspect", **ours).status_code == 404
    assert requests.get(f"{ground.base}/api/auth/..%2f..%2fhealth", timeout=30).status_code == 404
    page = requests.get(f"{ground.base}/sign-in", timeout=30)
    assert "script-src 'self' 'nonce-" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]


def test_the_lock_is_exact_and_names_no_host() -> None:
    package = json.loads((nextjs.EXAMPLE / "package.json").read_text())
    lock = (nextjs.EXAMPLE / "package-lock.json").read_text()
    wanted = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"[0-9.]+", version) for version in wanted.values())
    packages = json.loads(lock)["packages"]
    own = packages.pop("")
    assert own["dependencies"] | own["devDependencies"] == wanted
    assert all(found["integrity"].startswith("sha512-") for found in packages.values())
    assert '"resolved"' not in lock
    # A platform whose compiler the lock has left out could not build.
    optional = {name for found in packages.values() for name in found.get("optionalDependencies", {})}
    assert {name for name in optional if f"node_modules/{name}" not in packages} == set()


def test_the_readme_has_the_settings_and_files_that_there_are() -> None:
    sources = [path for path in nextjs.sources() if path.suffix in (".ts", ".tsx")]
    read = {name for path in sources for name in re.findall(r"process\.env\.(\w+)", path.read_text())}
    example = (nextjs.EXAMPLE / ".env.example").read_text()
    readme = (nextjs.EXAMPLE / "README.md").read_text()
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) == read - {"NODE_ENV"}
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", readme, re.MULTILINE)) == read - {"NODE_ENV"}
    for name in re.findall(r"`((?:lib|components|app)/[^`]+|proxy\.ts|\.env\.example)`", readme):
        assert (nextjs.EXAMPLE / name).exists(), name
