"""The verbs for results of the hook: its answer, stored once, or the reason why there is none.

Invariant: a response goes from null to a value once.
"""

from sqlalchemy import bindparam, func, insert

from watcher.errors import LostLease
from watcher.ledger.claims import RetryAt, release
from watcher.ledger.tables import attempts, tasks
from watcher.ledger.transitions import IF_UNCHANGED, transition
from watcher.ledger.writer import Tx
from watcher.state import State
from watcher.task import Later, OpenTask, Response

_NEW_ATTEMPT = insert(attempts)
# A stored answer stays, also if the caller's copy of the task lacks it.
_KEEP_ANSWER = IF_UNCHANGED.values(
    response=func.coalesce(tasks.c.response, bindparam("answer", type_=tasks.c.response.type)),
    hook_version=func.coalesce(tasks.c.hook_version, bindparam("version", type_=tasks.c.hook_version.type)),
)


def keep_answer(tx: Tx, task: OpenTask, response: Response) -> None:
    """Store the hook's answer, unless the task has one already; then that one stays."""
    _hook_attempt(tx, task, "answered", response.duration_ms, "")
    transition(
        tx,
        task,
        State.COMPUTED,
        f"the hook answered in {response.duration_ms} ms",
        statement=_KEEP_ANSWER,
        answer=response.resp_message,
        version=response.hook_version,
        error=None,
    )


def keep_old_answer(tx: Tx, task: OpenTask) -> None:
    """Move a task that had an answer before a reorg or a retry to `computed`; the hook does not run twice.

    Raises LostLease if the task has no answer, or has changed since it was claimed.
    """
    if task.response is None:
        raise LostLease(f"task {task.task.task_index} has no answer")
    transition(tx, task, State.COMPUTED, "it was answered before")


def postpone(tx: Tx, task: OpenTask, later: Later, retry_at: RetryAt, duration_ms: int) -> None:
    """Release a task for which the hook returned Later. This costs no attempt."""
    _hook_attempt(tx, task, "later", duration_ms, later.reason)
    release(tx, task, retry_at)


def hook_failed(tx: Tx, task: OpenTask, words: str, duration_ms: int, retry_at: RetryAt | None) -> None:
    """Release a task for which the hook failed, or move it to `failed` after the last attempt (`retry_at` is None)."""
    _hook_attempt(tx, task, "failed", duration_ms, words)
    failures = task.hook_attempts + 1
    if retry_at is None:
        why = f"the hook failed {failures} times: {words}"
        transition(tx, task, State.FAILED, why, hook_attempts=failures, error=words)
    else:
        release(tx, task, retry_at, words, hook_attempts=failures)


def hook_skipped(tx: Tx, task: OpenTask, reason: str, duration_ms: int) -> None:
    """Move a task for which the hook returned Skip to `skipped`."""
    _hook_attempt(tx, task, "skipped", duration_ms, reason)
    transition(tx, task, State.SKIPPED, f"the hook skipped it: {reason}" if reason else "the hook skipped it")


def _hook_attempt(tx: Tx, task: OpenTask, outcome: str, duration_ms: int, words: str) -> None:
    tx.conn.execute(
        _NEW_ATTEMPT,
        {
            "task_id": task.row_id,
            "kind": "hook",
            "number": task.hook_attempts + 1,
            "fence": task.fence,
            "began_at_ms": tx.now_ms - duration_ms,
            "ended_at_ms": tx.now_ms,
            "duration_ms": duration_ms,
            "outcome": outcome,
            "words": words,
        },
    )
