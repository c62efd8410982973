"""The audit chain. It begins with the next transaction; the daemon binds the older rows, a batch at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_SOURCE_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SPECIAL = "kind <> 'commit'"


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("source_id", _SOURCE_ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("leaves", sa.LargeBinary(), nullable=False),
        sa.Column("prev_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_audit_entries_source_id"),
        sa.PrimaryKeyConstraint("source_id", "seq", name="pk_audit_entries"),
    )
    where = sa.text(_SPECIAL)
    op.create_index(
        "ix_audit_entries_kind",
        "audit_entries",
        ["source_id", "kind", "seq"],
        unique=False,
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_table(
        "audit_roots",
        sa.Column("source_id", _SOURCE_ID, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("root", sa.LargeBinary(length=32), nullable=False),
        sa.Column("head_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("published_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_audit_roots_source_id"),
        sa.PrimaryKeyConstraint("source_id", "first_seq", name="pk_audit_roots"),
    )
