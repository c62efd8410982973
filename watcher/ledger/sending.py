"""The verbs around a POST: begin an attempt to send, settle it with its outcome, recover those that were cut off.

Invariant: no POST without an attempt row committed before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, and_, exists, update

from watcher.errors import LostLease
from watcher.ledger.attempt_rows import add_attempts, end_attempts
from watcher.ledger.audit.changes import Bound
from watcher.ledger.claims import RetryAt
from watcher.ledger.columns import BoundedText
from watcher.ledger.prepared import Values
from watcher.ledger.rows import WITH_SOURCE, open_task
from watcher.ledger.side_tables import replicas
from watcher.ledger.tables import OPEN, WORDS_LIMIT, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import Change, lock, transition_all, transition_each, transition_locked
from watcher.state import State
from watcher.task import Accepted, OpenTask, Outcome, Refused, Sent, Unknown

# The blocks that the aggregator needs at least to bring an answer on the chain.
_LAST_CHANCE_BLOCKS = 3

_REASON = BoundedText(WORDS_LIMIT)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send, as the ledger holds it before the POST."""

    row_id: int
    task: OpenTask  # in state `sending`
    began_at_ms: int
    api: str
    request_digest: bytes

    @property
    def beginning(self) -> Values:
        """Return the columns of its row that its beginning sets, the id first."""
        return (
            self.row_id,
            *_beginning(self.task, self.task.attempts, self.api, self.request_digest, self.began_at_ms),
        )


def _beginning(task: OpenTask, number: int, api: str, request_digest: bytes, began_at_ms: int) -> Values:
    return (task.row_id, "post", number, task.fence, api, request_digest, began_at_ms)


def begin(tx: Tx, batch: Sequence[OpenTask], api: str, digests: Mapping[int, bytes], lease_ms: int) -> list[Attempt]:
    """Begin an attempt to send for each task that is unchanged since it was claimed. The POST comes after this commit.

    Args:
        tx: the transaction.
        batch: claimed tasks.
        api: the API that gets the POSTs.
        digests: the SHA-256 digest of the request by row id.
        lease_ms: the duration of the lease, longer than any request.
    """
    rows = [(task, row) for task, row in zip(batch, lock(tx, batch), strict=True) if row is not None]
    if not rows:
        return []
    ready = [task for task, _ in rows]
    ids = add_attempts(
        tx, [_beginning(task, task.attempts + 1, api, digests[task.row_id], tx.now_ms) for task in ready]
    )
    tx.attempt = max(tx.attempt, *ids)
    tx.attempt_block = max(tx.attempt_block, *(task.task.seen_at.block_number for task in ready))
    why = "the chain shows no response; sending"
    leased = {"lease_until_ms": tx.now_ms + lease_ms}
    changes = [
        Change(task, State.SENDING, why, {"attempts": task.attempts + 1, **leased}, id_)
        for id_, task in zip(ids, ready, strict=True)
    ]
    transition_locked(tx, changes, [row for _, row in rows])
    return [
        Attempt(
            id_,
            replace(task, state=State.SENDING, attempts=task.attempts + 1),
            tx.now_ms,
            api,
            digests[task.row_id],
        )
        for id_, task in zip(ids, ready, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of an attempt, with its evidence, and the next due time of the task.

    `warning` is a contradiction in the reply, for the journal. `reopens`: the API takes requests again, so that tasks
    that wait for it can be sent.
    """

    attempt: Attempt
    sent: Sent
    retry_at: RetryAt
    warning: str | None = None
    reopens: bool = False


def settle(tx: Tx, items: Sequence[Settlement]) -> list[State | LostLease]:
    """Store the outcomes of attempts and move their tasks. Return the new state of each.

    LostLease: the task has changed since the attempt began; nothing of the item is stored.
    """
    changes = [_change(tx, item) for item in items]
    errors = transition_each(tx, changes)
    if any(item.reopens for item in items):
        tx.due.add(State.BLOCKED)
    if stored := [item for item, error in zip(items, errors, strict=True) if error is None]:
        end_attempts(tx, [(item.attempt.beginning, _end(tx, item)) for item in stored])
    return [error or change.to for change, error in zip(changes, errors, strict=True)]


def record_late(tx: Tx, items: Sequence[Settlement]) -> None:
    """Store the outcomes of attempts as evidence. The tasks stay as they are."""
    if items:
        end_attempts(tx, [(item.attempt.beginning, _end(tx, item)) for item in items], late=True)
        tx.changes.write(Bound.TASKS, [item.attempt.task.row_id for item in items])


def recover_stale(tx: Tx, source_id: int, *, all_of_them: bool, patience_blocks: int = 0) -> int:
    """Move tasks of stale attempts to `unknown`: at the start `all_of_them`, later those without a valid lease.

    The POST may have arrived: the chain gets `patience_blocks` to show the response. Return the number of tasks.
    """
    if all_of_them:  # no lease outlives the process that held it
        return _recover(tx, source_id, [], patience_blocks, free=True)
    return _recover(tx, source_id, [tasks.c.lease_until_ms <= tx.now_ms], patience_blocks, free=False)


def recover_orphaned(tx: Tx, source_id: int, *, on_start: bool = False, patience_blocks: int = 0) -> int:
    """Free the tasks whose holders are no replica any more, as `recover_stale` does; return the number of attempts.

    `on_start`: also those that a program without replicas has claimed.
    """
    is_live = exists().where(replicas.c.id == tasks.c.holder)
    orphaned = ~is_live if on_start else and_(tasks.c.holder.is_not(None), ~is_live)
    return _recover(tx, source_id, [tasks.c.lease_until_ms > 0, orphaned], patience_blocks, free=True)


def _recover(tx: Tx, source_id: int, which: Sequence[ColumnElement[bool]], patience_blocks: int, *, free: bool) -> int:
    """Move the `sending` ones of these tasks to `unknown`, and, with `free`, end the leases of the others."""
    query = WITH_SOURCE.add_columns(sources.c.head_block, sources.c.head_l1_block).where(
        tasks.c.source_id == source_id, tasks.c.state == State.SENDING, OPEN, *which
    )
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
    transition_all(tx, stale, State.UNKNOWN, why, lambda task: columns[task.row_id])
    if free:
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.source_id == source_id, OPEN, tasks.c.lease_until_ms > 0, *which)
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


def _change(tx: Tx, item: Settlement) -> Change:
    """Return the transition that an outcome asks for."""
    outcome = item.sent.outcome
    to, reason = _state_after(outcome)
    error = item.warning if isinstance(outcome, Accepted) else reason
    tx_hash, sig_hash = _claims(outcome)
    columns = {
        "due_at_ms": tx.now_ms + item.retry_at.after_ms,
        "due_block": item.retry_at.at_block,
        "error": error or None,
    }
    claims = {"tx_hash": tx_hash, "sig_hash": sig_hash}  # an earlier claim stays where the outcome has none
    why = reason if item.warning is None else f"{reason}; {item.warning}"
    return Change(item.attempt.task, to, why, columns, item.attempt.row_id, unless_none=claims)


def _end(tx: Tx, item: Settlement) -> Values:
    """Return the columns of an attempt's row that its end sets, in the order of the audit chain."""
    sent, outcome = item.sent, item.sent.outcome
    code = outcome.code if isinstance(outcome, Refused) else None
    reason = _REASON.stored(_state_after(outcome)[1])
    name = type(outcome).__name__.lower()
    return (tx.now_ms, sent.duration_ms, name, sent.http_status, code, sent.answer, reason, *_claims(outcome))


def _claims(outcome: Outcome) -> tuple[bytes | None, bytes | None]:
    """Return transaction and digest as the API claims them."""
    return (outcome.tx_hash, outcome.sig_hash) if isinstance(outcome, Accepted) else (None, None)


def _state_after(outcome: Outcome) -> tuple[State, str]:
    match outcome:
        case Accepted():
            return State.ACCEPTED, outcome.reason or "accepted"
        case Refused(endpoint=True):
            return State.BLOCKED, outcome.reason
        case Refused():
            return State.WAITING, outcome.reason
        case Unknown():
            return State.UNKNOWN, outcome.reason
