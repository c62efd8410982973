"""The times in which the watcher ran, and in which a condition lasted, for reports of availability."""

import sqlalchemy as sa
from alembic import op

from watcher.ledger.columns import BoundedText

revision = "0008"
down_revision = "0007"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the empty table."""
    op.create_table(
        "periods",
        sa.Column("id", _ID, nullable=False),
        sa.Column("source_id", _ID, nullable=False),
        sa.Column("key", BoundedText(length=128), nullable=False),
        sa.Column("began_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("words", BoundedText(length=512), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_periods_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_periods"),
    )
    op.create_index("ix_periods_last_at_ms", "periods", ["last_at_ms", "source_id"], unique=False)
