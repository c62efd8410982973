"""The head as it was when a ledger was begun: what was over by then was nobody's to answer."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns; null in a ledger begun before them, which takes nothing for history."""
    op.add_column("sources", sa.Column("begun_block", sa.BigInteger(), nullable=True))
    op.add_column("sources", sa.Column("begun_closed_block", sa.BigInteger(), nullable=True))
