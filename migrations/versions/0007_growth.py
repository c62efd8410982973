"""Indices and kept counts, so that no question and no reorg reads more of a large ledger than of a small one."""

import sqlalchemy as sa
from alembic import op
from loguru import logger

from watcher.ledger.columns import Uint256

revision = "0007"
down_revision = "0006"

_SOURCE_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ENDED = "state IN ('delivered', 'expired', 'failed', 'final', 'final_other', 'orphaned', 'quarantined', 'skipped')"
# Name, table, columns, condition.
_INDICES = (
    ("ix_tasks_ended", "tasks", ["source_id", "state", "task_index"], _ENDED),
    ("ix_tasks_block", "tasks", ["block_number", "source_id"], None),
    ("ix_tasks_final", "tasks", ["source_id", "responded_block"], "state IN ('final', 'final_other')"),
    ("ix_tasks_expired", "tasks", ["source_id", "deadline_block"], "state = 'expired'"),
    (
        "ix_tasks_expired_in_time",
        "tasks",
        ["source_id", "deadline_s"],
        "state = 'expired' AND deadline_s IS NOT NULL",
    ),
    ("ix_responses_block", "responses", ["block_number", "source_id"], None),
    ("ix_journal_attempt_id", "journal", ["attempt_id"], "attempt_id IS NOT NULL"),
    ("ix_events_kind", "events", ["kind", "source_id"], None),
)


def upgrade() -> None:
    """Add the indices, which takes a minute for a million tasks, and count the ended tasks once."""
    for number, (name, table, columns, condition) in enumerate(_INDICES, 1):
        logger.info("ledger.indexing: an index of the ledger is built", index=name, number=number, of=len(_INDICES))
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "ended_counts",
        sa.Column("source_id", _SOURCE_ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tasks", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_ended_counts_source_id"),
        sa.PrimaryKeyConstraint("source_id", "state", name="pk_ended_counts"),
    )
    op.create_table(
        "coverage",
        sa.Column("source_id", _SOURCE_ID, nullable=False),
        sa.Column("first_index", Uint256(), nullable=False),
        sa.Column("next_index", Uint256(), nullable=False),
        sa.Column("losses", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_coverage_source_id"),
        sa.PrimaryKeyConstraint("source_id", name="pk_coverage"),
    )
    tasks = sa.table("tasks", sa.column("source_id"), sa.column("state"))
    ended = sa.select(tasks.c.source_id, tasks.c.state, sa.func.count()).where(sa.text(_ENDED))
    op.execute(
        sa.table("ended_counts", sa.column("source_id"), sa.column("state"), sa.column("tasks"))
        .insert()
        .from_select(["source_id", "state", "tasks"], ended.group_by(tasks.c.source_id, tasks.c.state))
    )
