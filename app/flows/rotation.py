"""Another SECRET_KEY: what is stored is put under it, and it is noted that it was."""

from __future__ import annotations

from functools import partial

from app.core import audit, rotation
from app.core.audit import Event
from app.work import Client, Kit, Work, run


def renew(kit: Kit, client: Client) -> dict[str, int]:
    """Put all that can be under the key in force, beside a service that runs. Returns how much, by kind."""
    done = rotation.renew(kit)
    if any(done.values()):
        run(kit, partial(_note, done=done), client=client)
    return done


def _note(work: Work, done: dict[str, int]) -> None:
    audit.record(work, Event.KEYS_ROTATED, key=work.kit.keys.current, rows=done)
