"""The verbs of the stage `watch`: store the logs of a range of blocks, and take them back after a reorg.

Invariant: tasks, responses and the cursor that covers them move in one transaction.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import case, delete, func, insert, select, update

from watcher.ledger import coverage
from watcher.ledger.engine import insert_into
from watcher.ledger.marks import lower_head, unfinalise
from watcher.ledger.rows import WITH_SOURCE, chunks, of_source, open_task, sighting_columns, task_columns
from watcher.ledger.source import note_event
from watcher.ledger.tables import OPEN, blocks, rescans, responses, sources, tasks
from watcher.ledger.transitions import add_to_journal, flag_named, reopen, transition_rows
from watcher.ledger.wakes import wake_due
from watcher.ledger.writer import Tx
from watcher.state import GIVEN_UP, RESPONDED, UNSETTLED, State
from watcher.task import Header, Responded, Task

_HASHES_KEPT = 4096  # recent blocks whose hashes are remembered
# The states in which a response event matters. A late answer may still come for a task that was given up.
_CONCERNED = sorted(UNSETTLED | GIVEN_UP)


def record(
    tx: Tx,
    source_id: int,
    decoded: Sequence[Task],
    answered: Sequence[Responded],
    upto: Header,
    head_block: int,
    head_l1_block: int | None = None,
) -> list[Task]:
    """Store the logs of the blocks up to `upto`, and move the cursor there. Return the new tasks.

    Args:
        tx: the transaction.
        source_id: the task manager.
        decoded: the tasks in these blocks.
        answered: the response events in these blocks.
        upto: the last block.
        head_block: the head of the chain.
        head_l1_block: the parent chain's block in that head, None if contracts do not count those.
    """
    new = store_tasks(tx, source_id, decoded)
    store_responses(tx, source_id, answered)
    higher, closed_block = (
        sources.c.head_block > head_block,
        Header(head_block, b"", b"", 0, head_l1_block).closed_block,
    )
    begun, begun_closed = sources.c.begun_block, sources.c.begun_closed_block
    _remember(tx, source_id, upto)
    tx.conn.execute(
        update(sources)
        .where(sources.c.id == source_id)
        .values(
            cursor_block=upto.number,
            cursor_hash=upto.hash,
            head_block=case((higher, sources.c.head_block), else_=head_block),
            head_l1_block=case((higher, sources.c.head_l1_block), else_=head_l1_block),
            # If a node invented the head at the beginning, all later tasks would count as history.
            begun_block=case((begun > head_block, head_block), else_=begun),
            begun_closed_block=case((begun_closed > closed_block, closed_block), else_=begun_closed),
        )
    )
    tx.blocks_read = True
    wake_due(tx, source_id)
    return new


def store_tasks(tx: Tx, source_id: int, decoded: Sequence[Task]) -> list[Task]:
    """Insert the new tasks, and update the place of the known ones. Return the new ones."""
    if not decoded:
        return []
    known = {
        (row.task_index, row.task_hash): row
        for chunk in chunks(sorted({task.task_index for task in decoded}))
        for row in tx.conn.execute(
            select(
                tasks.c.id, tasks.c.task_index, tasks.c.task_hash, tasks.c.state, tasks.c.block_hash, tasks.c.canonical
            ).where(tasks.c.source_id == source_id, tasks.c.task_index.in_(chunk))
        )
    }
    fresh = {(task.task_index, task.task_hash): task for task in decoded}
    new = [task for key, task in fresh.items() if key not in known]
    if new:
        rows = [_row(tx, source_id, task) for task in new]
        ids = list(tx.conn.execute(insert(tasks).returning(tasks.c.id), rows).scalars())
        add_to_journal(tx, ids, None, State.SEEN, "its log was read")
        flag_named(tx, ids)
    for key, task in fresh.items():
        row = known.get(key)
        if row is not None and not (row.canonical and row.block_hash == task.seen_at.block_hash):
            _seen_again(tx, row.id, State(row.state), task)
    return new


def _seen_again(tx: Tx, row_id: int, state: State, task: Task) -> None:
    tx.conn.execute(update(tasks).where(tasks.c.id == row_id).values(**sighting_columns(task), canonical=True))
    if state is State.ORPHANED:
        transition_rows(
            tx, [row_id], state, State.SEEN, f"the chain brought it back in block {task.seen_at.block_number}"
        )
        flag_named(tx, [row_id])
    elif state is State.QUARANTINED:
        # The log may be forged again: the contract is asked before the task is reopened.
        tx.conn.execute(update(tasks).where(tasks.c.id == row_id).values(look_again=True))
        tx.due.add(State.UNKNOWN)
    else:
        tx.entered.add(state)


def store_responses(tx: Tx, source_id: int, answered: Sequence[Responded]) -> None:
    """Insert the response events, and flag the tasks they name, so that the contract is asked about them.

    An event may be forged, so it changes neither the state nor the due time of a task.
    """
    if not answered:
        return
    tx.conn.execute(
        insert_into(responses, tx.conn.dialect.name).on_conflict_do_nothing(
            index_elements=["source_id", "block_hash", "tx_hash", "log_index", "task_index", "response_hash"]
        ),
        [
            {
                "source_id": source_id,
                "task_index": response.task_index,
                "message": response.message,
                "log": response.log,
                "response_hash": response.response_hash,
                "block_number": response.seen_at.block_number,
                "block_hash": response.seen_at.block_hash,
                "tx_hash": response.seen_at.tx_hash,
                "log_index": response.seen_at.log_index,
            }
            for response in answered
        ],
    )
    for chunk in chunks(sorted({response.task_index for response in answered})):
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.source_id == source_id, tasks.c.task_index.in_(chunk), tasks.c.state.in_(_CONCERNED))
            .values(look_again=True)
        )
    tx.due.add(State.UNKNOWN)


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
    lost = tx.conn.execute(update(tasks).where(mine, above, tasks.c.canonical).values(canonical=False)).rowcount
    if lowest is not None:
        coverage.lose(tx, source_id, lowest)
    unanswered = tx.conn.execute(
        WITH_SOURCE.where(
            tasks.c.source_id == source_id, OPEN, tasks.c.state.in_(RESPONDED), tasks.c.responded_block > to.number
        )
    ).all()
    reopen(tx, [open_task(row) for row in unanswered], f"a reorg above block {to.number} took its response back")
    tx.conn.execute(delete(responses).where(of_source(responses, source_id), responses.c.block_number > to.number))
    tx.conn.execute(delete(blocks).where(blocks.c.source_id == source_id, blocks.c.number > to.number))
    tx.conn.execute(
        update(rescans).where(rescans.c.source_id == source_id, rescans.c.block > to.number).values(block=to.number)
    )
    tx.conn.execute(
        update(sources).where(sources.c.id == source_id).values(cursor_block=to.number, cursor_hash=to.hash or None)
    )
    unfinalise(tx, source_id, to)
    tx.cursor_moved = True
    return lost


def finalise(tx: Tx, source_id: int, final: Header, *, firm: bool = True) -> None:
    """Store a final block, and orphan the tasks up to it that have no canonical block.

    `firm`: enough nodes call the block final. A later change of a block that is not firm is an ordinary reorg.
    """
    mine = sources.c.id == source_id
    if firm:
        tx.conn.execute(update(sources).where(mine).values(firm_block=final.number, firm_hash=final.hash))
    tx.conn.execute(
        update(sources)
        .where(mine, sources.c.final_block <= final.number)
        .values(final_block=final.number, final_hash=final.hash, final_l1_block=final.l1_block)
    )
    # A deadline that is a time becomes a block: no block after this one is within it.
    tx.conn.execute(
        update(tasks)
        .where(
            tasks.c.source_id == source_id,
            OPEN,
            tasks.c.deadline_block.is_(None),
            tasks.c.deadline_s < final.timestamp_s,
        )
        .values(deadline_block=final.closed_block - 1)
    )
    # A pause ends with the response window. The time between two readings of zero is not a pause.
    tx.conn.execute(
        update(tasks)
        .where(
            tasks.c.source_id == source_id,
            OPEN,
            tasks.c.deadline_block < final.closed_block,
            tasks.c.due_at_ms > tx.now_ms,
            tasks.c.absent.is_(None),
        )
        .values(due_at_ms=0, due_block=0)
    )
    gone = tx.conn.execute(
        select(tasks.c.id, tasks.c.state)
        .where(
            tasks.c.source_id == source_id,
            tasks.c.canonical.is_(False),
            tasks.c.block_number <= final.number,
            OPEN,
            tasks.c.lease_until_ms <= tx.now_ms,
        )
        .order_by(tasks.c.state)
        .with_for_update()
    ).all()
    for state, rows in groupby(gone, key=lambda row: State(row.state)):
        why = f"block {final.number} is final and the chain no longer holds it"
        transition_rows(tx, [row.id for row in rows], state, State.ORPHANED, why)
    _forget_old_hashes(tx, source_id, final.number)
    wake_due(tx, source_id)


def _remember(tx: Tx, source_id: int, header: Header) -> None:
    statement = insert_into(blocks, tx.conn.dialect.name).values(
        source_id=source_id, number=header.number, hash=header.hash
    )
    tx.conn.execute(
        statement.on_conflict_do_update(index_elements=["source_id", "number"], set_={"hash": statement.excluded.hash})
    )


def _forget_old_hashes(tx: Tx, source_id: int, final_block: int) -> None:
    # The newest hash at or below finality stays, to detect a deep reorg.
    oldest = tx.conn.execute(
        select(blocks.c.number)
        .where(blocks.c.source_id == source_id, blocks.c.number <= final_block)
        .order_by(blocks.c.number.desc())
        .offset(_HASHES_KEPT)
        .limit(1)
    ).scalar()
    if oldest is not None:
        tx.conn.execute(delete(blocks).where(blocks.c.source_id == source_id, blocks.c.number <= oldest))


def _row(tx: Tx, source_id: int, task: Task) -> dict[str, Any]:
    return {
        "source_id": source_id,
        **task_columns(task),
        "canonical": True,
        "state": State.SEEN,
        "due_at_ms": tx.now_ms,
        "due_block": 0,
        "lease_until_ms": 0,
        "fence": 0,
        "hook_attempts": 0,
        "attempts": 0,
        "look_again": False,
        "seen_at_ms": tx.now_ms,
        "updated_at_ms": tx.now_ms,
    }
