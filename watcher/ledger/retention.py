"""Retention: the export and removal of the stories (journal and attempts) of old final tasks.

Invariant: the rows that a proof compares with the contract (task, answer, response events) are never removed, and a
task that is open, or that a person may still decide, is never touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select
from sqlalchemy.engine import Row

from watcher.ledger.audit.changes import Bound
from watcher.ledger.rows import WITH_SOURCE, of_source
from watcher.ledger.source import note_event
from watcher.ledger.tables import attempts, journal, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.state import State

BATCH = 500
# Decided by the chain in a final block. A person or a reorg can still reopen the other ended states.
RETIRED = (State.FINAL, State.FINAL_OTHER, State.EXPIRED)
# Finality that one node alone shows can be taken back, and a reopened task needs its story.
_IRREVOCABLE = or_(
    and_(tasks.c.state != State.EXPIRED, tasks.c.responded_block <= sources.c.firm_block),
    and_(tasks.c.state == State.EXPIRED, sources.c.final_block <= sources.c.firm_block),
)


@dataclass(frozen=True, slots=True)
class Age:
    """The least age of a task: `blocks` between its block and the final one, or no update since `before_ms`."""

    blocks: int | None = None
    before_ms: int | None = None

    def _clause(self) -> ColumnElement[bool]:
        old = []
        if self.blocks is not None:
            old.append(tasks.c.block_number + self.blocks <= sources.c.final_block)
        if self.before_ms is not None:
            old.append(tasks.c.updated_at_ms < self.before_ms)
        assert old, "an age names blocks or a moment"
        return and_(*old)


@dataclass(frozen=True, slots=True)
class Mark:
    """The last journal line and attempt when a story was read; later ones are not exported yet."""

    journal_id: int
    attempt_id: int


@dataclass(frozen=True, slots=True)
class Story:
    """One task with its journal and its attempts."""

    task: Row[Any]
    journal: Sequence[Row[Any]]
    attempts: Sequence[Row[Any]]


def mark(conn: Connection) -> Mark:
    """Return the present last lines."""
    return Mark(
        conn.execute(select(func.coalesce(func.max(journal.c.id), 0))).scalar_one(),
        conn.execute(select(func.coalesce(func.max(attempts.c.id), 0))).scalar_one(),
    )


def stories(conn: Connection, source_id: int, age: Age, upto: Mark, after_id: int, limit: int = BATCH) -> list[Story]:
    """Return the next old final tasks with a story, in the order of row ids.

    Args:
        conn: a connection.
        source_id: the task manager.
        age: the least age.
        upto: the last lines of the stories.
        after_id: the last row id of the page before, 0 for the first.
        limit: the most tasks.
    """
    rows: list[Row[Any]] = []
    while len(rows) < limit and (ids := _with_story(conn, upto, after_id)):
        rows += _old(conn, source_id, age, ids, limit - len(rows))
        after_id = ids[-1]
    ids = [row.id for row in rows]
    lines = _by_task(conn, select(journal).where(journal.c.id <= upto.journal_id), journal.c.task_id, journal.c.id, ids)
    tries = _by_task(
        conn, select(attempts).where(attempts.c.id <= upto.attempt_id), attempts.c.task_id, attempts.c.id, ids
    )
    return [Story(row, lines.get(row.id, []), tries.get(row.id, [])) for row in rows]


def _with_story(conn: Connection, upto: Mark, after_id: int) -> list[int]:
    """Return the next row ids of tasks with a line in journal or attempts, at most `BATCH`.

    Read from the indices of those tables: a task whose story is removed costs nothing.
    """
    pages = []
    for task_id, id_, last in (
        (journal.c.task_id, journal.c.id, upto.journal_id),
        (attempts.c.task_id, attempts.c.id, upto.attempt_id),
    ):
        page = select(task_id).where(task_id > after_id, id_ <= last).group_by(task_id).order_by(task_id).limit(BATCH)
        pages.append(list(conn.execute(page).scalars()))
    # Beyond the end of a full page there may be ids that were not read.
    end = min((page[-1] for page in pages if len(page) == BATCH), default=None)
    return sorted({row_id for page in pages for row_id in page if end is None or row_id <= end})


def _old(conn: Connection, source_id: int, age: Age, ids: Sequence[int], limit: int) -> Sequence[Row[Any]]:
    """Return the old final tasks among these rows."""
    is_old = WITH_SOURCE.where(
        tasks.c.id.in_(ids),
        of_source(tasks, source_id),
        tasks.c.state.in_(RETIRED),
        _IRREVOCABLE,
        tasks.c.look_again.is_(False),
        age._clause(),
    )
    return conn.execute(is_old.order_by(tasks.c.id).limit(limit)).all()


def remove(tx: Tx, rows: Sequence[int], upto: Mark) -> int:
    """Remove the exported stories of these tasks (at most `BATCH`). Return the number of lines removed.

    A task that has left its final state since keeps its story: this transaction reads its state again.
    """
    assert len(rows) <= BATCH, "one transaction is bounded"
    retired = list(
        tx.conn.execute(
            select(tasks.c.id).where(tasks.c.id.in_(rows), tasks.c.state.in_(RETIRED)).with_for_update()
        ).scalars()
    )
    lines = delete(journal).where(journal.c.task_id.in_(retired), journal.c.id <= upto.journal_id)
    # An attempt that a later journal line names stays.
    named = exists().where(journal.c.attempt_id == attempts.c.id, journal.c.task_id == attempts.c.task_id)
    tries = delete(attempts).where(attempts.c.task_id.in_(retired), attempts.c.id <= upto.attempt_id, ~named)
    lines_gone = list(tx.conn.execute(lines.returning(journal.c.id)).scalars())
    tries_gone = list(tx.conn.execute(tries.returning(attempts.c.id)).scalars())
    tx.changes.remove(Bound.JOURNAL, lines_gone)
    tx.changes.remove(Bound.ATTEMPTS, tries_gone)
    tx.changes.write(Bound.TASKS, retired)
    return len(lines_gone) + len(tries_gone)


def note_export(tx: Tx, source_id: int, block_number: int, message: str) -> None:
    """Record the file that holds the stories, before the first of them is removed."""
    note_event(tx, source_id, "retained", block_number, message)


def _by_task(
    conn: Connection, statement: Any, owner: ColumnElement[int], order: ColumnElement[int], ids: Sequence[int]
) -> dict[int, list[Row[Any]]]:
    by_task: dict[int, list[Row[Any]]] = {}
    for row in conn.execute(statement.where(owner.in_(ids)).order_by(order)) if ids else ():
        by_task.setdefault(row.task_id, []).append(row)
    return by_task
