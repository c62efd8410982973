"""The verbs of the hook's stage: write its answer once, or why there is none.

Invariant: a response goes from null to a value once.
"""

from sqlalchemy import bindparam, func, insert

from watcher.errors import LostLease
from watcher.ledger.claims import RetryAt, release
from watcher.ledger.tables import attempts, tasks
from watcher.ledger.transitions import AS_HELD, move
from watcher.ledger.writer import Tx
from watcher.state import State
from watcher.task import Later, OpenTask, Response

_NEW_ATTEMPT = insert(attempts)
# What is there stays, whatever its holder believes.
_KEEP_ANSWER = AS_HELD.values(
    response=func.coalesce(tasks.c.response, bindparam("answer", type_=tasks.c.response.type)),
    hook_version=func.coalesce(tasks.c.hook_version, bindparam("version", type_=tasks.c.hook_version.type)),
)


def keep_answer(tx: Tx, held: OpenTask, response: Response) -> None:
    """Write the hook's answer, once. An answer that is there already stays, whatever the hook says now."""
    _hook_attempt(tx, held, "answered", response.duration_ms, "")
    move(
        tx,
        held,
        State.COMPUTED,
        f"the hook answered in {response.duration_ms} ms",
        statement=_KEEP_ANSWER,
        answer=response.resp_message,
        version=response.hook_version,
        error=None,
    )


def keep_old_answer(tx: Tx, held: OpenTask) -> None:
    """Go on with the answer written before a reorg or a retry; the hook is not asked twice."""
    if held.response is None:
        raise LostLease(f"task {held.task.task_index} has no answer to go on with")
    move(tx, held, State.COMPUTED, "it was answered before")


def postpone(tx: Tx, held: OpenTask, later: Later, again: RetryAt, duration_ms: int) -> None:
    """The hook said Later: no attempt is burnt."""
    _hook_attempt(tx, held, "later", duration_ms, later.reason)
    release(tx, held, again)


def hook_failed(tx: Tx, held: OpenTask, words: str, duration_ms: int, again: RetryAt | None) -> None:
    """The hook gave no answer. `again` is None when that was its last attempt."""
    _hook_attempt(tx, held, "failed", duration_ms, words)
    burnt = held.hook_attempts + 1
    if again is None:
        why = f"the hook failed {burnt} times: {words}"
        move(tx, held, State.FAILED, why, hook_attempts=burnt, error=words)
    else:
        release(tx, held, again, words, hook_attempts=burnt)


def hook_skipped(tx: Tx, held: OpenTask, reason: str, duration_ms: int) -> None:
    """The hook said Skip."""
    _hook_attempt(tx, held, "skipped", duration_ms, reason)
    move(tx, held, State.SKIPPED, f"the hook skipped it: {reason}" if reason else "the hook skipped it")


def _hook_attempt(tx: Tx, held: OpenTask, outcome: str, duration_ms: int, words: str) -> None:
    tx.conn.execute(
        _NEW_ATTEMPT,
        {
            "task_id": held.row_id,
            "kind": "hook",
            "number": held.hook_attempts + 1,
            "fence": held.fence,
            "began_at_ms": tx.now_ms - duration_ms,
            "ended_at_ms": tx.now_ms,
            "duration_ms": duration_ms,
            "outcome": outcome,
            "words": words,
        },
    )
