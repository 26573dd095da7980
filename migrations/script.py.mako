"""${message}

Expand first, contract in a later release: the version before this one must keep working beside it.
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "raise SystemExit('write me')"}


def downgrade() -> None:
    ${downgrades if downgrades else "raise SystemExit('write me')"}
