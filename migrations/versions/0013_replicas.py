"""The daemons that share a ledger, which of them leads, and which of them holds a task."""

import sqlalchemy as sa
from alembic import op

from watcher.ledger.columns import BoundedText

revision = "0013"
down_revision = "0012"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the empty tables, and a column that the next claim of each task fills."""
    op.create_table(
        "replicas",
        sa.Column("id", _ID, nullable=False),
        sa.Column("source_id", _ID, nullable=False),
        sa.Column("host", BoundedText(length=128), nullable=False),
        sa.Column("process", BoundedText(length=128), nullable=False),
        sa.Column("version", BoundedText(length=64), nullable=False),
        sa.Column("roles", sa.String(length=64), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_replicas_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_replicas_source_id", "replicas", ["source_id"], unique=False)
    op.create_table(
        "leaders",
        sa.Column("source_id", _ID, nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("replica_id", sa.BigInteger(), nullable=True),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_leaders_source_id"),
        sa.PrimaryKeyConstraint("source_id", name="pk_leaders"),
    )
    op.add_column("tasks", sa.Column("holder", sa.BigInteger(), nullable=True))
