"""The verbs of the stage `watch` that store the logs of a range of blocks.

Invariant: tasks, responses and the cursor that covers them move in one transaction.
"""

from collections.abc import Collection, Iterable, Sequence, Set
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, case, insert, select, update

from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.record import COLUMNS
from watcher.ledger.engine import insert_into
from watcher.ledger.finality import store_final
from watcher.ledger.prepared import Prepared, Question, Values
from watcher.ledger.row_ids import new_ids
from watcher.ledger.rows import chunks, sighting_columns, task_columns
from watcher.ledger.tables import blocks, responses, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.transitions import add_to_journal, flag_named, known_at, transition_rows
from watcher.ledger.wakes import wake_due
from watcher.state import GIVEN_UP, UNSETTLED, State
from watcher.task import Header, Responded, Task

# The states in which a response event matters. A late answer may still come for a task that was given up.
_CONCERNED = sorted(UNSETTLED | GIVEN_UP)

# Built once: building a statement costs more than running it, and these run for each block.
_OF_SOURCE = tasks.c.source_id == bindparam("source")
_HEAD = bindparam("head", type_=sources.c.head_block.type)
_L1_BLOCK = bindparam("l1_block", type_=sources.c.head_l1_block.type)
_CLOSED = bindparam("closed", type_=sources.c.begun_closed_block.type)
_IS_HIGHER = sources.c.head_block > _HEAD
_MOVE_CURSOR = Prepared(
    update(sources)
    .where(sources.c.id == bindparam("source"))
    .values(
        cursor_block=bindparam("number"),
        cursor_hash=bindparam("hash"),
        head_block=case((_IS_HIGHER, sources.c.head_block), else_=_HEAD),
        head_l1_block=case((_IS_HIGHER, sources.c.head_l1_block), else_=_L1_BLOCK),
        # If a node invented the head at the beginning, all later tasks would count as history.
        begun_block=case((sources.c.begun_block > _HEAD, _HEAD), else_=sources.c.begun_block),
        begun_closed_block=case((sources.c.begun_closed_block > _CLOSED, _CLOSED), else_=sources.c.begun_closed_block),
    ),
    ["source", "number", "hash", "head", "l1_block", "closed"],
)
_OF_INDICES = select(
    tasks.c.id, tasks.c.task_index, tasks.c.task_hash, tasks.c.state, tasks.c.block_hash, tasks.c.canonical
).where(_OF_SOURCE)
_KNOWN = _OF_INDICES.where(tasks.c.task_index.in_(bindparam("indices", expanding=True)))
_KNOWN_ALONE = Question(_OF_INDICES.where(tasks.c.task_index == bindparam("index")), ["source", "index"])
_BOUND = COLUMNS[Bound.TASKS]
_UNBOUND = {"due_block": 0, "lease_until_ms": 0, "fence": 0, "look_again": False}
_NEW_TASK = Prepared(insert(tasks), names := (*_BOUND, *_UNBOUND, "due_at_ms"), sets=names)
_FLAG_CONCERNED = (
    update(tasks)
    .where(_OF_SOURCE, tasks.c.task_index.in_(bindparam("indices", expanding=True)), tasks.c.state.in_(_CONCERNED))
    .values(look_again=True)
)


@cache
def _remember_block(dialect: str) -> Prepared:
    statement = insert_into(blocks, dialect)
    names = ("source_id", "number", "hash")
    newest = {"hash": statement.excluded.hash}
    return Prepared(statement.on_conflict_do_update(index_elements=names[:2], set_=newest), names, names)


@cache
def _new_response(dialect: str) -> Any:
    statement = insert_into(responses, dialect).on_conflict_do_nothing(
        index_elements=["source_id", "block_hash", "tx_hash", "log_index", "task_index", "response_hash"]
    )
    return statement.returning(responses.c.id)


def record(
    tx: Tx,
    source_id: int,
    decoded: Sequence[Task],
    answered: Sequence[Responded],
    upto: Header,
    head_block: int,
    head_l1_block: int | None = None,
    proved: Collection[Task] = (),
    final: tuple[Header, bool] | None = None,
) -> list[Task]:
    """Store the logs of the blocks up to `upto`, and move the cursor there. Return the new tasks.

    Args:
        tx: the transaction.
        source_id: the task manager.
        decoded: the tasks in these blocks.
        answered: the response events in these blocks.
        upto: the last block.
        head_block: the head of the chain.
        head_l1_block: the parent chain's block in that head, None if contracts do not count those.
        proved: tasks that the contract holds at `upto`, which is the head. The new ones of them, if their window is
            open, are `ready` at once.
        final: a new final block, not above `upto`, and whether it is firm, as `finalise` stores it.
    """
    closed_block = Header(head_block, b"", b"", 0, head_l1_block).closed_block
    in_window = [task for task in proved if task.deadline_block is None or task.deadline_block > closed_block]
    new = store_tasks(tx, source_id, decoded, in_window, upto.number)
    store_responses(tx, source_id, answered)
    block = (source_id, upto.number, upto.hash)
    _remember_block(tx.conn.dialect.name).run(tx.conn, [block])
    _MOVE_CURSOR.run(tx.conn, [(*block, head_block, head_l1_block, closed_block)])
    tx.blocks_read = True
    if final is not None:
        store_final(tx, source_id, *final)
    wake_due(tx, source_id)
    return new


def store_tasks(
    tx: Tx, source_id: int, decoded: Sequence[Task], proved: Collection[Task] = (), at_block: int = 0
) -> list[Task]:
    """Insert the new tasks, and update the place of the known ones. Return the new ones.

    Those of the new ones that are `proved`, at `at_block`, are `ready` in the same transaction.
    """
    if not decoded:
        return []
    known = {(row[1], row[2]): row for row in _known(tx.conn, source_id, sorted({task.task_index for task in decoded}))}
    fresh = {(task.task_index, task.task_hash): task for task in decoded}
    new = [task for key, task in fresh.items() if key not in known]
    if new:
        _insert(tx, source_id, new, {(task.task_index, task.task_hash) for task in proved}, at_block)
    for key, task in fresh.items():
        if key in known:
            row_id, _, _, state, block_hash, is_canonical = known[key]
            if not (is_canonical and block_hash == task.seen_at.block_hash):
                _seen_again(tx, row_id, State(state), task)
    return new


def _known(conn: Connection, source_id: int, indices: Sequence[int]) -> Iterable[Values]:
    """Return the tasks that the ledger has at these indices, as the columns of `_OF_INDICES`."""
    if len(indices) == 1:  # a task alone in its block: nobody waits with it
        return _KNOWN_ALONE.rows(conn, source_id, indices[0])
    return [
        tuple(row) for chunk in chunks(indices) for row in conn.execute(_KNOWN, {"source": source_id, "indices": chunk})
    ]


def _insert(tx: Tx, source_id: int, new: Sequence[Task], proved: Set[tuple[int, bytes]], at_block: int) -> None:
    ids = new_ids(tx.conn, tasks, len(new))
    rows = [_row(tx, id_, source_id, task) for id_, task in zip(ids, new, strict=True)]
    _NEW_TASK.run(tx.conn, [(*row, *_UNBOUND.values(), tx.now_ms) for row in rows])
    tx.changes.keep(Bound.TASKS, rows)
    awaited = State.SEEN in tx.entered
    add_to_journal(tx, ids, None, State.SEEN, "its log was read")
    flag_named(tx, ids)
    ready = [id_ for id_, task in zip(ids, new, strict=True) if (task.task_index, task.task_hash) in proved]
    transition_rows(tx, ready, State.SEEN, State.READY, known_at(at_block))
    if len(ready) == len(rows) and not awaited:
        tx.entered.discard(State.SEEN)  # none of them waits for the stage that admits


def _seen_again(tx: Tx, row_id: int, state: State, task: Task) -> None:
    tx.conn.execute(update(tasks).where(tasks.c.id == row_id).values(**sighting_columns(task), canonical=True))
    tx.changes.write(Bound.TASKS, [row_id])
    if state is State.ORPHANED:
        transition_rows(
            tx, [row_id], state, State.SEEN, f"the chain brought it back in block {task.seen_at.block_number}"
        )
        flag_named(tx, [row_id])
    elif state is State.QUARANTINED:
        # The log may be forged again: the contract is asked before the task is reopened.
        tx.conn.execute(update(tasks).where(tasks.c.id == row_id).values(look_again=True))
        tx.due.add(State.UNKNOWN)
    else:
        tx.entered.add(state)


def store_responses(tx: Tx, source_id: int, answered: Sequence[Responded]) -> None:
    """Insert the response events, and flag the tasks they name, so that the contract is asked about them.

    An event may be forged, so it changes neither the state nor the due time of a task.
    """
    if not answered:
        return
    new = tx.conn.execute(
        _new_response(tx.conn.dialect.name),
        [
            {
                "source_id": source_id,
                "task_index": response.task_index,
                "message": response.message,
                "log": response.log,
                "response_hash": response.response_hash,
                "block_number": response.seen_at.block_number,
                "block_hash": response.seen_at.block_hash,
                "tx_hash": response.seen_at.tx_hash,
                "log_index": response.seen_at.log_index,
                "block_time_s": response.seen_at.block_time_s or None,
            }
            for response in answered
        ],
    )
    tx.changes.write(Bound.RESPONSES, new.scalars())
    tx.changes.source_id = source_id
    for chunk in chunks(sorted({response.task_index for response in answered})):
        tx.conn.execute(_FLAG_CONCERNED, {"source": source_id, "indices": chunk})
    tx.due.add(State.UNKNOWN)


def _row(tx: Tx, id_: int, source_id: int, task: Task) -> Values:
    """Return the bound columns of a new task."""
    columns = {
        "id": id_,
        "source_id": source_id,
        **task_columns(task),
        "canonical": True,
        "state": State.SEEN.value,
        "hook_attempts": 0,
        "attempts": 0,
        "seen_at_ms": tx.now_ms,
        "updated_at_ms": tx.now_ms,
    }
    return tuple(map(columns.get, _BOUND))
