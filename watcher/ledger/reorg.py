"""The verbs for blocks that were read and are not on the chain any more, or never were."""

from sqlalchemy import delete, func, select, update

from watcher.ledger import coverage
from watcher.ledger.audit.changes import Bound
from watcher.ledger.marks import lower_head, unfinalise
from watcher.ledger.rows import WITH_SOURCE, of_source, open_task
from watcher.ledger.source import note_event
from watcher.ledger.tables import OPEN, blocks, rescans, responses, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import reopen
from watcher.state import RESPONDED
from watcher.task import Header


def rewind(tx: Tx, source_id: int, to: Header) -> int:
    """Forget every block above `to`, the last block that ledger and chain share. Return the number of tasks above it.

    The tasks stay without a canonical block, and no stage takes them until the chain brings them back. Tasks that
    ended because too few nodes called a block above `to` final are open again.
    """
    lost = _forget_above(tx, source_id, to)
    message = f"the chain changed above block {to.number}; {lost} tasks lost theirs"
    note_event(tx, source_id, "rewind", to.number, message)
    return lost


def unread(tx: Tx, source_id: int, to: Header, head: Header) -> int:
    """Rewind to `to`, and lower the head to `head`, because the cursor's block never was on the chain.

    Return the number of tasks above `to`.
    """
    cursor_block = tx.conn.execute(
        select(sources.c.cursor_block).where(sources.c.id == source_id).with_for_update()
    ).scalar_one()
    lost = _forget_above(tx, source_id, to)
    lower_head(tx, source_id, head.number, head.l1_block)
    message = f"block {cursor_block} is not on the chain, whose head is {head.number}; {lost} tasks lost theirs"
    note_event(tx, source_id, "cursor taken back", to.number, message)
    return lost


def _forget_above(tx: Tx, source_id: int, to: Header) -> int:
    above = tasks.c.block_number > to.number
    mine = of_source(tasks, source_id)
    lowest = tx.conn.execute(select(func.min(tasks.c.task_index)).where(mine, above, tasks.c.canonical)).scalar()
    leave = update(tasks).where(mine, above, tasks.c.canonical).values(canonical=False)
    lost = list(tx.conn.execute(leave.returning(tasks.c.id)).scalars())
    tx.changes.write(Bound.TASKS, lost)
    if lowest is not None:
        coverage.lose(tx, source_id, lowest)
    unanswered = tx.conn.execute(
        WITH_SOURCE.where(
            tasks.c.source_id == source_id, OPEN, tasks.c.state.in_(RESPONDED), tasks.c.responded_block > to.number
        )
    ).all()
    reopen(tx, [open_task(row) for row in unanswered], f"a reorg above block {to.number} took its response back")
    gone = delete(responses).where(of_source(responses, source_id), responses.c.block_number > to.number)
    tx.changes.remove(Bound.RESPONSES, tx.conn.execute(gone.returning(responses.c.id)).scalars())
    tx.conn.execute(delete(blocks).where(blocks.c.source_id == source_id, blocks.c.number > to.number))
    tx.conn.execute(
        update(rescans).where(rescans.c.source_id == source_id, rescans.c.block > to.number).values(block=to.number)
    )
    tx.conn.execute(
        update(sources).where(sources.c.id == source_id).values(cursor_block=to.number, cursor_hash=to.hash or None)
    )
    unfinalise(tx, source_id, to)
    tx.cursor_moved = True
    return len(lost)
