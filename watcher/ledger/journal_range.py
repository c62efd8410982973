"""The transitions of tasks in a range of the journal, for metrics and alerts.

Most states are entered by every task on its way, and only counted: a row of each costs a burst a few percent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from watcher.ledger.columns import Few
from watcher.ledger.history import IS_HISTORY
from watcher.ledger.prepared import Question
from watcher.ledger.rows import STATES
from watcher.ledger.tables import attempts, journal, sources, tasks
from watcher.state import State

LISTED = frozenset(
    {
        State.SENDING,
        State.RESPONDED,
        State.RESPONDED_OTHER,
        State.FINAL,
        State.FINAL_OTHER,
        State.EXPIRED,
        State.FAILED,
    }
)
"""The states of which each entry is listed, with its task and its time."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the journal. `number` is the attempt's number among its kind, None without an attempt."""

    task_index: int
    from_state: State | None
    to_state: State
    at_ms: int
    seen_at_ms: int
    number: int | None
    why: str
    is_history: bool = False


@dataclass(frozen=True, slots=True)
class Transitions:
    """Transitions: those into `LISTED` line by line, oldest first, and of all others how many, by (from, to)."""

    lines: Sequence[Transition]
    counts: Mapping[tuple[State | None, State], int]


def last_move(conn: Connection) -> int:
    """Return the id of the newest journal line, 0 for an empty journal."""
    return conn.execute(_LAST_MOVE).scalar() or 0


def transitions_between(conn: Connection, source_id: int, after: int, upto: int) -> Transitions:
    """Return the transitions of a source's tasks in the journal lines after line `after` and up to line `upto`."""
    counts = Counter(tuple(row) for row in _COUNTED.rows(conn, source_id, after, upto))
    lines = [
        Transition(index, STATES[was] if was else None, STATES[to], at_ms, seen_at_ms, number, why, bool(is_history))
        for index, was, to, at_ms, seen_at_ms, number, why, is_history in _LISTED.rows(conn, source_id, after, upto)
    ]
    by_states = {(STATES[was] if was else None, STATES[to]): count for (was, to), count in counts.items()}
    return Transitions(lines, by_states)


_LAST_MOVE = select(func.max(journal.c.id))
_RANGE = (
    Few(journal.c.id > bindparam("after")),
    journal.c.id <= bindparam("upto"),
    # `+ 0` hides the indices that begin with the source (`rows.of_source`).
    tasks.c.source_id + 0 == bindparam("source"),
)
_ARGUMENTS = ["source", "after", "upto"]
_COUNTED = Question(
    select(journal.c.from_state, journal.c.to_state)
    .join(tasks, tasks.c.id == journal.c.task_id)
    .where(*_RANGE, journal.c.to_state.not_in(sorted(LISTED))),
    _ARGUMENTS,
)
_LISTED = Question(
    select(
        tasks.c.task_index,
        journal.c.from_state,
        journal.c.to_state,
        journal.c.at_ms,
        tasks.c.seen_at_ms,
        attempts.c.number,
        journal.c.why,
        IS_HISTORY,
    )
    .join(tasks, tasks.c.id == journal.c.task_id)
    .join(sources, sources.c.id == tasks.c.source_id)
    .outerjoin(attempts, attempts.c.id == journal.c.attempt_id)
    .where(*_RANGE, journal.c.to_state.in_(sorted(LISTED)))
    .order_by(journal.c.id),
    _ARGUMENTS,
)
