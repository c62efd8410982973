"""A response event is known by its transaction and content too: some nodes give two logs of a block one logIndex."""

import sqlalchemy as sa
from alembic import op

from watcher.ledger.columns import Uint256

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Widen the unique constraint, so that a second response is never dropped."""
    # SQLite builds the table anew from what it reads of it, and does not know the type of an index.
    with op.batch_alter_table("responses", reflect_args=(sa.Column("task_index", Uint256(), nullable=False),)) as table:
        table.drop_constraint("uq_responses_source_id_block_hash_log_index", type_="unique")
        table.create_unique_constraint(
            "uq_responses_log", ["block_hash", "tx_hash", "log_index", "source_id", "task_index", "response_hash"]
        )
