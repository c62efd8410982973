"""The tables beside the tasks: when the daemon ran and conditions held, the runs of a shadow hook, and the replicas.

No stage waits for them. `schema` imports this file, so that they belong to the metadata.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from watcher.ledger.columns import BoundedText
from watcher.ledger.tables import WORDS_LIMIT, RowId, metadata

# From `began_at_ms` to `last_at_ms` a daemon ran (key "running"), or a condition or a failure of one node lasted.
periods = Table(
    "periods",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("source_id", ForeignKey("sources.id"), nullable=False, comment="The contract, a row of sources."),
    Column("key", BoundedText(128), nullable=False, comment="running, the key of a condition, or node NAME."),
    Column("began_at_ms", BigInteger, nullable=False, comment="When it began, in milliseconds since 1970."),
    Column("last_at_ms", BigInteger, nullable=False, comment="When it was last seen."),
    Column("words", BoundedText(WORDS_LIMIT), nullable=False, comment="The reason in words."),
    Index("ix_periods_last_at_ms", "last_at_ms", "source_id"),
    comment="A time in which the watcher ran, a condition held, or one node failed.",
)

shadow_runs = Table(
    "shadow_runs",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True, comment="The task, a row of tasks."),
    Column("version", BoundedText(128), nullable=False, comment="The version of the shadow."),
    Column("outcome", String(16), nullable=False, comment="answered, skipped, later or failed."),
    Column("response", LargeBinary, comment="The answer of the shadow."),
    Column("words", BoundedText(WORDS_LIMIT), nullable=False, comment="The reason in words."),
    Column("duration_ms", BigInteger, nullable=False, comment="How long it took."),
    Column("agrees", Boolean, nullable=False, comment="Whether both hooks came to the same outcome and bytes."),
    Column("at_ms", BigInteger, nullable=False, comment="When, in milliseconds since 1970."),
    Column("live_outcome", String(16), nullable=False, comment="What the run of the live hook came to."),
    Column("live_duration_ms", BigInteger, comment="How long that run took."),
    sqlite_autoincrement=True,
    comment="A run of a shadow hook beside the live one.",
)
shadow_progress = Table(
    "shadow_progress",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("attempt_id", BigInteger, nullable=False, comment="The last run of the live hook that is dealt with."),
    Column("dropped", BigInteger, nullable=False, comment="How many runs of the live hook got none of the shadow."),
    comment="How far the shadow hook has come.",
)

# The daemons that share a ledger on PostgreSQL, and which of them leads (`replicas`). Times are the database's own. On
# SQLite, whose ledger one daemon writes, both tables stay empty.
replicas = Table(
    "replicas",
    metadata,
    Column("id", RowId, primary_key=True, comment="The row."),
    Column("source_id", ForeignKey("sources.id"), nullable=False, index=True, comment="The contract, as in sources."),
    Column("host", BoundedText(128), nullable=False, comment="The name of its host."),
    Column("process", BoundedText(128), nullable=False, comment="Its boot, process namespace and process id."),
    Column("version", BoundedText(64), nullable=False, comment="The version of its program."),
    Column("roles", String(64), nullable=False, comment="The roles that it runs, joined by commas."),
    Column("slots", Integer, nullable=False, comment="Its share of operator.concurrency, in requests."),
    Column("started_at_ms", BigInteger, nullable=False, comment="When it started, by the database's clock."),
    Column("seen_at_ms", BigInteger, nullable=False, comment="When it was last seen, by the database's clock."),
    sqlite_autoincrement=True,
    comment="A daemon that shares the ledger with others; only on PostgreSQL.",
)
leaders = Table(
    "leaders",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("term", BigInteger, nullable=False, comment="Rises with each change of the leader."),
    # No foreign key: the row of a replica that is gone leaves.
    Column("replica_id", BigInteger, comment="The leader, a row of replicas; null: there is none."),
    Column("until_ms", BigInteger, nullable=False, comment="Until when it leads, by the database's clock; 0: not now."),
    comment="The replica that watches the chain; only on PostgreSQL.",
)
