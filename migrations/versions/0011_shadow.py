"""The runs of the shadow hook, and its place in the queue of the live hook's runs."""

import sqlalchemy as sa
from alembic import op

from watcher.ledger.columns import BoundedText

revision = "0011"
down_revision = "0010"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the empty tables."""
    op.create_table(
        "shadow_runs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("version", BoundedText(length=128), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("words", BoundedText(length=512), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("live_outcome", sa.String(length=16), nullable=False),
        sa.Column("live_duration_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_shadow_runs_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_shadow_runs"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_shadow_runs_task_id", "shadow_runs", ["task_id"], unique=False)
    op.create_table(
        "shadow_progress",
        sa.Column("source_id", _ID, nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_shadow_progress_source_id"),
        sa.PrimaryKeyConstraint("source_id", name="pk_shadow_progress"),
    )
