"""The browser dialect from where it lives: curl's cookie jar and real pages in Chromium, one of them another site's."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import lanes
from tests.service import Service, running

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")  # fmt: skip
PASSED_ON = ("Content-Type", "Cookie", "Origin", "Sec-Fetch-Site")

pytestmark = pytest.mark.slow


@dataclass
class Site:
    """A classic app's own host: its pages, and everything else from the service behind it."""

    service: Service
    pages: dict[str, str]
    port: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Front(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path in site.pages:
                site.done.clear()
                return self.answer(200, "text/html; charset=utf-8", site.pages[self.path].encode())
            if self.path == "/hold":  # a picture that keeps the page from being loaded until its script is done
                site.done.wait(60)
                return self.answer(200, "image/png", b"")
            if self.path == "/done":
                site.done.set()
                return self.answer(200, "text/plain", b"")
            if self.path.startswith("/code/"):
                return self.answer(200, "text/plain", next_code(site.service, int(self.path[6:])).encode())
            return self.pass_on()

        def do_POST(self) -> None:
            self.pass_on()

        do_OPTIONS = do_POST

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: self.headers[name] for name in PASSED_ON if self.headers.get(name)}
            headers["Host"] = self.headers["Host"]
            found = requests.request(
                self.command, site.service.base + self.path, data=body, headers=headers, timeout=20
            )
            cookies = found.raw.headers.getlist("Set-Cookie")
            self.answer(found.status_code, found.headers["Content-Type"], found.content, cookies)

        def answer(self, status: int, kind: str, body: bytes, cookies: list[str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for cookie in cookies or []:
                self.send_header("Set-Cookie", cookie)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Front


@contextlib.contextmanager
def served(site: Site) -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(site))
    site.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def service(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("pages")
    with lanes.database("sqlite", f"pages_{worker}") as url:
        lanes.migrate(url)
        with running(url, folder, web_concurrency=1) as made:
            yield made


def curl(service: Service, jar: Path, path: str, body: dict[str, str] | None = None) -> tuple[int, dict[str, object]]:
    """One call with curl and its cookie jar."""
    given = ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body is not None else []
    command = ["curl", "-s", "-b", str(jar), "-c", str(jar), "-w", "\n%{http_code}", *given, service.base + path]
    text, _, status = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.rpartition("\n")
    return int(status), json.loads(text)


def next_code(service: Service, seen: int) -> str:
    deadline = time.monotonic() + 10
    while len(service.codes()) <= seen and time.monotonic() < deadline:
        time.sleep(0.05)
    return service.codes()[-1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("route", ["signup", "register"])
def test_both_sets_of_routes_with_curl_s_cookie_jar(service: Service, tmp_path: Path, route: str) -> None:
    jar, email = tmp_path / "jar", f"{route}@example.com"
    body = {"name": "Jane", "email": email, "password": "correct horse 7"}
    if route == "register":
        body |= {"username": "jane.curl", "phone": "+919876543299"}
    seen = len(service.codes())
    assert curl(service, jar, f"/{route}", body)[0] == 200
    done = curl(service, jar, "/verify-otp", {"email": email, "otp": next_code(service, seen)})
    assert done[1]["message"] == "Login successful"
    if route == "register":
        next_code(service, seen + 1)  # of the phone, which is asked as well
    assert curl(service, jar, "/protected")[1]["message"] == "Welcome to protected area"
    assert "#HttpOnly_127.0.0.1" in jar.read_text()
    assert curl(service, jar, "/logout", {})[1] == {"message": "Logged out successfully"}
    assert curl(service, jar, "/protected")[0] == 401
    seen = len(service.codes())
    assert (
        curl(service, jar, "/login", {"email": email, "password": "correct horse 7"})[1]["message"]
        == "OTP sent to your email"
    )
    assert curl(service, jar, "/verify-otp", {"email": email, "otp": next_code(service, seen)})[0] == 200
    seen = len(service.codes())
    assert curl(service, jar, "/forgot-password", {"identifier": email})[1] == {"message": "OTP sent successfully"}
    code = next_code(service, seen)
    assert curl(service, jar, "/validate-otp", {"identifier": email, "otp": code})[0] == 200
    changed = curl(service, jar, "/reset-password", {"identifier": email, "new_password": "another horse 8"})
    assert changed[1] == {"message": "Password reset successful"}
    assert curl(service, jar, "/protected")[0] == 401


OWN_PAGE = """<!doctype html><title>own</title><pre id=out></pre><img src="/hold"><script>
const out = [];
async function call(path, body) {
  const given = body ? {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)} : {};
  const answer = await fetch(path, given);
  out.push([path, answer.status, (await answer.json()).message || ""]);
  return answer;
}
let seen = SEEN;
async function code() { return (await fetch("/code/" + seen++)).text(); }
(async () => {
  const email = "page@example.com", password = "correct horse 7";
  await call("/signup", {name: "Jane", email, password});
  await call("/verify-otp", {email, otp: await code()});
  await call("/protected");
  out.push(["cookies that a script sees", document.cookie]);
  await call("/logout", {});
  await call("/protected");
  await call("/login", {email, password});
  await call("/verify-otp", {email, otp: await code()});
  await call("/protected");
  document.getElementById("out").textContent = JSON.stringify(out);
  await fetch("/done");
})();
</script>"""
FOREIGN_PAGE = """<!doctype html><title>foreign</title><pre id=out></pre><img src="/hold"><script>
const out = [];
async function attempt(name, work) {
  try { out.push([name, await work()]); } catch (error) { out.push([name, error.name]); }
}
const target = "TARGET", json = {"Content-Type": "application/json"};
(async () => {
  await attempt("read", async () => (await fetch(target + "/protected", {credentials: "include"})).status);
  await attempt("write", async () => (await fetch(target + "/logout", {method: "POST", credentials: "include", headers: json, body: "{}"})).status);
  await attempt("simple write", async () => (await fetch(target + "/logout", {method: "POST", mode: "no-cors", credentials: "include", headers: {"Content-Type": "text/plain"}, body: "{}"})).type);
  await attempt("sign-in", async () => (await fetch(target + "/login", {method: "POST", mode: "no-cors", credentials: "include", headers: {"Content-Type": "text/plain"}, body: "{}"})).type);
  document.getElementById("out").textContent = JSON.stringify(out);
  await fetch("/done");
})();
</script>"""


def visit(profile: Path, url: str) -> list[list[object]]:
    """Open a page in Chromium, with the cookies of this profile, and read what its script wrote."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--timeout=90000", "--dump-dom", url]
    environment = {"PATH": os.environ["PATH"], "HOME": str(profile)}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    found = re.search(r'<pre id="out">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert found and found[1], (shown.stdout[-2000:], shown.stderr[-2000:])
    return json.loads(html.unescape(found[1]))


@pytest.mark.covers("asvs 3.3.4", "attack A52")
@pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED: no Chromium is installed")
def test_a_page_signs_in_and_another_site_gets_nowhere(service: Service, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    page = OWN_PAGE.replace("SEEN", str(len(service.codes())))
    with served(Site(service, {"/page.html": page})) as own:
        assert visit(profile, f"{own.base}/page.html") == [
            ["/signup", 200, "Account created successfully"],
            ["/verify-otp", 200, "Login successful"],
            ["/protected", 200, "Welcome to protected area"],
            ["cookies that a script sees", ""],
            ["/logout", 200, "Logged out successfully"],
            ["/protected", 401, ""],
            ["/login", 200, "OTP sent to your email"],
            ["/verify-otp", 200, "Login successful"],
            ["/protected", 200, "Welcome to protected area"],
        ]
        with served(Site(service, {"/evil.html": FOREIGN_PAGE.replace("TARGET", own.base)})) as foreign:
            found = dict(visit(profile, f"http://localhost:{foreign.port}/evil.html"))
        assert (found["read"], found["write"]) == ("TypeError", "TypeError")
        assert set(found.values()) <= {"TypeError", "opaque"}, "nothing can be read"
        check = (
            page.split("(async () => {", maxsplit=1)[0]
            + """(async () => {
  await call("/protected");
  document.getElementById("out").textContent = JSON.stringify(out);
  await fetch("/done");
})();</script>"""
        )
        own.pages["/check.html"] = check
        assert visit(profile, f"{own.base}/check.html") == [["/protected", 200, "Welcome to protected area"]]


def test_the_page_about_moving_has_a_way_to_ask_who_is_signed_in(service: Service, tmp_path: Path) -> None:
    """Its own lines, as they stand but for the port, with the cookie of a browser."""
    page = (lanes.ROOT / "docs" / "moving-from-a-cookie-session-flask-app.md").read_text()
    [source] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    who: dict[str, Any] = {}
    exec(source.replace("http://127.0.0.1:5000", service.base), who)
    jar = requests.Session()
    jar.trust_env = False
    seen, body = len(service.codes()), {"name": "Jane", "email": "moved@example.com", "password": "correct horse 7"}
    assert jar.post(f"{service.base}/signup", json=body).status_code == 200
    proof = {"email": "moved@example.com", "otp": next_code(service, seen)}
    assert jar.post(f"{service.base}/verify-otp", json=proof).status_code == 200
    header = "; ".join(f"{name}={value}" for name, value in jar.cookies.items())
    assert who["signed_in"](header)["email"] == "moved@example.com"
    assert who["signed_in"]("") is None
    assert who["signed_in"]("session=forged") is None
    assert jar.post(f"{service.base}/logout", json={}).status_code == 200
    assert who["signed_in"](header) is None
