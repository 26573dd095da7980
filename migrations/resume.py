"""Steps that can be taken again after an interruption: each looks at what is there before it acts.

Needed for MySQL and MariaDB, where every statement of a migration commits by itself.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def create_table(name: str, *parts: object, indexes: Sequence[tuple[str, ...]] = ()) -> None:
    """Create a table and its indexes, those that are missing."""
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts, **MYSQL)
    for columns in indexes:
        create_index(name, *columns)


def create_index(table: str, *columns: str) -> None:
    name = "_".join(("ix", table, *columns))
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, list(columns))


def drop_table(name: str) -> None:
    if sa.inspect(op.get_bind()).has_table(name):
        op.drop_table(name)
