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
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("chain_id", Uint256, nullable=False, comment="The chain."),
    Column("task_manager", LargeBinary(20), nullable=False, comment="The address of the contract."),
    Column("start_block", BigInteger, nullable=False, comment="The first block that is read."),
    Column("cursor_block", BigInteger, nullable=False, comment="All logs up to this block are in the ledger."),
    Column("cursor_hash", LargeBinary(32), comment="The hash of that block."),
    # The highest proven head, lowered when no node shows it any more; confirmations and due blocks count from it.
    Column("head_block", BigInteger, nullable=False, comment="The highest proven head; lowered once no node shows it."),
    Column("final_block", BigInteger, nullable=False, comment="The newest final block."),
    Column("final_hash", LargeBinary(32), comment="Its hash."),
    Column("genesis_hash", LargeBinary(32), comment="The hash of block 0: chains with one id differ in it."),
    Column("created_at_ms", BigInteger, nullable=False, comment="When the ledger of this contract was begun."),
    # The newest final block that enough nodes call final: if it changes, the chain has broken its promise.
    Column("firm_block", BigInteger, comment="The newest final block that enough nodes call final."),
    Column("firm_hash", LargeBinary(32), comment="Its hash."),
    Column("head_l1_block", BigInteger, comment="The parent chain's block at the head, where contracts count those."),
    Column("final_l1_block", BigInteger, comment="The same for the final block."),
    Column("begun_block", BigInteger, comment="The head when the ledger was begun: what was over by then is history."),
    Column("begun_closed_block", BigInteger, comment="The same, as deadlines are compared with it."),
    UniqueConstraint("chain_id", "task_manager"),
    comment="A contract on a chain.",
)

blocks = Table(
    "blocks",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="The height."),
    Column("hash", LargeBinary(32), nullable=False, comment="The hash."),
    comment="The hash of a recent block, to find where a reorg begins.",
)

rescans = Table(
    "passes",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("name", String(16), primary_key=True, comment="confirmed or final."),
    Column("block", BigInteger, nullable=False, comment="The last block that was read again."),
    comment="The progress of a rescan of blocks.",
)

contract_facts = Table(
    "contract_facts",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("name", String(32), primary_key=True, comment="The property."),
    Column("value", String(80), comment="Its value as text; null: it has none."),
    Column("block_number", BigInteger, nullable=False, comment="The block at which it was first read."),
    comment="The last value read of a property of the contract.",
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("source_id", ForeignKey("sources.id"), nullable=False, comment="The contract, a row of sources."),
    Column("task_index", Uint256, nullable=False, comment="The index in the contract; on SQLite 32 bytes above 2^63."),
    Column("task_hash", LargeBinary(32), nullable=False, comment="keccak256(abi.encode(Task)), as in allTaskHashes."),
    Column("created_block", BigInteger, nullable=False, comment="The contract's own taskCreatedBlock."),
    Column("message", LargeBinary, nullable=False, comment="What the task asks."),
    Column("quorum_numbers", LargeBinary, nullable=False, comment="The quorums, a byte each."),
    Column("quorum_threshold", BigInteger, nullable=False, comment="The threshold in percent."),
    Column("deadline_block", BigInteger, comment="The last block for a response, as the contract counts; null: none."),
    # A deadline that is a time; `deadline_block` is set from it once a final block is past it.
    Column("deadline_s", BigInteger, comment="A deadline that is a time, in seconds since 1970."),
    Column("log", LargeBinary, nullable=False, comment="Topics and data of the event: every value can be read again."),
    # The place of the log. `canonical` is false while the chain does not contain that block.
    Column("block_number", BigInteger, nullable=False, comment="The block of the log."),
    Column("block_hash", LargeBinary(32), nullable=False, comment="The hash of that block."),
    Column("created_tx_hash", LargeBinary(32), nullable=False, comment="The transaction of the log."),
    Column("log_index", BigInteger, nullable=False, comment="The place of the log in its block."),
    Column("canonical", Boolean, nullable=False, comment="False while the chain does not contain that block."),
    Column("state", String(16), nullable=False, comment="The state, see states.md."),
    Column("due_at_ms", BigInteger, nullable=False, comment="The task is due once this time and due_block have come."),
    Column("due_block", BigInteger, nullable=False, comment="See due_at_ms."),
    # The holder of the lease has the highest fence; a write with a lower one is refused.
    Column("lease_until_ms", BigInteger, nullable=False, comment="Until when a worker holds the task."),
    Column("fence", BigInteger, nullable=False, comment="The number of the present holder; lower ones are refused."),
    Column("hook_attempts", Integer, nullable=False, comment="Failed runs of the hook since the last retry."),
    Column("attempts", Integer, nullable=False, comment="POSTs so far."),
    Column("response", LargeBinary, comment="The hook's first answer, which never changes."),
    Column("hook_version", BoundedText(128), comment="The version of the hook that gave it."),
    Column("sig_hash", LargeBinary(32), comment="A claim of the API: the digest that was signed."),
    Column("tx_hash", LargeBinary(32), comment="A claim of the API: the transaction."),
    Column("responded_block", BigInteger, comment="The block of the response on the chain."),
    Column("responded_tx_hash", LargeBinary(32), comment="The transaction of the response."),
    Column("response_hash", LargeBinary(32), comment="The hash of the response in the contract."),
    Column("error", BoundedText(WORDS_LIMIT), comment="The last obstacle."),
    Column("look_again", Boolean, nullable=False, comment="A response event came; the contract was not asked since."),
    Column("seen_at_ms", BigInteger, nullable=False, comment="When the daemon read its log first."),
    Column("updated_at_ms", BigInteger, nullable=False, comment="When its state changed last."),
    Column("absent", String(16), comment="What the first of two readings does not show: task, response, event."),
    Column("absent_block", BigInteger, comment="The block of that reading."),
    Column("absent_at_ms", BigInteger, comment="Its time."),
    Column("block_time_s", BigInteger, comment="The time of that block in s since 1970; null until shown by a node."),
    Column("responded_time_s", BigInteger, comment="The time of the response's block in s since 1970; null: unknown."),
    Column("responded_by", LargeBinary(20), comment="The sender of the response; null until a node shows it."),
    Column("holder", BigInteger, comment="The replica that made the last claim, a row of replicas; null on SQLite."),
    UniqueConstraint("source_id", "task_index", "task_hash"),
    sqlite_autoincrement=True,  # the id of a deleted row, to which history refers, is never used again
    comment="A task, with its answer and what the chain shows.",
)

# SQLite uses a partial index only for a query that repeats its condition literally; with bound parameters it scans the
# whole table. Queries for due work therefore use this very text. See https://www.sqlite.org/partialindex.html
# It compares one by one: for IN with three values or more SQLite fills a table of them in memory, and an UPDATE does so
# anew for each row that it is run with, which took as long as the rest of it.
OPEN = text(" AND ".join(f"state <> '{state}'" for state in sorted(ENDED)))

Index(
    "ix_tasks_open",
    tasks.c.source_id,
    tasks.c.state,
    tasks.c.deadline_block,
    tasks.c.task_index,  # so that a claim reads as many rows as it takes, however many are due
    sqlite_where=OPEN,
)

LOOK_AGAIN = text("look_again")
HAS_ENDED = text("(" + " OR ".join(f"state = '{state}'" for state in sorted(ENDED)) + ")")
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

responses = Table(
    "responses",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("source_id", ForeignKey("sources.id"), nullable=False, comment="The contract, a row of sources."),
    Column("task_index", Uint256, nullable=False, comment="The index in the contract; on SQLite 32 bytes above 2^63."),
    Column("message", LargeBinary, nullable=False, comment="The answer in it."),
    Column("log", LargeBinary, nullable=False, comment="Topics and data of the event: every value can be read again."),
    Column("response_hash", LargeBinary(32), nullable=False, comment="The hash that the contract stores for it."),
    Column("block_number", BigInteger, nullable=False, comment="The block of the log."),
    Column("block_hash", LargeBinary(32), nullable=False, comment="The hash of that block."),
    Column("tx_hash", LargeBinary(32), nullable=False, comment="Its transaction."),
    Column("log_index", BigInteger, nullable=False, comment="The place of the log in its block."),
    Column("block_time_s", BigInteger, comment="The time of that block in s since 1970; null until shown by a node."),
    # Some nodes give two logs of a block one index. `source_id` is not first, else SQLite would search by it alone.
    UniqueConstraint(
        "block_hash", "tx_hash", "log_index", "source_id", "task_index", "response_hash", name="uq_responses_log"
    ),
    Index("ix_responses_task", "source_id", "task_index"),
    Index("ix_responses_block", "block_number", "source_id"),
    Index("ix_responses_untimed", "block_number", sqlite_where=UNTIMED_RESPONSE),
    comment="A response event of the canonical chain up to the cursor.",
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True, comment="The task, a row of tasks."),
    Column("kind", String(8), nullable=False, comment="hook or post."),
    Column("number", Integer, nullable=False, comment="Which attempt of its kind, from 1 on."),
    Column("fence", BigInteger, nullable=False, comment="The number of the holder that made it."),
    Column("api", String(16), comment="The API of a POST: proxy or operator."),
    Column("request_digest", LargeBinary(32), comment="SHA-256 of the request without its id."),
    Column("began_at_ms", BigInteger, nullable=False, comment="When it began, in milliseconds since 1970."),
    Column("ended_at_ms", BigInteger, comment="When it ended; null where it was cut off."),
    Column("duration_ms", BigInteger, comment="How long it took."),
    Column("outcome", String(16), comment="What it came to; null where it was cut off."),
    Column("http_status", Integer, comment="The status of the reply."),
    Column("code", BigInteger, comment="The JSON-RPC code of the reply."),
    Column("answer", LargeBinary, comment="The body of the reply."),
    Column("words", BoundedText(WORDS_LIMIT), comment="The reason in words."),
    Column("tx_hash", LargeBinary(32), comment="The transaction that the API claims."),
    Column("sig_hash", LargeBinary(32), comment="The digest that the API claims to have signed."),
    sqlite_autoincrement=True,
    comment="A run of the hook, or a POST, stored before it is sent.",
)

journal = Table(
    "journal",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True, comment="The task, a row of tasks."),
    Column("at_ms", BigInteger, nullable=False, comment="When, in milliseconds since 1970."),
    Column("from_state", String(16), comment="The state before; null for the first line."),
    Column("to_state", String(16), nullable=False, comment="The state after."),
    Column("why", BoundedText(WORDS_LIMIT), nullable=False, comment="The reason; of a manual change also who asked."),
    Column("attempt_id", ForeignKey("attempts.id"), comment="The attempt that caused it, a row of attempts."),
    comment="A transition of a task. Lines are only added.",
)
# The foreign key is checked by it when retention removes an attempt.
Index("ix_journal_attempt_id", journal.c.attempt_id, sqlite_where=journal.c.attempt_id.is_not(None))

events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("source_id", ForeignKey("sources.id"), nullable=False, comment="The contract, a row of sources."),
    Column("at_ms", BigInteger, nullable=False, comment="When, in milliseconds since 1970."),
    Column("kind", String(32), nullable=False, comment="What happened."),
    Column("block_number", BigInteger, comment="The block it is about."),
    Column("words", BoundedText(WORDS_LIMIT), nullable=False, comment="The reason in words."),
    Index("ix_events_kind", "kind", "source_id"),
    comment="An event of a source rather than of one task: a rewind, a change of the contract, an export.",
)

# The number of tasks in each end state, kept by the transactions that change it (`ended`).
ended_counts = Table(
    "ended_counts",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("state", String(16), primary_key=True, comment="The end state."),
    Column("tasks", BigInteger, nullable=False, comment="Their number."),
    comment="A count that is kept, not counted: the tasks in an end state.",
)

coverage = Table(
    "coverage",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("first_index", Uint256, nullable=False, comment="The first of them."),
    Column("next_index", Uint256, nullable=False, comment="The first index that is not covered."),
    Column("losses", BigInteger, nullable=False, comment="How often a task left the canonical chain."),
    comment="The indices that are known to have no hole.",
)


_ENDED_LIST = "(" + ", ".join(f"'{state}'" for state in sorted(ENDED)) + ")"
# PostgreSQL proves that these are the conditions of the queries, which compare one by one.
_ON_POSTGRESQL = {
    "ix_tasks_open": text("state NOT IN " + _ENDED_LIST),
    "ix_tasks_ended": text("state IN " + _ENDED_LIST),
}


@event.listens_for(metadata, "before_create")
def _repeat_conditions(_target: MetaData, connection: Connection, **_: object) -> None:
    """Give PostgreSQL the conditions of the partial indices. Stated above, they would load its dialect for SQLite."""
    if connection.dialect.name == "postgresql":
        for index in (*tasks.indexes, *responses.indexes, *journal.indexes):
            on_sqlite = index.dialect_options["sqlite"].get("where")
            index.dialect_kwargs["postgresql_where"] = _ON_POSTGRESQL.get(str(index.name), on_sqlite)
