"""Questions to the ledger, for the stages, the commands, the proof and the audit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, or_, select
from sqlalchemy.engine import Row

from watcher.errors import FixUsage
from watcher.ledger.cursor import Cursor
from watcher.ledger.ended import kept
from watcher.ledger.prepared import Question
from watcher.ledger.rows import WITH_SOURCE, of_source, open_task
from watcher.ledger.source import CURSOR_COLUMNS
from watcher.ledger.tables import HAS_ENDED, OPEN, attempts, blocks, events, journal, sources, tasks
from watcher.state import ENDED, UNSETTLED, State
from watcher.task import Header, OpenTask

_PAGE = 1000  # tasks read at once by a listing
# Built once: building a statement costs more than running it.
_SOURCE = select(sources).where(sources.c.id == bindparam("source"))
_CURSOR = Question(select(*CURSOR_COLUMNS).where(sources.c.id == bindparam("source")), ["source"])
_NEXT_DUE = select(func.min(tasks.c.due_at_ms)).where(
    tasks.c.source_id == bindparam("source"),
    tasks.c.state.in_(bindparam("states", expanding=True)),
    OPEN,
    tasks.c.due_at_ms > bindparam("now_ms"),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one source at one moment."""

    open_tasks: int
    nearest_deadline_block: int | None


def cursor(conn: Connection, source_id: int) -> Cursor:
    """Return the cursor and the marks."""
    (row,) = _CURSOR.rows(conn, source_id)
    return Cursor(*row)


def list_tasks(conn: Connection, source_id: int, state: State | None = None) -> Iterator[Row[Any]]:
    """Yield the tasks of a source in the order of their index, read in pages."""
    after = None
    while rows := task_page(conn, source_id, state, after):
        yield from rows
        after = rows[-1]


def task_page(
    conn: Connection, source_id: int, state: State | None = None, after: Row[Any] | None = None, limit: int = _PAGE
) -> Sequence[Row[Any]]:
    """Return the next tasks of a source in the order of their index.

    Args:
        conn: a connection.
        source_id: the task manager.
        state: the state of the tasks, None: any.
        after: the last task of the page before, None for the first page.
        limit: the most tasks.
    """
    page = select(tasks.c.id).where(tasks.c.source_id == source_id)
    if state is not None:
        page = page.where(tasks.c.state == state, HAS_ENDED if state in ENDED else OPEN)
    # `+` hides the index of all tasks, by whose order SQLite would read the tasks of every state.
    is_open = state is not None and state not in ENDED
    index = literal_column("+tasks.task_index", tasks.c.task_index.type) if is_open else tasks.c.task_index
    if after is not None:
        page = page.where(index >= after.task_index, or_(index > after.task_index, tasks.c.id > after.id))
    ids = page.order_by(index, tasks.c.id).limit(limit).scalar_subquery()
    return conn.execute(WITH_SOURCE.where(tasks.c.id.in_(ids)).order_by(tasks.c.task_index, tasks.c.id)).all()


def tasks_at(conn: Connection, source_id: int, index: int) -> Sequence[Row[Any]]:
    """Return every task the ledger ever knew at this index, the canonical one first.

    Raises:
        FixUsage: there is none.
    """
    rows = conn.execute(
        WITH_SOURCE.where(tasks.c.source_id == source_id, tasks.c.task_index == index).order_by(
            tasks.c.canonical.desc(), tasks.c.id.desc()
        )
    ).all()
    if not rows:
        raise FixUsage(f"the ledger knows no task {index}; `watcher tasks list` shows what it knows")
    return rows


def story_of(conn: Connection, task_id: int) -> tuple[Sequence[Row[Any]], Sequence[Row[Any]]]:
    """Return the journal and the attempts of one task, oldest first."""
    lines = conn.execute(select(journal).where(journal.c.task_id == task_id).order_by(journal.c.id)).all()
    posts_and_runs = conn.execute(select(attempts).where(attempts.c.task_id == task_id).order_by(attempts.c.id)).all()
    return lines, posts_and_runs


def recent_events(conn: Connection, source_id: int, limit: int = 50) -> Sequence[Row[Any]]:
    """Return the events of the source as a whole, newest first."""
    statement = select(events).where(events.c.source_id == source_id).order_by(events.c.id.desc()).limit(limit)
    return conn.execute(statement).all()


def counts(conn: Connection, source_id: int) -> Counts:
    """Return the number of open tasks and their nearest deadline, from the partial index alone."""
    row = conn.execute(
        select(func.count(), func.min(tasks.c.deadline_block)).where(tasks.c.source_id == source_id, OPEN)
    ).one()
    return Counts(row[0], row[1])


def brought_by(conn: Connection, source_id: int, api: str, limit: int) -> set[tuple[bytes, int]]:
    """Return (quorum numbers, threshold) of the tasks whose answers this API alone has brought on the chain.

    Reads the newest `limit` tasks: retention removes the attempts of old ones, and the API may have changed since.
    """
    newest = select(func.max(tasks.c.id)).scalar_subquery()
    posts = select(attempts.c.id).where(attempts.c.task_id == tasks.c.id, attempts.c.kind == "post")
    rows = conn.execute(
        select(tasks.c.quorum_numbers, tasks.c.quorum_threshold)
        .where(
            tasks.c.id > newest - limit,
            of_source(tasks, source_id),
            tasks.c.state.in_([State.RESPONDED, State.FINAL]),
            posts.where(attempts.c.api == api, attempts.c.outcome == "accepted").exists(),
            ~posts.where(attempts.c.api != api).exists(),
        )
        .distinct()
    )
    return {(row.quorum_numbers, row.quorum_threshold) for row in rows}


def count_by_state(conn: Connection, source_id: int) -> dict[State, int]:
    """Return the number of tasks in each state: of the open ones from their index, of the ended ones as kept."""
    open_by_state = select(tasks.c.state, func.count()).where(tasks.c.source_id == source_id, OPEN)
    rows = conn.execute(open_by_state.group_by(tasks.c.state))
    return {State(state): count for state, count in rows} | kept(conn, source_id)


def known_hashes(conn: Connection, source_id: int, lowest: int, highest: int, limit: int) -> list[Header]:
    """Return the blocks with a stored hash between two heights, newest first. `parent_hash` is not stored: empty."""
    rows = conn.execute(
        select(blocks.c.number, blocks.c.hash)
        .where(blocks.c.source_id == source_id, blocks.c.number.between(lowest, highest))
        .order_by(blocks.c.number.desc())
        .limit(limit)
    )
    return [Header(row.number, row.hash, b"") for row in rows]


def newest_open(conn: Connection, source_id: int, limit: int) -> list[OpenTask]:
    """Return the newest canonical tasks that are not settled, the newest first."""
    unsettled = (tasks.c.source_id == source_id, OPEN, tasks.c.state.in_(sorted(UNSETTLED)), tasks.c.canonical)
    # Ordered by the plain id, SQLite would scan the whole table backwards instead of the open tasks.
    rows = conn.execute(WITH_SOURCE.where(*unsettled).order_by((tasks.c.id + 0).desc()).limit(limit))
    return [open_task(row) for row in rows]


def rest_s(conn: Connection, source_id: int, states: Sequence[State], now_ms: int, at_most_s: float) -> float:
    """Return the seconds until the next task of these states is due, `at_most_s` at most."""
    next_ms = conn.execute(_NEXT_DUE, {"source": source_id, "states": states, "now_ms": now_ms}).scalar()
    return at_most_s if next_ms is None else min(at_most_s, (next_ms - now_ms) / 1000)


def bound_by_time(conn: Connection, source_id: int, now_ms: int) -> int:
    """Return the number of open tasks that wait for time alone, not for the chain: leased, or due later."""
    return conn.execute(
        select(func.count()).where(
            tasks.c.source_id == source_id, OPEN, or_(tasks.c.lease_until_ms > now_ms, tasks.c.due_at_ms > now_ms)
        )
    ).scalar_one()
