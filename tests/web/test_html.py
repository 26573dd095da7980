"""The pages for a browser: what each may run and paint, and that it is still whole in a real one."""

from __future__ import annotations

import re
import time
from pathlib import Path

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
