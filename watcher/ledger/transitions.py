"""The one place that changes a task's state.

Invariant: every change is a legal move, made by compare-and-set on the state (and the fence, where a lease is held),
and leaves a line in the journal within the same transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Update, bindparam, exists, insert, select, update

from watcher.errors import IllegalMove, LostLease
from watcher.ledger.rows import chunks
from watcher.ledger.tables import journal, responses, tasks
from watcher.ledger.writer import Tx
from watcher.state import ENDED, GIVEN_UP, LEGAL, UNSETTLED, State
from watcher.task import OpenTask

# Built once, for building a statement costs more than running it: the parameters name the columns to set.
AS_HELD = update(tasks).where(
    tasks.c.id == bindparam("row"), tasks.c.state == bindparam("was"), tasks.c.fence == bindparam("held")
)
# No reading of zero is kept of the task: a transition, or a reading that shows something, has refuted it.
PRESENT: Mapping[str, None] = {"absent": None, "absent_block": None, "absent_at_ms": None}
_NEW_LINE = insert(journal)
_NAMED = (
    update(tasks)
    .where(
        tasks.c.id.in_(bindparam("rows", expanding=True)),
        exists().where(responses.c.source_id == tasks.c.source_id, responses.c.task_index == tasks.c.task_index),
    )
    .values(look_again=True)
)
_PRESENT = (
    select(tasks.c.id, tasks.c.state, tasks.c.fence)
    .where(tasks.c.id.in_(bindparam("rows", expanding=True)))
    .order_by(tasks.c.id)
    .with_for_update()
)


def write(tx: Tx, held: OpenTask, columns: Mapping[str, Any], statement: Update = AS_HELD) -> None:
    """Set columns of a task. Raises LostLease when the row has changed hands or state since it was taken."""
    if tx.conn.execute(statement, as_held(held, columns)).rowcount != 1:
        raise LostLease(f"task {held.task.task_index} was moved or taken over by somebody else")


def as_held(held: OpenTask, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `AS_HELD`."""
    return {"row": held.row_id, "was": held.state, "held": held.fence, **columns}


def move(
    tx: Tx,
    held: OpenTask,
    to: State,
    why: str,
    *,
    attempt_id: int | None = None,
    statement: Update = AS_HELD,
    **columns: Any,
) -> None:
    """Move the task as it was taken (`held`) to state `to`, and set `columns` with it.

    Raises LostLease when the row has changed hands or state since it was taken, IllegalMove when there is no such edge.
    """
    refuse_illegal(held.state, to)
    write(tx, held, _columns(tx, to, columns), statement)
    if to in GIVEN_UP:
        look_where_named(tx, [held.row_id])
    note(tx, [held.row_id], held.state, to, why, attempt_id)


def move_all(
    tx: Tx,
    held: Sequence[OpenTask],
    to: State,
    why: str,
    columns: Callable[[OpenTask], dict[str, Any]] = lambda _: {},
) -> list[OpenTask]:
    """Move those of several tasks that are still as they were taken, and return them.

    `columns` gives the same names for each.
    """
    still = still_held(tx, held)
    move_held(tx, still, to, why, columns)
    return still


def still_held(tx: Tx, held: Sequence[OpenTask]) -> list[OpenTask]:
    """Those tasks whose row has not changed hands or state since they were taken."""
    now = {
        row.id: (row.state, row.fence)
        for chunk in chunks([one.row_id for one in held])
        for row in tx.conn.execute(_PRESENT, {"rows": chunk})
    }
    return [one for one in held if now.get(one.row_id) == (one.state, one.fence)]


def move_held(
    tx: Tx,
    held: Sequence[OpenTask],
    to: State,
    why: str,
    columns: Callable[[OpenTask], dict[str, Any]] = lambda _: {},
    attempt_ids: Sequence[int] | None = None,
) -> None:
    """Move what `still_held` has just said in the same transaction. One statement for all: a burst stays cheap."""
    if not held:
        return
    for one in held:
        refuse_illegal(one.state, to)
    tx.conn.execute(AS_HELD, [as_held(one, _columns(tx, to, columns(one))) for one in held])
    if to in GIVEN_UP:
        look_where_named(tx, [one.row_id for one in held])
    attempts: Sequence[int | None] = attempt_ids or [None] * len(held)
    tx.conn.execute(
        _NEW_LINE,
        [_line(tx, one.row_id, one.state, to, why, attempt) for one, attempt in zip(held, attempts, strict=True)],
    )
    tx.entered.add(to)


def look_where_named(tx: Tx, rows: Sequence[int]) -> None:
    """Have the chain asked about those of these tasks that a response event, read before, already names."""
    for chunk in chunks(rows):
        tx.conn.execute(_NAMED, {"rows": chunk})


def reopen(tx: Tx, held: Sequence[OpenTask], why: str) -> None:
    """The response on the chain is gone: the chain is asked again about what we answered, and the rest starts anew.

    Another event may name the task still.
    """
    gone = {"responded_block": None, "responded_tx_hash": None, "response_hash": None, "look_again": True}
    move_all(tx, [one for one in held if one.response is not None], State.UNKNOWN, why, lambda _: gone)
    move_all(tx, [one for one in held if one.response is None], State.SEEN, why, lambda _: gone)


def move_rows(tx: Tx, rows: Sequence[int], from_: State, to: State, why: str, **columns: Any) -> None:
    """Move rows that the caller has just read in the same transaction."""
    if not rows:
        return
    refuse_illegal(from_, to)
    for chunk in chunks(rows):
        tx.conn.execute(update(tasks).where(tasks.c.id.in_(chunk)).values(_columns(tx, to, columns)))
    if to in GIVEN_UP:
        look_where_named(tx, rows)
    note(tx, rows, from_, to, why)


def refuse_illegal(from_: State, to: State) -> None:
    """Raises IllegalMove when the state machine has no such edge."""
    if to not in LEGAL[from_]:
        raise IllegalMove(f"there is no move from {from_} to {to}")


def note(tx: Tx, rows: Sequence[int], from_: State | None, to: State, why: str, attempt_id: int | None = None) -> None:
    """Append one journal line per row and tell the stages that `to` was entered."""
    tx.conn.execute(_NEW_LINE, [_line(tx, row, from_, to, why, attempt_id) for row in rows])
    tx.entered.add(to)


def _line(tx: Tx, row: int, from_: State | None, to: State, why: str, attempt_id: int | None) -> dict[str, Any]:
    return {
        "task_id": row,
        "at_ms": tx.now_ms,
        "from_state": from_,
        "to_state": to,
        "why": why,
        "attempt_id": attempt_id,
    }


def _columns(tx: Tx, to: State, columns: dict[str, Any]) -> dict[str, Any]:
    released = {"lease_until_ms": 0} if to is not State.SENDING else {}
    due = {"due_at_ms": tx.now_ms, "due_block": 0} if to not in ENDED else {}
    looked = {} if to in UNSETTLED else {"look_again": False}
    return {"state": to, "updated_at_ms": tx.now_ms, **PRESENT, **looked, **due, **released, **columns}
