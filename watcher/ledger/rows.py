"""Rows of the ledger as values for the stages, and the query for due tasks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, Table, bindparam, func, or_, select
from sqlalchemy.engine import Row

from watcher.ledger.tables import OPEN, sources, tasks
from watcher.state import State
from watcher.task import Absence, Absent, OpenTask, Responded, Sighting, Task

T = TypeVar("T")
STATES = {state.value: state for state in State}  # for rows, of which many come: without the search of `State(...)`
_IN_LIMIT = 500  # bound parameters in one IN list: databases bound those of a statement, reorgs do not bound their rows

# Fields with a column of the same name: a new field of `Task` or `OpenTask` needs its column, and no line here. Rows
# are read by place, which costs a fraction of reading by name: those of the driver have no names.
_TASK_FIELDS = tuple(field.name for field in fields(Task) if field.name not in ("seen_at", "fields"))
_BEFORE_SEEN = [field.name for field in fields(Task)].index("seen_at")  # fields of a task in front of its place
_OPEN_FIELDS = tuple(
    field.name for field in fields(OpenTask) if field.name in tasks.c and field.name not in ("state", "fence")
)
_SEEN = ("block_number", "block_hash", "created_tx_hash", "log_index", "block_time_s")
_LEASE = ("id", "state", "fence", "absent", "absent_block", "absent_at_ms")
_READ = (*_TASK_FIELDS, *_SEEN, *_LEASE, *_OPEN_FIELDS)
_OF_SEEN = slice(len(_TASK_FIELDS), len(_TASK_FIELDS) + len(_SEEN))
_OF_LEASE = slice(_OF_SEEN.stop, _OF_SEEN.stop + len(_LEASE))
_OF_OPEN = slice(_OF_LEASE.stop, len(_READ))

_FROM_SOURCE = sources.c.id == tasks.c.source_id
_READ_COLUMNS = [tasks.c[name] if name in tasks.c else sources.c[name] for name in _READ]
_OPEN_TASKS: Select[Any] = select(*_READ_COLUMNS).join(sources, _FROM_SOURCE)
"""What `open_task` reads, and nothing else."""
WITH_SOURCE: Select[Any] = select(*_READ_COLUMNS, *(column for column in tasks.c if column.name not in _READ)).join(
    sources, _FROM_SOURCE
)
"""The same in front of all other columns of a task."""

# `Header.closed_block` of the head and of the final block, to compare deadlines with.
HEAD_CLOSED = func.coalesce(sources.c.head_l1_block - 1, sources.c.head_block)
FINAL_CLOSED = func.coalesce(sources.c.final_l1_block - 1, sources.c.final_block)

# The next block is still within the window. A task past its window is left to the stage `confirm`.
IN_WINDOW = or_(tasks.c.deadline_block.is_(None), tasks.c.deadline_block > HEAD_CLOSED)


def task_of(row: Sequence[Any]) -> Task:
    """Return the task in a row that was selected with its source (`WITH_SOURCE`, further columns behind it)."""
    before, behind = row[:_BEFORE_SEEN], row[_BEFORE_SEEN : len(_TASK_FIELDS)]
    return Task(*(*before, _sighting(*row[_OF_SEEN]), *behind))


def responded_of(row: Row[Any]) -> Responded:
    """Return the response event in a row of `responses`."""
    seen = _sighting(row.block_number, row.block_hash, row.tx_hash, row.log_index, row.block_time_s)
    return Responded(row.task_index, row.message, row.log, row.response_hash, seen)


def _sighting(number: int, block_hash: bytes, tx_hash: bytes, log_index: int, time_s: int | None) -> Sighting:
    return Sighting(number, block_hash, tx_hash, log_index, time_s or 0)


def task_columns(task: Task) -> dict[str, Any]:
    """Return the columns of `tasks` that hold the task itself, without its source."""
    return {name: getattr(task, name) for name in _TASK_FIELDS if name in tasks.c} | sighting_columns(task)


def sighting_columns(task: Task) -> dict[str, Any]:
    """Return the columns of `tasks` that say where on the chain the task was seen."""
    seen = task.seen_at
    return {
        "block_number": seen.block_number,
        "block_hash": seen.block_hash,
        "created_tx_hash": seen.tx_hash,
        "log_index": seen.log_index,
        "block_time_s": seen.block_time_s or None,
    }


def open_task(row: Sequence[Any], *, fences: int = 0) -> OpenTask:
    """Return the row of a task (as `task_of`) as a stage takes it, its fence raised by `fences`."""
    row_id, state, fence, absent, absent_block, absent_at_ms = row[_OF_LEASE]
    absence = None if absent is None else Absence(Absent(absent), absent_block, absent_at_ms)
    return OpenTask(*(row_id, task_of(row), STATES[state], fence + fences, *row[_OF_OPEN], absence))


def of_source(table: Table, source_id: int) -> ColumnElement[bool]:
    """Return the condition that a row belongs to a source, for a query that has an index without it.

    `+ 0` hides the indices that begin with the source: SQLite would read all of its rows instead.
    """
    return table.c.source_id + 0 == source_id


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Return the values in pieces that fit one IN list."""
    return (values[start : start + _IN_LIMIT] for start in range(0, len(values), _IN_LIMIT))


def due(states: Iterable[State], *where: ColumnElement[bool]) -> Select[Any]:
    """Return the query for unleased, due, canonical tasks of these states, nearest deadline first.

    Its parameters are `source`, `now_ms` and `limit`. Build it once: building costs more than running.
    """
    return (
        _OPEN_TASKS.where(
            tasks.c.source_id == bindparam("source"),
            tasks.c.state.in_(list(states)),
            OPEN,
            tasks.c.canonical,
            tasks.c.due_at_ms <= bindparam("now_ms"),
            tasks.c.due_block <= sources.c.head_block,
            tasks.c.lease_until_ms <= bindparam("now_ms"),
            *where,
        )
        .order_by(tasks.c.deadline_block.asc().nulls_last(), tasks.c.task_index)
        .limit(bindparam("limit"))
    )
