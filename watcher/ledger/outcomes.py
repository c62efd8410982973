"""The verbs of the stages `admit` and `confirm`: the chain's verdicts on tasks, stored.

Invariant: `responded` is entered only with the response event that proves it, `final` only when its block is final,
`expired` only when a final head is past the deadline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from watcher.errors import LostLease
from watcher.ledger.audit.changes import Bound
from watcher.ledger.coverage import lose_tasks
from watcher.ledger.history import BEFORE, over_before
from watcher.ledger.prepared import Question
from watcher.ledger.rows import FINAL_CLOSED, IN_WINDOW, WITH_SOURCE, chunks, due, open_task
from watcher.ledger.tables import LOOK_AGAIN, responses, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import (
    IF_UNCHANGED,
    PRESENT,
    Change,
    if_unchanged,
    known_at,
    reopen,
    transition_all,
    transition_each,
)
from watcher.state import NOT_HELD, RESPONDED, UNSETTLED, State
from watcher.task import Header, OpenTask, Responded

_Event = tuple[bytes, bytes, int]  # block hash, transaction hash, log index
_WRONG_CLAIM = "the API named another transaction than the one the chain shows"
# The states that a passed deadline can settle.
_SETTLABLE = sorted(UNSETTLED - {State.SENDING})

_DUE_NAMES = ("source", "now_ms", "limit")
_TO_ADMIT = Question(
    due([State.SEEN], tasks.c.block_number + bindparam("confirmations") <= sources.c.head_block, IN_WINDOW),
    (*_DUE_NAMES, "confirmations"),
)


def to_admit(conn: Connection, source_id: int, confirmations: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Return the `seen` tasks whose block has `confirmations` blocks above it."""
    return [open_task(row) for row in _TO_ADMIT.rows(conn, source_id, now_ms, limit, confirmations)]


_PAST_DEADLINE = Question(due(_SETTLABLE, tasks.c.deadline_block < FINAL_CLOSED), _DUE_NAMES)


def past_deadline(conn: Connection, source_id: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Return the tasks whose deadline a final block has passed, so that no response can follow."""
    return [open_task(row) for row in _PAST_DEADLINE.rows(conn, source_id, now_ms, limit)]


_TO_CONFIRM = Question(
    due(
        [State.UNKNOWN, State.ACCEPTED],
        or_(tasks.c.deadline_block.is_(None), tasks.c.deadline_block >= FINAL_CLOSED),
    ),
    _DUE_NAMES,
)


def to_confirm(conn: Connection, source_id: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Return the sent tasks that are due, and whose deadline no final block has passed."""
    return [open_task(row) for row in _TO_CONFIRM.rows(conn, source_id, now_ms, limit)]


@dataclass(frozen=True, slots=True)
class Named:
    """A task, and the response events that name it."""

    task: OpenTask
    events: frozenset[_Event]


_TO_LOOK_AGAIN = (
    WITH_SOURCE.where(
        tasks.c.source_id == bindparam("source"),
        LOOK_AGAIN,
        or_(tasks.c.canonical, tasks.c.state.in_(sorted(NOT_HELD))),
        tasks.c.state != State.SENDING,
    )
    .order_by(tasks.c.id)
    .limit(bindparam("limit"))
)


def to_look_again(conn: Connection, source_id: int, limit: int) -> list[Named]:
    """Return the tasks that a response event has named since the contract was last asked about them."""
    flagged = [open_task(row) for row in conn.execute(_TO_LOOK_AGAIN, {"source": source_id, "limit": limit})]
    events = _events_of(conn, [task.row_id for task in flagged])
    return [Named(task, events[task.row_id]) for task in flagged]


def nothing_new(tx: Tx, named: Sequence[Named]) -> None:
    """Clear the flag of named tasks, because their events are about other tasks or gone.

    A task stays flagged if further events were read while the contract was asked.
    """
    events = _events_of(tx.conn, [item.task.row_id for item in named])
    rows = [item.task.row_id for item in named if events[item.task.row_id] == item.events]
    for chunk in chunks(rows):
        tx.conn.execute(update(tasks).where(tasks.c.id.in_(chunk)).values(look_again=False))


_TO_FINALISE = Question(due(sorted(RESPONDED), tasks.c.responded_block <= sources.c.final_block), _DUE_NAMES)


def to_finalise(conn: Connection, source_id: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Return the answered tasks whose response is in a final block."""
    return [open_task(row) for row in _TO_FINALISE.rows(conn, source_id, now_ms, limit)]


def admitted(tx: Tx, batch: Sequence[OpenTask], at: Header, *, proved: bool = True) -> None:
    """Move tasks to `ready`: the contract holds them at `at`, or, if it shows no tasks, their logs are deep enough."""
    why = known_at(at.number) if proved else f"its log still stands at block {at.number}"
    transition_all(tx, batch, State.READY, why)


def delivered(tx: Tx, batch: Sequence[OpenTask]) -> list[OpenTask]:
    """Move accepted tasks to `delivered`, because this contract confirms no answers. Return the tasks that moved."""
    why = "the API has it; this contract shows no answers, so nothing can confirm it"
    return transition_all(tx, batch, State.DELIVERED, why)


def answered(tx: Tx, batch: Sequence[tuple[OpenTask, Responded]], *, by_us: bool) -> list[OpenTask]:
    """Move tasks with a response on the chain to `responded` (`by_us`) or `responded_other`.

    A reorg may have been stored since the chain was asked: a task whose event is gone stays, without its lease. The
    column `error` says if the API had named another transaction.

    Returns:
        The tasks that moved, without those that another party had answered before the ledger was begun.
    """
    events = _events_of(tx.conn, [task.row_id for task, _ in batch])
    by_row = {
        task.row_id: response
        for task, response in batch
        if (response.seen_at.block_hash, response.seen_at.tx_hash, response.seen_at.log_index) in events[task.row_id]
    }
    taken_back = [task for task, _ in batch if task.row_id not in by_row]
    if taken_back:
        tx.conn.execute(IF_UNCHANGED, [if_unchanged(task, {"lease_until_ms": 0}) for task in taken_back])

    def columns(task: OpenTask) -> dict[str, Any]:
        response = by_row[task.row_id]
        claimed = task.tx_hash
        wrong_claim = claimed is not None and claimed != response.seen_at.tx_hash
        return {
            "responded_block": response.seen_at.block_number,
            "responded_time_s": response.seen_at.block_time_s or None,
            "responded_tx_hash": response.seen_at.tx_hash,
            "responded_by": None,
            "response_hash": response.response_hash,
            "error": ("the answer on the chain is not ours" if not by_us else _WRONG_CLAIM if wrong_claim else None),
        }

    there = [task for task, _ in batch if task.row_id in by_row]
    if by_us:
        return transition_all(tx, there, State.RESPONDED, "the chain shows our answer", columns)
    before = over_before(tx.conn, there, {row: response.seen_at.block_number for row, response in by_row.items()})
    old = [task for task in there if task.row_id in before]
    transition_all(tx, old, State.RESPONDED_OTHER, f"answered {BEFORE}", columns)
    new = [task for task in there if task.row_id not in before]
    return transition_all(tx, new, State.RESPONDED_OTHER, "the chain shows an answer that is not ours", columns)


def _events_of(conn: Connection, rows: Sequence[int]) -> Mapping[int, frozenset[_Event]]:
    """Return the response events of each task by row id, if both are on the canonical chain."""
    same_task = and_(responses.c.source_id == tasks.c.source_id, responses.c.task_index == tasks.c.task_index)
    named = select(tasks.c.id, responses.c.block_hash, responses.c.tx_hash, responses.c.log_index).join(
        responses, same_task
    )
    events: dict[int, set[_Event]] = {row: set() for row in rows}
    for chunk in chunks(rows):
        for row in conn.execute(named.where(tasks.c.id.in_(chunk), tasks.c.canonical)):
            events[row.id].add((row.block_hash, row.tx_hash, row.log_index))
    return {row: frozenset(keys) for row, keys in events.items()}


def final(tx: Tx, batch: Sequence[OpenTask], at: Header) -> list[OpenTask]:
    """End answered tasks whose response is in a final block. Return the tasks that moved."""
    why = f"final at block {at.number}"
    ours = [task for task in batch if task.state is State.RESPONDED]
    others = [task for task in batch if task.state is State.RESPONDED_OTHER]
    return transition_all(tx, ours, State.FINAL, why) + transition_all(tx, others, State.FINAL_OTHER, why)


def taken_back(tx: Tx, batch: Sequence[OpenTask], at: Header) -> None:
    """Reopen answered tasks, because a final block holds another response or none. What is final stays."""
    answered = [task for task in batch if task.state in RESPONDED]
    reopen(tx, answered, f"block {at.number} does not hold the response we saw")


def expired(tx: Tx, batch: Sequence[OpenTask]) -> list[OpenTask]:
    """Move tasks to `expired`: a final block is past the deadline, and the contract holds no response.

    Returns:
        The tasks that moved, without those whose deadline was past before the ledger was begun.
    """
    before = over_before(tx.conn, batch)
    why = "a final block is past the deadline, and the contract holds no response"
    transition_all(tx, [task for task in batch if task.row_id in before], State.EXPIRED, f"past its deadline {BEFORE}")
    return transition_all(tx, [task for task in batch if task.row_id not in before], State.EXPIRED, why)


_ERRORS_OF_EXPIRED = select(tasks.c.id, tasks.c.error).where(
    tasks.c.id.in_(bindparam("rows", expanding=True)), tasks.c.state == State.EXPIRED
)
_SET_ERROR = update(tasks).where(tasks.c.id == bindparam("row"))


def explained(tx: Tx, reasons: Mapping[int, str]) -> None:
    """Add a reason to the column `error` of expired tasks, by row id."""
    for chunk in chunks(list(reasons)):
        known = tx.conn.execute(_ERRORS_OF_EXPIRED, {"rows": chunk}).all()
        errors = [
            {"row": row.id, "error": reasons[row.id] + (f"; before: {row.error}" if row.error else "")} for row in known
        ]
        if errors:
            tx.conn.execute(_SET_ERROR, errors)
            tx.changes.write(Bound.TASKS, [row.id for row in known])


def never_there(tx: Tx, batch: Sequence[OpenTask], at: Header, *, empty: bool = False) -> None:
    """Set tasks aside whose index holds another task in the contract, or none (`empty`), although their log is final.

    A `seen` task goes to `quarantined` (its log may be forged), any other to `orphaned`.
    """
    what = "no task" if empty else "another task"
    why = f"at block {at.number} the contract holds {what} at this index, although its log is final"
    lose_tasks(tx, batch)
    forged = [task for task in batch if task.state is State.SEEN]
    gone = {"error": why, "canonical": False}  # the contract's task of this index is another row
    transition_all(tx, forged, State.QUARANTINED, why, lambda _: gone)
    transition_all(tx, [task for task in batch if task.state is not State.SEEN], State.ORPHANED, why, lambda _: gone)


@dataclass(frozen=True, slots=True)
class Missing:
    """A sent task that the chain does not show, and why; it is due at `at_block` and after `after_ms`."""

    task: OpenTask
    why: str
    at_block: int = 0
    after_ms: int = 0


def not_there(tx: Tx, items: Sequence[Missing]) -> list[State | LostLease]:
    """Move sent tasks to `waiting`, to be sent again. Return the new state of each.

    LostLease: the task has changed since it was read; nothing of the item is stored.
    """
    changes = [
        Change(
            item.task,
            State.WAITING,
            item.why,
            {"error": item.why, "due_block": item.at_block, "due_at_ms": tx.now_ms + item.after_ms},
        )
        for item in items
    ]
    return [error or State.WAITING for error in transition_each(tx, changes)]


def postponed(tx: Tx, batch: Sequence[tuple[OpenTask, str]], at_block: int) -> None:
    """Postpone tasks that could not be read to `at_block`, each with its reason."""
    if batch:
        rows = [if_unchanged(task, {"due_block": at_block, "error": why}) for task, why in batch]
        tx.conn.execute(IF_UNCHANGED, rows)
        tx.changes.write(Bound.TASKS, (task.row_id for task, _ in batch))


def look_again(tx: Tx, batch: Sequence[OpenTask], at_block: int, error: str | None = None) -> None:
    """Postpone tasks without a verdict to `at_block`. Tasks that have changed meanwhile stay as they are."""
    columns: dict[str, Any] = {"due_block": at_block, **PRESENT} | ({"error": error} if error else {})
    if batch:
        tx.conn.execute(IF_UNCHANGED, [if_unchanged(task, columns) for task in batch])
    if error:
        tx.changes.write(Bound.TASKS, (task.row_id for task in batch))
