"""The tasks that a person looks for: by state, time, blocks, who answered and reason, by an index where there is one.

Row ids are found first, by one statement; the rows follow in pages, so that no long read keeps the write-ahead log from
shrinking while the output waits for its reader.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import NoneType
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Select,
    TextClause,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.engine import Row
from sqlalchemy.types import NULLTYPE

from watcher.ledger.columns import Uint256, uint256
from watcher.ledger.history import IS_HISTORY
from watcher.ledger.rows import of_source
from watcher.ledger.tables import HAS_ENDED, HAS_RESPONSE, OPEN, TASK_TIME_S, UNTIMED, attempts, journal, sources, tasks
from watcher.state import ENDED, State

PAGE = 2000
"""The rows that are read at once, at most."""
# Most tasks of a ledger are in these states, so that another index narrows the search more.
_COMMON = frozenset({State.FINAL, State.FINAL_OTHER, State.DELIVERED})


Condition = ColumnElement[bool] | TextClause


class Responder(StrEnum):
    """Who gave the response that the chain shows."""

    OURS = "ours"
    OTHER = "other"


_ANSWERED = {
    Responder.OURS: (State.RESPONDED, State.FINAL),
    Responder.OTHER: (State.RESPONDED_OTHER, State.FINAL_OTHER),
}


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """The tasks to find; None: any.

    Attributes:
        state: their state.
        since_ms: the earliest time of their block, in milliseconds since 1970. Until that is known, the time at which
            the daemon saw the task stands in for it.
        until_ms: the end of these times, itself excluded.
        first_block: the lowest block of their logs.
        last_block: the highest one.
        answered_by: who answered, or the address (20 bytes) that sent the response.
        reason: a text in their error, or in the reason of their last transition; case does not count.
    """

    state: State | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    first_block: int | None = None
    last_block: int | None = None
    answered_by: Responder | bytes | None = None
    reason: str | None = None

    @property
    def is_everything(self) -> bool:
        return self == TaskFilter()

    @property
    def reads_all(self) -> bool:
        """True if no index narrows the search."""
        narrowed = (self.state, self.since_ms, self.until_ms, self.first_block, self.last_block)
        return all(value is None for value in narrowed) and not isinstance(self.answered_by, bytes)


def matching(
    conn: Connection,
    source_id: int,
    task_filter: TaskFilter,
    limit: int | None = None,
    *,
    reverse: bool = False,
    below: tuple[int, int] | None = None,
) -> "array[int]":
    """Return the row ids of the tasks that match, in the order of their index.

    Args:
        conn: a connection.
        source_id: the task manager.
        task_filter: the tasks to find.
        limit: the most ids; None: all.
        reverse: the highest index comes first.
        below: with `reverse`, the index and the row id of the task behind which to go on.
    """
    conditions, is_sorted = _conditions(source_id, task_filter)
    # `+` hides the index of all tasks, by whose order SQLite would read every task instead of the few that match.
    index = tasks.c.task_index if is_sorted else literal_column("+tasks.task_index", tasks.c.task_index.type)
    order = (index.desc(), tasks.c.id.desc()) if reverse else (index, tasks.c.id)
    query = select(tasks.c.id).where(*conditions).order_by(*order).limit(limit)
    if below is not None:
        query = query.where(index <= below[0], or_(index < below[0], tasks.c.id < below[1]))
    return _read_all(conn, query) if task_filter.reads_all else array("q", conn.execute(query).scalars())


def _read_all(conn: Connection, query: Select[Any]) -> "array[int]":
    """Return the ids of a search that no index narrows: it reads every task."""
    return array("q", conn.execute(query).scalars())


def _conditions(source_id: int, task_filter: TaskFilter) -> tuple[list[Condition], bool]:
    """Return the conditions, and True if an index gives the tasks that meet them in the order of their index."""
    by_blocks = task_filter.first_block is not None or task_filter.last_block is not None
    by_time = task_filter.since_ms is not None or task_filter.until_ms is not None
    by_sender = isinstance(task_filter.answered_by, bytes)
    by_state = task_filter.state is not None and not (
        (by_blocks or by_time or by_sender) and task_filter.state in _COMMON
    )
    where = [] if not by_state else _by_state(task_filter.state)
    if task_filter.state is not None and not by_state:
        where.append(tasks.c.state == task_filter.state)
    where += _range(tasks.c.block_number, task_filter.first_block, task_filter.last_block, hide=by_state or by_sender)
    where += _times(task_filter, hide=by_state or by_sender or by_blocks)
    if isinstance(task_filter.answered_by, bytes):
        where += [HAS_RESPONSE, tasks.c.responded_by == task_filter.answered_by]
    elif task_filter.answered_by is not None:
        where.append(tasks.c.state.in_(_ANSWERED[task_filter.answered_by]))
    if task_filter.reason is not None:
        where.append(_gives(task_filter.reason))
    in_order = task_filter.reads_all or (by_state and task_filter.state in ENDED)
    own = tasks.c.source_id == source_id if in_order or by_state else of_source(tasks, source_id)
    return [own, *where], in_order


def _by_state(state: State | None) -> list[Condition]:
    return [tasks.c.state == state, HAS_ENDED if state in ENDED else OPEN]


def _range(
    column: ColumnElement[int], lowest: int | None, highest: int | None, *, hide: bool
) -> list[ColumnElement[bool]]:
    searched = column + 0 if hide else column
    return ([] if lowest is None else [searched >= lowest]) + ([] if highest is None else [searched <= highest])


def _times(task_filter: TaskFilter, *, hide: bool) -> list[ColumnElement[bool]]:
    # Times of blocks are whole seconds: those from `since` on, and those before `until`.
    time_s: ColumnElement[int] = literal_column(f"{TASK_TIME_S.text} + 0" if hide else TASK_TIME_S.text)
    first_s = None if task_filter.since_ms is None else -(-task_filter.since_ms // 1000)
    end_s = None if task_filter.until_ms is None else -(-task_filter.until_ms // 1000)
    return ([] if first_s is None else [time_s >= first_s]) + ([] if end_s is None else [time_s < end_s])


def _gives(reason: str) -> ColumnElement[bool]:
    """Return the condition that the error of a task holds a text, or the journal where the task entered its state."""
    entered = and_(journal.c.task_id == tasks.c.id, journal.c.to_state == tasks.c.state)
    lowered = reason.lower()
    return or_(
        func.lower(tasks.c.error).contains(lowered, autoescape=True),
        exists().where(entered, func.lower(journal.c.why).contains(lowered, autoescape=True)),
    )


# Every column that a person sees; the log is read by the proof alone.
_COLUMNS: dict[str, ColumnElement[Any]] = {
    **{column.name: column for column in tasks.c if column.name != "log"},
    "chain_id": sources.c.chain_id,
    "task_manager": sources.c.task_manager,
    "is_history": IS_HISTORY.label("is_history"),
}
_WITH_SOURCE = sources.c.id == tasks.c.source_id
# Statements are built once: for a page of some hundred rows, that costs as much as reading them.
_BY_IDS = tasks.c.id.in_(bindparam("ids", expanding=True))
_LISTED: Select[Any] = select(*_COLUMNS.values()).join(sources, _WITH_SOURCE).where(_BY_IDS)


def listed_rows(conn: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """Return the tasks of these row ids, at most `PAGE`, in their order; a task that is gone is left out."""
    by_id = {row.id: row for row in conn.execute(_LISTED, {"ids": ids})}
    return [by_id[id_] for id_ in ids if id_ in by_id]


def listed_columns(conn: Connection, ids: Sequence[int], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Return the same tasks by column, for long lists: no value costs a call of a function.

    Args:
        conn: a connection.
        ids: row ids, at most `PAGE`.
        names: columns of `tasks`, and `chain_id`, `task_manager`, `is_history`; the row id is always there.
    """
    columns_read = tuple(dict.fromkeys(("id", *names)))
    rows = conn.execute(_plain(columns_read), {"ids": ids}).all()
    columns = list(zip(*rows, strict=True)) or [()] * len(columns_read)
    order = _order(columns[0], ids)
    return {
        name: _values(name, column if order is None else [column[place] for place in order])
        for name, column in zip(columns_read, columns, strict=True)
    }


@lru_cache(maxsize=8)
def _plain(names: tuple[str, ...]) -> Select[Any]:
    """Return the statement for columns as the driver gives them, without SQLAlchemy's conversion of each value."""
    plain: list[ColumnElement[Any]] = [type_coerce(_COLUMNS[name], NULLTYPE).label(name) for name in names]
    return select(*plain).select_from(tasks).join(sources, _WITH_SOURCE).where(_BY_IDS)


def _order(row_ids: Sequence[int], ids: Sequence[int]) -> list[int] | None:
    """Return the places of the ids among those found, None if they are in order."""
    if list(row_ids) == list(ids):
        return None
    places = {id_: place for place, id_ in enumerate(row_ids)}
    return [places[id_] for id_ in ids if id_ in places]


def _values(name: str, column: Sequence[Any]) -> Sequence[Any]:
    kind = _COLUMNS[name].type
    if isinstance(kind, Uint256):
        return list(map(uint256, column)) if set(map(type, column)) - {int, NoneType} else column
    return list(map(bool, column)) if isinstance(kind, Boolean) else column


_JOURNALS, _ATTEMPTS = (
    select(table).where(table.c.task_id.in_(bindparam("ids", expanding=True))).order_by(table.c.id)
    for table in (journal, attempts)
)


def journals(conn: Connection, ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """Return the journals of tasks (row ids), oldest line first."""
    return _by_task(conn.execute(_JOURNALS, {"ids": ids}).all())


def attempts_of(conn: Connection, ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """Return the attempts of tasks (row ids), oldest first."""
    return _by_task(conn.execute(_ATTEMPTS, {"ids": ids}).all())


def _by_task(lines: Sequence[Row[Any]]) -> dict[int, list[Row[Any]]]:
    by_task: dict[int, list[Row[Any]]] = {}
    for line in lines:
        by_task.setdefault(line.task_id, []).append(line)
    return by_task


def untimed_count(conn: Connection, source_id: int, limit: int = 1000) -> int:
    """Return the number of tasks whose block time is unknown, `limit` at most."""
    page = select(tasks.c.id).where(UNTIMED, of_source(tasks, source_id))
    return conn.execute(select(func.count()).select_from(page.limit(limit).subquery())).scalar_one()


def created_since(conn: Connection, source_id: int, since_s: int) -> int:
    """Return the number of tasks whose block is not older than a time in seconds since 1970."""
    time_s: ColumnElement[int] = literal_column(TASK_TIME_S.text)
    recent = select(func.count()).select_from(tasks).where(time_s >= since_s, of_source(tasks, source_id))
    return conn.execute(recent).scalar_one()
