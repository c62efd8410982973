"""Questions about the ledger as a whole, for people: what is most urgent, what the last blocks brought, what was tried.

Invariant: each question reads a bounded number of rows, however large the ledger is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal_column, select
from sqlalchemy.engine import Row

from watcher.ledger.audit.tables import audit_roots
from watcher.ledger.columns import Few
from watcher.ledger.rows import WITH_SOURCE, of_source
from watcher.ledger.tables import OPEN, attempts, tasks
from watcher.state import UNSETTLED

# The tasks that a chart reads at most.
CHARTED_TASKS = 10_000
# The attempts that one page looks through at most.
_SCANNED_ATTEMPTS = 20_000


@dataclass(frozen=True, slots=True)
class Span:
    """The blocks of a chart: `size` blocks in each of its parts, the first of which begins at `first_block`.

    `is_cut`: there are more tasks in the range that was asked for than a chart reads.
    """

    first_block: int
    last_block: int
    size: int
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class AttemptsPage:
    """Attempts, newest first, each with its task's index. `before`: the row id to go on below, None at the end."""

    rows: Sequence[Row[Any]]
    before: int | None


def nearest(conn: Connection, source_id: int, closed_block: int, chain_s: float, limit: int) -> Sequence[Row[Any]]:
    """Return the unanswered tasks with the nearest deadlines, nearest first.

    Args:
        conn: a connection.
        source_id: the task manager.
        closed_block: the head, as deadlines are compared with it; tasks whose window is closed are left out.
        chain_s: the chain's time in seconds since 1970, for deadlines that are times.
        limit: the most tasks.
    """
    own = (tasks.c.source_id == source_id, OPEN, tasks.c.canonical)
    keys: list[tuple[int, int, int]] = []
    for state in sorted(UNSETTLED):
        # A state alone, so that the index gives the order and only `limit` rows are read.
        by_block = (tasks.c.state == state, tasks.c.deadline_block > closed_block)
        page = select(tasks.c.deadline_block, tasks.c.task_index, tasks.c.id).where(*own, *by_block)
        keys += map(tuple, conn.execute(page.order_by(tasks.c.deadline_block, tasks.c.task_index).limit(limit)))
    ids = [row_id for _, _, row_id in sorted(keys)[:limit]]
    by_time = (tasks.c.deadline_block.is_(None), tasks.c.deadline_s > chain_s, tasks.c.state.in_(sorted(UNSETTLED)))
    timed = select(tasks.c.id).where(*own, *by_time).order_by(tasks.c.deadline_s, tasks.c.task_index).limit(limit)
    ids += conn.execute(timed).scalars()
    rows = {row.id: row for row in conn.execute(WITH_SOURCE.where(tasks.c.id.in_(ids)))}
    return [rows[row_id] for row_id in ids[:limit] if row_id in rows]


def span(conn: Connection, source_id: int, head_block: int, blocks: int, parts: int) -> Span:
    """Return the span of a chart that ends at the head.

    Args:
        conn: a connection.
        source_id: the task manager.
        head_block: the last block.
        blocks: how many blocks are asked for, at least 1.
        parts: how many parts the chart has at most.
    """
    first = max(0, head_block - blocks + 1)
    oldest = block_of_newest(conn, source_id, CHARTED_TASKS)
    is_cut = oldest is not None and oldest >= first
    first = oldest + 1 if oldest is not None and is_cut else first
    return Span(first, head_block, max(1, -(-(head_block - first + 1) // parts)), is_cut)


def block_of_newest(conn: Connection, source_id: int, count: int) -> int | None:
    """Return the block of the newest task but `count`, None if there are not so many."""
    newest = select(tasks.c.block_number).where(tasks.c.source_id == source_id)
    return conn.execute(newest.order_by(tasks.c.task_index.desc()).offset(count).limit(1)).scalar()


def counts_by_part(conn: Connection, source_id: int, charted: Span) -> Sequence[Row[Any]]:
    """Return the number of tasks for each part of a span, each state, and each delay of the answer.

    The columns are part, state, delay (blocks from the task's block to the answer's, None without one) and tasks.
    """
    part = _part(charted)
    delay = tasks.c.responded_block - tasks.c.block_number
    return conn.execute(
        select(part.label("part"), tasks.c.state, delay.label("delay"), func.count().label("tasks"))
        .where(tasks.c.block_number.between(charted.first_block, charted.last_block), tasks.c.canonical)
        .where(of_source(tasks, source_id))
        .group_by(part, tasks.c.state, delay)
    ).all()


def _part(charted: Span) -> ColumnElement[int]:
    # In the text, as PostgreSQL must see that the parameters of SELECT and GROUP BY are the same.
    return (tasks.c.block_number - literal_column(str(int(charted.first_block)))) // literal_column(
        str(int(charted.size))
    )


def published_roots(conn: Connection, source_id: int, limit: int) -> Sequence[Row[Any]]:
    """Return the roots of past days as they were published, newest first."""
    roots = select(audit_roots).where(audit_roots.c.source_id == source_id)
    return conn.execute(roots.order_by(audit_roots.c.first_seq.desc()).limit(limit)).all()


def attempts_page(
    conn: Connection, source_id: int, before: int | None, kind: str | None, outcome: str | None, limit: int
) -> AttemptsPage:
    """Return the next page of attempts, newest first.

    Args:
        conn: a connection.
        source_id: the task manager.
        before: the row id below which the page begins; None: at the newest.
        kind: "hook" or "post"; None: both.
        outcome: the outcome of the attempts; None: any.
        limit: the most attempts.
    """
    if before is None:
        before = (conn.execute(select(func.max(attempts.c.id))).scalar() or 0) + 1
    lowest = max(0, before - _SCANNED_ATTEMPTS)
    where = [attempts.c.id < before, Few(attempts.c.id >= lowest)]
    where += [attempts.c.kind == kind] if kind is not None else []
    where += [attempts.c.outcome == outcome] if outcome is not None else []
    rows = conn.execute(
        select(attempts, tasks.c.task_index)
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .where(*where, of_source(tasks, source_id))
        .order_by(attempts.c.id.desc())
        .limit(limit)
    ).all()
    is_full = len(rows) == limit
    rest = rows[-1].id if is_full else lowest
    return AttemptsPage(rows, rest if rest > 1 else None)
