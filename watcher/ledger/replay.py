"""The past tasks of a source for a replay: each with the answer we recorded and the one the chain accepted.

Invariant: a question reads one page by row id, newest first, so that no long read keeps the write-ahead log from
shrinking and memory does not grow with the ledger.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, select

from watcher.ledger.rows import WITH_SOURCE, task_of
from watcher.ledger.tables import attempts, responses, tasks
from watcher.state import NOT_HELD, State
from watcher.task import Task


@dataclass(frozen=True, slots=True)
class Selection:
    """The tasks to replay. Blocks are those of the tasks' logs, inclusive; times are milliseconds since 1970.

    None: no limit on that side, and any state.
    """

    first_block: int | None = None
    last_block: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    state: State | None = None


@dataclass(frozen=True, slots=True)
class PastTask:
    """A past task. `row_id` is 0 for one that was read from the chain.

    `recorded` is the answer of the hook in the ledger, which took `recorded_ms` milliseconds; `accepted` is the answer
    on the chain. None: there is none.
    """

    row_id: int
    task: Task
    state: str
    recorded: bytes | None = None
    accepted: bytes | None = None
    recorded_ms: int | None = None


_DURATION_MS = (
    select(func.max(attempts.c.duration_ms))
    .where(attempts.c.task_id == tasks.c.id, attempts.c.kind == "hook", attempts.c.outcome == "answered")
    .scalar_subquery()
)
_PAST = WITH_SOURCE.add_columns(responses.c.message.label("accepted"), _DURATION_MS.label("recorded_ms")).outerjoin(
    responses,
    and_(
        responses.c.source_id == tasks.c.source_id,
        responses.c.task_index == tasks.c.task_index,
        responses.c.response_hash == tasks.c.response_hash,
        responses.c.tx_hash == tasks.c.responded_tx_hash,
        responses.c.block_number == tasks.c.responded_block,
    ),
)


def past_page(
    conn: Connection, source_id: int, selection: Selection, before_id: int | None, limit: int
) -> list[PastTask]:
    """Return the next page of past tasks, newest first.

    Args:
        conn: a connection.
        source_id: the task manager.
        selection: the tasks that count.
        before_id: the row id of the last task of the page before; None: the first page.
        limit: the most tasks.
    """
    where = _conditions(source_id, selection)
    if before_id is not None:
        where.append(tasks.c.id < before_id)
    rows = conn.execute(_PAST.where(*where).order_by(tasks.c.id.desc()).limit(limit))
    pages = {
        row.id: PastTask(row.id, task_of(row), row.state, row.response, row.accepted, row.recorded_ms) for row in rows
    }
    return list(pages.values())  # a log that two nodes numbered differently is there twice


def past_count(conn: Connection, source_id: int, selection: Selection) -> int:
    """Return the number of past tasks that count. Reads every task of the source: for people, not for loops."""
    return conn.execute(select(func.count()).select_from(tasks).where(*_conditions(source_id, selection))).scalar_one()


def _conditions(source_id: int, selection: Selection) -> list[ColumnElement[bool]]:
    # `+ 0` avoids the index: the row ids are walked, and no page is sorted.
    where: list[ColumnElement[bool]] = [tasks.c.source_id + 0 == source_id, tasks.c.canonical]
    lowest = ((selection.first_block, tasks.c.block_number), (selection.since_ms, tasks.c.seen_at_ms))
    highest = ((selection.last_block, tasks.c.block_number), (selection.until_ms, tasks.c.seen_at_ms))
    where += [column >= value for value, column in lowest if value is not None]
    where += [column <= value for value, column in highest if value is not None]
    if selection.state is not None:
        return [*where, tasks.c.state == selection.state]
    return [*where, tasks.c.state.not_in(sorted(NOT_HELD))]
