"""The parent chain's block beside the chain's own, for chains whose contracts count those of the parent."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; null means that contracts count the chain's own blocks, as before."""
    op.add_column("sources", sa.Column("head_l1_block", sa.BigInteger(), nullable=True))
    op.add_column("sources", sa.Column("final_l1_block", sa.BigInteger(), nullable=True))
