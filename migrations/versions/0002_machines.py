"""Machines: devices with keys for codes by time, and the API keys of servers."""

import sqlalchemy as sa
from resume import create_table, drop_table

from app.db import Digest, Id, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def text(name: str, length: int) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=False)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False)


def time(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, UtcDateTime(), nullable=null)


def upgrade() -> None:
    create_table(
        "devices",
        sa.Column("id", Id, nullable=False),
        text("device_id", 128),
        text("owner", 255),
        text("salt", 32),
        number("key_version"),
        text("master_id", 8),
        sa.Column("key_digest", Digest, nullable=False),
        number("digits"),
        number("interval_s"),
        number("last_step"),
        number("usage_count"),
        time("last_used_at", null=True),
        number("failures"),
        time("locked_until", null=True),
        time("created_at"),
        time("deactivated_at", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
        sa.UniqueConstraint("device_id", name="uq_devices_device_id"),
    )
    create_table(
        "api_keys",
        sa.Column("id", Id, nullable=False),
        text("name", 100),
        text("prefix", 16),
        sa.Column("digest", Digest, nullable=False),
        text("scopes", 255),
        sa.Column("created_by", Id, nullable=True),
        time("created_at"),
        time("expires_at", null=True),
        time("revoked_at", null=True),
        time("last_used_at", null=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )


def downgrade() -> None:
    for table in ("api_keys", "devices"):
        drop_table(table)
