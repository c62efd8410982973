"""The lines of a bundle: the source, its entries, its bound rows and its roots, as JSON values."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, or_, select

from watcher.ledger.audit.chain import ROWS, TABLES, walk
from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.record import COLUMNS
from watcher.ledger.audit.roots import roots
from watcher.ledger.postgres import take_snapshot
from watcher.ledger.tables import sources, tasks

Line = dict[str, Any]
_PAGE = 500


def lines(conn: Connection, source_id: int, now_ms: int) -> Iterator[Line]:
    """Yield the lines of a bundle, all of one commit: "header", "entry", "row" and "root"."""
    take_snapshot(conn)  # else each statement would read another commit
    source = conn.execute(select(sources).where(sources.c.id == source_id)).one()
    yield {
        "type": "header",
        "chain_id": source.chain_id,
        "task_manager": _json(source.task_manager),
        "start_block": source.start_block,
        "cursor_block": source.cursor_block,
        "cursor_hash": _json(source.cursor_hash),
        "made_at_ms": now_ms,
        "tables": {table.name.lower(): _columns(table) for table in Bound},
    }
    for entry in walk(conn, source_id):
        yield {"type": "entry", **{name: _json(getattr(entry, name)) for name in _ENTRY}}
    for table in Bound:
        for row in _rows(conn, table, source_id):
            values = dict(zip(COLUMNS[table], map(_json, row), strict=True))
            yield {"type": "row", "table": table.name.lower(), "row": values}
    for root in roots(conn, source_id, now_ms):
        yield {
            "type": "root",
            "day": root.day,
            "first_seq": root.first_seq,
            "last_seq": root.last_seq,
            "root": _json(root.root),
            "head_hash": _json(root.head_hash),
            "complete": root.is_complete,
        }


_ENTRY = ("seq", "at_ms", "kind", "note", "leaves", "prev_hash", "hash")


def _columns(table: Bound) -> dict[str, Any]:
    """Return number and columns of a table in the order of the digest; `bytes` names those that are bytes."""
    kinds = {name: TABLES[table].c[name].type.python_type for name in COLUMNS[table]}
    return {
        "number": int(table),
        "columns": list(COLUMNS[table]),
        "bytes": [name for name, kind in kinds.items() if kind is bytes],
    }


def _json(value: Any) -> Any:
    return "0x" + value.hex() if isinstance(value, bytes) else value


def _rows(conn: Connection, table: Bound, source_id: int) -> Iterator[Any]:
    id_ = TABLES[table].c.id
    query = ROWS[table]
    if table in (Bound.JOURNAL, Bound.ATTEMPTS):
        owner = tasks.c.source_id
        query = query.outerjoin(tasks, tasks.c.id == TABLES[table].c.task_id)
        query = query.where(or_(owner == source_id, owner.is_(None)))
    elif table is Bound.SOURCES:
        query = query.where(id_ == source_id)
    else:
        query = query.where(TABLES[table].c.source_id + 0 == source_id)
    above = None
    while True:
        after = query if above is None else query.where(id_ > above)
        page = conn.execute(after.order_by(id_).limit(_PAGE)).all()
        yield from page
        if len(page) < _PAGE:
            return
        above = page[-1][0]
