"""How a value stands in the database, where it could stand there in several ways.

PostgreSQL has types of its own for ids, flags and times. SQLite and MariaDB keep ids as text and flags as numbers: an
id in capitals, or a 2 for true, is read as if nothing were wrong, and no filter finds its row any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Dialect, Uuid, inspect, type_coerce
from sqlalchemy.types import Boolean, NullType

from app.db import Base, UtcDateTime

SEVERAL = (Uuid, Boolean, DateTime, UtcDateTime)


def stored(model: type[Base]) -> list[ColumnElement[Any]]:
    """The columns once more as the driver gives them, to be selected beside the values."""
    return [type_coerce(column, NullType()).label(f"stored_{column.key}") for column in _several(model)]


def odd(dialect: Dialect, model: type[Base], row: Mapping[str, Any]) -> str | None:
    """The first column whose value is not stored as this service would store it."""
    return next((name for name, write in _writers(dialect, model) if row[f"stored_{name}"] != write(row[name])), None)


@lru_cache(maxsize=16)
def _writers(dialect: Dialect, model: type[Base]) -> list[tuple[str, Callable[[Any], Any]]]:
    if dialect.name == "postgresql":
        return []
    return [(column.key, _writer(dialect, column)) for column in _several(model)]


def _writer(dialect: Dialect, column: Any) -> Callable[[Any], Any]:
    bound = column.type.dialect_impl(dialect).bind_processor(dialect)
    return lambda value: bound(value) if bound and value is not None else value


def _several(model: type[Base]) -> list[Any]:
    return [column for column in inspect(model).columns if isinstance(column.type, SEVERAL)]
