"""Everybody signed out: what a leak, or a backup that was restored, asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from app.core import credentials
from app.errors import NotFound
from app.flows import administration
from app.work import Client, Kit, in_batches, run


def sign_out(kit: Kit, client: Client) -> Iterator[int]:
    """Sign everybody out: end every session, remembered device and open challenge that there is when their turn comes.
    Yields for each person how many sessions ended.

    A unit of work and an audit row each: it goes on beside the service, and what it has done stays done if it is
    stopped. Who is erased before their turn has nothing left to end. Raises Unavailable.
    """
    for batch in in_batches(kit, credentials.with_something_begun):
        for user_id in batch:
            with suppress(NotFound):
                yield run(kit, partial(administration.revoke_sessions, user_id=user_id), client=client)
