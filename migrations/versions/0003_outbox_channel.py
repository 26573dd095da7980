"""An index of waiting messages by channel: mail is found at once also while thousands of SMS wait."""

from resume import create_index, drop_index

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEX = ("outbox_messages", "channel", "state", "next_attempt_at")


def upgrade() -> None:
    create_index(*INDEX)


def downgrade() -> None:
    drop_index(*INDEX)
