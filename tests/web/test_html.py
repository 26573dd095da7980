"""The pages for a browser: what each may run and paint, and that it is still whole in a real one."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import chromium
from tests.conftest import World
from tools import servers

PAGES = {"/docs": "Sign up", "/redoc": "Sign up", "/dev/inbox": "code.signup"}  # and what stands on each
BROWSER = {"Accept": "text/html"}


@pytest.mark.covers("asvs 3.4.3", "asvs 3.4.8")
@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_only_what_carries_its_nonce(world: World, path: str) -> None:
    nonces = set()
    for _ in range(2):
        shown = world.app.test_client().get(path, headers=BROWSER)
        assert (shown.status_code, shown.mimetype) == (200, "text/html")
        assert shown.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        policy = dict(part.split(" ", 1) for part in shown.headers["Content-Security-Policy"].split("; "))
        assert {
            policy[name] for name in ("default-src", "base-uri", "object-src", "form-action", "frame-ancestors")
        } == {"'none'"}
        assert "unsafe" not in str(policy)
        [nonce] = set(re.findall(r"'nonce-([\w-]{43})'", str(policy)))
        assert policy.get("script-src", f"'nonce-{nonce}'") == f"'nonce-{nonce}'"
        tags = re.findall(r"<(?:script|style|link rel=.stylesheet.)[^>]*>", shown.text)
        assert tags
        assert all(f'nonce="{nonce}"' in tag for tag in tags), "nothing else stands in it"
        nonces.add(nonce)
    assert len(nonces) == 2, "each answer has its own"


@pytest.mark.slow
@pytest.mark.one_lane("sqlite")
@pytest.mark.covers("asvs 3.4.3")
@pytest.mark.skipif(chromium.missing(), reason="Chromium or its driver is missing")
def test_a_browser_shows_each_page_whole_and_refuses_nothing(world: World, tmp_path: Path) -> None:
    world.person().ask_signup().ok()
    with chromium.serving(world.app, servers.free_port()) as base, chromium.driving(tmp_path / "browser") as driver:
        for path, text in PAGES.items():
            driver.get(base + path)
            deadline = time.monotonic() + chromium.PATIENCE_S
            while text not in driver.find_element("tag name", "body").text and time.monotonic() < deadline:
                time.sleep(0.1)
            assert text in driver.find_element("tag name", "body").text, path
            refused = [
                line["message"] for line in driver.get_log("browser") if "Content Security Policy" in line["message"]
            ]
            assert refused == [], path


@contextmanager
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Whoever collects reports: the address, and the reports that have come."""
    reports: list[dict[str, Any]] = []

    class Collector(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Requests are no news here."""

        def do_POST(self) -> None:
            reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["csp-report"])
            self.send_response(204)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/csp", reports
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.one_lane("sqlite")
@pytest.mark.covers("asvs 3.4.7")
def test_every_policy_says_where_to_report_if_that_is_set(make_world: Any) -> None:
    where = "https://reports.example.com/csp?app=latchkey"
    asked = [*PAGES, "/docs/static/start-redoc.js", "/health", "/api/auth/me", "/nowhere", "/.well-known/jwks.json"]
    usual, told = (
        [
            world.app.test_client().get(path, headers=BROWSER, buffered=True).headers["Content-Security-Policy"]
            for path in asked
        ]
        for world in (make_world(), make_world(csp_report_uri=where))
    )
    assert [policy for policy in usual if "report" in policy] == []
    assert [policy.rpartition("; ")[2] for policy in told] == [f"report-uri {where}"] * len(asked)
    nonces = re.compile("'nonce-[^']+'")
    assert [nonces.sub("", p.rpartition("; ")[0]) for p in told] == [nonces.sub("", p) for p in usual]


@pytest.mark.slow
@pytest.mark.one_lane("sqlite")
@pytest.mark.covers("asvs 3.4.7")
@pytest.mark.skipif(chromium.missing(), reason="Chromium or its driver is missing")
def test_a_browser_reports_what_a_page_was_kept_from(make_world: Any, tmp_path: Path) -> None:
    smuggled = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.got = 1'}))"
    with listener() as (where, reports):
        world = make_world(csp_report_uri=where)
        with chromium.serving(world.app, servers.free_port()) as base, chromium.driving(tmp_path / "browser") as driver:
            driver.get(f"{base}/docs")
            driver.execute_script(smuggled)
            assert driver.execute_script("return window.got") is None
            deadline = time.monotonic() + chromium.PATIENCE_S
            while not reports and time.monotonic() < deadline:
                time.sleep(0.05)
    [report] = reports
    assert (report["document-uri"], report["disposition"]) == (f"{base}/docs", "enforce")
    assert report["effective-directive"].startswith("script-src")
