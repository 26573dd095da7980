"""The Next.js example as its README has it run: installed and built once for each state of its sources, started."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from tools import servers

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "nextjs"
CACHE = ROOT / ".cache" / "nextjs"  # git ignores it; it is safe to delete
LEFT_OUT = ("node_modules", ".next", "next-env.d.ts", "tsconfig.tsbuildinfo")
BUILD_S, START_S = 600, 60


def commands() -> list[str]:
    """The commands of the README, in their order: install, build, start."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return blocks[0].strip().splitlines()


def built() -> Path:
    """The folder of the built example. Installs if its lock changed and builds if any source did; else costs nothing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several workers one builds
        folder = CACHE / "app"
        install, build, _ = commands()
        lock_now = _digest([EXAMPLE / "package-lock.json"])
        now = _digest([path for path in sources() if path.suffix != ".md"])
        if not _is_done(CACHE / "installed", lock_now) or not _is_done(CACHE / "built", now):
            _copy_sources(folder)  # not while another worker's runs: it reads them
            _once(folder, CACHE / "installed", lock_now, install)
            _once(folder, CACHE / "built", now, build)
        return folder


def sources() -> list[Path]:
    """Every file of the example that is its own."""
    every = (path for path in sorted(EXAMPLE.rglob("*")) if path.is_file())
    return [path for path in every if not set(path.relative_to(EXAMPLE).parts) & set(LEFT_OUT)]


def _digest(files: list[Path]) -> str:
    told = "".join(f"{path.relative_to(EXAMPLE)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)
    return hashlib.sha256(told.encode()).hexdigest()


def _copy_sources(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if old.name not in LEFT_OUT:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for source in sources():
        target = folder / source.relative_to(EXAMPLE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _is_done(stamp: Path, digest: str) -> bool:
    return stamp.exists() and stamp.read_text() == digest


def _once(folder: Path, stamp: Path, digest: str, command: str) -> None:
    if _is_done(stamp, digest):
        return
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    stamp.write_text(digest)


def _environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "NODE_EXTRA_CA_CERTS") if name in os.environ}
    return {**kept, "NEXT_TELEMETRY_DISABLED": "1", "CI": "1", **more}


@contextlib.contextmanager
def running(latchkey_url: str, folder: Path, origin: str = "") -> Iterator[str]:
    """The example beside a service, at the address it gives; stopped at the end. `origin`: where people reach it,
    if that is elsewhere.
    """
    port = servers.free_port()
    base = f"http://localhost:{port}"
    _, _, start = commands()
    app, log = built(), folder / "nextjs.log"
    given = _environment(PORT=str(port), APP_ORIGIN=origin or base, LATCHKEY_URL=latchkey_url)
    with log.open("wb") as out:
        command = re.sub(r"^LATCHKEY_URL=\S+", "exec", start)
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=app, env=given, stdout=out, stderr=out, start_new_session=True
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_S
        while not _answers(base):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield base
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End npm and what it started: npm alone would leave its server behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)  # raises once nobody is left
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)


def _answers(base: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{base}/icon.svg", timeout=2).ok
    return False
