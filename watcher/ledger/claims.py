"""The verbs of the working stages: take due tasks, give them back, begin and settle an attempt to send.

Invariant: no POST without an attempt row committed before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, insert, or_, update

from watcher.ledger.rows import IN_WINDOW, WITH_SOURCE, due, open_task
from watcher.ledger.tables import OPEN, attempts, sources, tasks
from watcher.ledger.transitions import AS_HELD, move, move_held, still_held, write
from watcher.ledger.writer import Tx
from watcher.state import State
from watcher.task import Accepted, OpenTask, Refused, Sent, Unknown

# What the aggregator needs at the least to bring an answer on the chain.
_LAST_CHANCE_BLOCKS = 3

# A claim is given back once: what was given back already is nobody's to change.
_AS_LEASED = AS_HELD.where(tasks.c.lease_until_ms > 0)
_TAKE = (
    update(tasks)
    .where(tasks.c.id.in_(bindparam("rows", expanding=True)))
    .values(fence=tasks.c.fence + 1, lease_until_ms=bindparam("until_ms"))
)
_END_ATTEMPT = update(attempts).where(attempts.c.id == bindparam("row"))


@dataclass(frozen=True, slots=True)
class RetryAt:
    """When a task is due again: not before this time has passed, and not before the chain reaches this block.

    A length and no time of day: a clock that is set back between the reckoning and the writing does no harm.
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
    """Take due tasks for `lease_ms`. Each taking raises the fence, so that a stalled holder cannot write any more.

    Tasks of blocks up to `above_block` are left where they are unless they have an answer (see `restore`).
    """
    found = {"source": source_id, "now_ms": tx.now_ms, "limit": limit}
    if above_block >= 0:
        found["above_block"] = above_block
    rows = tx.conn.execute(_claimable(tuple(states), above_block >= 0), found).all()
    if not rows:
        return []
    tx.conn.execute(_TAKE, {"rows": [row.id for row in rows], "until_ms": tx.now_ms + lease_ms})
    return [open_task(row, fence=row.fence + 1) for row in rows]


def release(
    tx: Tx, held: OpenTask, again: RetryAt, error: str | None = None, *, hook_attempts: int | None = None
) -> None:
    """Give a claimed task back where it is, to be taken again when due. None leaves a column as it was."""
    columns = {"error": error or None, "hook_attempts": hook_attempts}
    changed = {name: value for name, value in columns.items() if value is not None}
    again_at = {"lease_until_ms": 0, "due_at_ms": tx.now_ms + again.after_ms, "due_block": again.at_block}
    write(tx, held, {"updated_at_ms": tx.now_ms, **again_at, **changed}, _AS_LEASED)


def make_due(tx: Tx, source_id: int, states: Iterable[State], mark: str, but: str | None = None) -> None:
    """Make due at once what was put off in these states with words that begin with `mark`, and not with `but`."""
    kept = [] if but is None else [tasks.c.error.is_(None) | ~tasks.c.error.startswith(but, autoescape=True)]
    tx.conn.execute(
        update(tasks)
        .where(
            tasks.c.source_id == source_id,
            tasks.c.state.in_(list(states)),
            OPEN,
            tasks.c.due_at_ms > tx.now_ms,
            tasks.c.lease_until_ms <= tx.now_ms,
            tasks.c.error.startswith(mark, autoescape=True),
            *kept,
        )
        .values(due_at_ms=0)
    )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send, as it stands in the ledger before the POST."""

    row_id: int
    held: OpenTask  # in state `sending`, as the attempt holds it
    began_at_ms: int


def begin(tx: Tx, held: Sequence[OpenTask], api: str, digests: Mapping[int, bytes], lease_ms: int) -> list[Attempt]:
    """Write down that POSTs to one API are about to happen, one per task; `digests` maps row ids to request digests.

    Only after this commit may they. Returns the attempts of the tasks that were still held.
    """
    ready = still_held(tx, held)
    if not ready:
        return []
    ids = list(
        tx.conn.execute(
            insert(attempts).returning(attempts.c.id, sort_by_parameter_order=True),
            [
                {
                    "task_id": one.row_id,
                    "kind": "post",
                    "number": one.attempts + 1,
                    "fence": one.fence,
                    "api": api,
                    "request_digest": digests[one.row_id],
                    "began_at_ms": tx.now_ms,
                }
                for one in ready
            ],
        ).scalars()
    )
    tx.attempt = max(tx.attempt, *ids)
    tx.attempt_block = max(tx.attempt_block, *(one.task.seen_at.block_number for one in ready))
    move_held(
        tx,
        ready,
        State.SENDING,
        "the chain shows no response; sending",
        lambda one: {"attempts": one.attempts + 1, "lease_until_ms": tx.now_ms + lease_ms},
        ids,
    )
    return [
        Attempt(row_id, replace(one, state=State.SENDING, attempts=one.attempts + 1), tx.now_ms)
        for row_id, one in zip(ids, ready, strict=True)
    ]


def settle(tx: Tx, attempt: Attempt, sent: Sent, again: RetryAt, warning: str | None = None) -> State:
    """Write down what came back, and move the task accordingly. Returns its new state."""
    outcome = sent.outcome
    to, words = _landing(outcome)
    claims = _end(tx, attempt, sent)
    error = warning if isinstance(outcome, Accepted) else words
    move(
        tx,
        attempt.held,
        to,
        words if warning is None else f"{words}; {warning}",
        attempt_id=attempt.row_id,
        due_at_ms=tx.now_ms + again.after_ms,
        due_block=again.at_block,
        error=error or None,
        **claims,
    )
    return to


def record_late(tx: Tx, attempt: Attempt, sent: Sent) -> None:
    """Keep what came back after the task had moved on without it: evidence, and nothing more."""
    _end(tx, attempt, sent)


def recover_stale(tx: Tx, source_id: int, *, all_of_them: bool, patience_blocks: int = 0) -> int:
    """Turn attempts nobody is waiting for into `unknown`: all of them at start, later those whose lease ran out.

    They may have arrived: the chain gets `patience_blocks` to show them, as after any unknown outcome.
    """
    dangling = WITH_SOURCE.add_columns(sources.c.head_block, sources.c.head_l1_block).where(
        tasks.c.source_id == source_id, tasks.c.state == State.SENDING, OPEN
    )
    if not all_of_them:
        dangling = dangling.where(tasks.c.lease_until_ms <= tx.now_ms)
    rows = tx.conn.execute(dangling.with_for_update(of=tasks)).all()
    due_blocks = {
        row.id: decision_block(
            row.deadline_block, row.head_block, patience_blocks, l1_blocks=row.head_l1_block is not None
        )
        for row in rows
    }
    why = "the attempt was cut off before its answer was written down"
    held = [open_task(row) for row in rows]
    move_held(tx, held, State.UNKNOWN, why, lambda one: {"error": why, "due_block": due_blocks[one.row_id]})
    if all_of_them:  # no lease outlives the process that held it
        tx.conn.execute(
            update(tasks)
            .where(tasks.c.source_id == source_id, OPEN, tasks.c.lease_until_ms > 0)
            .values(lease_until_ms=0)
        )
    return len(rows)


def decision_block(deadline_block: int | None, at_block: int, patience_blocks: int, *, l1_blocks: bool) -> int:
    """Return the block at which the chain decides about what was sent at `at_block`: sooner where the window closes.

    Heights are the chain's. With `l1_blocks` the deadline is one of the parent chain's blocks, which are no heights,
    and of which each spans many blocks: the decision comes before the next of them as a rule.
    """
    decision = at_block + patience_blocks
    if deadline_block is None or l1_blocks:
        return decision
    return max(at_block + min(patience_blocks, 1), min(decision, deadline_block - _LAST_CHANCE_BLOCKS))


def _end(tx: Tx, attempt: Attempt, sent: Sent) -> dict[str, Any]:
    """Complete the attempt's row. Returns what the API claims."""
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
            "words": _landing(outcome)[1],
            **claims,
        },
    )
    return claims


def _landing(outcome: Accepted | Refused | Unknown) -> tuple[State, str]:
    match outcome:
        case Accepted():
            return State.ACCEPTED, outcome.words or "accepted"
        case Refused(endpoint=True):
            return State.BLOCKED, outcome.words
        case Refused():
            return State.WAITING, outcome.words
        case Unknown():
            return State.UNKNOWN, outcome.why
