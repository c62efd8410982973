"""The verbs of a person: take a task up again, or leave it.

Invariant: nobody's hand overrules the chain. A task that was sent can be neither retried nor skipped: only the chain
tells what became of it.
"""

from collections.abc import Mapping

from sqlalchemy import update

from watcher.errors import FixUsage
from watcher.ledger.queries import tasks_at
from watcher.ledger.rows import open_task
from watcher.ledger.tables import tasks
from watcher.ledger.transitions import move
from watcher.ledger.writer import Tx
from watcher.state import State
from watcher.task import OpenTask

_RETRY: Mapping[State, State] = {
    State.FAILED: State.READY,
    State.SKIPPED: State.READY,
    # What the contract did not know must be proved against it again.
    State.QUARANTINED: State.SEEN,
}
_RETRY_NOW = frozenset({State.SEEN, State.READY, State.COMPUTED, State.WAITING, State.BLOCKED})
_SKIP = frozenset({State.SEEN, State.READY, State.COMPUTED, State.WAITING, State.BLOCKED})


def retry(tx: Tx, source_id: int, index: int) -> State:
    """Take the task at `index` up again, with its hook attempts forgiven. Returns its state now.

    Raises FixUsage where there is no such task, or nothing to retry.
    """
    held = _held(tx, source_id, index)
    if held.state in _RETRY_NOW:
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.id == held.row_id)
            # Whoever works on it now holds an older fence, and cannot take the forgiveness back.
            .values(due_at_ms=0, due_block=0, hook_attempts=0, lease_until_ms=0, fence=tasks.c.fence + 1)
        )
        return held.state
    if held.state not in _RETRY:
        raise FixUsage(f"task {index} is {held.state}: {_why_not(held.state)}")
    move(tx, held, _RETRY[held.state], "a person said to retry", hook_attempts=0, error=None, canonical=True)
    return _RETRY[held.state]


def skip(tx: Tx, source_id: int, index: int, reason: str) -> State:
    """Leave the task at `index` unanswered. Raises FixUsage where there is no such task, or it may be on its way."""
    held = _held(tx, source_id, index)
    if held.state not in _SKIP:
        raise FixUsage(f"task {index} is {held.state}: {_why_not(held.state)}")
    move(tx, held, State.SKIPPED, f"a person said to skip: {reason}" if reason else "a person said to skip")
    return State.SKIPPED


def _held(tx: Tx, source_id: int, index: int) -> OpenTask:
    return open_task(tasks_at(tx.conn, source_id, index)[0])


def _why_not(state: State) -> str:
    if state in (State.SENDING, State.UNKNOWN, State.ACCEPTED):
        return "an answer is on its way, and only the chain can tell what becomes of it"
    return "there is nothing left to decide"
