"""Periods: the times in which a daemon ran, and in which a condition or the failure of one node lasted.

Invariants: a period ends where it was last seen, so that a crash leaves a true record; the table is bounded, and its
oldest rows leave with the "running" periods that would vouch for their time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from watcher.ledger.side_tables import periods
from watcher.ledger.transaction import Tx

RUNNING = "running"
# The key of a failure of one node is this prefix and the node's name.
NODE_PREFIX = "node "
KEPT = 100_000  # rows
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which something held. Times are milliseconds since 1970; `row_id` is None before it is stored.

    `key` is RUNNING, the key of a condition, or NODE_PREFIX with the name of a node.
    """

    key: str
    began_ms: int
    last_ms: int
    message: str = ""
    row_id: int | None = None


def keep_periods(tx: Tx, source_id: int, seen: Sequence[Period]) -> list[Period]:
    """Store new periods, and move the end of known ones. Return them in their order, all with row ids."""
    known = [period for period in seen if period.row_id is not None]
    if known:
        tx.conn.execute(
            update(periods)
            .where(periods.c.id == bindparam("row_id"))
            .values(last_at_ms=bindparam("last_ms"), words=bindparam("message")),
            [{"row_id": period.row_id, "last_ms": period.last_ms, "message": period.message} for period in known],
        )
    new = [period for period in seen if period.row_id is None]
    if not new:
        return list(seen)
    rows = [
        {
            "source_id": source_id,
            "key": period.key,
            "began_at_ms": period.began_ms,
            "last_at_ms": period.last_ms,
            "words": period.message,
        }
        for period in new
    ]
    statement = insert(periods).returning(periods.c.id, sort_by_parameter_order=True)
    ids = iter(tx.conn.execute(statement, rows).scalars().all())
    newest = select(func.max(periods.c.id)).scalar_subquery()
    tx.conn.execute(
        delete(periods).where(periods.c.id <= newest - KEPT, periods.c.last_at_ms < tx.now_ms - 2 * _DAY_MS)
    )
    return [replace(period, row_id=next(ids)) if period.row_id is None else period for period in seen]


def periods_between(conn: Connection, source_id: int, since_ms: int, until_ms: int) -> list[Period]:
    """Return the periods that overlap a time, oldest first; at most about `KEPT` are there."""
    rows = conn.execute(
        select(periods)
        .where(
            periods.c.last_at_ms >= since_ms,
            periods.c.source_id == source_id,
            periods.c.began_at_ms < until_ms,
        )
        .order_by(periods.c.id)
    )
    return [Period(row.key, row.began_at_ms, row.last_at_ms, row.words, row.id) for row in rows]
