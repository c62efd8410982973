"""The verbs of the stages `respond` and `submit`: claim due tasks, release them, begin and settle an attempt to send.

Invariant: no POST without an attempt row committed before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, insert, or_, update

from watcher.ledger.rows import IN_WINDOW, WITH_SOURCE, due, open_task
from watcher.ledger.tables import OPEN, attempts, sources, tasks
from watcher.ledger.transitions import IF_UNCHANGED, transition, transition_unchanged, unchanged, write
from watcher.ledger.writer import Tx
from watcher.state import State
from watcher.task import Accepted, OpenTask, Refused, Sent, Unknown

# The blocks that the aggregator needs at least to bring an answer on the chain.
_LAST_CHANCE_BLOCKS = 3

# Only a task with a lease can be released, so that a second release changes nothing.
_IF_LEASED = IF_UNCHANGED.where(tasks.c.lease_until_ms > 0)
_TAKE = (
    update(tasks)
    .where(tasks.c.id.in_(bindparam("rows", expanding=True)))
    .values(fence=tasks.c.fence + 1, lease_until_ms=bindparam("until_ms"))
)
_END_ATTEMPT = update(attempts).where(attempts.c.id == bindparam("row"))


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The next due time of a task: after `after_ms`, and once the chain has reached `at_block`.

    A duration, not a time of day, so that a clock that steps back before the commit does no harm.
    """

    after_ms: int = 0
    at_block: int = 0


@cache
def _claimable(states: tuple[State, ...], above: bool) -> Select[Any]:
    where = [or_(tasks.c.response.is_not(None), tasks.c.block_number > bindparam("above_block"))] if above else []
    return due(states, IN_WINDOW, *where).with_for_update(skip_locked=True, of=tasks)


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
    parameters = {"source": source_id, "now_ms": tx.now_ms, "limit": limit}
    if above_block >= 0:
        parameters["above_block"] = above_block
    rows = tx.conn.execute(_claimable(tuple(states), above_block >= 0), parameters).all()
    if not rows:
        return []
    tx.conn.execute(_TAKE, {"rows": [row.id for row in rows], "until_ms": tx.now_ms + lease_ms})
    return [open_task(row, fence=row.fence + 1) for row in rows]


def release(
    tx: Tx, task: OpenTask, retry_at: RetryAt, error: str | None = None, *, hook_attempts: int | None = None
) -> None:
    """Release a claimed task in its state, due at `retry_at`. `error` and `hook_attempts` stay as they are if None.

    Raises LostLease if the task has changed since it was claimed.
    """
    columns = {"error": error or None, "hook_attempts": hook_attempts}
    changed = {name: value for name, value in columns.items() if value is not None}
    next_due = {"lease_until_ms": 0, "due_at_ms": tx.now_ms + retry_at.after_ms, "due_block": retry_at.at_block}
    write(tx, task, {"updated_at_ms": tx.now_ms, **next_due, **changed}, _IF_LEASED)


def make_due(tx: Tx, source_id: int, states: Iterable[State], mark: str, but: str | None = None) -> None:
    """Make postponed tasks due now: those in `states` whose `error` begins with `mark`, and not with `but`."""
    exceptions = [] if but is None else [tasks.c.error.is_(None) | ~tasks.c.error.startswith(but, autoescape=True)]
    tx.conn.execute(
        update(tasks)
        .where(
            tasks.c.source_id == source_id,
            tasks.c.state.in_(list(states)),
            OPEN,
            tasks.c.due_at_ms > tx.now_ms,
            tasks.c.lease_until_ms <= tx.now_ms,
            tasks.c.error.startswith(mark, autoescape=True),
            *exceptions,
        )
        .values(due_at_ms=0)
    )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send, as the ledger holds it before the POST."""

    row_id: int
    held: OpenTask  # in state `sending`
    began_at_ms: int


def begin(tx: Tx, batch: Sequence[OpenTask], api: str, digests: Mapping[int, bytes], lease_ms: int) -> list[Attempt]:
    """Begin an attempt to send for each task that is unchanged since it was claimed. The POST comes after this commit.

    Args:
        tx: the transaction.
        batch: claimed tasks.
        api: the API that gets the POSTs.
        digests: the SHA-256 digest of the request by row id.
        lease_ms: the duration of the lease, longer than any request.
    """
    ready = unchanged(tx, batch)
    if not ready:
        return []
    ids = list(
        tx.conn.execute(
            insert(attempts).returning(attempts.c.id, sort_by_parameter_order=True),
            [
                {
                    "task_id": task.row_id,
                    "kind": "post",
                    "number": task.attempts + 1,
                    "fence": task.fence,
                    "api": api,
                    "request_digest": digests[task.row_id],
                    "began_at_ms": tx.now_ms,
                }
                for task in ready
            ],
        ).scalars()
    )
    tx.attempt = max(tx.attempt, *ids)
    tx.attempt_block = max(tx.attempt_block, *(task.task.seen_at.block_number for task in ready))
    transition_unchanged(
        tx,
        ready,
        State.SENDING,
        "the chain shows no response; sending",
        lambda task: {"attempts": task.attempts + 1, "lease_until_ms": tx.now_ms + lease_ms},
        ids,
    )
    return [
        Attempt(row_id, replace(task, state=State.SENDING, attempts=task.attempts + 1), tx.now_ms)
        for row_id, task in zip(ids, ready, strict=True)
    ]


def settle(tx: Tx, attempt: Attempt, sent: Sent, retry_at: RetryAt, warning: str | None = None) -> State:
    """Store the outcome of an attempt and move the task. Return its new state.

    Args:
        tx: the transaction.
        attempt: the attempt.
        sent: the outcome and its evidence.
        retry_at: the next due time.
        warning: a contradiction in the reply, for the journal.

    Raises:
        LostLease: the task has changed since the attempt began.
    """
    outcome = sent.outcome
    to, reason = _state_after(outcome)
    claims = _end(tx, attempt, sent)
    error = warning if isinstance(outcome, Accepted) else reason
    transition(
        tx,
        attempt.held,
        to,
        reason if warning is None else f"{reason}; {warning}",
        attempt_id=attempt.row_id,
        due_at_ms=tx.now_ms + retry_at.after_ms,
        due_block=retry_at.at_block,
        error=error or None,
        **claims,
    )
    return to


def record_late(tx: Tx, attempt: Attempt, sent: Sent) -> None:
    """Store the outcome of an attempt as evidence; the task has left its state meanwhile."""
    _end(tx, attempt, sent)


def recover_stale(tx: Tx, source_id: int, *, all_of_them: bool, patience_blocks: int = 0) -> int:
    """Move tasks of stale attempts to `unknown`: at the start `all_of_them`, later those without a valid lease.

    The POST may have arrived: the chain gets `patience_blocks` to show the response. Return the number of tasks.
    """
    query = WITH_SOURCE.add_columns(sources.c.head_block, sources.c.head_l1_block).where(
        tasks.c.source_id == source_id, tasks.c.state == State.SENDING, OPEN
    )
    if not all_of_them:
        query = query.where(tasks.c.lease_until_ms <= tx.now_ms)
    rows = tx.conn.execute(query.with_for_update(of=tasks)).all()
    due_blocks = {
        row.id: decision_block(
            row.deadline_block, row.head_block, patience_blocks, l1_blocks=row.head_l1_block is not None
        )
        for row in rows
    }
    why = "the attempt was cut off before its answer was written down"
    stale = [open_task(row) for row in rows]
    columns = {row_id: {"error": why, "due_block": block} for row_id, block in due_blocks.items()}
    transition_unchanged(tx, stale, State.UNKNOWN, why, lambda task: columns[task.row_id])
    if all_of_them:  # no lease outlives the process that held it
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.source_id == source_id, OPEN, tasks.c.lease_until_ms > 0)
            .values(lease_until_ms=0)
        )
    return len(rows)


def decision_block(deadline_block: int | None, at_block: int, patience_blocks: int, *, l1_blocks: bool) -> int:
    """Return the block at which the chain decides on an answer sent at `at_block`: earlier if the window closes.

    Args:
        deadline_block: the deadline, None without one.
        at_block: the head at the time of the POST.
        patience_blocks: the blocks that the chain gets otherwise.
        l1_blocks: the deadline counts the parent chain's blocks, which are no heights. Each of them spans many blocks,
            so that the decision usually comes before the next one.
    """
    decision = at_block + patience_blocks
    if deadline_block is None or l1_blocks:
        return decision
    return max(at_block + min(patience_blocks, 1), min(decision, deadline_block - _LAST_CHANCE_BLOCKS))


def _end(tx: Tx, attempt: Attempt, sent: Sent) -> dict[str, Any]:
    """Complete the attempt's row. Return the claims of the API, as columns of the task."""
    outcome = sent.outcome
    claims = {}
    if isinstance(outcome, Accepted):
        claims = {key: value for key in ("tx_hash", "sig_hash") if (value := getattr(outcome, key)) is not None}
    tx.conn.execute(
        _END_ATTEMPT,
        {
            "row": attempt.row_id,
            "ended_at_ms": tx.now_ms,
            "duration_ms": sent.duration_ms,
            "outcome": type(outcome).__name__.lower(),
            "http_status": sent.http_status,
            "code": outcome.code if isinstance(outcome, Refused) else None,
            "answer": sent.answer,
            "words": _state_after(outcome)[1],
            **claims,
        },
    )
    return claims


def _state_after(outcome: Accepted | Refused | Unknown) -> tuple[State, str]:
    match outcome:
        case Accepted():
            return State.ACCEPTED, outcome.words or "accepted"
        case Refused(endpoint=True):
            return State.BLOCKED, outcome.words
        case Refused():
            return State.WAITING, outcome.words
        case Unknown():
            return State.UNKNOWN, outcome.why
