"""The first schema: sources, recent blocks, facts of the contract, tasks, responses, attempts, journal and events."""

import sqlalchemy as sa
from alembic import op

from watcher.ledger.columns import Uint256

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text(
    "state NOT IN ('delivered', 'expired', 'failed', 'final', 'final_other', 'orphaned', 'quarantined', 'skipped')"
)


def upgrade() -> None:
    """Create every table of the first release."""
    op.create_table(
        "sources",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("chain_id", Uint256(), nullable=False),
        sa.Column("task_manager", sa.LargeBinary(length=20), nullable=False),
        sa.Column("start_block", sa.BigInteger(), nullable=False),
        sa.Column("cursor_block", sa.BigInteger(), nullable=False),
        sa.Column("cursor_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("head_block", sa.BigInteger(), nullable=False),
        sa.Column("final_block", sa.BigInteger(), nullable=False),
        sa.Column("final_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("genesis_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sources"),
        sa.UniqueConstraint("chain_id", "task_manager", name="uq_sources_chain_id_task_manager"),
    )
    op.create_table(
        "blocks",
        sa.Column("source_id", ROW_ID, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_blocks_source_id"),
        sa.PrimaryKeyConstraint("source_id", "number", name="pk_blocks"),
    )
    op.create_table(
        "passes",
        sa.Column("source_id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_passes_source_id"),
        sa.PrimaryKeyConstraint("source_id", "name", name="pk_passes"),
    )
    op.create_table(
        "contract_facts",
        sa.Column("source_id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=80), nullable=True),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_contract_facts_source_id"),
        sa.PrimaryKeyConstraint("source_id", "name", name="pk_contract_facts"),
    )
    op.create_table(
        "events",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("source_id", ROW_ID, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=True),
        sa.Column("words", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_events_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_table(
        "responses",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("source_id", ROW_ID, nullable=False),
        sa.Column("task_index", Uint256(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("log", sa.LargeBinary(), nullable=False),
        sa.Column("response_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_responses_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
        sa.UniqueConstraint("source_id", "block_hash", "log_index", name="uq_responses_source_id_block_hash_log_index"),
    )
    op.create_index("ix_responses_task", "responses", ["source_id", "task_index"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("source_id", ROW_ID, nullable=False),
        sa.Column("task_index", Uint256(), nullable=False),
        sa.Column("task_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_block", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("quorum_numbers", sa.LargeBinary(), nullable=False),
        sa.Column("quorum_threshold", sa.BigInteger(), nullable=False),
        sa.Column("deadline_block", sa.BigInteger(), nullable=True),
        sa.Column("deadline_s", sa.BigInteger(), nullable=True),
        sa.Column("log", sa.LargeBinary(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("canonical", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_block", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("hook_attempts", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("hook_version", sa.String(length=128), nullable=True),
        sa.Column("sig_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("responded_block", sa.BigInteger(), nullable=True),
        sa.Column("responded_tx_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("response_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("error", sa.String(length=512), nullable=True),
        sa.Column("look_again", sa.Boolean(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_tasks_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("source_id", "task_index", "task_hash", name="uq_tasks_source_id_task_index_task_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_tasks_open",
        "tasks",
        ["source_id", "state", "deadline_block", "task_index"],
        unique=False,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
    op.create_index(
        "ix_tasks_look_again",
        "tasks",
        ["source_id"],
        unique=False,
        sqlite_where=sa.text("look_again"),
        postgresql_where=sa.text("look_again"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("task_id", ROW_ID, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("api", sa.String(length=16), nullable=True),
        sa.Column("request_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("began_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("code", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("words", sa.String(length=512), nullable=True),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("sig_hash", sa.LargeBinary(length=32), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_attempts_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_attempts_task_id", "attempts", ["task_id"], unique=False)
    op.create_table(
        "journal",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("task_id", ROW_ID, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=True),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("why", sa.String(length=512), nullable=False),
        sa.Column("attempt_id", ROW_ID, nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_journal_attempt_id"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_journal_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
    )
    op.create_index("ix_journal_task_id", "journal", ["task_id"], unique=False)
