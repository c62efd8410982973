"""The verbs for what the chain does not show: readings of zero, response events it disowns, and ends taken back.

Invariant: a task that ended because the contract held nothing of it is asked about again, and comes back when the
contract holds it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from watcher.ledger.rescan import FINAL, request_rescan
from watcher.ledger.rows import WITH_SOURCE, chunks, open_task
from watcher.ledger.source import note_event
from watcher.ledger.tables import responses, tasks
from watcher.ledger.transitions import AS_HELD, as_held, look_where_named, move_rows
from watcher.ledger.writer import Tx
from watcher.state import NOT_HELD, State
from watcher.task import OpenTask, Responded, Sighting

_ENDED_UNPROVED = sorted(NOT_HELD | {State.EXPIRED})
# The ends of so many of the newest tasks are asked about again: a bound on the question, whatever the ledger holds.
_NEWEST_TASKS = 5000


def record(tx: Tx, held: Sequence[OpenTask], apart_ms: int, at_block: int) -> None:
    """Keep the absence that each task carries. The next look is due `apart_ms` after it and at `at_block`.

    A reading later than now was taken before the clock stepped back; nothing waits for that time to come again.
    """
    rows = []
    for task in held:
        first = task.absence
        assert first is not None, "the caller misses something"
        kept = {"absent": first.of, "absent_block": first.block_number, "absent_at_ms": first.at_ms}
        next_look = {"due_at_ms": min(first.at_ms, tx.now_ms) + apart_ms, "due_block": at_block}
        rows.append(as_held(task, kept | next_look))
    if rows:
        tx.conn.execute(AS_HELD, rows)


def responses_to(conn: Connection, source_id: int, indices: Sequence[int]) -> Mapping[int, list[Responded]]:
    """Return the response events in the ledger per task index, of those indices that have any."""
    found: dict[int, list[Responded]] = {}
    for chunk in chunks(indices):
        for row in conn.execute(
            select(responses).where(responses.c.source_id == source_id, responses.c.task_index.in_(chunk))
        ):
            seen = Sighting(row.block_number, row.block_hash, row.tx_hash, row.log_index)
            event = Responded(row.task_index, row.message, row.log, row.response_hash, seen)
            found.setdefault(row.task_index, []).append(event)
    return found


def withdraw(tx: Tx, source_id: int, events: Sequence[Responded]) -> None:
    """Delete response events that the chain does not show when their block is read again, and note it."""
    for event in events:
        seen = event.seen_at
        tx.conn.execute(
            delete(responses).where(
                responses.c.source_id == source_id,
                responses.c.block_hash == seen.block_hash,
                responses.c.tx_hash == seen.tx_hash,
                responses.c.log_index == seen.log_index,
                responses.c.task_index == event.task_index,
                responses.c.response_hash == event.response_hash,
            )
        )
        message = f"log {seen.log_index}, a response to task {event.task_index}, is not in the block and was withdrawn"
        note_event(tx, source_id, "response withdrawn", seen.block_number, message)


def ended_lately(conn: Connection, source_id: int, limit: int) -> list[OpenTask]:
    """Return the newest tasks that ended because the contract held nothing: not the task, or no response to it."""
    newest = select(func.max(tasks.c.id)).scalar_subquery()
    statement = (
        WITH_SOURCE.where(
            tasks.c.source_id == source_id, tasks.c.id > newest - _NEWEST_TASKS, tasks.c.state.in_(_ENDED_UNPROVED)
        )
        .order_by(tasks.c.id.desc())
        .limit(limit)
    )
    return [open_task(row) for row in conn.execute(statement)]


def held_after_all(tx: Tx, source_id: int, held: Sequence[OpenTask]) -> None:
    """Take up the tasks again that the contract was thought not to hold, and holds.

    An orphaned task waits for its log: where it was seen before is another fork.
    """
    rows = [row.id for chunk in chunks([task.row_id for task in held]) for row in _still(tx, chunk, State.QUARANTINED)]
    why = "the contract holds it after all"
    move_rows(tx, rows, State.QUARANTINED, State.SEEN, why, canonical=True, error=None)
    if rows:
        look_where_named(tx, rows)
    orphans = [row for chunk in chunks([task.row_id for task in held]) for row in _still(tx, chunk, State.ORPHANED)]
    if orphans:
        tx.conn.execute(update(tasks).where(tasks.c.id.in_([row.id for row in orphans])).values(look_again=False))
        request_rescan(tx, source_id, FINAL, min(row.block_number for row in orphans))


def _still(tx: Tx, rows: Sequence[int], state: State) -> list[Row[Any]]:
    there = select(tasks.c.id, tasks.c.block_number).where(tasks.c.id.in_(rows), tasks.c.state == state)
    return list(tx.conn.execute(there.with_for_update()))
