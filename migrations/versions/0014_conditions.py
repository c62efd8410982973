"""Conditions of two partial indices that SQLite decides without a table in memory, filled for each row."""

import sqlalchemy as sa
from alembic import op
from loguru import logger

revision = "0014"
down_revision = "0013"

_ENDS = ("delivered", "expired", "failed", "final", "final_other", "orphaned", "quarantined", "skipped")
# Name, columns, condition.
_INDICES = (
    (
        "ix_tasks_open",
        ["source_id", "state", "deadline_block", "task_index"],
        " AND ".join(f"state <> '{state}'" for state in _ENDS),
    ),
    (
        "ix_tasks_ended",
        ["source_id", "state", "task_index"],
        "(" + " OR ".join(f"state = '{state}'" for state in _ENDS) + ")",
    ),
)


def upgrade() -> None:
    """Build the two indices anew, a few seconds for a million tasks. Those of PostgreSQL stay."""
    if op.get_bind().dialect.name != "sqlite":
        return
    for number, (name, columns, condition) in enumerate(_INDICES, 1):
        logger.info("ledger.indexing: an index of the ledger is built", index=name, number=number, of=len(_INDICES))
        op.drop_index(name, "tasks")
        op.create_index(name, "tasks", columns, unique=False, sqlite_where=sa.text(condition))
