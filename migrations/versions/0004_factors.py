"""Second methods of people: authenticator apps, backup codes, remembered devices; and which of them a user has."""

import sqlalchemy as sa
from resume import add_column, create_table, drop_column, drop_table

from app.db import Digest, Id, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def ident(name: str = "id") -> sa.Column:
    return sa.Column(name, Id, nullable=False)


def text(name: str, length: int) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=False)


def time(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, UtcDateTime(), nullable=null)


def keys(table: str) -> tuple[sa.Constraint, ...]:
    return (
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_user_id", ondelete="CASCADE"),
    )


def upgrade() -> None:
    add_column("users", sa.Column("mfa", sa.String(64), nullable=False, server_default=""))
    create_table(
        "authenticators",
        ident(),
        ident("user_id"),
        text("name", 100),
        text("secret", 255),
        time("created_at"),
        time("confirmed_at", null=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        time("last_used_at", null=True),
        sa.Column("last_step", sa.Integer(), nullable=False),
        sa.Column("drift", sa.Integer(), nullable=False),
        *keys("authenticators"),
        indexes=[("user_id",)],
    )
    create_table(
        "backup_codes",
        ident(),
        ident("user_id"),
        sa.Column("digest", Digest, nullable=False),
        time("created_at"),
        time("used_at", null=True),
        *keys("backup_codes"),
        indexes=[("user_id", "digest")],
    )
    create_table(
        "trusted_devices",
        ident(),
        ident("user_id"),
        sa.Column("digest", Digest, nullable=False),
        text("user_agent", 255),
        text("ip", 45),
        time("created_at"),
        time("last_used_at"),
        time("expires_at"),
        *keys("trusted_devices"),
        sa.UniqueConstraint("digest", name="uq_trusted_devices_digest"),
        indexes=[("user_id",), ("expires_at",)],
    )


def downgrade() -> None:
    for table in ("trusted_devices", "backup_codes", "authenticators"):
        drop_table(table)
    drop_column("users", "mfa")
