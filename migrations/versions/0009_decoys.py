"""A decoy says that it is one, and hangs on whoever asked as the question would that it stands in for."""

import sqlalchemy as sa
from resume import add_column, drop_column

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_column("otp_challenges", sa.Column("decoy", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    drop_column("otp_challenges", "decoy")
