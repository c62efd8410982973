"""Rows of the ledger as the values the stages work with."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select
from sqlalchemy.engine import Row

from watcher.ledger.tables import OPEN, sources, tasks
from watcher.state import State
from watcher.task import Absence, Absent, OpenTask, Sighting, Task

T = TypeVar("T")
_IN_LIMIT = 500  # bound parameters in one IN list: databases bound those of a statement, reorgs do not bound their rows

WITH_SOURCE: Select[Any] = select(tasks, sources.c.chain_id, sources.c.task_manager).join(
    sources, sources.c.id == tasks.c.source_id
)

# `Header.closed_block` of the head and of the final block: what deadlines are compared with.
HEAD_CLOSED = func.coalesce(sources.c.head_l1_block - 1, sources.c.head_block)
FINAL_CLOSED = func.coalesce(sources.c.final_l1_block - 1, sources.c.final_block)

# The next block is still within the window. What is past it is left to confirmation, and nothing more is spent on it.
IN_WINDOW = or_(tasks.c.deadline_block.is_(None), tasks.c.deadline_block > HEAD_CLOSED)


def task_of(row: Row[Any]) -> Task:
    """Return the task in a row that was selected with its source."""
    return Task(
        chain_id=row.chain_id,
        task_manager=row.task_manager,
        task_index=row.task_index,
        task_hash=row.task_hash,
        created_block=row.created_block,
        message=row.message,
        quorum_numbers=row.quorum_numbers,
        quorum_threshold=row.quorum_threshold,
        deadline_block=row.deadline_block,
        seen_at=Sighting(row.block_number, row.block_hash, row.created_tx_hash, row.log_index),
        log=row.log,
        deadline_s=row.deadline_s,
    )


def open_task(row: Row[Any], *, state: State | None = None, fence: int | None = None) -> OpenTask:
    """Return the row of a task (selected with its source) as a stage takes it."""
    return OpenTask(
        row_id=row.id,
        task=task_of(row),
        state=state or State(row.state),
        fence=row.fence if fence is None else fence,
        attempts=row.attempts,
        hook_attempts=row.hook_attempts,
        response=row.response,
        tx_hash=row.tx_hash,
        responded_block=row.responded_block,
        response_hash=row.response_hash,
        updated_at_ms=row.updated_at_ms,
        absence=None if row.absent is None else Absence(Absent(row.absent), row.absent_block, row.absent_at_ms),
    )


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in pieces that fit one IN list."""
    return (values[start : start + _IN_LIMIT] for start in range(0, len(values), _IN_LIMIT))


def due(states: Iterable[State], *where: ColumnElement[bool]) -> Select[Any]:
    """The query for free tasks of these states whose time and block have come, nearest deadline first.

    Its parameters are `source`, `now_ms` and `limit`; built once, because building it costs more than running it.
    """
    return (
        WITH_SOURCE.where(
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
