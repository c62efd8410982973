"""Marks of a source (head and finality) that proved wrong, taken back.

Invariant: a mark never falls below the blocks that were read, nor below firm finality, which several nodes show.
"""

from typing import Any

from sqlalchemy import and_, select, update

from watcher.ledger.audit.changes import Bound
from watcher.ledger.rows import WITH_SOURCE, open_task
from watcher.ledger.source import note_event
from watcher.ledger.tables import HAS_EXPIRED, IS_FINAL, OPEN, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import reopen
from watcher.task import Header


def lower_head(tx: Tx, source_id: int, head_block: int, head_l1_block: int | None = None) -> None:
    """Lower the known head, which no node shows any more, to `head_block`, and shift due blocks counted from it.

    The head stays at the cursor or above: the blocks up to there have been read.
    """
    row = tx.conn.execute(
        select(sources.c.head_block, sources.c.cursor_block).where(sources.c.id == source_id).with_for_update()
    ).one()
    mark = max(head_block, row.cursor_block)
    if mark >= row.head_block:
        return
    tx.conn.execute(
        update(sources).where(sources.c.id == source_id).values(head_block=mark, head_l1_block=head_l1_block)
    )
    tx.conn.execute(
        update(tasks)
        .where(tasks.c.source_id == source_id, OPEN, tasks.c.due_block >= row.head_block)
        .values(due_block=tasks.c.due_block - (row.head_block - mark))
    )
    note_event(tx, source_id, "head lowered", mark, f"no node shows block {row.head_block} any more")
    tx.cursor_moved = True


def unfinalise(tx: Tx, source_id: int, to: Header) -> None:
    """Reopen the tasks that ended because blocks above `to` were called final."""
    row = tx.conn.execute(select(sources).where(sources.c.id == source_id)).one()
    if row.final_block <= to.number:
        return
    # Without the parent chain's block it is unknown which deadlines are past at `to`: all are decided again.
    unknown = row.final_l1_block is not None and to.l1_block is None
    closed_block = -1 if unknown else to.closed_block
    mine = tasks.c.source_id == source_id
    ended = [
        open_task(ended_row)
        for condition in (
            and_(tasks.c.responded_block > to.number, IS_FINAL),
            and_(tasks.c.deadline_block >= closed_block, HAS_EXPIRED),
        )
        for ended_row in tx.conn.execute(WITH_SOURCE.where(mine, condition))
    ]
    why = f"block {row.final_block}, called final, is gone in a reorg above block {to.number}"
    reopen(tx, ended, why)
    undecided = tx.conn.execute(
        update(tasks)
        .where(mine, OPEN, tasks.c.deadline_s.is_not(None), tasks.c.deadline_block >= closed_block)
        .values(deadline_block=None)
        .returning(tasks.c.id)
    )
    tx.changes.write(Bound.TASKS, undecided.scalars())
    firm: dict[str, Any] = {
        "final_block": -1 if row.firm_block is None else row.firm_block,
        "final_hash": row.firm_hash,
    }
    if row.final_l1_block is not None:
        firm["final_l1_block"] = 0  # the next final block sets it; until then no deadline is past
    tx.conn.execute(update(sources).where(sources.c.id == source_id).values(**firm))
    tx.final_moved = True
    note_event(tx, source_id, "finality taken back", to.number, f"{why}; {len(ended)} tasks are open again")
