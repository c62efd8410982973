"""The binding of rows that are older than the chain, a batch at a time, after the upgrade of an older ledger.

Invariant: every batch is an entry of kind "past", whose note says how far it goes. Rows above the marks of the first
entry are never bound here: whoever adds one by hand gets no entry for it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select

from watcher.ledger.audit.chain import BEGUN, PAST, ROWS, TABLES, append
from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.record import Leaf, pack_leaves, row_digest
from watcher.ledger.audit.tables import audit_entries
from watcher.ledger.tables import tasks
from watcher.ledger.transaction import Tx

_OF_TASKS = (Bound.JOURNAL, Bound.ATTEMPTS)


@dataclass(frozen=True, slots=True)
class Progress:
    """What is bound of the past: `upto` is the highest bound row id of `table`, all tables before it are done.

    `marks` are the highest row ids of the past by table. `table` is None once all of it is bound, or without a past.
    """

    marks: Mapping[Bound, int]
    table: Bound | None
    upto: int = 0

    def is_unbound(self, table: Bound, row_id: int) -> bool:
        """Return True for a row of the past that no batch has reached yet."""
        if self.table is None or row_id > self.marks[table]:
            return False
        return table > self.table or (table == self.table and row_id > self.upto)


def progress(conn: Connection, source_id: int) -> Progress | None:
    """Return how far the past is bound, None before the chain has begun.

    Raises ValueError if the notes of its entries are not those that this program writes.
    """
    first = _note(conn, source_id, BEGUN)
    if first is None:
        return None
    noted = json.loads(first)
    marks = {table: int(noted.get(table.name.lower(), 0)) for table in Bound}
    if not any(marks.values()):
        return Progress(marks, None)
    newest = _note(conn, source_id, PAST)
    if newest is None:
        return Progress(marks, Bound.SOURCES)
    noted = json.loads(newest)
    return Progress(marks, None if noted["table"] is None else Bound[noted["table"].upper()], int(noted["upto"]))


def bind_past(tx: Tx, source_id: int, limit: int = 1000) -> int:
    """Bind the next rows of the past, at most `limit`. Return their number, 0 once nothing is left."""
    done = progress(tx.conn, source_id)
    if done is None or done.table is None:
        return 0
    table, upto = done.table, done.upto
    rows = tx.conn.execute(_page(table, source_id, upto, done.marks[table], limit)).all()
    leaves = [Leaf(table, row[0], row_digest(row)) for row in rows]
    if len(rows) < limit:
        following: Bound | None = Bound(table + 1) if table < max(Bound) else None
        note = {"table": None if following is None else following.name.lower(), "upto": 0}
    else:
        note = {"table": table.name.lower(), "upto": rows[-1][0]}
    append(tx, source_id, PAST, json.dumps(note), pack_leaves(leaves))
    return max(1, len(rows))


def _page(table: Bound, source_id: int, above: int, upto: int, limit: int) -> Select[Any]:
    id_ = TABLES[table].c.id
    query = ROWS[table].where(id_ > above, id_ <= upto).order_by(id_).limit(limit)
    if table in _OF_TASKS:
        return query.join(tasks, tasks.c.id == TABLES[table].c.task_id).where(tasks.c.source_id + 0 == source_id)
    if table is Bound.SOURCES:
        return query.where(id_ == source_id)
    return query.where(TABLES[table].c.source_id + 0 == source_id)


def _note(conn: Connection, source_id: int, kind: str) -> str | None:
    """Return the note of the newest entry of a kind."""
    query = select(audit_entries.c.note).where(audit_entries.c.source_id == source_id, audit_entries.c.kind == kind)
    return conn.execute(
        query.where(audit_entries.c.kind != "commit").order_by(audit_entries.c.seq.desc()).limit(1)
    ).scalar()
