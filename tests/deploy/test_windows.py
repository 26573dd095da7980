"""setup.bat and run.bat, as far as that goes without Windows: how they are written, and that the service starts as run.bat
starts it. `python -m bench windows` runs them in Wine's cmd.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from app.framing import LONGEST_BODY
from tests import lanes
from tests.deploy.checkout import ROOT, Started, lend
from tests.lanes import SECRETS
from tools import servers

FILES = ["setup.bat", "run.bat"]
UNIX_ALONE = {"fcntl", "grp", "gunicorn", "pwd", "resource", "termios"}
# `python -m NAME` without gunicorn and what comes with it; `fcntl`, which this Python needs, is looked for below.
AS_ON_WINDOWS = """
import runpy, sys
sys.modules |= dict.fromkeys(("grp", "gunicorn", "pwd", "resource", "termios"))
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""
PROGRAMS = re.compile(r"^(\.venv\\|%PYTHON%|py |call )")


def body(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines()


@pytest.mark.parametrize("name", FILES)
def test_its_lines_end_as_cmd_wants_them_and_are_plain_ascii(name: str) -> None:
    data = (ROOT / name).read_bytes()
    assert data.count(b"\r\n") == data.count(b"\n") > 5
    assert data.isascii()
    stored = subprocess.run(["git", "check-attr", "eol", name], cwd=ROOT, capture_output=True, text=True).stdout
    assert stored.strip() == f"{name}: eol: crlf"


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_fails_is_passed_over(name: str) -> None:
    """Each program is followed by a look at what it ended with. `if errorlevel 1` would take a crash, whose code is
    negative, for a success; and what ran before this file must not count, which commands of cmd itself leave as it is.
    """
    lines = body(name)
    for line, after in itertools.pairwise(lines):
        looks = re.match(r'(if (not )?"%errorlevel%"=="0" |exit /b %errorlevel%)', after)
        assert bool(looks) == bool(PROGRAMS.match(line)), line
        assert "errorlevel 1" not in line


@pytest.mark.parametrize("name", FILES)
def test_its_folder_may_have_a_space_and_its_variables_stay_its_own(name: str) -> None:
    lines = body(name)
    assert lines[0] == "@echo off"
    assert lines.index("setlocal") < min(i for i, line in enumerate(lines) if line.startswith("set "))
    assert 'cd /d "%~dp0"' in lines
    assert "set PYTHONUTF8=1" in lines, "messages in Hindi go to a console of another encoding"
    assert not any("delayedexpansion" in line.lower() or "!" in line for line in lines)
    for line in lines:
        assert not line.startswith("set ") or "%~dp0" not in line


def test_every_call_has_its_file_and_every_goto_its_label() -> None:
    for name in FILES:
        text = "\n".join(body(name))
        assert all((ROOT / called).exists() for called in re.findall(r"\bcall (\S+)", text))
        assert all(f"\n:{label}\n" in text for label in re.findall(r"\bgoto (\w+)", text))


def test_an_environment_that_does_not_work_is_made_anew(tmp_path: Path) -> None:
    """Half made, and so without pip; or made for a Python that another took the place of."""
    checks = [line.partition("=")[2] for name in FILES for line in body(name) if line.startswith("set WHOLE=")]
    assert len(set(checks)) == 1
    assert len(checks) == len(FILES)
    setup = body("setup.bat")
    made = setup.index("%PYTHON% -m venv --clear .venv")
    assert setup[made - 5 : made - 2] == [
        "if not exist .venv\\Scripts\\python.exe goto make",
        '.venv\\Scripts\\python -c "%WHOLE%" >nul 2>nul',
        'if "%errorlevel%"=="0" goto packages',
    ]
    assert not {'"', "%"} & set(checks[0]), "they mean something to cmd"
    venv = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    told = []
    for harm in ("no pip", "none", "another Python"):
        if harm == "none":
            lend(venv)
        if harm == "another Python":
            (venv / "pyvenv.cfg").write_text(
                (venv / "pyvenv.cfg").read_text().replace("version = 3.", "version = 3.99")
            )
        done = subprocess.run([venv / "bin" / "python", "-c", checks[0]], cwd=tmp_path, capture_output=True, timeout=60)
        told.append(done.returncode)
    assert told == [1, 0, 1]


def test_what_windows_has_not_is_imported_only_where_it_is_there() -> None:
    """But for what gunicorn.conf.py loads."""
    for path in (ROOT / "app").rglob("*.py"):
        body = ast.parse(path.read_text()).body
        names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}
        assert path.name == "listening.py" or not {name.split(".")[0] for name in names} & UNIX_ALONE, path


@pytest.fixture(scope="module")
def service(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """On waitress, as run.bat starts it."""
    port, home = str(servers.free_port()), tmp_path_factory.mktemp("waitress")
    given = {
        **{name.upper(): value for name, value in SECRETS.items()}, "ENVIRONMENT": "production", "ALLOW_SQLITE": "true",
        "ALLOW_CONSOLE_DELIVERY": "true", "PORT": port, "TRUSTED_PROXIES": "2", "PYTHONUTF8": "1",
    }  # fmt: skip
    with lanes.database("sqlite", f"waitress_{worker}") as url:
        lanes.migrate(url)
        log = home / "waitress.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", AS_ON_WINDOWS, body("run.bat")[-2].split()[-1]], cwd=ROOT, stdout=out, stderr=out,
                env={"PATH": os.environ["PATH"], "HOME": str(home), "DATABASE_URL": url, **given}, start_new_session=True,
            )  # fmt: skip
        started = Started(f"http://127.0.0.1:{port}", process, log)
        try:
            started.wait()
            yield started
        finally:
            started.stop()


@pytest.mark.slow
def test_waitress_serves_and_knows_the_client_behind_a_proxy(service: Started) -> None:
    headers = {"X-Forwarded-For": "198.51.100.7, 104.22.17.40"}
    answer = requests.get(f"{service.base}/health", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["checks"]["courier"]) == (200, "ok")
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("route") == "/health"]
    assert line["client"] == "198.51.100.7"


def connected(service: Started) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(service.base).port or 0), timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize("length", [LONGEST_BODY + 1, 100_000_000])
def test_waitress_refuses_too_long_a_body(service: Started, length: int) -> None:
    """One that is far too long before it comes; of one that is a little too long, the service says what is wrong."""
    given = ["POST /api/auth/login HTTP/1.1", "Host: x", "Content-Type: application/json", "Connection: close"]
    head = "\r\n".join([*given, f"Content-Length: {length}", "", ""])
    with connected(service) as line:
        line.sendall(head.encode() + b"a" * (length if length < LONGEST_BODY * 2 else 0))
        said = line.makefile("rb").read().decode()
    assert said.startswith("HTTP/1.1 413 ")
    assert ("payload_too_large" in said) == (length < LONGEST_BODY * 2)


@pytest.mark.slow
def test_waitress_serves_beside_those_who_hold_connections_and_ask_nothing(service: Started) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(150):
            held.enter_context(connected(service))
        assert requests.get(f"{service.base}/health/live", timeout=10).ok
