"""The verbs for absences: readings of zero, response events that are in no block, and the tasks that ended by them.

Invariant: the contract is asked again about a task that ended because the contract did not hold it, and the task is
reopened when the contract holds it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, func, or_, select, update

from watcher.ledger.audit.changes import Bound
from watcher.ledger.rescan import FINAL, request_rescan
from watcher.ledger.rows import WITH_SOURCE, chunks, of_source, open_task, responded_of
from watcher.ledger.source import note_event
from watcher.ledger.tables import responses, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import IF_UNCHANGED, flag_named, if_unchanged, transition_rows
from watcher.state import GIVEN_UP, NOT_HELD, State
from watcher.task import OpenTask, Responded

_ENDED_UNPROVED = sorted(NOT_HELD | {State.EXPIRED})
# The ends of so many of the newest tasks are asked about again, to bound the query.
_NEWEST_TASKS = 5000


def record(tx: Tx, batch: Sequence[OpenTask], apart_ms: int, at_block: int) -> None:
    """Store the absence of each task (`OpenTask.absence`). The next reading is due `apart_ms` later and at `at_block`.

    A reading with a time in the future was taken before the clock stepped back; it counts as taken now.
    """
    rows = []
    for task in batch:
        first = task.absence
        assert first is not None, "the caller passes tasks with an absence"
        absence = {"absent": first.of, "absent_block": first.block_number, "absent_at_ms": first.at_ms}
        due = {"due_at_ms": min(first.at_ms, tx.now_ms) + apart_ms, "due_block": at_block}
        rows.append(if_unchanged(task, absence | due))
    if rows:
        tx.conn.execute(IF_UNCHANGED, rows)


def responses_to(conn: Connection, source_id: int, indices: Sequence[int]) -> Mapping[int, list[Responded]]:
    """Return the response events in the ledger by task index. An index without events is left out."""
    events: dict[int, list[Responded]] = {}
    for chunk in chunks(indices):
        for row in conn.execute(
            select(responses).where(responses.c.source_id == source_id, responses.c.task_index.in_(chunk))
        ):
            events.setdefault(row.task_index, []).append(responded_of(row))
    return events


def withdraw(tx: Tx, source_id: int, events: Sequence[Responded]) -> None:
    """Delete response events that a new reading of their block does not show, and add an event for each."""
    for event in events:
        seen = event.seen_at
        gone = tx.conn.execute(
            delete(responses)
            .where(
                responses.c.source_id == source_id,
                responses.c.block_hash == seen.block_hash,
                responses.c.tx_hash == seen.tx_hash,
                responses.c.log_index == seen.log_index,
                responses.c.task_index == event.task_index,
                responses.c.response_hash == event.response_hash,
            )
            .returning(responses.c.id)
        )
        tx.changes.remove(Bound.RESPONSES, gone.scalars())
        message = f"log {seen.log_index}, a response to task {event.task_index}, is not in the block and was withdrawn"
        note_event(tx, source_id, "response withdrawn", seen.block_number, message)


def ended_lately(conn: Connection, source_id: int, limit: int) -> list[OpenTask]:
    """Return the newest tasks that ended because the contract did not hold the task, or no response to it.

    A task that was given up, and that a response event names, is one of them: a reading of zero may have denied it.
    """
    newest = select(func.max(tasks.c.id)).scalar_subquery()
    is_named = exists().where(responses.c.source_id == tasks.c.source_id, responses.c.task_index == tasks.c.task_index)
    statement = (
        WITH_SOURCE.where(
            of_source(tasks, source_id),
            tasks.c.id > newest - _NEWEST_TASKS,
            or_(tasks.c.state.in_(_ENDED_UNPROVED), and_(tasks.c.state.in_(sorted(GIVEN_UP)), is_named)),
        )
        .order_by(tasks.c.id.desc())
        .limit(limit)
    )
    return [open_task(row) for row in conn.execute(statement)]


def held_after_all(tx: Tx, source_id: int, batch: Sequence[OpenTask]) -> list[OpenTask]:
    """Reopen tasks that ended because the contract did not hold them, and holds now. Return those that are open.

    A task whose index has another canonical task stays until that one is set aside. An orphaned task stays until its
    log is read again, for which a rescan is requested: its old place is on another fork.
    """
    ids = [task.row_id for task in batch]
    rows = _alone(tx, source_id, [row for chunk in chunks(ids) for row in _in_state(tx, chunk, State.QUARANTINED)])
    why = "the contract holds it after all"
    transition_rows(tx, rows, State.QUARANTINED, State.SEEN, why, canonical=True, error=None)
    if rows:
        flag_named(tx, rows)
    orphans = [row for chunk in chunks(ids) for row in _in_state(tx, chunk, State.ORPHANED)]
    if orphans:
        tx.conn.execute(update(tasks).where(tasks.c.id.in_([row.id for row in orphans])).values(look_again=False))
        request_rescan(tx, source_id, FINAL, min(row.block_number for row in orphans))
    return [task for task in batch if task.row_id in rows]


def _alone(tx: Tx, source_id: int, rows: Sequence[Row[Any]]) -> list[int]:
    """Return one row id for each index that no other canonical task has; a task may be canonical itself."""
    mine = (tasks.c.source_id == source_id, tasks.c.canonical)
    queries = [
        select(tasks.c.task_index, tasks.c.id).where(*mine, tasks.c.task_index.in_(chunk))
        for chunk in chunks([row.task_index for row in rows])
    ]
    holders = {row.task_index: row.id for query in queries for row in tx.conn.execute(query)}
    chosen: dict[int, int] = {}
    for row in rows:
        if holders.get(row.task_index, row.id) == row.id:
            chosen.setdefault(row.task_index, row.id)
    return list(chosen.values())


def _in_state(tx: Tx, rows: Sequence[int], state: State) -> list[Row[Any]]:
    """Lock and return those rows that are in a state."""
    query = select(tasks.c.id, tasks.c.block_number, tasks.c.task_index).where(
        tasks.c.id.in_(rows), tasks.c.state == state
    )
    return list(tx.conn.execute(query.with_for_update()))
