"""Which final block rests on enough nodes, so that its change is a broken promise of the chain."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the two columns. What older versions called final may rest on one node, so nothing of it is firm."""
    op.add_column("sources", sa.Column("firm_block", sa.BigInteger(), nullable=True))
    op.add_column("sources", sa.Column("firm_hash", sa.LargeBinary(length=32), nullable=True))
