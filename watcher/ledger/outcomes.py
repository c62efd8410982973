"""The verbs of admission and confirmation: what the chain says about a task, written down.

Invariant: `responded` is entered only with the response event that proves it, `final` only when its block is final,
`expired` only when a final head is past the deadline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, bindparam, or_, select, update

from watcher.ledger.history import BEFORE, over_before
from watcher.ledger.rows import FINAL_CLOSED, IN_WINDOW, WITH_SOURCE, chunks, due, open_task
from watcher.ledger.tables import LOOK_AGAIN, responses, sources, tasks
from watcher.ledger.transitions import AS_HELD, PRESENT, as_held, move, move_all, reopen
from watcher.ledger.writer import Tx
from watcher.state import NOT_HELD, RESPONDED, UNSETTLED, State
from watcher.task import Header, OpenTask, Responded, Sighting

_Event = tuple[bytes, bytes, int]  # block hash, transaction hash, log index
_WRONG_CLAIM = "the API named another transaction than the one the chain shows"
# States the chain may settle although nobody is due to look: the deadline says so.
_SETTLABLE = sorted(UNSETTLED - {State.SENDING})


_TO_ADMIT = due([State.SEEN], tasks.c.block_number + bindparam("confirmations") <= sources.c.head_block, IN_WINDOW)


def to_admit(conn: Connection, source_id: int, confirmations: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Tasks whose block has `confirmations` blocks above it and that are not proved against the contract yet."""
    return _open_tasks(conn, _TO_ADMIT, source_id, now_ms, limit, confirmations=confirmations)


_PAST_DEADLINE = due(_SETTLABLE, tasks.c.deadline_block < FINAL_CLOSED)


def past_deadline(conn: Connection, source_id: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Return the tasks whose deadline a final block has passed: nothing that answers them can happen any more."""
    return _open_tasks(conn, _PAST_DEADLINE, source_id, now_ms, limit)


_TO_CONFIRM = due(
    [State.UNKNOWN, State.ACCEPTED],
    or_(tasks.c.deadline_block.is_(None), tasks.c.deadline_block >= FINAL_CLOSED),
)


def to_confirm(conn: Connection, source_id: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Return the tasks that were sent, whose look at the chain is due, and whose deadline is not past at finality."""
    return _open_tasks(conn, _TO_CONFIRM, source_id, now_ms, limit)


@dataclass(frozen=True, slots=True)
class Named:
    """A task that response events name, and which events those are."""

    held: OpenTask
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
    """Tasks that a response event has named since the chain was last asked about them."""
    found = [open_task(row) for row in conn.execute(_TO_LOOK_AGAIN, {"source": source_id, "limit": limit})]
    events = _events_of(conn, [one.row_id for one in found])
    return [Named(one, events[one.row_id]) for one in found]


def nothing_new(tx: Tx, named: Sequence[Named]) -> None:
    """The events that named these tasks were not about them, or are gone again.

    Others may have been read while the chain was asked: those still have to be looked at.
    """
    events = _events_of(tx.conn, [one.held.row_id for one in named])
    rows = [one.held.row_id for one in named if events[one.held.row_id] == one.events]
    for chunk in chunks(rows):
        tx.conn.execute(update(tasks).where(tasks.c.id.in_(chunk)).values(look_again=False))


_TO_FINALISE = due(sorted(RESPONDED), tasks.c.responded_block <= sources.c.final_block)


def to_finalise(conn: Connection, source_id: int, now_ms: int, limit: int) -> list[OpenTask]:
    """Answered tasks whose response is in a final block."""
    return _open_tasks(conn, _TO_FINALISE, source_id, now_ms, limit)


def _open_tasks(
    conn: Connection, question: Select[Any], source_id: int, now_ms: int, limit: int, **more: int
) -> list[OpenTask]:
    found = conn.execute(question, {"source": source_id, "now_ms": now_ms, "limit": limit, **more})
    return [open_task(row) for row in found]


def response_of(
    conn: Connection,
    source_id: int,
    task_index: int,
    response_hash: bytes | None,
    upto_block: int | None = None,
    since: Sighting | None = None,
) -> Responded | None:
    """Return the event that shows the response to a task, None while no such event is in the ledger.

    `since` is the log of the task: an older event answers an older task of the same index. Of the events that are left,
    the one the contract names by `response_hash`; where it names none, the first up to `upto_block`, and before the
    next canonical task of this index.
    """
    found = select(responses).where(responses.c.source_id == source_id, responses.c.task_index == task_index)
    if since is not None:
        found = found.where(_not_before(responses, since))
    if response_hash is not None:
        found = found.where(responses.c.response_hash == response_hash)
    elif since is not None and (successor := _successor(conn, source_id, task_index, since)) is not None:
        found = found.where(~_not_before(responses, successor))
    if upto_block is not None:
        found = found.where(responses.c.block_number <= upto_block)
    row = conn.execute(found.order_by(responses.c.block_number, responses.c.log_index).limit(1)).one_or_none()
    if row is None:
        return None
    seen = Sighting(row.block_number, row.block_hash, row.tx_hash, row.log_index)
    return Responded(row.task_index, row.message, row.log, row.response_hash, seen)


def _not_before(table: Table, seen: Sighting) -> ColumnElement[bool]:
    """Return the condition that a row's log does not precede `seen`. Some nodes give two logs of a block one index."""
    columns = table.c
    same_block = and_(columns.block_number == seen.block_number, columns.log_index >= seen.log_index)
    return or_(columns.block_number > seen.block_number, same_block)


def _successor(conn: Connection, source_id: int, task_index: int, seen: Sighting) -> Sighting | None:
    """Return where the next canonical task of the same index was made, None where the contract has not reused it."""
    later = or_(
        tasks.c.block_number > seen.block_number,
        and_(tasks.c.block_number == seen.block_number, tasks.c.log_index > seen.log_index),
    )
    mine = (tasks.c.source_id == source_id, tasks.c.task_index == task_index, tasks.c.canonical)
    row = conn.execute(
        select(tasks.c.block_number, tasks.c.block_hash, tasks.c.created_tx_hash, tasks.c.log_index)
        .where(*mine, later)
        .order_by(tasks.c.block_number, tasks.c.log_index)
        .limit(1)
    ).one_or_none()
    return None if row is None else Sighting(*row)


def admitted(tx: Tx, held: Sequence[OpenTask], at: Header, *, proved: bool = True) -> None:
    """The contract holds these very tasks at `at`; or, where it does not show them, their logs are deep enough."""
    why = f"the contract knows it at block {at.number}" if proved else f"its log still stands at block {at.number}"
    move_all(tx, held, State.READY, why)


def delivered(tx: Tx, held: Sequence[OpenTask]) -> list[OpenTask]:
    """The API has taken the answers, and the contract shows nothing to confirm them. Return the tasks that moved."""
    why = "the API has it; this contract shows no answers, so nothing can confirm it"
    return move_all(tx, held, State.DELIVERED, why)


def answered(tx: Tx, held: Sequence[tuple[OpenTask, Responded]], *, by_us: bool) -> list[OpenTask]:
    """The chain shows these responses: ours, or somebody else's. A transaction the API named wrongly is pointed out.

    Return the tasks that moved, without those that another party had answered before the ledger was begun.

    A reorg may have been recorded since the chain was asked: what it took back stays as it is, free to be taken again.
    """
    events = _events_of(tx.conn, [one.row_id for one, _ in held])
    shown = {
        one.row_id: response
        for one, response in held
        if (response.seen_at.block_hash, response.seen_at.tx_hash, response.seen_at.log_index) in events[one.row_id]
    }
    taken_back = [one for one, _ in held if one.row_id not in shown]
    if taken_back:
        tx.conn.execute(AS_HELD, [as_held(one, {"lease_until_ms": 0}) for one in taken_back])

    def columns(one: OpenTask) -> dict[str, Any]:
        response = shown[one.row_id]
        claimed = one.tx_hash
        wrong_claim = claimed is not None and claimed != response.seen_at.tx_hash
        return {
            "responded_block": response.seen_at.block_number,
            "responded_tx_hash": response.seen_at.tx_hash,
            "response_hash": response.response_hash,
            "error": ("the answer on the chain is not ours" if not by_us else _WRONG_CLAIM if wrong_claim else None),
        }

    there = [one for one, _ in held if one.row_id in shown]
    if by_us:
        return move_all(tx, there, State.RESPONDED, "the chain shows our answer", columns)
    before = over_before(tx.conn, there, {row: response.seen_at.block_number for row, response in shown.items()})
    why = "the chain shows an answer that is not ours"
    move_all(tx, [one for one in there if one.row_id in before], State.RESPONDED_OTHER, f"answered {BEFORE}", columns)
    return move_all(tx, [one for one in there if one.row_id not in before], State.RESPONDED_OTHER, why, columns)


def _events_of(conn: Connection, rows: Sequence[int]) -> Mapping[int, frozenset[_Event]]:
    """Per row the response events to its task, as far as both are on the canonical chain."""
    same_task = and_(responses.c.source_id == tasks.c.source_id, responses.c.task_index == tasks.c.task_index)
    named = select(tasks.c.id, responses.c.block_hash, responses.c.tx_hash, responses.c.log_index).join(
        responses, same_task
    )
    found: dict[int, set[_Event]] = {row: set() for row in rows}
    for chunk in chunks(rows):
        for row in conn.execute(named.where(tasks.c.id.in_(chunk), tasks.c.canonical)):
            found[row.id].add((row.block_hash, row.tx_hash, row.log_index))
    return {row: frozenset(events) for row, events in found.items()}


def final(tx: Tx, held: Sequence[OpenTask], at: Header) -> list[OpenTask]:
    """The responses are still there in a final block. Return the tasks that moved."""
    why = f"final at block {at.number}"
    ours = move_all(tx, [one for one in held if one.state is State.RESPONDED], State.FINAL, why)
    return ours + move_all(tx, [one for one in held if one.state is State.RESPONDED_OTHER], State.FINAL_OTHER, why)


def taken_back(tx: Tx, held: Sequence[OpenTask], at: Header) -> None:
    """A final block holds another response than the one we saw, or none."""
    reopen(tx, held, f"block {at.number} does not hold the response we saw")


def expired(tx: Tx, held: Sequence[OpenTask]) -> list[OpenTask]:
    """A final head is past the deadline and the contract holds no response.

    Return the tasks that moved, without those whose deadline was past before the ledger was begun.
    """
    before = over_before(tx.conn, held)
    why = "a final block is past the deadline, and the contract holds no response"
    move_all(tx, [one for one in held if one.row_id in before], State.EXPIRED, f"past its deadline {BEFORE}")
    return move_all(tx, [one for one in held if one.row_id not in before], State.EXPIRED, why)


def explained(tx: Tx, words: Mapping[int, str]) -> None:
    """Add to what is known of the trouble with these rows, all of which have expired."""
    for row_id, more in words.items():
        mine = (tasks.c.id == row_id, tasks.c.state == State.EXPIRED)
        known = tx.conn.execute(select(tasks.c.error).where(*mine)).scalar()
        tx.conn.execute(update(tasks).where(*mine).values(error=f"{more}; before: {known}" if known else more))


def never_there(tx: Tx, held: Sequence[OpenTask], at: Header, *, empty: bool = False) -> None:
    """The contract holds another task at this index, or none (`empty`), although a log in a final block says so."""
    what = "no task" if empty else "another task"
    why = f"at block {at.number} the contract holds {what} at this index, although its log is final"
    forged = [one for one in held if one.state is State.SEEN]
    gone = {"error": why, "canonical": False}  # the true task of this index is another row
    move_all(tx, forged, State.QUARANTINED, why, lambda _: gone)
    move_all(tx, [one for one in held if one.state is not State.SEEN], State.ORPHANED, why, lambda _: gone)


def not_there(tx: Tx, held: OpenTask, why: str, at_block: int = 0, after_ms: int = 0) -> None:
    """Sent, and the chain shows nothing of it: it may be sent again, from `at_block` on and after so many ms."""
    due: dict[str, Any] = {"due_block": at_block, "due_at_ms": tx.now_ms + after_ms}
    move(tx, held, State.WAITING, why, error=why, **due)


def postponed(tx: Tx, held: Sequence[tuple[OpenTask, str]], at_block: int) -> None:
    """These could not be read, each for its own reason; the next look is due at `at_block`."""
    if held:
        tx.conn.execute(AS_HELD, [as_held(one, {"due_block": at_block, "error": why}) for one, why in held])


def look_again(tx: Tx, held: Sequence[OpenTask], at_block: int, error: str | None = None) -> None:
    """Nothing is known yet; the next look is due at `at_block`. Whoever has moved meanwhile is left alone."""
    columns: dict[str, Any] = {"due_block": at_block, **PRESENT} | ({"error": error} if error else {})
    if held:
        tx.conn.execute(AS_HELD, [as_held(one, columns) for one in held])
