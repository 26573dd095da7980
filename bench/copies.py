"""Copies of the tree in which a line is broken and tests are run. The tree itself is never touched.

Each run is forked from a process that has the libraries imported already: half of a short run would be that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Queue
from typing import TypeVar

import pytest

T = TypeVar("T")
R = TypeVar("R")

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (
    ".git",
    ".venv",
    ".cache",
    ".env",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "node_modules",
    "instance",
    "*.db*",
)
OURS = ("app", "bench", "tests", "tools", "examples", "latchkey_client")
GREEN, RED, LATE = "green", "red", "late"
GRACE_S = 20.0  # for a run that is stopped to drop its databases

_context = get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of tests ended; `by`: the test that failed, as pytest names it."""

    how: str
    by: str
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class Copy:
    root: Path

    @contextmanager
    def broken(self, file: str, text: str) -> Iterator[None]:
        """Another text in a file's place, for a while."""
        self._write(file, text)
        try:
            yield
        finally:
            self._write(file, (ROOT / file).read_text())

    def _write(self, file: str, text: str) -> None:
        """Put a text in a file's place. What was compiled of it goes: it may be as long, and of the same second."""
        path = self.root / file
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            stale.unlink()
        path.write_text(text)

    def tests(self, names: Sequence[str], *, lane: str = "sqlite", patience: float = 120.0) -> Ended:
        """Run tests until the first that fails, or until patience ends."""
        began = time.monotonic()
        with tempfile.NamedTemporaryFile("r") as out:
            words = ["-x", "--tb=short", "--show-capture=log", "-rfE", "-p", "no:cacheprovider", *names]
            code = _forked(self.root, lane, words, Path(out.name), patience)
            said = out.read()
        summary = said.rpartition("short test summary info")[2]
        failed = [line for line in summary.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        by = [line.split(" ", 1)[1].split(" - ")[0] for line in failed]
        how = LATE if code is None else GREEN if code == 0 else RED
        return Ended(how, by[0] if by else f"exit {code}", time.monotonic() - began, said)


@contextmanager
def copied() -> Iterator[Copy]:
    """A copy of the tree as it is now, also of what is not committed; gone afterwards."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared, prefix="broken-") as folder:
        root = Path(folder) / "tree"
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
        yield Copy(root)


def each(items: Sequence[T], act: Callable[[Copy, T], R], jobs: int = 2) -> list[R]:
    """What `act` makes of each item, so many at once, each in a copy that nobody else uses meanwhile."""
    warm_up()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        free: Queue[Copy] = Queue()
        for _ in range(jobs):
            free.put(stack.enter_context(copied()))

        def one(item: T) -> R:
            copy = free.get()
            try:
                return act(copy, item)
            finally:
                free.put(copy)

        return list(pool.map(one, items))


def warm_up() -> None:
    """Have the libraries imported once, for all runs. To be called before the first."""
    listed = "import sys, tests.conftest, app.wsgi; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", listed], cwd=ROOT, capture_output=True, text=True, check=True)
    names = told.stdout.split()
    _context.set_forkserver_preload([name for name in names if name.split(".")[0] not in (*OURS, "__main__")])


def environment(lane: str) -> dict[str, str]:
    """That of this process, for tests on one database."""
    return {**os.environ, "LANES": lane}


def _forked(root: Path, lane: str, words: list[str], out: Path, patience: float) -> int | None:
    """The exit code of pytest in a process of its own; None if it was stopped because patience ended."""
    process = _context.Process(target=_run, args=(str(root), lane, words, out))
    process.start()
    process.join(patience)
    late = process.is_alive()
    for order in (signal.SIGINT, signal.SIGKILL):
        if process.is_alive() and process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, order)
            process.join(GRACE_S)
    return None if late else process.exitcode


def _run(root: str, lane: str, words: list[str], out: Path) -> None:
    """In the child: be somebody who runs pytest in the copy, and nothing else."""
    os.setsid()
    with out.open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(root)
    os.environ.update(environment(lane))
    sys.path[:] = [root, *(entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, Path(root)))]
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    code = int(pytest.main(words))
    sys.stdout.flush()
    os._exit(code)
