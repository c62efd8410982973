"""The question of a commit that moves head or final block: which states have tasks that wait for it no longer.

Invariant: whatever a stage's own question (`to_admit`, `claim`, `to_confirm`, `to_look_again`, `to_finalise`,
`past_deadline`) returns for the new marks has its state here, so that no task waits for the next idle poll.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, exists, select, text

from watcher.ledger.prepared import Question
from watcher.ledger.rows import FINAL_CLOSED
from watcher.ledger.tables import LOOK_AGAIN, OPEN, sources, tasks
from watcher.ledger.transaction import Tx
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
_NOW_MS = bindparam("now_ms", type_=BigInteger())


def _due(states: Iterable[State], *where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that a task of these states is due: in its block, in its time, and without a lease."""
    # The states are part of the text: SQLAlchemy writes a list of parameters anew each time, and each block asks.
    is_of_states = text("tasks.state IN (" + ", ".join(f"'{state}'" for state in states) + ")")
    return exists(
        select(tasks.c.id).where(
            _MINE,
            is_of_states,
            OPEN,
            tasks.c.canonical,
            tasks.c.due_block <= sources.c.head_block,
            tasks.c.due_at_ms <= _NOW_MS,
            tasks.c.lease_until_ms <= _NOW_MS,
            *where,
        )
    )


_OF_CONFIRM = (
    exists(select(tasks.c.id).where(_MINE, LOOK_AGAIN)),
    _due(_SETTLABLE, tasks.c.deadline_block < FINAL_CLOSED),
)
# A state for each column, in their order.
_WOKEN = (*_BY_HEAD, State.RESPONDED, *[State.UNKNOWN for _ in _OF_CONFIRM])
_IS_DUE: list[Any] = [
    *(_due(states) for states in _BY_HEAD.values()),
    _due(sorted(RESPONDED), tasks.c.responded_block <= sources.c.final_block),
    *_OF_CONFIRM,
]
_DUE = Question(select(*_IS_DUE).where(sources.c.id == bindparam("source")), ["source", "now_ms"])


def wake_due(tx: Tx, source_id: int) -> None:
    """Note the states with due tasks in `tx.due`, by the marks as this transaction leaves them."""
    for row in _DUE.rows(tx.conn, source_id, tx.now_ms):
        tx.due.update(state for state, is_due in zip(_WOKEN, row, strict=True) if is_due)
