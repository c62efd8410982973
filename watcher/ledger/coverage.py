"""The part of a contract's indices that is known to have no hole, so that no search reads it again.

Invariant: every index from `first_index` to below `next_index` has a task on the canonical chain. A transaction that
takes a task from the canonical chain, or sets it aside, lowers `next_index` to its index.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, case, select

from watcher.ledger.columns import Uint256
from watcher.ledger.engine import insert_into
from watcher.ledger.tables import coverage, tasks
from watcher.ledger.transaction import Tx
from watcher.task import OpenTask


@dataclass(frozen=True, slots=True)
class Covered:
    """The indices below `next_index` have no hole. `losses` tells whether a task was lost since this was read."""

    next_index: int
    losses: int


def covered(conn: Connection, source_id: int, first: int) -> Covered:
    """Return how far the indices from `first` on are covered."""
    row = conn.execute(select(coverage).where(coverage.c.source_id == source_id)).one_or_none()
    if row is None:
        return Covered(first, 0)
    return Covered(row.next_index if row.first_index <= first <= row.next_index else first, row.losses)


def extend(tx: Tx, source_id: int, first: int, next_index: int, losses: int) -> None:
    """Record that the indices from `first` to below `next_index` have no hole.

    Args:
        tx: the transaction.
        source_id: the task manager.
        first: the first of the indices.
        next_index: the index after the last of them.
        losses: `Covered.losses`, read before the indices; if a task was lost since, nothing is recorded.
    """
    statement = insert_into(coverage, tx.conn.dialect.name).values(
        source_id=source_id, first_index=first, next_index=next_index, losses=losses
    )
    tx.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["source_id"],
            set_={"first_index": statement.excluded.first_index, "next_index": statement.excluded.next_index},
            where=coverage.c.losses == losses,
        )
    )


def lose(tx: Tx, source_id: int, index: int) -> None:
    """Record that the task of an index is lost, and perhaps those of higher indices."""
    lost = bindparam("lost", index, type_=Uint256())
    inside = and_(coverage.c.first_index <= lost, coverage.c.next_index > lost)
    statement = insert_into(coverage, tx.conn.dialect.name).values(
        source_id=source_id, first_index=index, next_index=index, losses=1
    )
    tx.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["source_id"],
            set_={
                "next_index": case((inside, lost), else_=coverage.c.next_index),
                "losses": coverage.c.losses + 1,
            },
        )
    )


def lose_tasks(tx: Tx, batch: Sequence[OpenTask]) -> None:
    """Record that tasks of one source are lost."""
    if batch:
        source_id = tx.conn.execute(select(tasks.c.source_id).where(tasks.c.id == batch[0].row_id)).scalar_one()
        lose(tx, source_id, min(task.task.task_index for task in batch))
