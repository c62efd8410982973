"""The verbs of a person: retry or skip a task.

Invariant: no person overrules the chain. A sent task can be neither retried nor skipped: only the chain decides on it.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import select, update

from watcher.errors import FixUsage
from watcher.ledger.audit.changes import Bound
from watcher.ledger.queries import tasks_at
from watcher.ledger.rows import open_task
from watcher.ledger.source import note_event
from watcher.ledger.tables import tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import transition
from watcher.state import State
from watcher.task import OpenTask

_RETRY: Mapping[State, State] = {
    State.FAILED: State.READY,
    State.SKIPPED: State.READY,
    # The contract did not hold the task, so it must prove it again.
    State.QUARANTINED: State.SEEN,
}
_RETRY_NOW = frozenset({State.SEEN, State.READY, State.COMPUTED, State.WAITING, State.BLOCKED})
_SKIP = frozenset({State.SEEN, State.READY, State.COMPUTED, State.WAITING, State.BLOCKED})


def may_retry(state: State) -> bool:
    """Return True if a person may retry a task in this state."""
    return state in _RETRY_NOW or state in _RETRY


def may_skip(state: State) -> bool:
    """Return True if a person may skip a task in this state."""
    return state in _SKIP


def retry_target(state: State) -> State | None:
    """Return the state that a retry gives a task of this state, None where a task allows no retry."""
    return state if state in _RETRY_NOW else _RETRY.get(state)


def retry(tx: Tx, source_id: int, index: int, by: str = "") -> State:
    """Retry the task at `index`, with its hook attempts set to zero. Return its state.

    Args:
        tx: the transaction.
        source_id: the task manager.
        index: the index of the task.
        by: the person who asks, for the record.

    Raises:
        FixUsage: there is no such task, or its state allows no retry.
    """
    task = _task_at(tx, source_id, index)
    if retry_target(task.state) is None:
        raise FixUsage(f"task {index} is {task.state}: {_why_not(task.state)}")
    return _retry(tx, source_id, task, by)


def retry_each(tx: Tx, source_id: int, rows: Sequence[int], by: str = "") -> dict[str, int]:
    """Retry the tasks of these row ids (a page) whose states allow it. Return how many were retried, and left.

    Of several tasks at one index the first one counts, as for `retry`.
    """
    retried = 0
    for row in tx.conn.execute(select(tasks.c.task_index, tasks.c.id).where(tasks.c.id.in_(rows))).all():
        task = _task_at(tx, source_id, row.task_index)
        if task.row_id == row.id and retry_target(task.state) is not None:
            _retry(tx, source_id, task, by)
            retried += 1
    return {name: count for name, count in (("retried", retried), ("left as they are", len(rows) - retried)) if count}


def _retry(tx: Tx, source_id: int, task: OpenTask, by: str) -> State:
    if task.state in _RETRY_NOW:
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.id == task.row_id)
            # A present holder has an older fence, and cannot overwrite the reset.
            .values(due_at_ms=0, due_block=0, hook_attempts=0, lease_until_ms=0, fence=tasks.c.fence + 1)
        )
        note_event(tx, source_id, "retried", None, f"task {task.task.task_index}, {task.state}, made due now{_by(by)}")
        tx.changes.write(Bound.TASKS, [task.row_id])
        return task.state
    why = f"a person said to retry{_by(by)}"
    transition(tx, task, _RETRY[task.state], why, hook_attempts=0, error=None, canonical=True)
    return _RETRY[task.state]


def skip(tx: Tx, source_id: int, index: int, reason: str, by: str = "") -> State:
    """Leave the task at `index` unanswered. Return its state. Arguments as `retry`, and the reason.

    Raises FixUsage if there is no such task, or an answer may be on its way.
    """
    task = _task_at(tx, source_id, index)
    if task.state not in _SKIP:
        raise FixUsage(f"task {index} is {task.state}: {_why_not(task.state)}")
    why = f"a person said to skip: {reason}" if reason else "a person said to skip"
    transition(tx, task, State.SKIPPED, f"{why}{_by(by)}")
    return State.SKIPPED


def _by(person: str) -> str:
    return f" ({person})" if person else ""


def _task_at(tx: Tx, source_id: int, index: int) -> OpenTask:
    return open_task(tasks_at(tx.conn, source_id, index)[0])


def _why_not(state: State) -> str:
    if state in (State.SENDING, State.UNKNOWN, State.ACCEPTED):
        return "an answer is on its way, and only the chain can decide"
    return "there is nothing left to decide"
