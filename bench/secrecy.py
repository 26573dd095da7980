"""Whether a secret is anywhere where it must not be."""

from __future__ import annotations

import re

import sqlalchemy as sa

from app.db import Base
from bench.scene import NEXT_KEY, Scene, Wrong
from tests.lanes import SECRETS

MAY_HOLD_ADDRESSES = {
    "users",
    "signups",
    "otp_challenges",
    "outbox_messages",
    "server.log",
}  # the last: the database's own
TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*")
CODES = re.compile(r"(?<![\w.-])\d{6}(?![\w-])")
WORDS = re.compile(r"[A-Za-z0-9_-]{20,}")
PASSWORDS = ("bench horse", "wrong horse")


def nothing_leaks(scene: Scene) -> Wrong:
    """No password, code, token or secret in logs, text columns, Redis, metrics and answers that were errors; no address
    but where addresses are.
    """
    known = {part for each in (*scene.journal.secrets, *SECRETS.values(), NEXT_KEY) for part in each.split(".")[-1:]}
    places = {**{path.name: path.read_text(errors="replace") for path in scene.logs}, "Redis": scene.stored()}
    places["metrics"], places["errors"] = scene.metrics(), "\n".join(scene.journal.errors)
    for table in Base.metadata.sorted_tables:
        columns = [column for column in table.columns if isinstance(column.type, (sa.String, sa.JSON))]
        found = scene.rows(sa.select(*columns)) if columns else []
        places[table.name] = "\n".join(str(value) for row in found for value in row if value)
    addresses = {str(mail["To"]) for mail in scene.mailbox.mails} | {sms.number for sms in scene.sms}
    for place, text in places.items():
        plain = TIMES.sub("", text)
        leaked = known & {*CODES.findall(plain), *WORDS.findall(plain)}
        leaked |= {words for words in PASSWORDS if words in plain}
        if leaked:
            yield f"{place} holds {len(leaked)} secrets, such as {min(leaked)[:12]}"
        if place not in MAY_HOLD_ADDRESSES and any(each in plain for each in addresses):
            yield f"{place} holds a full address"
