"""Audit rows are signed when they are written, and sealed in batches; rows from before have neither until a first run.
And what happened in each hour is counted.
"""

import sqlalchemy as sa
from resume import add_column, create_index, create_table, drop_column, drop_index, drop_table

from app.db import Digest, Id, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ADDED = ("salt", "person", "key_id", "mac", "seal")


def upgrade() -> None:
    types = (sa.String(32), Digest, sa.String(8), Digest, sa.Integer())
    for name, kind in zip(ADDED, types, strict=True):
        add_column("audit_logs", sa.Column(name, kind, nullable=True))
    create_index("audit_logs", "seal", "id")
    create_table(
        "audit_seals",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_id", Id, nullable=False),
        sa.Column("last_id", Id, nullable=False),
        sa.Column("newest_at", UtcDateTime(), nullable=False),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        sa.Column("digest", Digest, nullable=False),
        sa.Column("previous", Digest, nullable=True),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("key_id", sa.String(8), nullable=False),
        sa.Column("mac", Digest, nullable=False),
        sa.Column("members", sa.LargeBinary(), nullable=True),
        sa.Column("purged_at", UtcDateTime(), nullable=True),
        sa.Column("purge_key_id", sa.String(8), nullable=True),
        sa.Column("purge_mac", Digest, nullable=True),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_seals"),
    )
    create_table(
        "hourly_counts",
        sa.Column("hour", UtcDateTime(), nullable=False),
        sa.Column("metric", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(8), nullable=False),
        sa.Column("country", sa.String(3), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "metric", "channel", "country", name="pk_hourly_counts"),
    )


def downgrade() -> None:
    drop_table("hourly_counts")
    drop_table("audit_seals")
    drop_index("audit_logs", "seal", "id")
    for name in reversed(ADDED):
        drop_column("audit_logs", name)
