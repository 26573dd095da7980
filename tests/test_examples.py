"""The examples, run as they stand against the service as it runs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import lanes
from tests.lanes import SECRETS
from tests.service import running

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

pytestmark = pytest.mark.slow


def test_the_device_client_registers_shows_codes_and_has_them_checked(tmp_path: Path, worker: str) -> None:
    with lanes.database("sqlite", f"examples_{worker}") as url:
        lanes.migrate(url)
        with running(url, tmp_path, web_concurrency=1) as service:

            def client(*words: str, key: str = SECRETS["api_key"]) -> subprocess.CompletedProcess[str]:
                env = {"PATH": os.environ["PATH"], "LATCHKEY_URL": service.base, "LATCHKEY_API_KEY": key}
                return subprocess.run(
                    [sys.executable, "-I", str(EXAMPLES / "device_client.py"), *words],
                    cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30,
                )  # fmt: skip

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
