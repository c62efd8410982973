"""The verbs of the watcher: record what a range of blocks holds, and take it back when the chain does.

Invariant: tasks, responses and the cursor that covers them move in one transaction.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import case, delete, insert, select, update

from watcher.ledger.engine import insert_into
from watcher.ledger.marks import lower_head, unfinalise
from watcher.ledger.rows import WITH_SOURCE, chunks, open_task, sighting_columns, task_columns
from watcher.ledger.source import note_event
from watcher.ledger.tables import OPEN, blocks, passes, responses, sources, tasks
from watcher.ledger.transitions import look_where_named, move_rows, note, reopen
from watcher.ledger.writer import Tx
from watcher.state import GIVEN_UP, RESPONDED, UNSETTLED, State
from watcher.task import Header, Responded, Task

_HASHES_KEPT = 4096  # recent blocks whose hashes are remembered
# Who has given up still wants to know: until its block is final, an answer may come late.
_TOLD = sorted(UNSETTLED | GIVEN_UP)


def record(
    tx: Tx,
    source_id: int,
    found: Sequence[Task],
    answered: Sequence[Responded],
    upto: Header,
    head_block: int,
    head_l1_block: int | None = None,
) -> list[Task]:
    """Store what the blocks up to `upto` hold, and move the cursor there. Return the tasks that are new.

    `head_block` is the chain's head, `head_l1_block` the parent chain's block as that head shows it, if it does.
    """
    new = store_tasks(tx, source_id, found)
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
            # A head that a node invented at the beginning would make history of all that comes.
            begun_block=case((begun > head_block, head_block), else_=begun),
            begun_closed_block=case((begun_closed > closed_block, closed_block), else_=begun_closed),
        )
    )
    tx.cursor_moved = True
    return new


def store_tasks(tx: Tx, source_id: int, found: Sequence[Task]) -> list[Task]:
    """Insert the tasks not known yet and refresh where the known ones were seen. Return the new ones."""
    if not found:
        return []
    known = {
        (row.task_index, row.task_hash): row
        for chunk in chunks(sorted({task.task_index for task in found}))
        for row in tx.conn.execute(
            select(
                tasks.c.id, tasks.c.task_index, tasks.c.task_hash, tasks.c.state, tasks.c.block_hash, tasks.c.canonical
            ).where(tasks.c.source_id == source_id, tasks.c.task_index.in_(chunk))
        )
    }
    fresh = {(task.task_index, task.task_hash): task for task in found}
    new = [task for key, task in fresh.items() if key not in known]
    if new:
        rows = [_row(tx, source_id, task) for task in new]
        ids = list(tx.conn.execute(insert(tasks).returning(tasks.c.id), rows).scalars())
        note(tx, ids, None, State.SEEN, "its log was read")
        look_where_named(tx, ids)
    for key, task in fresh.items():
        row = known.get(key)
        if row is not None and not (row.canonical and row.block_hash == task.seen_at.block_hash):
            _seen_again(tx, row.id, State(row.state), task)
    return new


def _seen_again(tx: Tx, row_id: int, state: State, task: Task) -> None:
    tx.conn.execute(update(tasks).where(tasks.c.id == row_id).values(**sighting_columns(task), canonical=True))
    if state is State.ORPHANED:
        move_rows(tx, [row_id], state, State.SEEN, f"the chain brought it back in block {task.seen_at.block_number}")
        look_where_named(tx, [row_id])
    elif state is State.QUARANTINED:
        # Its log may be forged as before: the contract is asked before the task is taken up again.
        tx.conn.execute(update(tasks).where(tasks.c.id == row_id).values(look_again=True))
    else:
        tx.entered.add(state)


def store_responses(tx: Tx, source_id: int, answered: Sequence[Responded]) -> None:
    """Insert the response events, and have the chain asked about the tasks they name.

    An event only raises a question: it may be forged. When a task is due for sending again stays as it is.
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
                "task_index": one.task_index,
                "message": one.message,
                "log": one.log,
                "response_hash": one.response_hash,
                "block_number": one.seen_at.block_number,
                "block_hash": one.seen_at.block_hash,
                "tx_hash": one.seen_at.tx_hash,
                "log_index": one.seen_at.log_index,
            }
            for one in answered
        ],
    )
    for chunk in chunks(sorted({one.task_index for one in answered})):
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.source_id == source_id, tasks.c.task_index.in_(chunk), tasks.c.state.in_(_TOLD))
            .values(look_again=True)
        )


def rewind(tx: Tx, source_id: int, to: Header) -> int:
    """Forget every block above `to`, the last one the chain still shares with us.

    Returns how many tasks lost their block.
    The tasks stay: the chain may bring them back. Until then they are not canonical, and no stage takes them.
    What was final above `to`, on the word of too few nodes, is open again.
    """
    lost = _forget_above(tx, source_id, to)
    words = f"the chain changed above block {to.number}; {lost} tasks lost theirs"
    note_event(tx, source_id, "rewind", to.number, words)
    return lost


def unread(tx: Tx, source_id: int, to: Header, head: Header) -> int:
    """As `rewind`, where blocks above the chain's `head` were read that never were on it; the head is taken back, too.

    Returns how many tasks lost their block.
    """
    read = tx.conn.execute(
        select(sources.c.cursor_block).where(sources.c.id == source_id).with_for_update()
    ).scalar_one()
    lost = _forget_above(tx, source_id, to)
    lower_head(tx, source_id, head.number, head.l1_block)
    words = f"block {read} is not on the chain, whose head is {head.number}; {lost} tasks lost theirs"
    note_event(tx, source_id, "cursor taken back", to.number, words)
    return lost


def _forget_above(tx: Tx, source_id: int, to: Header) -> int:
    above = tasks.c.block_number > to.number
    mine = tasks.c.source_id == source_id
    lost = tx.conn.execute(update(tasks).where(mine, above, tasks.c.canonical).values(canonical=False)).rowcount
    unanswered = tx.conn.execute(
        WITH_SOURCE.where(mine, tasks.c.responded_block > to.number, tasks.c.state.in_(RESPONDED))
    ).all()
    reopen(tx, [open_task(row) for row in unanswered], f"a reorg above block {to.number} took its response back")
    tx.conn.execute(delete(responses).where(responses.c.source_id == source_id, responses.c.block_number > to.number))
    tx.conn.execute(delete(blocks).where(blocks.c.source_id == source_id, blocks.c.number > to.number))
    tx.conn.execute(
        update(passes).where(passes.c.source_id == source_id, passes.c.block > to.number).values(block=to.number)
    )
    tx.conn.execute(
        update(sources).where(sources.c.id == source_id).values(cursor_block=to.number, cursor_hash=to.hash or None)
    )
    unfinalise(tx, source_id, to)
    tx.cursor_moved = True
    return lost


def finalise(tx: Tx, source_id: int, final: Header, *, firm: bool = True) -> None:
    """Note that nothing up to `final` will change any more; orphan what the chain did not bring back by then.

    `firm`: enough nodes call it final. A change of what is not firm is a reorg like any other.
    """
    mine = sources.c.id == source_id
    if firm:
        tx.conn.execute(update(sources).where(mine).values(firm_block=final.number, firm_hash=final.hash))
    tx.conn.execute(
        update(sources)
        .where(mine, sources.c.final_block <= final.number)
        .values(final_block=final.number, final_hash=final.hash, final_l1_block=final.l1_block)
    )
    # Deadlines by the clock are known as blocks from here on: no block after this one is within them.
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
    # A pause somebody asked for does not outlast the window. The time between two readings of zero is no such pause.
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
        move_rows(tx, [row.id for row in rows], state, State.ORPHANED, why)
    _forget_old_hashes(tx, source_id, final.number)
    tx.cursor_moved = True


def _remember(tx: Tx, source_id: int, header: Header) -> None:
    statement = insert_into(blocks, tx.conn.dialect.name).values(
        source_id=source_id, number=header.number, hash=header.hash
    )
    tx.conn.execute(
        statement.on_conflict_do_update(index_elements=["source_id", "number"], set_={"hash": statement.excluded.hash})
    )


def _forget_old_hashes(tx: Tx, source_id: int, final_block: int) -> None:
    # The newest hash at or below finality stays: it is what a deep reorg would contradict.
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
