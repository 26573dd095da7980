"""Requests that came before: an Idempotency-Key gets one answer, however often and however much at once it is sent.

Only a good answer is kept, in the transaction of what it tells; whoever was refused may try again with the same key.
It is sealed, for it may hold what is shown once.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from app.core import throttles
from app.crypto import sealing
from app.crypto.keys import Purpose
from app.db import lock_rows, write_rows
from app.errors import IdempotencyMismatch
from app.models import Repeat
from app.work import Work

LIFE = timedelta(hours=24)


class Answered(Exception):
    """This very request was answered before; `answer` is what it got. Not a refusal: nothing is to be recorded."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__("answered before")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Request:
    """A request by what makes it the same one: route, caller and their key; and its body."""

    route: str
    caller: str
    key: str
    body: str


def claim(work: Work, request: Request) -> None:
    """Lock the request until the unit ends, so that of fifty at once one does the work. Raises Answered if it was
    answered already, IdempotencyMismatch if the key was used for another body.
    """
    row = _locked(work, request)
    if row.expires_at <= work.now or row.answer is None:
        write_rows(work.db, Repeat, [_fresh(work, request)])
    elif not any(hmac.compare_digest(row.body, digest) for digest in _digests(work, request)):
        raise IdempotencyMismatch()
    else:
        raise Answered(json.loads(sealing.unseal(work.kit.keys, Purpose.ANSWERS, row.answer, row.key)))


def keep(work: Work, request: Request, answer: dict[str, Any]) -> None:
    """Store what the request is answered, with the unit that it was done in."""
    row = _locked(work, request)
    sealed = sealing.seal(work.kit.keys, Purpose.ANSWERS, json.dumps(answer).encode(), row.key)
    write_rows(work.db, Repeat, [{**row._mapping, "answer": sealed}])


def _locked(work: Work, request: Request) -> Row[Any]:
    return lock_rows(work.db, Repeat, [_fresh(work, request)])[0]


def _fresh(work: Work, request: Request) -> dict[str, Any]:
    at = throttles.key("repeat", request.route, request.caller, request.key)
    return {"key": at, "body": _digests(work, request)[0], "answer": None, "expires_at": work.now + LIFE}


def _digests(work: Work, request: Request) -> list[str]:
    """The body under every key of the ring, today's first: it may hold a password, so it is not hashed bare."""
    keys = work.kit.keys
    return [keys.mac(Purpose.REPEATS, request.body, key_id=key_id).hex() for key_id in keys.ids]
