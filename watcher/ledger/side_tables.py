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
    Column("id", RowId, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("key", BoundedText(128), nullable=False),
    Column("began_at_ms", BigInteger, nullable=False),
    Column("last_at_ms", BigInteger, nullable=False),
    Column("words", BoundedText(WORDS_LIMIT), nullable=False),
    Index("ix_periods_last_at_ms", "last_at_ms", "source_id"),
)

# The runs of the shadow hook, each beside a run of the live one (`shadow`).
shadow_runs = Table(
    "shadow_runs",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True),
    Column("version", BoundedText(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("response", LargeBinary),
    Column("words", BoundedText(WORDS_LIMIT), nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("agrees", Boolean, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("live_outcome", String(16), nullable=False),
    Column("live_duration_ms", BigInteger),
    sqlite_autoincrement=True,
)
# The last attempt of the live hook that needs no run of the shadow any more, and how many got none.
shadow_progress = Table(
    "shadow_progress",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("attempt_id", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
)

# The daemons that share a ledger on PostgreSQL, and which of them leads (`replicas`). Times are the database's own. On
# SQLite, whose ledger one daemon writes, both tables stay empty.
replicas = Table(
    "replicas",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False, index=True),
    Column("host", BoundedText(128), nullable=False),
    Column("process", BoundedText(128), nullable=False),
    Column("version", BoundedText(64), nullable=False),
    Column("roles", String(64), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
leaders = Table(
    "leaders",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("term", BigInteger, nullable=False),
    # No foreign key: the row of a replica that is gone leaves.
    Column("replica_id", BigInteger),
    Column("until_ms", BigInteger, nullable=False),
)
