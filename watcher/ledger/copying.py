"""The copy of a whole ledger into another database, in batches, row ids and audit chain included.

Rows go in the order of their keys, and each batch is one commit, so that a copy that was cut short goes on behind its
last row. Invariants: nothing is written to the source while it is read; the source is marked as left only after every
row of both sides was compared, and before the target may be opened.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, delete, func, insert, select, text, tuple_
from sqlalchemy.exc import IntegrityError

from watcher.errors import FixConfiguration
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.move import COPYING, Move, mark_in, remove_mark, set_mark
from watcher.ledger.side_tables import periods
from watcher.ledger.tables import metadata, sources

BATCH = 1000  # rows
Follow = Callable[[str, int, int], None]
"""Called with the name of a step or table, the number of its rows that are done now, and the number of all its rows."""


class SourceChanged(Exception):
    """The source is not what it was when the unfinished copy began."""


@dataclass(slots=True)
class Copied:
    """The rows of each table, and how many of all an earlier run had copied."""

    rows: dict[str, int] = field(default_factory=dict)
    resumed: int = 0


def tables() -> Sequence[Table]:
    """Return the tables, each behind those that it refers to."""
    return metadata.sorted_tables


def is_empty(conn: Connection) -> bool:
    """Return whether no table has a row."""
    return all(conn.execute(select(1).select_from(table).limit(1)).first() is None for table in tables())


def digest_of(conn: Connection) -> bytes:
    """Return a digest that changes with every run of a daemon and with every change of a task."""
    heads = select(audit_entries.c.source_id, func.max(audit_entries.c.seq)).group_by(audit_entries.c.source_id)
    parts = [
        [tuple(row) for row in conn.execute(select(sources).order_by(sources.c.id))],
        [tuple(row) for row in conn.execute(heads.order_by(audit_entries.c.source_id))],
        [tuple(row) for row in conn.execute(select(func.max(periods.c.id), func.max(periods.c.last_at_ms)))],
    ]
    return hashlib.sha256(repr(parts).encode()).digest()


def prepare(source: Connection, target: Engine, source_name: str, target_name: str) -> None:
    """Make the target ready for the first batch, or for the next one of an earlier run.

    An older state of the same ledger, which was left for this source, is emptied.

    Raises FixConfiguration if the target holds anything else.
    """
    digest = digest_of(source)
    with target.begin() as conn:
        mark = mark_in(conn)
        if mark is not None and mark.role == COPYING:
            if mark.peer != source_name:
                raise FixConfiguration(
                    f"{target_name} holds an unfinished copy of {mark.peer}; finish that one, or name another target"
                )
            if mark.digest == digest:
                return
            empty(conn)
        elif not is_empty(conn):
            _refuse_other(source, conn, mark, source_name, target_name)
            empty(conn)
        set_mark(conn, COPYING, source_name, digest)


def _refuse_other(source: Connection, conn: Connection, mark: Move | None, source_name: str, target_name: str) -> None:
    """Raise FixConfiguration unless the target was left for this source, and all that it holds is in the source."""
    if mark is None or mark.peer != source_name:
        raise FixConfiguration(f"{target_name} holds a ledger already; name an empty one")
    for source_id, seq in conn.execute(
        select(audit_entries.c.source_id, func.max(audit_entries.c.seq)).group_by(audit_entries.c.source_id)
    ):
        query = select(audit_entries.c.hash).where(audit_entries.c.source_id == source_id, audit_entries.c.seq == seq)
        if source.execute(query).scalar() != conn.execute(query).scalar():
            raise FixConfiguration(
                f"{target_name} has changed since it was left for {source_name}, which does not hold these changes; "
                "name an empty target"
            )


def empty(conn: Connection) -> None:
    """Remove every row."""
    for table in reversed(tables()):
        conn.execute(delete(table))


def copy_rows(source: Connection, target: Engine, follow: Follow) -> Copied:
    """Copy what the target lacks. Return what it then has.

    Raises SourceChanged if a row does not fit those of an earlier run.
    """
    copied = Copied()
    for table in tables():
        total = _count(source, table)
        with target.connect() as conn:
            present = _count(conn, table)
            last = _last_key(conn, table) if present else None
        copied.resumed += present
        copied.rows[table.name] = present
        follow(table.name, present, total)
        if present and _is_small(table):
            continue  # copied in one commit
        try:
            for batch in _batches(source, table, last):
                with target.begin() as conn:
                    conn.execute(insert(table), [dict(row._mapping) for row in batch])
                copied.rows[table.name] += len(batch)
                follow(table.name, len(batch), total)
        except IntegrityError:
            if not copied.resumed:
                raise
            raise SourceChanged from None
    return copied


def compare(source: Connection, target: Connection, follow: Follow) -> None:
    """Compare each row of both sides. Raises SourceChanged, with the table in it, if they differ."""
    total = sum(_count(source, table) for table in tables())
    for table in tables():
        both = zip(_pages(source, table), _pages(target, table), strict=True)
        try:
            for ours, theirs in both:
                if ours != theirs:
                    raise SourceChanged(table.name)
                follow("comparing", len(ours), total)
        except ValueError:  # one side is longer
            raise SourceChanged(table.name) from None


def _count(conn: Connection, table: Table) -> int:
    return conn.execute(select(func.count()).select_from(table)).scalar_one()


def _pages(conn: Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    for batch in _batches(conn, table, None):
        rows = [tuple(row) for row in batch]
        # Databases sort text in orders of their own.
        yield sorted(rows, key=repr) if _is_small(table) else rows


def _batches(conn: Connection, table: Table, last: Sequence[Any] | None) -> Iterator[Sequence[Row[Any]]]:
    """Yield the rows behind a key in the order of their keys; those of a small table at once."""
    keys = list(table.primary_key.columns)
    query = select(table).order_by(*keys)
    if _is_small(table):
        rows = conn.execute(query).all()
        if rows:
            yield rows
        return
    query = query.limit(BATCH)
    while True:
        after = query if last is None else query.where(tuple_(*keys) > tuple_(*last))
        rows = conn.execute(after).all()
        if rows:
            yield rows
        if len(rows) < BATCH:
            return
        last = tuple(getattr(rows[-1], key.name) for key in keys)


def _last_key(conn: Connection, table: Table) -> Sequence[Any]:
    keys = list(table.primary_key.columns)
    return tuple(conn.execute(select(*keys).order_by(*(key.desc() for key in keys)).limit(1)).one())


def _is_small(table: Table) -> bool:
    """Return whether a table has a few rows for each source: those with text in their keys do."""
    return any(key.type.python_type is str for key in table.primary_key.columns)


def last_ids(conn: Connection) -> dict[str, int]:
    """Return the last id that each numbered table has given, also to a row that is gone."""
    present = {table.name: conn.execute(select(func.max(table.c.id))).scalar() or 0 for table in _numbered()}
    if conn.dialect.name == "sqlite":
        last_given = {row.name: row.seq for row in conn.execute(text("SELECT name, seq FROM sqlite_sequence"))}
    else:
        last_given = {}
        for table in _numbered():
            name = conn.execute(select(func.pg_get_serial_sequence(table.name, "id"))).scalar_one()
            value, called = conn.execute(text("SELECT last_value, is_called FROM " + name)).one()  # noqa: S608 - from the catalogue
            last_given[table.name] = value if called else 0
    return {name: max(last, last_given.get(name, 0)) for name, last in present.items()}


def set_last_ids(conn: Connection, last: dict[str, int]) -> None:
    """Let each numbered table give ids behind the last ones."""
    for table in _numbered():
        number = last[table.name]
        if conn.dialect.name != "sqlite":
            sequence = func.pg_get_serial_sequence(table.name, "id")
            conn.execute(select(func.setval(sequence, max(1, number), number > 0)))
        elif table.dialect_options["sqlite"]["autoincrement"]:
            values = {"name": table.name, "seq": number}
            conn.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
            conn.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), values)


def _numbered() -> list[Table]:
    return [table for table in tables() if "id" in table.c]


def open_target(conn: Connection, last: dict[str, int]) -> None:
    """Make the finished copy a ledger that a daemon may open."""
    set_last_ids(conn, last)
    remove_mark(conn)
