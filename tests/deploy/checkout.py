"""A clean checkout with a virtual environment of its own, as a platform makes it, and what runs in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 60


@dataclass(frozen=True)
class Checkout:
    folder: Path
    venv: Path

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Only what is given, with the virtual environment first on the path."""
        kept = {k: v for k, v in os.environ.items() if k in ("SSL_CERT_FILE",) or k.startswith("PIP_")}
        path = f"{self.venv / 'bin'}:/usr/bin:/bin"
        return {**kept, "HOME": str(self.folder.parent), "PATH": path, "LANG": "C.UTF-8", **given}

    def run(self, command: str, given: Mapping[str, str], typed: str = "") -> str:
        """Run a command of a shell to its end, with what somebody types; what it printed. It must succeed."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment(given), capture_output=True, text=True,
            timeout=300, input=typed, start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def started(self, command: str, given: Mapping[str, str]) -> Iterator[Started]:
        """The service as a command of a shell starts it, once it answers; stopped with SIGTERM at the end."""
        log = self.folder.parent / f"started-{given['PORT']}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=self.folder, env=self.environment(given), stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        service = Started(f"http://127.0.0.1:{given['PORT']}", process, log)
        try:
            service.wait()
            yield service
        finally:
            service.stop()


@dataclass(frozen=True)
class Started:
    base: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                requests.get(f"{self.base}/health/live", timeout=2)
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


def clean_checkout(folder: Path) -> Path:
    """HEAD as a platform clones it; where there is no repository, the tree without what is made in it."""
    made = folder / "checkout"
    if not (ROOT / ".git").exists():
        shutil.copytree(ROOT, made, ignore=shutil.ignore_patterns(".venv", ".env", "instance", "__pycache__"))
        return made
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(made)], check=True, timeout=60)
    return made


def fresh_venv(folder: Path, *, lent: bool) -> Path:
    """A new virtual environment. `lent`: packages that this one has count as installed there, so that pip compares
    them with the lock and fetches only what is missing; `bench deploy` installs everything.
    """
    bare = ["--without-pip"] if lent else []
    subprocess.run([sys.executable, "-m", "venv", *bare, str(folder)], check=True, timeout=120)
    if lent:
        lend(folder)
    return folder


def lend(venv: Path) -> None:
    """Let an environment use this one's packages, and the commands that come with them."""
    [target] = venv.glob("lib/python3*/site-packages")
    (target / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name in ("pip", "flask", "gunicorn"):
        script = Path(sys.executable).parent / name
        shutil.copy(script, venv / "bin" / name)
        lines = script.read_text().splitlines(keepends=True)
        (venv / "bin" / name).write_text("".join([f"#!{venv}/bin/python\n", *lines[1:]]))
