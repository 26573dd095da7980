"""Writes what is derived from the code: `.env.example`, `schema.sql`, the tables of settings, of access and of audit
events and the checklist in `docs`, and the pictures of what `bench` measured.

`python -m tools.generate` writes; the suite fails when one of them is out of date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from app import SURFACES
from app.config import Settings
from app.core.audit import Event
from app.db import Base
from app.delivery_config import shown_map
from app.models import User
from app.web.guards import Guard
from bench import plots
from tools import checklist

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- settings: made by tools/generate.py -->", "<!-- end of settings -->"


def fields() -> list[tuple[str, Any]]:
    """Every setting in the order in which people read them."""
    return [(name.lower(), Settings.model_fields[name.lower()]) for name in Settings.names()]


def default(value: Any) -> str:
    """A default as it would stand in the environment."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return shown_map(value)
    return "" if value is None else str(value)


def env_example() -> str:
    """Every setting with its meaning and default, commented out."""
    lines = ["# Copy to .env and change what you need. The environment wins over this file.", ""]
    for name, field in fields():
        lines += [f"# {plain(field.description or '')}", f"#{name.upper()}={default(field.default)}", ""]
    return "\n".join(lines)


def plain(text: str) -> str:
    return text.replace("`", "")


def settings_table() -> str:
    """The same as a Markdown table."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for name, field in fields():
        shown = default(field.default)
        meaning = (field.description or "").replace("|", "or")
        rows.append(f"| `{name.upper()}` | {f'`{shown}`' if shown else ''} | {meaning} |")
    return "\n".join(rows)


def settings_page() -> str:
    return _between(ROOT / "docs" / "settings.md", BEGIN, END, settings_table())


def schema() -> str:
    """The tables in PostgreSQL's words. The suite holds models and migrations together, and this with both."""
    assert User  # importing the models registers the tables
    parts = [
        "-- The tables on PostgreSQL, for reading. `flask db upgrade` makes them; tools/generate.py made this.",
        "",
    ]
    for table in Base.metadata.sorted_tables:
        parts.append(_sql(CreateTable(table)))
        parts += [_sql(CreateIndex(index)) for index in sorted(table.indexes, key=lambda i: str(i.name))]
        parts.append("")
    return "\n".join(parts)


def _sql(element: Any) -> str:
    text = str(element.compile(dialect=postgresql.dialect())).strip()
    return "\n".join(line.rstrip().replace("\t", "    ") for line in text.splitlines()) + ";"


BEGIN_ACCESS, END_ACCESS = "<!-- access: made by tools/generate.py -->", "<!-- end of access -->"
CALLERS = ("nobody", "session", "old sign-in", "ended session", "key with the scope", "key without")


def access_table() -> str:
    """Every endpoint but those of administration, and what its door says to whom: `in`, or the code of its refusal."""
    rows = [f"| endpoint | asks for | {' | '.join(CALLERS)} |", "|---" * (2 + len(CALLERS)) + "|"]
    for surface in SURFACES:
        for endpoint in surface.endpoints if surface.name != "admin" else ():
            name = f"{endpoint.method} {surface.prefix}{endpoint.path}".replace("<uuid:", "<")
            cells = [f"`{answer}`" if answer != "in" else answer for answer in _door(endpoint.guard)]
            rows.append(f"| `{name}` | {endpoint.guard.name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _door(guard: Guard) -> tuple[str, ...]:
    """In the order of CALLERS."""
    invalid = "token_invalid"
    if guard.scope:
        return ("token_missing", invalid, invalid, invalid, "in", "forbidden")
    if guard.cookie:
        return ("token_missing", "in", "in", "token_revoked", "token_missing", "token_missing")
    if not guard.reads_token or guard.either:
        return ("in",) * len(CALLERS)
    if guard.leaving:
        return ("in", "in", "in", "in", invalid, invalid)
    old = "insufficient_user_authentication" if guard.recent else "in"
    return ("token_missing", "in", old, "token_revoked", invalid, invalid)


def access_page() -> str:
    return _between(ROOT / "docs" / "access.md", BEGIN_ACCESS, END_ACCESS, access_table())


BEGIN_EVENTS, END_EVENTS = "<!-- events: made by tools/generate.py -->", "<!-- end of events -->"


def events_table() -> str:
    """Every audit event by its noun, with the facts that its row may hold."""
    rows = ["| about | events, and their facts |", "|---|---|"]
    for noun, events in groupby(sorted(Event), key=lambda event: event.partition(".")[0]):
        shown = (
            f"`{event.value}`" + (f" ({', '.join(sorted(event.facts))})" if event.facts else "") for event in events
        )
        rows.append(f"| {noun.replace('_', ' ')} | {'; '.join(shown)} |")
    return "\n".join(rows)


def audit_page() -> str:
    return _between(ROOT / "docs" / "audit.md", BEGIN_EVENTS, END_EVENTS, events_table())


def _between(page: Path, begin: str, end: str, made: str) -> str:
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n\n{made}\n\n{end}", page.read_text())


def _picture(results: Path) -> str:
    return plots.picture(json.loads(results.read_text()))


TARGETS: dict[str, Callable[[], str]] = {
    ".env.example": env_example,
    "docs/access.md": access_page,
    "docs/audit.md": audit_page,
    "docs/settings.md": settings_page,
    "schema.sql": schema,
    "docs/checklist.md": checklist.page,
    **{
        f"docs/figures/{results.stem}.svg": partial(_picture, results)
        for results in sorted((ROOT / "docs" / "figures").glob("*.json"))
    },
}

if __name__ == "__main__":
    for name, make in TARGETS.items():
        (ROOT / name).write_text(make())
