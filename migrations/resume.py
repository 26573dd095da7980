"""Steps that can be taken again after an interruption: each looks at what is there before it acts.

Needed for MySQL and MariaDB, where every statement of a migration commits by itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def create_table(name: str, *parts: object, indexes: Sequence[tuple[str, ...]] = ()) -> None:
    """Create a table and its indexes, those that are missing."""
    if not _has_table(name):
        op.create_table(name, *parts, **MYSQL)
    for columns in indexes:
        if _name(name, columns) not in _indexes(name):
            op.create_index(_name(name, columns), name, list(columns))


def create_index(table: str, *columns: str) -> None:
    """Create an index unless it is there, without keeping writers of the table waiting."""
    name = _name(table, columns)
    if op.get_bind().dialect.name == "postgresql":
        with unlocked():
            _create_beside_writers(name, table, columns)
    elif name not in _indexes(table):
        op.create_index(name, table, list(columns))


@contextmanager
def unlocked() -> Iterator[None]:
    """Each statement inside commits by itself, where the engine has transactions for migrations: what takes long must
    hold no lock meanwhile. What was done before is committed, so it has to be harmless to do again.
    """
    if op.get_bind().dialect.name != "postgresql":
        yield
        return
    with op.get_context().autocommit_block():
        yield


def _create_beside_writers(name: str, table: str, columns: Sequence[str]) -> None:
    """It waits for those that use the table now, with nobody waiting for it: so it may wait long."""
    broken = sa.text("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    if op.get_bind().scalar(broken, {"name": name}):  # an interrupted one
        op.drop_index(name, table, postgresql_concurrently=True)
    if name in _indexes(table):
        return
    before = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
    op.execute("SET lock_timeout = 0")
    try:
        op.create_index(name, table, list(columns), postgresql_concurrently=True)
    finally:
        op.execute(f"SET lock_timeout = '{before}'")


def add_column(table: str, column: sa.Column) -> None:
    """Add a column unless it is there."""
    if column.name not in _columns(table):
        op.add_column(table, column)


def drop_column(table: str, name: str) -> None:
    """Drop a column if it is there."""
    if name in _columns(table):
        op.drop_column(table, name)


def drop_index(table: str, *columns: str) -> None:
    """Drop an index if it is there."""
    name = _name(table, columns)
    if name in _indexes(table):
        op.drop_index(name, table)


def drop_table(name: str) -> None:
    if _has_table(name):
        op.drop_table(name)


def _name(table: str, columns: Sequence[str]) -> str:
    return "_".join(("ix", table, *columns))


def _schema() -> str | None:
    """Where our tables are on PostgreSQL: with the version of ours. The search path may show those of others too."""
    where = "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = "
    ask = sa.text(f"{where} to_regclass('alembic_version')")
    return op.get_bind().scalar(ask) if op.get_bind().dialect.name == "postgresql" else None


def _has_table(name: str) -> bool:
    return sa.inspect(op.get_bind()).has_table(name, _schema())


def _columns(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table, _schema())}


def _indexes(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table, _schema())}
