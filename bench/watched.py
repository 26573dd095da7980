"""gunicorn's settings for a service that is watched: `gunicorn -c python:bench.watched`, with `WATCHED` naming a file.

A line of that file is one request that guessed: whose password or code was compared, whether it was right, and what was
told. It hooks into the comparisons themselves, not into what counts them: a guess that is not counted stands there too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

CONFIG = Path(__file__).resolve().parent.parent / "gunicorn.conf.py"
_now = threading.local()


@dataclass
class Seen:
    """What one request had compared."""

    route: str
    compared: set[tuple[str, str, bool]] = field(default_factory=set)  # secret; hash or account; whether right
    live: bool | None = None  # whether a right one would have been taken; None: nothing was asked for a verdict
    told: dict[str, Any] = field(default_factory=dict)


def seen() -> Seen:
    """Of this thread's request; of nobody's, between two."""
    found: Seen | None = getattr(_now, "seen", None)
    return found or Seen("")


class Watching:
    """A WSGI application whose requests are written down, before their answers are sent."""

    def __init__(self, app: Callable[..., Any], file: int) -> None:
        self._app, self._file = app, file

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        _now.seen = Seen(environ["PATH_INFO"])
        heads: list[str] = []

        def begin(status: str, headers: Any, *more: Any) -> Any:
            heads.append(status)
            return start(status, headers, *more)

        parts = self._app(environ, begin)
        if not _now.seen.compared and _now.seen.live is None:
            return parts
        body = b"".join(parts)
        if close := getattr(parts, "close", None):
            close()
        self._write(_now.seen, heads[-1], body)
        return [body]

    def _write(self, what: Seen, status: str, body: bytes) -> None:
        code = json.loads(body).get("code", "")
        line = {"route": what.route, "compared": sorted(what.compared), "live": what.live, "code": code}
        os.write(self._file, json.dumps({**line, "status": int(status[:3])}).encode() + b"\n")


def hook() -> None:
    """Have every comparison of a password, a code, an app's code or a backup code noted, and every verdict's state."""
    # Not before gunicorn's settings have named the folder of the metrics.
    from app.core import challenges, factors, lockout, passwords  # noqa: PLC0415
    from app.flows import proof  # noqa: PLC0415
    from app.models import OtpChallenge  # noqa: PLC0415

    def watched_matches(work: Any, stored: str | None, password: str, _real: Any = passwords.matches) -> bool:
        right = bool(_real(work, stored, password))
        if stored:
            seen().compared.add(("password", stored, right))
        return right

    def watched_is_right(work: Any, row: Any, code: str, _real: Any = challenges.is_right) -> bool:
        right = bool(_real(work, row, code))
        if row.user_id or row.signup_id:
            seen().compared.add(("code", row.user_id.hex if row.user_id else row.destination, right))
        return right

    def watched_use(work: Any, user: Any, method: str, code: str, _real: Any = factors.use) -> bool:
        right = bool(_real(work, user, method, code))
        seen().compared.add((method, user.id.hex, right))
        return right

    def watched_judge(work: Any, budget: Any, right: bool, _real: Any = lockout.judge) -> Any:
        seen().live = not budget.wait and not budget.silent
        return _real(work, budget, right)

    def watched_settle(work: Any, row: Any, is_right: Any, method: str, _real: Any = proof._settle, **how: Any) -> Any:
        seen().live = False

        def asked(cap: int | None) -> bool:
            """Live, unless more were made than it is left: each later one is wrong, whatever it is."""
            made = work.db.scalar(sa.select(OtpChallenge.attempts).where(OtpChallenge.id == row.id))
            seen().live = cap is None or (made is not None and made < cap)
            return bool(is_right(cap))

        return _real(work, row, asked, method, **how)

    for module, name, function in (
        (passwords, "matches", watched_matches),
        (challenges, "is_right", watched_is_right),
        (factors, "use", watched_use),
        (lockout, "judge", watched_judge),
        (proof, "_settle", watched_settle),
    ):
        setattr(module, name, function)


def read(path: Path) -> list[dict[str, Any]]:
    """What was written. A line that a killed worker left unfinished is no answer that anybody got."""
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def _as_usual() -> dict[str, Any]:
    """The service's own settings of gunicorn."""
    spec = importlib.util.spec_from_file_location("latchkey_gunicorn", CONFIG)
    assert spec and spec.loader
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


if "WATCHED" in os.environ:
    globals().update(_usual := _as_usual())

    def post_worker_init(worker: Any) -> None:
        """As usual, and with every request of this worker watched."""
        _usual["post_worker_init"](worker)
        hook()
        kept = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        worker.wsgi = Watching(worker.wsgi, kept)
