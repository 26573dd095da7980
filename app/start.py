"""How the service begins: settings are read and checked, development gets its secrets, a person gets a welcome."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError as Unusable

from app import settings_file
from app.config import ROOT, Settings, SettingsError
from app.production import MADE_ONCE, incomplete, remarks, unsafe

try:
    import resource
except ModuleNotFoundError:
    resource = None  # type: ignore[assignment]  # there is none on Windows

log = logging.getLogger("latchkey.start")

ENV_FILE = ROOT / ".env"
CGROUP = Path("/sys/fs/cgroup")
T = TypeVar("T")


def load(env_file: Path | None = ENV_FILE, **overrides: Any) -> Settings:
    """Settings from the environment over `env_file` over the files of CREDENTIALS_DIRECTORY over defaults; keyword
    overrides win over all.

    In development, secrets that are missing are made once and appended to `env_file` (mode 0600).
    Raises SettingsError.
    """
    if env_file is not None:
        settings_file.forget_what_flask_read(env_file)
    settings = _parse(env_file, overrides)
    if not settings.production and env_file is not None:
        missing = [n for n in MADE_ONCE if not getattr(settings, n).get_secret_value()]
        if missing:
            try:
                _keep_secrets(env_file, missing)
            except OSError as error:
                raise SettingsError(f"{env_file} cannot keep the secrets made: {type(error).__name__}") from None
            settings = _parse(env_file, overrides)
    problems = [*incomplete(settings), *(unsafe(settings) if settings.production else ())]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def leave_no_dump() -> None:
    """Have no file made of this process's memory when it crashes, for every key is in it. Windows makes none."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def load_or_exit() -> Settings:
    """`load()` for a start of the service: what it refuses ends the process with its lines on stderr."""
    return or_exit(load)


@cache
def load_once() -> Settings:
    """The settings of the start of this process, whatever .env holds by now: its application has them too."""
    return load_or_exit()


def or_exit(make: Callable[[], T]) -> T:
    """What `make` makes; a SettingsError ends the process with its lines on stderr."""
    try:
        return make()
    except SettingsError as refused:
        raise SystemExit(f"Latchkey does not start:\n{refused}") from None


def processors(cgroup: Path = CGROUP) -> int:
    """How many processors this process may use, at least 1: those that it may run on, and no more than the quota of its
    container pays for (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`). A container sees all those of its host.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(usable, math.ceil(_quota(cgroup) or usable)))


def _quota(cgroup: Path) -> float | None:
    try:
        if (both := cgroup / "cpu.max").exists():
            quota, period = both.read_text(encoding="ascii").split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no quota, or `max`
        return None


def host(settings: Settings) -> str:
    """The address to listen on: this machine only in development, every one in production (a container's port)."""
    return "0.0.0.0" if settings.production else "127.0.0.1"  # noqa: S104 (a container is reached from outside)


def greet(settings: Settings, more: Iterable[str] = (), base: str | None = None) -> None:
    """Print the welcome, and log what of production's settings may not be meant, with `more` of it. A stdout that is
    gone is no matter. `base`: where it listens, if that is not for the settings to say.
    """
    with contextlib.suppress(OSError):  # nobody reads it, or the disk is full
        print(welcome(settings, base), flush=True)  # noqa: T201 - for the person who started it
    for line in (*remarks(settings), *more) if settings.production else ():
        log.warning(line)


def welcome(settings: Settings, base: str | None = None) -> str:
    """What somebody who starts the service wants to know."""
    base = base or f"http://{host(settings)}:{settings.port}"
    lines = [f"Latchkey listens on {base}"]
    if settings.serves_docs:
        lines.append(f"Try it in the browser: {base}/docs (reference: {base}/redoc)")
    if "console" in (*settings.email_provider, *settings.sms_provider):
        lines.append("Codes appear here, in this terminal.")
    if not settings.production:
        lines.append(f"Messages are shown at {base}/dev/inbox")
    return "\n".join(lines)


def _parse(env_file: Path | None, overrides: dict[str, Any]) -> Settings:
    folder = os.environ.get("CREDENTIALS_DIRECTORY") or None  # as systemd sets it for LoadCredential=
    environment = {name.lower() for name, value in os.environ.items() if value}
    written = settings_file.read(env_file).items() if env_file else ()
    given = {name: value for name, value in written if name not in environment} | overrides
    try:
        with warnings.catch_warnings(record=True) as out_of_reach:
            warnings.simplefilter("always", UserWarning)
            settings = Settings(_env_file=None, _secrets_dir=folder, **given)
    except (Unusable, OSError) as error:
        raise SettingsError(f"CREDENTIALS_DIRECTORY={folder}: {error}") from None
    except ValidationError as error:
        lines = [f"{str(e['loc'][0]).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    if out_of_reach:
        raise SettingsError("\n".join(f"CREDENTIALS_DIRECTORY: {each.message}" for each in out_of_reach))
    return settings


def _keep_secrets(env_file: Path, names: list[str]) -> None:
    lines = "".join(f"{name.upper()}={secrets.token_urlsafe(48)}\n" for name in names)
    before = env_file.read_text(encoding="utf-8") if env_file.exists() else None
    head = "# Made on the first run. Keep it secret.\n" if before is None else ""
    gap = "" if not before or before.endswith("\n") else "\n"
    handle = os.open(env_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        if hasattr(os, "fchmod"):  # not on Windows; of a file that was there, a copy of .env.example
            os.fchmod(handle, 0o600)
        file.write(head + gap + lines)
