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

audit_entries = Table(
    "audit_entries",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("seq", BigInteger, primary_key=True, autoincrement=False, comment="Its number, from 1 without a gap."),
    Column("at_ms", BigInteger, nullable=False, comment="When, in milliseconds since 1970."),
    Column("kind", String(16), nullable=False, comment="begun, commit or past."),
    Column("note", Text, nullable=False, comment="JSON; empty as a rule."),
    Column("leaves", LargeBinary, nullable=False, comment="The rows that were written or removed, with digests."),
    Column("prev_hash", LargeBinary(32), nullable=False, comment="The hash of the entry before."),
    Column("hash", LargeBinary(32), nullable=False, comment="The SHA-256 of everything else."),
    comment="What each transaction changed, bound by hash to everything before it; see audit.md.",
)
# The entries that do not come from an ordinary transaction.
Index(
    "ix_audit_entries_kind",
    audit_entries.c.source_id,
    audit_entries.c.kind,
    audit_entries.c.seq,
    sqlite_where=text("kind <> 'commit'"),
)

audit_roots = Table(
    "audit_roots",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True, comment="The contract, a row of sources."),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False, comment="The first entry that it covers."),
    Column("last_seq", BigInteger, nullable=False, comment="The last entry that it covers."),
    Column("day", String(10), nullable=False, comment="The day in UTC."),
    Column("root", LargeBinary(32), nullable=False, comment="The Merkle root."),
    Column("head_hash", LargeBinary(32), nullable=False, comment="The hash of the last entry."),
    Column("published_at_ms", BigInteger, nullable=False, comment="When it was published, in milliseconds since 1970."),
    comment="The Merkle root of a past day, as it was published.",
)


@event.listens_for(metadata, "before_create")
def _repeat_conditions(_target: MetaData, connection: Connection, **_: Any) -> None:
    """Give PostgreSQL the conditions of the partial indices (see `ledger.tables`)."""
    if connection.dialect.name == "postgresql":
        for index in audit_entries.indexes:
            index.dialect_kwargs["postgresql_where"] = index.dialect_options["sqlite"].get("where")
