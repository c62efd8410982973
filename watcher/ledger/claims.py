"""The verbs of the stages `respond` and `submit` for leases: claim due tasks, release them, make them due.

Invariant: only the holder of a task's lease, who has its present fence, writes the task.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import bindparam, or_, update

from watcher.errors import LostLease
from watcher.ledger.columns import Among
from watcher.ledger.postgres import AWAITED
from watcher.ledger.prepared import Prepared, Question, Values
from watcher.ledger.rows import IN_WINDOW, due, open_task
from watcher.ledger.tables import OPEN, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import lock, lost, set_columns, unless_none
from watcher.state import State
from watcher.task import OpenTask

_TAKE = Prepared(
    update(tasks)
    .where(Among(tasks.c.id, "rows"))
    .values(
        fence=tasks.c.fence + 1,
        lease_until_ms=bindparam("until_ms"),
        holder=bindparam("holder", type_=tasks.c.holder.type),
    ),
    ["rows", "until_ms", "holder"],
)


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The next due time of a task: after `after_ms`, and once the chain has reached `at_block`.

    A duration, not a time of day, so that a clock that steps back before the commit does no harm.
    """

    after_ms: int = 0
    at_block: int = 0


@cache
def _claimable(states: tuple[State, ...], above: bool) -> Question:
    where = [or_(tasks.c.response.is_not(None), tasks.c.block_number > bindparam("above_block"))] if above else []
    question = due(states, IN_WINDOW, *where).with_for_update(skip_locked=True, of=tasks)
    return Question(question, ["source", "now_ms", "limit", *(["above_block"] if above else [])])


def claim(
    tx: Tx, source_id: int, states: Iterable[State], limit: int, lease_ms: int, above_block: int = -1
) -> list[OpenTask]:
    """Claim due tasks. Each claim raises the fence, so that a stalled holder cannot write any more.

    Args:
        tx: the transaction.
        source_id: the task manager.
        states: the states to claim.
        limit: the most tasks.
        lease_ms: the duration of the lease.
        above_block: leave unanswered tasks of blocks up to this one alone (see `restore`); -1: no such block.
    """
    above = [above_block] if above_block >= 0 else []
    rows = _claimable(tuple(states), bool(above)).rows(tx.conn, source_id, tx.now_ms, limit, *above)
    if not rows:
        return []
    claimed = [open_task(row, fences=1) for row in rows]
    _TAKE.run(tx.conn, [([task.row_id for task in claimed], tx.now_ms + lease_ms, tx.replica_id)])
    return claimed


@dataclass(frozen=True, slots=True)
class Release:
    """A claimed task to be released, due at `retry_at`.

    The task's `error` becomes `reason`, and its `hook_attempts` become `failures`, unless that is None.
    """

    task: OpenTask
    retry_at: RetryAt
    reason: str | None = None
    failures: int | None = None


def release_each(tx: Tx, items: Sequence[Release]) -> list[LostLease | None]:
    """Release claimed tasks in their states. Return None for each, or LostLease if it has changed since its claim.

    Only a task with a lease can be released, so that a second release changes nothing.
    """
    rows = lock(tx, [item.task for item in items], leased=True)
    edits = [
        (item.task, row, _given_back(tx, item, row)) for item, row in zip(items, rows, strict=True) if row is not None
    ]
    set_columns(tx, edits)
    return [lost(item.task) if row is None else None for item, row in zip(items, rows, strict=True)]


def _given_back(tx: Tx, item: Release, row: Values) -> dict[str, Any]:
    """Return the columns that the release of a task sets. An earlier reason stays where the release has none."""
    return {
        "updated_at_ms": tx.now_ms,
        "lease_until_ms": 0,
        "due_at_ms": tx.now_ms + item.retry_at.after_ms,
        "due_block": item.retry_at.at_block,
        **unless_none(row, {"error": item.reason or None, "hook_attempts": item.failures}),
    }


def make_due(tx: Tx, source_id: int, states: Iterable[State], mark: str, but: str | None = None) -> None:
    """Make postponed tasks due now: those in `states` whose `error` begins with `mark`, and not with `but`."""
    states = list(states)
    exceptions = [] if but is None else [tasks.c.error.is_(None) | ~tasks.c.error.startswith(but, autoescape=True)]
    made = tx.conn.execute(
        update(tasks)
        .where(
            tasks.c.source_id == source_id,
            tasks.c.state.in_(states),
            OPEN,
            tasks.c.due_at_ms > tx.now_ms,
            tasks.c.lease_until_ms <= tx.now_ms,
            tasks.c.error.startswith(mark, autoescape=True),
            *exceptions,
        )
        .values(due_at_ms=0),
        execution_options={AWAITED: True},
    )
    if made.rowcount:
        tx.due.update(states)
