"""The only file that changes a task's state.

Invariant: every change is a legal transition, made by compare-and-set on the state (and the fence, if a lease is held),
and adds a line to the journal in the same transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Update, bindparam, exists, insert, select, update

from watcher.errors import IllegalMove, LostLease
from watcher.ledger.audit.changes import Bound
from watcher.ledger.postgres import AWAITED
from watcher.ledger.row_ids import new_ids
from watcher.ledger.rows import chunks
from watcher.ledger.tables import journal, responses, tasks
from watcher.ledger.writer import Tx
from watcher.state import ENDED, GIVEN_UP, LEGAL, UNSETTLED, State
from watcher.task import OpenTask

# Built once, because building a statement costs more than running it. The parameters name the columns to set.
IF_UNCHANGED = update(tasks).where(
    tasks.c.id == bindparam("row"), tasks.c.state == bindparam("was"), tasks.c.fence == bindparam("taken_fence")
)
# No absence is known of the task: a transition, or a reading that shows the thing, has refuted it.
PRESENT: Mapping[str, None] = {"absent": None, "absent_block": None, "absent_at_ms": None}
_NEW_LINE = insert(journal)
_FLAG_NAMED = (
    update(tasks)
    .where(
        tasks.c.id.in_(bindparam("rows", expanding=True)),
        exists().where(responses.c.source_id == tasks.c.source_id, responses.c.task_index == tasks.c.task_index),
    )
    .values(look_again=True)
)
_BY_ROW = update(tasks).where(tasks.c.id.in_(bindparam("rows", expanding=True)))
_STATE_AND_FENCE = (
    select(tasks.c.id, tasks.c.state, tasks.c.fence, tasks.c.lease_until_ms)
    .where(tasks.c.id.in_(bindparam("rows", expanding=True)))
    .order_by(tasks.c.id)
    .with_for_update()
)


def write(tx: Tx, task: OpenTask, columns: Mapping[str, Any], statement: Update = IF_UNCHANGED) -> None:
    """Set columns of a task. Raises LostLease if its state or fence has changed since it was taken."""
    changed = tx.conn.execute(statement, if_unchanged(task, columns), execution_options={AWAITED: True})
    if changed.rowcount != 1:
        raise lost(task)


def if_unchanged(task: OpenTask, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `IF_UNCHANGED`."""
    return {"row": task.row_id, "was": task.state, "taken_fence": task.fence, **columns}


def transition(
    tx: Tx,
    task: OpenTask,
    to: State,
    why: str,
    *,
    attempt_id: int | None = None,
    statement: Update = IF_UNCHANGED,
    **columns: Any,
) -> None:
    """Move a task to state `to`.

    Args:
        tx: the transaction.
        task: the task as it was taken.
        to: the new state.
        why: the reason, for the journal.
        attempt_id: the attempt that caused it, for the journal.
        statement: the update, `IF_UNCHANGED` or one derived from it.
        **columns: further columns to set.

    Raises:
        LostLease: state or fence of the row have changed since the task was taken.
        IllegalMove: the state machine has no such transition.
    """
    refuse_illegal(task.state, to)
    write(tx, task, _columns(tx, to, columns), statement)
    if to in GIVEN_UP:
        flag_named(tx, [task.row_id])
    add_to_journal(tx, [task.row_id], task.state, to, why, attempt_id)


def transition_all(
    tx: Tx,
    batch: Sequence[OpenTask],
    to: State,
    why: str,
    columns: Callable[[OpenTask], dict[str, Any]] = lambda _: {},
) -> list[OpenTask]:
    """Move the tasks that are unchanged since they were taken, and return them.

    Args:
        tx: the transaction.
        batch: the tasks as they were taken.
        to: their new state.
        why: the reason, for the journal.
        columns: returns further columns to set, with the same names for each task.

    Raises:
        IllegalMove: the state machine has no such transition.
    """
    present = unchanged(tx, batch)
    transition_unchanged(tx, present, to, why, columns)
    return present


@dataclass(frozen=True, slots=True)
class Change:
    """The transition of one task from the state in which it was taken to `to`, for the reason `why`.

    `columns` are further columns to set; `attempt_id` is the attempt that causes it.
    """

    task: OpenTask
    to: State
    why: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    attempt_id: int | None = None


def transition_each(
    tx: Tx, changes: Sequence[Change], statement: Update = IF_UNCHANGED, *, leased: bool = False
) -> list[LostLease | None]:
    """Move each task that is unchanged since it was taken. Return None for it, and LostLease for any other.

    Changes that set the same columns share one statement. Of two changes of one task the second is lost.

    Args:
        tx: the transaction.
        changes: the transitions.
        statement: the update, `IF_UNCHANGED` or one derived from it.
        leased: a task without a lease, as its holder has released it, is lost, too.

    Raises:
        IllegalMove: the state machine has no such transition.
    """
    present = are_unchanged(tx, [change.task for change in changes], leased=leased)
    _apply(tx, [change for change, is_present in zip(changes, present, strict=True) if is_present], statement)
    return [None if is_present else lost(change.task) for change, is_present in zip(changes, present, strict=True)]


def lost(task: OpenTask) -> LostLease:
    """Return the error for a task that another holder has changed since it was taken."""
    return LostLease(f"task {task.task.task_index} has changed, or another worker has taken it")


def unchanged(tx: Tx, batch: Sequence[OpenTask]) -> list[OpenTask]:
    """Lock the rows of the tasks. Return the tasks whose state and fence are unchanged, each once."""
    return [task for task, is_present in zip(batch, are_unchanged(tx, batch), strict=True) if is_present]


def are_unchanged(tx: Tx, batch: Sequence[OpenTask], *, leased: bool = False) -> list[bool]:
    """Lock the rows of the tasks. Return True for each whose state and fence are unchanged; a second copy is False.

    With `leased`, a task without a lease is False, too.
    """
    present = {
        row_id: (state, fence)
        for chunk in chunks([task.row_id for task in batch])
        for row_id, state, fence, lease_until_ms in tx.conn.execute(_STATE_AND_FENCE, {"rows": chunk})
        if lease_until_ms > 0 or not leased
    }
    flags = []
    for task in batch:
        flags.append(present.get(task.row_id) == (task.state, task.fence))
        if flags[-1]:
            del present[task.row_id]
    return flags


def transition_unchanged(
    tx: Tx,
    batch: Sequence[OpenTask],
    to: State,
    why: str,
    columns: Callable[[OpenTask], dict[str, Any]] = lambda _: {},
    attempt_ids: Sequence[int] | None = None,
) -> None:
    """Move the tasks that `unchanged` has returned in this transaction, with one statement for all.

    Args:
        tx: the transaction.
        batch: the tasks.
        to: their new state.
        why: the reason, for the journal.
        columns: returns further columns to set, with the same names for each task.
        attempt_ids: the attempts that cause it, in the order of `batch`.

    Raises:
        IllegalMove: the state machine has no such transition.
    """
    attempts: Sequence[int | None] = attempt_ids or [None] * len(batch)
    _apply(
        tx,
        [Change(task, to, why, columns(task), attempt) for task, attempt in zip(batch, attempts, strict=True)],
        IF_UNCHANGED,
    )


def _apply(tx: Tx, changes: Sequence[Change], statement: Update) -> None:
    """Make transitions of locked, unchanged rows, with one update for all that set the same columns."""
    updates: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for change in changes:
        refuse_illegal(change.task.state, change.to)
        parameters = if_unchanged(change.task, _columns(tx, change.to, change.columns))
        updates.setdefault(tuple(parameters), []).append(parameters)
    for rows in updates.values():
        tx.conn.execute(statement, rows)
    if given_up := [change.task.row_id for change in changes if change.to in GIVEN_UP]:
        flag_named(tx, given_up)
    if changes:
        _append(tx, [_line(tx, change) for change in changes])
        tx.entered.update(change.to for change in changes)
    for change in changes:
        tx.count_ends(change.task.row_id, change.task.state, change.to)


def flag_named(tx: Tx, rows: Sequence[int]) -> None:
    """Flag the tasks (row ids) that a response event in the ledger names, so that the contract is asked about them."""
    for chunk in chunks(rows):
        tx.conn.execute(_FLAG_NAMED, {"rows": chunk})


def reopen(tx: Tx, batch: Sequence[OpenTask], why: str) -> None:
    """Reopen tasks whose response is not on the chain any more: to `unknown` with an answer of ours, else to `seen`.

    Another response event may still name such a task, so the contract is asked again.
    """
    names = ("responded_block", "responded_time_s", "responded_tx_hash", "responded_by", "response_hash")
    gone = {**dict.fromkeys(names), "look_again": True}
    transition_all(tx, [task for task in batch if task.response is not None], State.UNKNOWN, why, lambda _: gone)
    transition_all(tx, [task for task in batch if task.response is None], State.SEEN, why, lambda _: gone)


def transition_rows(tx: Tx, rows: Sequence[int], from_: State, to: State, why: str, **columns: Any) -> None:
    """Move rows (ids) that the caller has read and locked in the same transaction.

    Raises IllegalMove if the state machine has no such transition.
    """
    if not rows:
        return
    refuse_illegal(from_, to)
    for chunk in chunks(rows):
        tx.conn.execute(_BY_ROW, {"rows": chunk, **_columns(tx, to, columns)})
    if to in GIVEN_UP:
        flag_named(tx, rows)
    add_to_journal(tx, rows, from_, to, why)


def known_at(block: int) -> str:
    """Return the reason, for the journal, of a task that the contract holds at a block."""
    return f"the contract knows it at block {block}"


def refuse_illegal(from_: State, to: State) -> None:
    """Raise IllegalMove if the state machine has no transition between these states."""
    if to not in LEGAL[from_]:
        raise IllegalMove(f"there is no transition from {from_} to {to}")


def add_to_journal(
    tx: Tx, rows: Sequence[int], from_: State | None, to: State, why: str, attempt_id: int | None = None
) -> None:
    """Append one journal line per row id, and wake the stage of state `to` after the commit."""
    _append(tx, [_journal_line(tx, row, from_, to, why, attempt_id) for row in rows])
    tx.count_ends(rows[0], from_, to, len(rows))
    tx.entered.add(to)


def _append(tx: Tx, lines: Sequence[dict[str, Any]]) -> None:
    """Append lines to the journal. The audit chain binds them, and the tasks that they are about."""
    ids = new_ids(tx.conn, journal, len(lines))
    tx.conn.execute(_NEW_LINE, [{"id": id_, **line} for id_, line in zip(ids, lines, strict=True)])
    tx.changes.write(Bound.JOURNAL, ids)
    tx.changes.write(Bound.TASKS, (line["task_id"] for line in lines))


def _line(tx: Tx, change: Change) -> dict[str, Any]:
    return _journal_line(tx, change.task.row_id, change.task.state, change.to, change.why, change.attempt_id)


def _journal_line(tx: Tx, row: int, from_: State | None, to: State, why: str, attempt_id: int | None) -> dict[str, Any]:
    return {
        "task_id": row,
        "at_ms": tx.now_ms,
        "from_state": from_,
        "to_state": to,
        "why": why,
        "attempt_id": attempt_id,
    }


def _columns(tx: Tx, to: State, columns: Mapping[str, Any]) -> dict[str, Any]:
    released = {"lease_until_ms": 0} if to is not State.SENDING else {}
    due = {"due_at_ms": tx.now_ms, "due_block": 0} if to not in ENDED else {}
    looked = {} if to in UNSETTLED else {"look_again": False}
    return {"state": to, "updated_at_ms": tx.now_ms, **PRESENT, **looked, **due, **released, **columns}
