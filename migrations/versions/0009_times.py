"""The times of the blocks of tasks and responses, and who answered: nullable, filled in by the daemon bit by bit."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from loguru import logger

revision = "0009"
down_revision = "0008"

# Name, table, columns, condition.
_INDICES: tuple[tuple[str, str, list[Any], str | None], ...] = (
    ("ix_tasks_time", "tasks", [sa.text("coalesce(block_time_s, seen_at_ms / 1000)"), "source_id"], None),
    ("ix_tasks_responder", "tasks", ["responded_by", "responded_block"], "responded_tx_hash IS NOT NULL"),
    ("ix_tasks_untimed", "tasks", ["block_number"], "block_time_s IS NULL AND canonical"),
    ("ix_responses_untimed", "responses", ["block_number"], "block_time_s IS NULL"),
)


def upgrade() -> None:
    """Add the columns, which rewrites no row, and their indices, a few seconds for a million tasks."""
    for table, name, type_ in (
        ("tasks", "block_time_s", sa.BigInteger()),
        ("tasks", "responded_time_s", sa.BigInteger()),
        ("tasks", "responded_by", sa.LargeBinary(20)),
        ("responses", "block_time_s", sa.BigInteger()),
    ):
        op.add_column(table, sa.Column(name, type_, nullable=True))
    for number, (name, table, columns, condition) in enumerate(_INDICES, 1):
        logger.info("ledger.indexing: an index of the ledger is built", index=name, number=number, of=len(_INDICES))
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)
