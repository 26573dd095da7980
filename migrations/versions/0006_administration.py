"""Administration: accounts that it locks, and columns by whose beginning people are found."""

import unicodedata

import sqlalchemy as sa
from alembic import op
from resume import add_column, create_index, drop_column, drop_index, unlocked

from app.db import Id, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FOUND_BY = {"email": 254, "phone": 16, "username": 32}
BATCH = 500
users = sa.table("users", sa.column("id", Id), sa.column("name", sa.String), sa.column("name_key", sa.String))


def exact(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    add_column("users", sa.Column("name_key", exact(100), nullable=True))
    add_column("users", sa.Column("locked_at", UtcDateTime(), nullable=True))
    add_column("users", sa.Column("locked_until", UtcDateTime(), nullable=True))
    fold_names()
    for column in ("name_key", "disabled_at", "locked_at"):
        create_index("users", column)
    create_index("users", "role", "id")
    drop_index("users", "role")
    order_by_code_point("C")


def fold_names() -> None:
    """Fill the column for the accounts that there are, a batch at a time: nobody may wait for all of them."""
    named = sa.select(users.c.id, users.c.name).where(users.c.name.is_not(None)).order_by(users.c.id).limit(BATCH)
    with unlocked():
        rest = named
        while batch := op.get_bind().execute(rest).all():
            keys = {row.id: key for row in batch if (key := folded(row.name))}
            if keys:
                fill = sa.update(users).where(users.c.id.in_(keys))
                which = [(users.c.id == one, key) for one, key in keys.items()]
                op.get_bind().execute(fill.values(name_key=sa.case(*which)))
            rest = named.where(users.c.id > batch[-1].id)


def folded(name: str) -> str | None:
    key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return key[:100].rstrip() or None


def order_by_code_point(collation: str) -> None:
    """On PostgreSQL, whose other orders are no use for prefixes. The unique indexes are built again."""
    if op.get_bind().dialect.name == "postgresql":
        for column, length in FOUND_BY.items():
            op.alter_column("users", column, type_=sa.String(length, collation=collation))


def downgrade() -> None:
    order_by_code_point("default")
    create_index("users", "role")
    drop_index("users", "role", "id")
    for column in ("name_key", "disabled_at", "locked_at"):
        drop_index("users", column)
    for column in ("locked_until", "locked_at", "name_key"):
        drop_column("users", column)
