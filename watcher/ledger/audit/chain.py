"""The audit chain of a source, written: one entry for each transaction that changes bound rows, in the same commit.

A verb that many tasks go through hands over its rows as the database holds them now (`Changes.keep`); the rows of all
others are read back after the verbs have run. Invariants: the chain binds what the database holds; entries are numbered
from 1 without a gap, in the order of the commits. On SQLite there is one writer at a time; on PostgreSQL an
advisory lock, taken last and held to the commit, keeps the writers of one source in a row.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, bindparam, func, insert, select, text

from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.record import COLUMNS, Entry, genesis_hash, link, pack_leaf, row_digest
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.postgres import AWAITED
from watcher.ledger.prepared import Prepared, Question
from watcher.ledger.rows import chunks
from watcher.ledger.tables import attempts, events, journal, responses, sources, tasks
from watcher.ledger.transaction import Tx

BEGUN, COMMIT, PAST = "begun", "commit", "past"
TABLES: dict[Bound, Table] = {
    Bound.SOURCES: sources,
    Bound.TASKS: tasks,
    Bound.JOURNAL: journal,
    Bound.ATTEMPTS: attempts,
    Bound.RESPONSES: responses,
    Bound.EVENTS: events,
}
ROWS: dict[Bound, Select[Any]] = {bound: select(*(TABLES[bound].c[name] for name in COLUMNS[bound])) for bound in Bound}
"""The bound columns of each table, in the order of their digest."""
_BY_ID = {bound: ROWS[bound].where(TABLES[bound].c.id.in_(bindparam("ids", expanding=True))) for bound in Bound}
_IN_RANGE = {
    bound: ROWS[bound].where(TABLES[bound].c.id.between(bindparam("low"), bindparam("high"))) for bound in Bound
}
_HEAD = Question(
    select(audit_entries.c.seq, audit_entries.c.hash)
    .where(audit_entries.c.source_id == bindparam("source"))
    .order_by(audit_entries.c.seq.desc())
    .limit(1),
    ["source"],
)
_SOURCE = select(tasks.c.source_id).where(tasks.c.id == bindparam("row"))
_NEW_ENTRY = Prepared(insert(audit_entries), names := [column.name for column in audit_entries.c], sets=names)
_LOCK = text("SELECT pg_advisory_xact_lock(:class, :source)").execution_options(**{AWAITED: False})
_ADVISORY_CLASS = 0x61756469  # "audi": the class of our advisory locks


def bind(tx: Tx) -> None:
    """Append an entry for the changed rows of the transaction, if there are any. Call it last in the transaction."""
    changes = tx.changes
    if not changes:
        return
    # As a rule one source; times of blocks are stored for all sources of a chain.
    leaves: defaultdict[int, list[bytes]] = defaultdict(list)
    default: int | None = changes.source_id
    for table in sorted({*changes.known, *changes.written, *changes.removed}):
        rows = _changed(tx, table)
        place = _SOURCE_PLACES.get(table)
        for row_id in sorted(rows):
            row = rows[row_id]
            if row is not None and place is not None:
                source_id = row[place]
            else:
                source_id = default = _source_of(tx) if default is None else default
            leaf = pack_leaf(table, row_id, None if row is None else row_digest(row))
            leaves[source_id].append(leaf)
    changes.clear()
    for source_id in sorted(leaves):
        append(tx, source_id, COMMIT, "", b"".join(leaves[source_id]))


def _changed(tx: Tx, table: Bound) -> dict[int, Sequence[Any] | None]:
    """Return the changed rows of a table by id; None: the row was removed."""
    changes = tx.changes
    gone = changes.removed.get(table, set())
    unread = sorted(changes.written.get(table, set()) - gone)
    read = {row[0]: row for row in _rows(tx.conn, table, unread)}
    return {**changes.known.get(table, {}), **dict.fromkeys(unread), **read, **dict.fromkeys(gone)}


# The place of the source's id in a row; rows of the other tables name their task.
_SOURCE_PLACES = {Bound.SOURCES: 0, Bound.TASKS: 1, Bound.RESPONSES: 1, Bound.EVENTS: 1}


def digests(conn: Connection, table: Bound, ids: Sequence[int]) -> dict[int, bytes]:
    """Return the digests of rows by id. A row that is not there is left out."""
    return {row[0]: row_digest(row) for row in _rows(conn, table, sorted(ids))}


def _rows(conn: Connection, table: Bound, ids: Sequence[int]) -> Iterator[Row[Any]]:
    """Yield the rows of these ids, which ascend. Where they lie close together, reading all between them is cheaper."""
    if ids and ids[-1] - ids[0] < 2 * len(ids):
        asked = frozenset(ids)
        between = conn.execute(_IN_RANGE[table], {"low": ids[0], "high": ids[-1]}).all()
        yield from (between if len(between) == len(ids) else (row for row in between if row[0] in asked))
        return
    for chunk in chunks(ids):
        yield from conn.execute(_BY_ID[table], {"ids": chunk}).all()


def append(tx: Tx, source_id: int, kind: str, note: str, leaves: bytes) -> Entry:
    """Append one entry to the chain of a source, and before the first of all the one that begins it."""
    if tx.conn.dialect.name == "postgresql":
        tx.conn.execute(_LOCK, _lock(source_id))
    newest = head(tx.conn, source_id)
    if newest is None:
        first = begun(tx, source_id)
        _store(tx, source_id, first)
        newest = (first.seq, first.hash)
    seq, prev_hash = newest
    entry = link(prev_hash, seq + 1, tx.now_ms, kind, note, leaves)
    _store(tx, source_id, entry)
    tx.bound[source_id] = (entry.seq, entry.hash)
    return entry


def begun(tx: Tx, source_id: int) -> Entry:
    """Return the first entry of a chain. Its note has the highest row ids at that moment, 0 in an empty ledger.

    Rows up to them are older than the chain; the job of the daemon binds them (`past`).
    """
    source = tx.conn.execute(select(sources.c.chain_id, sources.c.task_manager).where(sources.c.id == source_id)).one()
    first = genesis_hash(source.chain_id, source.task_manager)
    has_past = tx.conn.execute(select(tasks.c.id).where(tasks.c.source_id == source_id).limit(1)).first() is not None
    marks = {
        bound.name.lower(): tx.conn.execute(select(func.max(TABLES[bound].c.id))).scalar() or 0 if has_past else 0
        for bound in Bound
    }
    return link(first, 1, tx.now_ms, BEGUN, json.dumps(marks), b"")


def entries(
    conn: Connection, source_id: int, *, below: int | None = None, above: int = 0, limit: int = 500
) -> Sequence[Row[Any]]:
    """Return a page of entries: the newest below a sequence number, or, without one, the oldest above another."""
    query = select(audit_entries).where(audit_entries.c.source_id == source_id, audit_entries.c.seq > above)
    if below is not None:
        query = query.where(audit_entries.c.seq < below).order_by(audit_entries.c.seq.desc())
    else:
        query = query.order_by(audit_entries.c.seq)
    return conn.execute(query.limit(limit)).all()


def walk(conn: Connection, source_id: int, above: int = 0) -> Iterator[Row[Any]]:
    """Yield the entries of a chain above a sequence number, in their order."""
    while page := entries(conn, source_id, above=above):
        yield from page
        above = page[-1].seq


def head(conn: Connection, source_id: int) -> tuple[int, bytes] | None:
    """Return number and hash of the newest entry, None before the first."""
    rows = _HEAD.rows(conn, source_id)
    return (rows[0][0], rows[0][1]) if rows else None


def _store(tx: Tx, source_id: int, entry: Entry) -> None:
    row = (source_id, entry.seq, entry.at_ms, entry.kind, entry.note, entry.leaves, entry.prev_hash, entry.hash)
    _NEW_ENTRY.run(tx.conn, [row])


def _lock(source_id: int) -> dict[str, int]:
    return {"class": _ADVISORY_CLASS, "source": source_id % 2**31}


def _source_of(tx: Tx) -> int:
    """Return the source of the transaction's tasks, of which all are of one source."""
    for row in tx.changes.known.get(Bound.TASKS, {}).values():
        return int(row[_SOURCE_PLACES[Bound.TASKS]])
    row_id = next(iter(tx.changes.written[Bound.TASKS]))
    return int(tx.conn.execute(_SOURCE, {"row": row_id}).scalar_one())
