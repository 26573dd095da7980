"""Writes what is derived from the code: `.env.example`, the README's settings table and `schema.sql`.

`python -m tools.generate` writes; the suite fails when one of them is out of date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from app.config import Settings
from app.db import Base
from app.delivery_config import shown_map
from app.models import User

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


def readme() -> str:
    text = (ROOT / "README.md").read_text()
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n\n{settings_table()}\n\n{END}", text)


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


TARGETS = {".env.example": env_example, "README.md": readme, "schema.sql": schema}

if __name__ == "__main__":
    for name, make in TARGETS.items():
        (ROOT / name).write_text(make())
