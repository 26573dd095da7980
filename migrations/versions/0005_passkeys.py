"""Passkeys: the public keys by which people sign in without a password."""

import sqlalchemy as sa
from resume import create_table, drop_table

from app.db import Digest, Id, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def text(name: str, length: int) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=False)


def upgrade() -> None:
    create_table(
        "passkeys",
        sa.Column("id", Id, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        text("name", 100),
        sa.Column("credential_digest", Digest, nullable=False),
        text("credential_id", 1364),
        text("public_key", 1364),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        text("aaguid", 36),
        text("transports", 64),
        sa.Column("synced", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_passkeys"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_passkeys_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("credential_digest", name="uq_passkeys_credential_digest"),
        indexes=[("user_id",)],
    )


def downgrade() -> None:
    drop_table("passkeys")
