"""The backends of `examples/`, as their READMEs have them run: installed once for each lock, started beside a service."""

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from tools import servers

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "backends"  # git ignores it; it is safe to delete
LEFT_OUT = shutil.ignore_patterns("node_modules", ".venv", "__pycache__", "*.egg-info", "dist")
# What keeps installers from asking the network more than they must. PIP_NO_BUILD_ISOLATION=0 switches isolation off: the
# build backend is lent, as all else that pip would fetch.
QUIETLY = {
    "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "npm_config_audit": "false", "npm_config_fund": "false", "npm_config_prefer_offline": "true",
}  # fmt: skip
INSTALL_S, START_S = 300, 60


@dataclass(frozen=True)
class Example:
    """`installs`: the folder that the README's install commands make. `locks`: what it depends on."""

    name: str
    port: str
    installs: str
    locks: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return ROOT / "examples" / self.name

    def blocks(self) -> list[str]:
        return re.findall(r"^```sh\n(.*?)^```", (self.folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)


FASTAPI = Example("fastapi", "8000", ".venv", ("examples/fastapi/requirements.txt", "clients/python"))
EXPRESS = Example("node", "8001", "node_modules", ("examples/node/package-lock.json",))


def installed(example: Example) -> Path:
    """What the example's install commands made. They run again only when a lock of theirs changed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{example.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several workers one installs
        place, stamp = CACHE / example.name, CACHE / f"{example.name}.installed"
        made, digest = place / "examples" / example.name / example.installs, _digest(example)
        if not stamp.exists() or stamp.read_text() != digest:
            shutil.rmtree(place, ignore_errors=True)
            _copy(example, place)
            _install(example, made.parent)
            stamp.write_text(digest)
        return made


def _digest(example: Example) -> str:
    paths = [
        path for name in example.locks for path in ([ROOT / name] if (ROOT / name).is_file() else _files(ROOT / name))
    ]
    told = [
        f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in [*paths, Path(__file__)]
    ]
    return hashlib.sha256("\n".join([str(ROOT), *told]).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def _copy(example: Example, place: Path) -> None:
    shutil.copytree(example.folder, place / "examples" / example.name, ignore=LEFT_OUT)
    shutil.copytree(ROOT / "clients", place / "clients", ignore=LEFT_OUT)


def _install(example: Example, folder: Path) -> None:
    """The first block of the README. Where that makes an environment, ours lends it what pip would fetch."""
    commands = example.blocks()[0].strip().splitlines()
    for command in commands:
        given = {**os.environ, **QUIETLY, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=given, text=True, timeout=INSTALL_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        for site in (folder / ".venv").glob("lib/python*/site-packages"):
            [ours] = (ROOT / ".venv").glob("lib/python*/site-packages")
            (site / "lent.pth").write_text(str(ours.resolve()))


@contextlib.contextmanager
def running(example: Example, place: Path, secret: str, **environment: str) -> Iterator[str]:
    """The example beside a service whose `.env` holds a secret, started by its README; the address it listens at."""
    folder, port = place / "examples" / example.name, str(servers.free_port())
    shutil.copytree(example.folder, folder, ignore=LEFT_OUT)
    (folder / example.installs).symlink_to(installed(example))
    (place / ".env").write_text(f"JWT_SECRET_KEY={secret}\n")
    *before, start = example.blocks()[1].strip().replace(example.port, port).splitlines()
    log, given = place / "backend.log", {"PATH": os.environ["PATH"], "PORT": port, **environment}
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", "\n".join([*before, f"exec {start}"])], cwd=folder, env=given, stdout=out, stderr=out
        )
    base = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _listens(base), lambda: process.poll() is not None, log)
        yield base
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _until(true: Callable[[], bool], over: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not true():
        assert not over(), log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _listens(base: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{base}/health", timeout=2).ok
    return False
