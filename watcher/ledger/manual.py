"""The verbs of a person: retry or skip a task.

Invariant: no person overrules the chain. A sent task can be neither retried nor skipped: only the chain decides on it.
"""

from collections.abc import Mapping

from sqlalchemy import update

from watcher.errors import FixUsage
from watcher.ledger.queries import tasks_at
from watcher.ledger.rows import open_task
from watcher.ledger.tables import tasks
from watcher.ledger.transitions import transition
from watcher.ledger.writer import Tx
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


def retry(tx: Tx, source_id: int, index: int) -> State:
    """Retry the task at `index`, with its hook attempts set to zero. Return its state.

    Raises FixUsage if there is no such task, or its state allows no retry.
    """
    task = _task_at(tx, source_id, index)
    if task.state in _RETRY_NOW:
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.id == task.row_id)
            # A present holder has an older fence, and cannot overwrite the reset.
            .values(due_at_ms=0, due_block=0, hook_attempts=0, lease_until_ms=0, fence=tasks.c.fence + 1)
        )
        return task.state
    if task.state not in _RETRY:
        raise FixUsage(f"task {index} is {task.state}: {_why_not(task.state)}")
    transition(tx, task, _RETRY[task.state], "a person said to retry", hook_attempts=0, error=None, canonical=True)
    return _RETRY[task.state]


def skip(tx: Tx, source_id: int, index: int, reason: str) -> State:
    """Leave the task at `index` unanswered. Return its state.

    Raises FixUsage if there is no such task, or an answer may be on its way.
    """
    task = _task_at(tx, source_id, index)
    if task.state not in _SKIP:
        raise FixUsage(f"task {index} is {task.state}: {_why_not(task.state)}")
    transition(tx, task, State.SKIPPED, f"a person said to skip: {reason}" if reason else "a person said to skip")
    return State.SKIPPED


def _task_at(tx: Tx, source_id: int, index: int) -> OpenTask:
    return open_task(tasks_at(tx.conn, source_id, index)[0])


def _why_not(state: State) -> str:
    if state in (State.SENDING, State.UNKNOWN, State.ACCEPTED):
        return "an answer is on its way, and only the chain can decide"
    return "there is nothing left to decide"
