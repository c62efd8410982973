"""The question of a commit that moves head or final block: which states have tasks that wait for it no longer.

Invariant: whatever a stage's own question (`to_admit`, `claim`, `to_confirm`, `to_look_again`, `to_finalise`,
`past_deadline`) returns for the new marks has its state here, so that no task waits for the next idle poll.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, bindparam, exists, select

from watcher.ledger.rows import FINAL_CLOSED
from watcher.ledger.tables import LOOK_AGAIN, OPEN, sources, tasks
from watcher.ledger.writer import Tx
from watcher.state import RESPONDED, UNSETTLED, State

# One state stands for each stage, and for each set of states that the stage takes.
_BY_HEAD = {
    State.SEEN: [State.SEEN],
    State.READY: [State.READY],
    State.COMPUTED: [State.COMPUTED, State.WAITING, State.BLOCKED],
    State.UNKNOWN: [State.UNKNOWN, State.ACCEPTED],
}
_SETTLABLE = sorted(UNSETTLED - {State.SENDING})
_MINE = tasks.c.source_id == bindparam("source")


def _due(states: Iterable[State], *where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that a task of these states is due: in its block, in its time, and without a lease."""
    return exists(
        select(tasks.c.id).where(
            _MINE,
            tasks.c.state.in_(list(states)),
            OPEN,
            tasks.c.canonical,
            tasks.c.due_block <= sources.c.head_block,
            tasks.c.due_at_ms <= bindparam("now_ms"),
            tasks.c.lease_until_ms <= bindparam("now_ms"),
            *where,
        )
    )


_DUE = select(
    *(_due(states).label(state) for state, states in _BY_HEAD.items()),
    exists(select(tasks.c.id).where(_MINE, LOOK_AGAIN)).label("look_again"),
    _due(sorted(RESPONDED), tasks.c.responded_block <= sources.c.final_block).label(State.RESPONDED),
    _due(_SETTLABLE, tasks.c.deadline_block < FINAL_CLOSED).label("past_deadline"),
).where(sources.c.id == bindparam("source"))
_OF_CONFIRM = ("look_again", "past_deadline")


def wake_due(tx: Tx, source_id: int) -> None:
    """Note the states with due tasks in `tx.due`, by the marks as this transaction leaves them."""
    row = tx.conn.execute(_DUE, {"source": source_id, "now_ms": tx.now_ms}).one_or_none()
    if row is None:
        return
    tx.due |= {state for state in (*_BY_HEAD, State.RESPONDED) if row._mapping[state]}
    if any(row._mapping[name] for name in _OF_CONFIRM):
        tx.due.add(State.UNKNOWN)
