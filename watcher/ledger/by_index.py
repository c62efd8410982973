"""Questions about the indices of tasks: which are known, which lie beside one, and what a range of them holds."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.engine import Row

from watcher.ledger.rows import WITH_SOURCE
from watcher.ledger.tables import responses, tasks
from watcher.state import State

# A quarantined log must not take the place of the contract's task with its index.
_REAL = tasks.c.state != State.QUARANTINED


@dataclass(frozen=True, slots=True)
class Place:
    """The index of a task, and the block of its log."""

    task_index: int
    block_number: int


def known_indices(conn: Connection, source_id: int, first: int, last: int) -> set[int]:
    """Return the indices from `first` to `last` inclusive that have a canonical task."""
    rows = conn.execute(
        select(tasks.c.task_index).where(
            tasks.c.source_id == source_id, tasks.c.task_index.between(first, last), tasks.c.canonical, _REAL
        )
    )
    return set(rows.scalars())


def count_indices(conn: Connection, source_id: int, first: int, last: int) -> int:
    """Return how many indices from `first` to `last` inclusive have a canonical task."""
    return conn.execute(
        select(func.count(tasks.c.task_index.distinct())).where(
            tasks.c.source_id == source_id, tasks.c.task_index.between(first, last), tasks.c.canonical, _REAL
        )
    ).scalar_one()


def lowest(conn: Connection, source_id: int) -> Place | None:
    """Return the canonical task with the lowest index, None if there is none."""
    return _place(conn, source_id, _REAL, tasks.c.task_index.asc())


def neighbours(conn: Connection, source_id: int, index: int) -> tuple[Place | None, Place | None]:
    """Return the nearest canonical tasks below and above an index, of those that the contract has proved."""
    proved = tasks.c.state.not_in([State.SEEN, State.QUARANTINED, State.ORPHANED])
    below = _place(conn, source_id, proved & (tasks.c.task_index < index), tasks.c.task_index.desc())
    above = _place(conn, source_id, proved & (tasks.c.task_index > index), tasks.c.task_index.asc())
    return below, above


def canonical_from(conn: Connection, source_id: int, first: int, limit: int) -> list[int]:
    """Return the indices of canonical tasks from `first` on, in order."""
    rows = conn.execute(
        select(tasks.c.task_index)
        .where(tasks.c.source_id == source_id, tasks.c.task_index >= first, tasks.c.canonical, _REAL)
        .order_by(tasks.c.task_index)
        .limit(limit)
    )
    return list(rows.scalars())


def responses_between(conn: Connection, source_id: int, first: int, last: int) -> list[Row[Any]]:
    """Return the response events for the indices from `first` to `last` inclusive."""
    return list(
        conn.execute(
            select(responses).where(responses.c.source_id == source_id, responses.c.task_index.between(first, last))
        )
    )


def canonical_between(conn: Connection, source_id: int, first: int, last: int) -> list[Row[Any]]:
    """Return the canonical tasks with indices from `first` to `last` inclusive, for the proof."""
    return list(
        conn.execute(
            WITH_SOURCE.where(
                tasks.c.source_id == source_id, tasks.c.task_index.between(first, last), tasks.c.canonical, _REAL
            )
        )
    )


def _place(conn: Connection, source_id: int, where: ColumnElement[bool], order: ColumnElement[Any]) -> Place | None:
    row = conn.execute(
        select(tasks.c.task_index, tasks.c.block_number)
        .where(tasks.c.source_id == source_id, tasks.c.canonical, where)
        .order_by(order)
        .limit(1)
    ).one_or_none()
    return None if row is None else Place(row.task_index, row.block_number)
