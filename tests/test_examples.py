"""The examples, run as they stand against the service as it runs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import lanes
from tests.lanes import SECRETS
from tests.service import running

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

pytestmark = pytest.mark.slow


def client_of(base: str, folder: Path, *words: str, key: str = SECRETS["api_key"]) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "LATCHKEY_URL": base, "LATCHKEY_API_KEY": key}
    return subprocess.run(
        [sys.executable, "-I", str(EXAMPLES / "device_client.py"), *words],
        cwd=folder, env=env, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def test_the_device_client_registers_shows_codes_and_has_them_checked(tmp_path: Path, worker: str) -> None:
    with lanes.database("sqlite", f"examples_{worker}") as url:
        lanes.migrate(url)
        with running(url, tmp_path, web_concurrency=1) as service:
            client = partial(client_of, service.base, tmp_path)
            assert "till-7 is registered" in client("register", "till-7", "shop 12").stdout
            assert stat.S_IMODE((tmp_path / "till-7.json").stat().st_mode) == 0o600
            code = client("code", "till-7").stdout.strip()
            assert len(code) == 6
            assert client("verify", "till-7", code).stdout == "valid\n"
            assert client("verify", "till-7", code).stdout == "not valid\n"
            taken = client("register", "till-7", "shop 12")
            assert (taken.returncode, taken.stderr) == (1, "409 conflict: This clashes with what is there.\n")
            assert "401 token_invalid" in client("verify", "till-7", key="wrong").stderr
            assert "register till-7" in client().stderr
            assert json.loads((tmp_path / "till-7.json").read_text())["device_id"] == "till-7", "which a refusal leaves"

            there = tmp_path / "till-8.json"
            there.write_text("{}")
            there.chmod(0o644)
            assert "till-8 is registered" in client("register", "till-8", "shop 12").stdout
            assert stat.S_IMODE(there.stat().st_mode) == 0o600
            assert client("verify", "till-8").stdout == "valid\n"

            (tmp_path / "till-9.json.new").touch(0o644)
            (tmp_path / "till-9.json").mkdir()
            assert client("register", "till-9", "shop 12").returncode == 1, "now it is registered, and was not before"
            assert stat.S_IMODE((tmp_path / "till-9.json.new").stat().st_mode) == 0o600
            (tmp_path / "till-9.json").rmdir()
            assert "till-9 is registered" in client("register", "till-9", "shop 12").stdout
            assert client("verify", "till-9").stdout == "valid\n"
            assert list(tmp_path.glob("*.new")) == []


AWAY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("lost", [b"", b'HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{"data": {', AWAY])
@pytest.mark.parametrize("runs", [1, 2], ids=["at once", "in a later run"])
def test_the_device_client_asks_again_with_the_same_key_when_an_answer_is_lost(
    tmp_path: Path, lost: bytes, runs: int
) -> None:
    """And gets what the first request has made."""
    keys: list[str | None] = []

    class Latchkey(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            keys.append(self.headers["Idempotency-Key"])
            if len(keys) % (2 * runs):  # each run asks twice at most
                self.wfile.write(lost)
                return
            self.send_response(201)
            self.end_headers()
            self.wfile.write(b'{"data": {"device_id": "till-7", "derived_key": "AA=="}}')

    with ThreadingHTTPServer(("127.0.0.1", 0), Latchkey) as stub:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        for _ in range(2):
            for last in range(runs):
                done = client_of(f"http://127.0.0.1:{stub.server_port}", tmp_path, "register", "till-7", "shop 12")
                assert (done.returncode == 0) == (last == runs - 1), done.stderr
                assert "Traceback" not in done.stderr
            assert json.loads((tmp_path / "till-7.json").read_text())["derived_key"] == "AA=="
        stub.shutdown()
    first, second = keys[: 2 * runs], keys[2 * runs :]
    assert (len(set(first)), len(set(second))) == (1, 1)
    assert None not in {*first, *second}
    assert first[0] != second[0], "another registration is another request"
