"""The only file that changes a task's state.

Invariant: every change is a legal transition, made by compare-and-set on the state (and the fence, if a lease is held),
and adds a line to the journal in the same transaction.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import bindparam, exists, insert, select, update

from watcher.errors import IllegalMove, LostLease
from watcher.ledger.audit.changes import Bound
from watcher.ledger.audit.record import COLUMNS
from watcher.ledger.columns import Among, BoundedText
from watcher.ledger.prepared import Prepared, Question, Row, Values
from watcher.ledger.row_ids import new_ids
from watcher.ledger.tables import WORDS_LIMIT, journal, responses, tasks
from watcher.ledger.transaction import Tx
from watcher.state import ENDED, GIVEN_UP, LEGAL, UNSETTLED, State
from watcher.task import OpenTask

# Built once, because building a statement costs more than running it. The parameters name the columns to set.
IF_UNCHANGED = update(tasks).where(
    tasks.c.id == bindparam("row"), tasks.c.state == bindparam("was"), tasks.c.fence == bindparam("taken_fence")
)
# No absence is known of the task: a transition, or a reading that shows the thing, has refuted it.
PRESENT: Mapping[str, None] = {"absent": None, "absent_block": None, "absent_at_ms": None}
_NEW_LINE = Prepared(insert(journal), COLUMNS[Bound.JOURNAL], sets=COLUMNS[Bound.JOURNAL])
_FLAG_NAMED = Prepared(
    update(tasks)
    .where(
        Among(tasks.c.id, "rows"),
        exists().where(responses.c.source_id == tasks.c.source_id, responses.c.task_index == tasks.c.task_index),
    )
    .values(look_again=True),
    ["rows"],
)
_BOUND = COLUMNS[Bound.TASKS]
_PLACES = {name: place for place, name in enumerate(_BOUND)}
_STATE = _PLACES["state"]
_LOCK = Question(
    select(*(tasks.c[name] for name in _BOUND), tasks.c.fence, tasks.c.lease_until_ms)
    .where(Among(tasks.c.id, "rows"))
    .order_by(tasks.c.id)
    .with_for_update(),
    ["rows"],
)


def if_unchanged(task: OpenTask, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `IF_UNCHANGED`."""
    return {"row": task.row_id, "was": task.state, "taken_fence": task.fence, **columns}


def transition(tx: Tx, task: OpenTask, to: State, why: str, **columns: Any) -> None:
    """Move a task to state `to`.

    Args:
        tx: the transaction.
        task: the task as it was taken.
        to: the new state.
        why: the reason, for the journal.
        **columns: further columns to set.

    Raises:
        LostLease: state or fence of the row have changed since the task was taken.
        IllegalMove: the state machine has no such transition.
    """
    (error,) = transition_each(tx, [Change(task, to, why, columns)])
    if error is not None:
        raise error


def transition_all(
    tx: Tx,
    batch: Sequence[OpenTask],
    to: State,
    why: str,
    columns: Callable[[OpenTask], dict[str, Any]] = lambda _: {},
) -> list[OpenTask]:
    """Move the tasks that are unchanged since they were taken, and return them.

    Args:
        tx: the transaction.
        batch: the tasks as they were taken.
        to: their new state.
        why: the reason, for the journal.
        columns: returns further columns to set, with the same names for each task.

    Raises:
        IllegalMove: the state machine has no such transition.
    """
    errors = transition_each(tx, [Change(task, to, why, columns(task)) for task in batch])
    return [task for task, error in zip(batch, errors, strict=True) if error is None]


@dataclass(frozen=True, slots=True)
class Change:
    """The transition of one task from the state in which it was taken to `to`, for the reason `why`.

    Attributes:
        task: the task as it was taken.
        to: the new state.
        why: the reason, for the journal.
        columns: further columns to set.
        attempt_id: the attempt that causes it.
        unless_none: columns to set to these values; None leaves the one that the row has.
        where_none: columns to set only where the row has none.
    """

    task: OpenTask
    to: State
    why: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    attempt_id: int | None = None
    unless_none: Mapping[str, Any] = field(default_factory=dict)
    where_none: Mapping[str, Any] = field(default_factory=dict)


def transition_each(tx: Tx, changes: Sequence[Change], *, leased: bool = False) -> list[LostLease | None]:
    """Move each task that is unchanged since it was taken. Return None for it, and LostLease for any other.

    Changes that set the same columns share one statement. Of two changes of one task the second is lost.

    Args:
        tx: the transaction.
        changes: the transitions.
        leased: a task without a lease, as its holder has released it, is lost, too.

    Raises:
        IllegalMove: the state machine has no such transition.
    """
    rows = lock(tx, [change.task for change in changes], leased=leased)
    transition_locked(tx, changes, rows)
    return [lost(change.task) if row is None else None for change, row in zip(changes, rows, strict=True)]


def lost(task: OpenTask) -> LostLease:
    """Return the error for a task that another holder has changed since it was taken."""
    return LostLease(f"task {task.task.task_index} has changed, or another worker has taken it")


def lock(tx: Tx, batch: Sequence[OpenTask], *, leased: bool = False) -> list[Row | None]:
    """Lock the rows of the tasks. Return the row of each whose state and fence are unchanged since it was taken.

    A second copy of a task gets None; with `leased`, a task without a lease, too.
    """
    present = {row[0]: row for row in _LOCK.rows(tx.conn, [task.row_id for task in batch]) if row[-1] > 0 or not leased}
    rows: list[Row | None] = []
    for task in batch:
        row = present.get(task.row_id)
        is_unchanged = row is not None and row[_STATE] == task.state and row[-2] == task.fence
        rows.append(present.pop(task.row_id) if is_unchanged else None)
    return rows


def transition_locked(tx: Tx, changes: Sequence[Change], rows: Sequence[Row | None]) -> None:
    """Make the transitions of rows that `lock` has returned in this transaction; those without a row are left out.

    Raises IllegalMove if the state machine has no such transition.
    """
    made = [(change, row) for change, row in zip(changes, rows, strict=True) if row is not None]
    if not made:
        return
    transitions = Counter((change.task.state, change.to) for change, _ in made)
    for from_, to in transitions:
        refuse_illegal(from_, to)
    always = {to: _columns(tx, to) for _, to in transitions}
    set_columns(tx, [(change.task, row, {**always[change.to], **_resolved(change, row)}) for change, row in made])
    if given_up := [change.task.row_id for change, _ in made if change.to in GIVEN_UP]:
        flag_named(tx, given_up)
    _append(tx, [_line(tx, change) for change, _ in made])
    for (from_, to), count in transitions.items():
        tx.entered.add(to)
        tx.count_ends(made[0][0].task.row_id, from_, to, count)


def _resolved(change: Change, row: Values) -> Mapping[str, Any]:
    """Return the columns to set, where some depend on what the row has."""
    if not change.unless_none and not change.where_none:
        return change.columns
    present = {name: row[_PLACES[name]] for name in change.where_none}
    absent = {name: value if present[name] is None else present[name] for name, value in change.where_none.items()}
    return {**change.columns, **unless_none(row, change.unless_none), **absent}


def unless_none(row: Values, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns to set: of a row that `lock` has returned, its own value where the new one is None."""
    return {name: row[_PLACES[name]] if value is None else value for name, value in values.items()}


def set_columns(tx: Tx, edits: Sequence[tuple[OpenTask, Row, Mapping[str, Any]]]) -> None:
    """Set columns of rows that `lock` has returned in this transaction, and bind the rows.

    Each edit has the task, its row, and the columns. Those that set the same columns share one statement.
    """
    groups: dict[tuple[str, ...], list[tuple[OpenTask, Row, Mapping[str, Any]]]] = {}
    for edit in edits:
        groups.setdefault(tuple(edit[2]), []).append(edit)
    for names, group in groups.items():
        _setting(names).run(tx, group)


class _Setting:
    """The update that sets these columns of rows that are locked and unchanged."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._update = Prepared(IF_UNCHANGED, (*names, "row", "was", "taken_fence"), sets=names)
        types = {name: tasks.c[name].type for name in names}
        self._texts = [(place, type_) for place, type_ in enumerate(types.values()) if isinstance(type_, BoundedText)]
        self._bound = [(place, _PLACES[name]) for place, name in enumerate(names) if name in _PLACES]

    def run(self, tx: Tx, edits: Sequence[tuple[OpenTask, Row, Mapping[str, Any]]]) -> None:
        """Set the columns, and bind the rows."""
        parameters: list[Values] = []
        bound: list[Values] = []
        for task, row, columns in edits:
            values = list(columns.values())
            for place, text in self._texts:
                values[place] = text.stored(values[place])
            new = row[: len(_BOUND)]
            for place, place_in_row in self._bound:
                new[place_in_row] = values[place]
            bound.append(new)
            parameters.append((*values, task.row_id, row[_STATE], task.fence))
        self._update.run(tx.conn, parameters)
        tx.changes.keep(Bound.TASKS, bound)


_setting = cache(_Setting)


def flag_named(tx: Tx, rows: Sequence[int]) -> None:
    """Flag the tasks (row ids) that a response event in the ledger names, so that the contract is asked about them."""
    _FLAG_NAMED.run(tx.conn, [(rows,)])


def reopen(tx: Tx, batch: Sequence[OpenTask], why: str) -> None:
    """Reopen tasks whose response is not on the chain any more: to `unknown` with an answer of ours, else to `seen`.

    Another response event may still name such a task, so the contract is asked again.
    """
    names = ("responded_block", "responded_time_s", "responded_tx_hash", "responded_by", "response_hash")
    gone = {**dict.fromkeys(names), "look_again": True}
    transition_all(tx, [task for task in batch if task.response is not None], State.UNKNOWN, why, lambda _: gone)
    transition_all(tx, [task for task in batch if task.response is None], State.SEEN, why, lambda _: gone)


def transition_rows(tx: Tx, rows: Sequence[int], from_: State, to: State, why: str, **columns: Any) -> None:
    """Move rows (ids) that the caller has read and locked in the same transaction.

    `columns`: further columns to set, none of them a text. Raises IllegalMove if the state machine has no such
    transition.
    """
    if not rows:
        return
    refuse_illegal(from_, to)
    setting = {**_columns(tx, to), **columns}
    _setting_rows(tuple(setting)).run(tx.conn, [(*setting.values(), rows)])
    if to in GIVEN_UP:
        flag_named(tx, rows)
    add_to_journal(tx, rows, from_, to, why)
    tx.changes.write(Bound.TASKS, rows)


@cache
def _setting_rows(names: tuple[str, ...]) -> Prepared:
    """Return the update that sets these columns of many rows alike."""
    return Prepared(update(tasks).where(Among(tasks.c.id, "rows")), (*names, "rows"), sets=names)


def known_at(block: int) -> str:
    """Return the reason, for the journal, of a task that the contract holds at a block."""
    return f"the contract knows it at block {block}"


def refuse_illegal(from_: State, to: State) -> None:
    """Raise IllegalMove if the state machine has no transition between these states."""
    if to not in LEGAL[from_]:
        raise IllegalMove(f"there is no transition from {from_} to {to}")


def add_to_journal(tx: Tx, rows: Sequence[int], from_: State | None, to: State, why: str) -> None:
    """Append one journal line per row id, and wake the stage of state `to` after the commit."""
    why = _WHY.stored(why) or ""
    was = None if from_ is None else from_.value
    _append(tx, [(row, tx.now_ms, was, to.value, why, None) for row in rows])
    tx.count_ends(rows[0], from_, to, len(rows))
    tx.entered.add(to)


_WHY = BoundedText(WORDS_LIMIT)


def _append(tx: Tx, lines: Sequence[Values]) -> None:
    """Append lines to the journal, each without its id, and bind them."""
    ids = new_ids(tx.conn, journal, len(lines))
    rows = [(id_, *line) for id_, line in zip(ids, lines, strict=True)]
    _NEW_LINE.run(tx.conn, rows)
    tx.changes.keep(Bound.JOURNAL, rows)


def _line(tx: Tx, change: Change) -> Values:
    task = change.task
    return (task.row_id, tx.now_ms, str(task.state), str(change.to), _WHY.stored(change.why), change.attempt_id)


def _columns(tx: Tx, to: State) -> dict[str, Any]:
    """Return the columns that each transition to this state sets."""
    released = {"lease_until_ms": 0} if to is not State.SENDING else {}
    due = {"due_at_ms": tx.now_ms, "due_block": 0} if to not in ENDED else {}
    looked = {} if to in UNSETTLED else {"look_again": False}
    return {"state": to.value, "updated_at_ms": tx.now_ms, **PRESENT, **looked, **due, **released}
