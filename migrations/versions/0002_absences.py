"""The first of two readings in which a contract showed zero, kept with its task."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what was absent, at which block, and when."""
    op.add_column("tasks", sa.Column("absent", sa.String(length=16), nullable=True))
    op.add_column("tasks", sa.Column("absent_block", sa.BigInteger(), nullable=True))
    op.add_column("tasks", sa.Column("absent_at_ms", sa.BigInteger(), nullable=True))
