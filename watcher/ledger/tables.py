"""The tables of the ledger, in SQLAlchemy Core. Bytes are stored as bytes, block heights and milliseconds as integers.

Invariant: `migrations/` builds exactly these tables; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    event,
    text,
)

from watcher.ledger.columns import BoundedText, Uint256
from watcher.state import ENDED

WORDS_LIMIT = 512  # characters

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite numbers rows only in a column declared exactly INTEGER (https://www.sqlite.org/autoinc.html).
RowId = BigInteger().with_variant(Integer, "sqlite")

sources = Table(
    "sources",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("chain_id", Uint256, nullable=False),
    Column("task_manager", LargeBinary(20), nullable=False),
    Column("start_block", BigInteger, nullable=False),
    # All logs up to and including this block are in the ledger.
    Column("cursor_block", BigInteger, nullable=False),
    Column("cursor_hash", LargeBinary(32)),
    # The highest proven head, lowered when no node shows it any more; confirmations and due blocks count from it.
    Column("head_block", BigInteger, nullable=False),
    Column("final_block", BigInteger, nullable=False),
    Column("final_hash", LargeBinary(32)),
    # The hash of block 0, which differs between chains with the same id.
    Column("genesis_hash", LargeBinary(32)),
    Column("created_at_ms", BigInteger, nullable=False),
    # The newest final block that enough nodes call final: if it changes, the chain has broken its promise.
    Column("firm_block", BigInteger),
    Column("firm_hash", LargeBinary(32)),
    # The parent chain's block as the head and the final block show it, where the contracts count those.
    Column("head_l1_block", BigInteger),
    Column("final_l1_block", BigInteger),
    # The head when the ledger was begun, as a height and as deadlines are compared with it.
    Column("begun_block", BigInteger),
    Column("begun_closed_block", BigInteger),
    UniqueConstraint("chain_id", "task_manager"),
)

# Hashes of recent blocks, to find where a reorg begins.
blocks = Table(
    "blocks",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)

# The progress of the two rescans of blocks: once confirmed, and once final.
rescans = Table(
    "passes",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("name", String(16), primary_key=True),
    Column("block", BigInteger, nullable=False),
)

# The last values read of the contract itself, with the block at which each was first read.
contract_facts = Table(
    "contract_facts",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("value", String(80)),
    Column("block_number", BigInteger, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("task_index", Uint256, nullable=False),
    Column("task_hash", LargeBinary(32), nullable=False),
    Column("created_block", BigInteger, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("quorum_numbers", LargeBinary, nullable=False),
    Column("quorum_threshold", BigInteger, nullable=False),
    Column("deadline_block", BigInteger),
    # A deadline that is a time; `deadline_block` is set from it once a final block is past it.
    Column("deadline_s", BigInteger),
    # Topics and data of the event, from which every value can be read again.
    Column("log", LargeBinary, nullable=False),
    # The place of the log. `canonical` is false while the chain does not contain that block.
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("created_tx_hash", LargeBinary(32), nullable=False),
    Column("log_index", BigInteger, nullable=False),
    Column("canonical", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    # The task is due once both the time and the block have come.
    Column("due_at_ms", BigInteger, nullable=False),
    Column("due_block", BigInteger, nullable=False),
    # The holder of the lease has the highest fence; a write with a lower one is refused.
    Column("lease_until_ms", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("hook_attempts", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("response", LargeBinary),
    Column("hook_version", BoundedText(128)),
    # Claims of the API.
    Column("sig_hash", LargeBinary(32)),
    Column("tx_hash", LargeBinary(32)),
    # What the chain shows.
    Column("responded_block", BigInteger),
    Column("responded_tx_hash", LargeBinary(32)),
    Column("response_hash", LargeBinary(32)),
    Column("error", BoundedText(WORDS_LIMIT)),
    # A response event names the task, and the contract was not asked about it yet.
    Column("look_again", Boolean, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    # The first of two readings that do not show something (task, response, event), with its block and time.
    Column("absent", String(16)),
    Column("absent_block", BigInteger),
    Column("absent_at_ms", BigInteger),
    # The times of the blocks of log and response (s), and the sender of the response; null until a node shows them.
    Column("block_time_s", BigInteger),
    Column("responded_time_s", BigInteger),
    Column("responded_by", LargeBinary(20)),
    # The replica that made the last claim, a row of `replicas` while it lives; null on SQLite.
    Column("holder", BigInteger),
    UniqueConstraint("source_id", "task_index", "task_hash"),
    sqlite_autoincrement=True,  # the id of a deleted row, to which history refers, is never used again
)

# SQLite uses a partial index only for a query that repeats its condition literally; with bound parameters it scans the
# whole table. Queries for due work therefore use this very text. See https://www.sqlite.org/partialindex.html
OPEN = text("state NOT IN (" + ", ".join(f"'{state}'" for state in sorted(ENDED)) + ")")

Index(
    "ix_tasks_open",
    tasks.c.source_id,
    tasks.c.state,
    tasks.c.deadline_block,
    tasks.c.task_index,  # so that a claim reads as many rows as it takes, however many are due
    sqlite_where=OPEN,
)

LOOK_AGAIN = text("look_again")
HAS_ENDED = text("state IN (" + ", ".join(f"'{state}'" for state in sorted(ENDED)) + ")")
HAS_EXPIRED = text("state = 'expired'")
IS_FINAL = text("state IN ('final', 'final_other')")
UNTIMED = text("block_time_s IS NULL AND canonical")
UNTIMED_RESPONSE = text("block_time_s IS NULL")
HAS_RESPONSE = text("responded_tx_hash IS NOT NULL")
# The time of a task (s): that of its block, or, until that is known, the time at which the daemon saw it. An index on
# an expression serves only the very same expression: https://www.sqlite.org/expridx.html
TASK_TIME_S = text("coalesce(block_time_s, seen_at_ms / 1000)")

Index("ix_tasks_look_again", tasks.c.source_id, sqlite_where=LOOK_AGAIN)
# The list of the tasks in an end state, in the order of their indices.
Index("ix_tasks_ended", tasks.c.source_id, tasks.c.state, tasks.c.task_index, sqlite_where=HAS_ENDED)
# For reorgs: the tasks above a block, and what was decided there. `source_id` is not first, else SQLite would search
# for open tasks by it alone.
Index("ix_tasks_block", tasks.c.block_number, tasks.c.source_id)
Index("ix_tasks_final", tasks.c.source_id, tasks.c.responded_block, sqlite_where=IS_FINAL)
Index("ix_tasks_expired", tasks.c.source_id, tasks.c.deadline_block, sqlite_where=HAS_EXPIRED)
Index(
    "ix_tasks_expired_in_time",
    tasks.c.source_id,
    tasks.c.deadline_s,
    sqlite_where=text("state = 'expired' AND deadline_s IS NOT NULL"),
)
# For people: the tasks of some days, and those that one address answered. For the backfill: what no node has shown yet.
Index("ix_tasks_time", TASK_TIME_S, tasks.c.source_id)
Index("ix_tasks_responder", tasks.c.responded_by, tasks.c.responded_block, sqlite_where=HAS_RESPONSE)
Index("ix_tasks_untimed", tasks.c.block_number, sqlite_where=UNTIMED)

# Every response event of the canonical chain up to the cursor.
responses = Table(
    "responses",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("task_index", Uint256, nullable=False),
    Column("message", LargeBinary, nullable=False),
    # Topics and data, from which the hash that the contract stores can be computed.
    Column("log", LargeBinary, nullable=False),
    Column("response_hash", LargeBinary(32), nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("tx_hash", LargeBinary(32), nullable=False),
    Column("log_index", BigInteger, nullable=False),
    # The time of the block (s), null until a node shows it.
    Column("block_time_s", BigInteger),
    # Some nodes give two logs of a block one index. `source_id` is not first, else SQLite would search by it alone.
    UniqueConstraint(
        "block_hash", "tx_hash", "log_index", "source_id", "task_index", "response_hash", name="uq_responses_log"
    ),
    Index("ix_responses_task", "source_id", "task_index"),
    Index("ix_responses_block", "block_number", "source_id"),
    Index("ix_responses_untimed", "block_number", sqlite_where=UNTIMED_RESPONSE),
)

# Every hook run, and every POST, stored before it is sent.
attempts = Table(
    "attempts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True),
    Column("kind", String(8), nullable=False),  # hook | post
    Column("number", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("api", String(16)),
    Column("request_digest", LargeBinary(32)),
    Column("began_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("duration_ms", BigInteger),
    Column("outcome", String(16)),
    Column("http_status", Integer),
    Column("code", BigInteger),
    Column("answer", LargeBinary),
    Column("words", BoundedText(WORDS_LIMIT)),
    Column("tx_hash", LargeBinary(32)),
    Column("sig_hash", LargeBinary(32)),
    sqlite_autoincrement=True,
)

# Append-only: every transition of a task.
journal = Table(
    "journal",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("from_state", String(16)),
    Column("to_state", String(16), nullable=False),
    Column("why", BoundedText(WORDS_LIMIT), nullable=False),
    Column("attempt_id", ForeignKey("attempts.id")),
)
# The foreign key is checked by it when retention removes an attempt.
Index("ix_journal_attempt_id", journal.c.attempt_id, sqlite_where=journal.c.attempt_id.is_not(None))

# Events of a source rather than of one task: rewinds, logs set aside, halts.
events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("block_number", BigInteger),
    Column("words", BoundedText(WORDS_LIMIT), nullable=False),
    Index("ix_events_kind", "kind", "source_id"),
)

# The number of tasks in each end state, kept by the transactions that change it (`ended`).
ended_counts = Table(
    "ended_counts",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("tasks", BigInteger, nullable=False),
)

# The indices from `first_index` to below `next_index` all have a task on the canonical chain (`coverage`).
coverage = Table(
    "coverage",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("first_index", Uint256, nullable=False),
    Column("next_index", Uint256, nullable=False),
    # Raised whenever a task leaves the canonical chain, so that what was read before extends nothing.
    Column("losses", BigInteger, nullable=False),
)


@event.listens_for(metadata, "before_create")
def _repeat_conditions(_target: MetaData, connection: Connection, **_: object) -> None:
    """Give PostgreSQL the conditions of the partial indices. Stated above, they would load its dialect for SQLite."""
    if connection.dialect.name == "postgresql":
        for index in (*tasks.indexes, *responses.indexes, *journal.indexes):
            index.dialect_kwargs["postgresql_where"] = index.dialect_options["sqlite"].get("where")
