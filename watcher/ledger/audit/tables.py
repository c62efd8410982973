"""The tables of the audit chain: its entries, and the published roots. Append-only."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    text,
)

from watcher.ledger.tables import metadata

# What each transaction changed, bound to everything before it.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # begun | commit | past
    Column("note", Text, nullable=False),
    Column("leaves", LargeBinary, nullable=False),
    Column("prev_hash", LargeBinary(32), nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)
# The entries that do not come from an ordinary transaction.
Index(
    "ix_audit_entries_kind",
    audit_entries.c.source_id,
    audit_entries.c.kind,
    audit_entries.c.seq,
    sqlite_where=text("kind <> 'commit'"),
)

# The Merkle roots of past days, as they were published.
audit_roots = Table(
    "audit_roots",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("day", String(10), nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("head_hash", LargeBinary(32), nullable=False),
    Column("published_at_ms", BigInteger, nullable=False),
)


@event.listens_for(metadata, "before_create")
def _repeat_conditions(_target: MetaData, connection: Connection, **_: Any) -> None:
    """Give PostgreSQL the conditions of the partial indices (see `ledger.tables`)."""
    if connection.dialect.name == "postgresql":
        for index in audit_entries.indexes:
            index.dialect_kwargs["postgresql_where"] = index.dialect_options["sqlite"].get("where")
