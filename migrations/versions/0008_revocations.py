"""Which sessions ended lately is found by an index, and outlives the account; backup codes say which key made them."""

import sqlalchemy as sa
from resume import add_column, create_index, create_table, drop_column, drop_index, drop_table

from app.db import Id, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("sessions", "revoked_at", "id")
    create_table(
        "erased_sessions",
        sa.Column("session_id", Id, nullable=False),
        sa.Column("erased_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_erased_sessions"),
        indexes=[("erased_at",)],
    )
    add_column("backup_codes", sa.Column("key_id", sa.String(8), nullable=True))


def downgrade() -> None:
    drop_column("backup_codes", "key_id")
    drop_table("erased_sessions")
    drop_index("sessions", "revoked_at", "id")
