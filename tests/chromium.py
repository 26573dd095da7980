"""A real browser with a virtual authenticator, on a page of the running service's own origin."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.virtual_authenticator import Protocol, Transport, VirtualAuthenticatorOptions
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.people import Answer
from tools import servers

PATIENCE_S = 30
PAGE_PATH = "/page-of-the-tests"
# What a site writes to use passkeys: the options as they come, the browser's own readers, the answer as JSON.
PAGE = b"""<!doctype html><title>Passkeys</title><script>
async function call(method, path, body, token) {
  const headers = {"Content-Type": "application/json", ...(token ? {Authorization: "Bearer " + token} : {})}
  const answer = await fetch(path, {method, headers, body: body === null ? undefined : JSON.stringify(body)})
  return {status: answer.status, body: await answer.json()}
}
const failed = error => ({error: error.name})
function create(options) {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options)
  return navigator.credentials.create({publicKey}).then(made => made.toJSON(), failed)
}
function get(options) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options)
  return navigator.credentials.get({publicKey}).then(shown => shown.toJSON(), failed)
}
</script>"""


def missing() -> bool:
    """True on a machine that has no Chromium and driver to test with."""
    return not all(servers.chromium())


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Requests are no news here."""


@contextlib.contextmanager
def serving(app: Flask, port: int) -> Iterator[str]:
    """The application, and beside it the page, at `http://localhost:PORT`: a secure context to a browser."""

    def either(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] != PAGE_PATH:
            return app.wsgi_app(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [PAGE]

    server = make_server("127.0.0.1", port, either, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Browser:
    """A browser on the page. What a script awaits, its caller gets; of what fails, the name of the error."""

    driver: Chrome

    def api(self, method: str, path: str, body: Any = None, token: str | None = None) -> Answer:
        got = self.driver.execute_script("return call(...arguments)", method, path, body, token)
        return Answer(got["status"], got["body"], {})

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        return self.driver.execute_script("return create(arguments[0])", options)

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        return self.driver.execute_script("return get(arguments[0])", options)

    def plug_in(self, *, verifies: bool = True) -> None:
        """Another authenticator, as built into a phone: discoverable keys, and an owner who unlocks it (or fails to)."""
        made = VirtualAuthenticatorOptions(
            protocol=Protocol.CTAP2, transport=Transport.INTERNAL, has_resident_key=True,
            has_user_verification=True, is_user_verified=verifies,
        )  # fmt: skip
        self.driver.add_virtual_authenticator(made)

    def unplug(self) -> None:
        """Take the authenticator away."""
        self.driver.remove_virtual_authenticator()


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[Chrome]:
    """A browser that has been nowhere yet; gone afterwards."""
    program, driver_program = servers.chromium()
    assert program, "no Chromium"
    assert driver_program, "no driver for it"
    options = ChromeOptions()
    options.binary_location = program
    arguments = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={folder}")
    for argument in arguments:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(driver_program))
    try:
        driver.set_script_timeout(PATIENCE_S)
        driver.set_page_load_timeout(PATIENCE_S)
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def browsing(base: str, folder: Path) -> Iterator[Browser]:
    """A browser at the page, with an authenticator; gone afterwards."""
    with driving(folder) as driver:
        driver.get(base + PAGE_PATH)
        browser = Browser(driver)
        browser.plug_in()
        yield browser
