"""A sign-up that was begun for an address knows the account that had the address, and then took another."""

import sqlalchemy as sa
from resume import add_column, create_index, drop_column, drop_index

from app.db import Id

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column("signups", sa.Column("given_up_by", Id, nullable=True))
    create_index("signups", "given_up_by")


def downgrade() -> None:
    drop_index("signups", "given_up_by")
    drop_column("signups", "given_up_by")
