"""Questions about one task: everything the ledger holds of it, and the recent attempts that explain why it waits.

Invariant: each statement finds its rows by an index or by the newest row ids, so that the cost does not grow with the
ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.engine import Row

from watcher.ledger import by_index, queries
from watcher.ledger.cursor import Cursor
from watcher.ledger.restore import held_to
from watcher.ledger.stats import Unshown, unshown
from watcher.ledger.tables import attempts, tasks

# The newest attempts that are read: enough to see since when an API or a hook has been failing.
_RECENT_LIMIT = 500
_NONE_LATE = Unshown()


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task with its journal, its attempts (both oldest first) and the response events of its index."""

    task: Row[Any]
    journal: Sequence[Row[Any]]
    attempts: Sequence[Row[Any]]
    responses: Sequence[Row[Any]]


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The facts of a source that explain why its tasks wait.

    `held_to_block`: unanswered tasks up to this block are held back after a restore; -1: none. `posts` and `runs` are
    the newest attempts of all tasks that have an outcome, newest first: POSTs, and runs of the hook. One that is under
    way proves nothing yet. `late`: accepted answers in a row that the chain has not shown.
    """

    cursor: Cursor
    held_to_block: int = -1
    posts: Sequence[Row[Any]] = ()
    runs: Sequence[Row[Any]] = ()
    late: Unshown = _NONE_LATE


def task_records(conn: Connection, source_id: int, index: int) -> list[TaskRecord]:
    """Return every task the ledger ever knew at this index, the canonical one first.

    Raises:
        FixUsage: there is none.
    """
    events = by_index.responses_between(conn, source_id, index, index)
    return [
        TaskRecord(row, *queries.story_of(conn, row.id), events) for row in queries.tasks_at(conn, source_id, index)
    ]


def source_record(conn: Connection, source_id: int) -> SourceRecord:
    """Return the facts of a source that its waiting tasks share."""
    newest = select(func.max(attempts.c.id)).scalar_subquery()
    recent = conn.execute(
        select(attempts)
        .where(attempts.c.id > newest - _RECENT_LIMIT, attempts.c.outcome.is_not(None))
        .order_by(attempts.c.id.desc())
    ).all()
    # Not joined, and `+ 0`: SQLite would read every task of the source instead of those of the newest attempts.
    ids = {row.task_id for row in recent}
    own = set(conn.execute(select(tasks.c.id).where(tasks.c.id.in_(ids), tasks.c.source_id + 0 == source_id)).scalars())
    rows = [row for row in recent if row.task_id in own]
    return SourceRecord(
        queries.cursor(conn, source_id),
        held_to(conn, source_id),
        [row for row in rows if row.kind == "post"],
        [row for row in rows if row.kind == "hook"],
        unshown(conn, source_id),
    )
