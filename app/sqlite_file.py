"""The file of a SQLite database, and what SQLite writes beside it: for its owner alone, from the beginning."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL

from app.config import ROOT

INSTANCE = ROOT / "instance"
IN_MEMORY = (None, "", ":memory:")


def path_of(url: URL) -> Path | None:
    """Where it is. None: nowhere, or where a `file:` URI says, whose options may want none made."""
    named = url.get_backend_name() == "sqlite" and url.database not in IN_MEMORY and "uri" not in url.query
    return INSTANCE / str(url.database) if named else None


def make_folder(url: URL) -> None:
    """Make `instance/` for a file that belongs there. Raises OSError."""
    if (file := path_of(url)) and INSTANCE in file.parents:
        INSTANCE.mkdir(mode=0o700, exist_ok=True)


def keep_private(engine: Engine) -> None:
    """Make the file before SQLite does, whose `-wal` and `-shm` have its mode. One that is there stays as it is."""

    @event.listens_for(engine, "do_connect")
    def opening(_dialect: Any, _record: Any, _given: Any, _options: Any) -> None:
        # Never opened where it is there: to close it again would end the locks that this process has on it.
        if file := path_of(engine.url):
            with suppress(OSError):  # SQLite says what is wrong
                os.close(os.open(os.path.realpath(file), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def is_open_to_all(url: URL) -> bool:
    """True if every account of this host may read it."""
    file = path_of(url)
    try:
        readable = file and file.stat().st_mode & stat.S_IROTH and file.parent.stat().st_mode & stat.S_IXOTH
    except OSError:
        return False
    return bool(readable) and os.name != "nt"  # where modes say nothing
