"""Whether the database has what this version reads: an older schema answers `select 1` and opens nothing."""

from __future__ import annotations

from sqlalchemy import false, func, select
from sqlalchemy.engine import Connection

from app.db import Base


class WrongEncoding(Exception):
    """A database that cannot hold every text, or counts the bytes of one. Its message is for whoever runs it."""


def need_utf8(connection: Connection) -> None:
    """Raises WrongEncoding for a database of PostgreSQL that is not made as UTF8. The tables of MySQL and MariaDB have
    their own encoding, and SQLite knows no other.
    """
    asked = select(func.current_setting("server_encoding"))
    found = connection.scalar(asked) if connection.dialect.name == "postgresql" else "UTF8"
    if found != "UTF8":
        cure = "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0 makes one (docs/upgrading.md)"
        raise WrongEncoding(f"the encoding of the database is {found} and must be UTF8: {cure}")


def probe(connection: Connection) -> None:
    """Read no row of every table, by every column that this version knows. A newer schema has more, and passes.

    Raises WrongEncoding, or what the driver says of a table or column that is missing.
    """
    need_utf8(connection)
    for table in Base.metadata.sorted_tables:
        connection.execute(select(*table.c).where(false()))
