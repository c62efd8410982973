"""Questions of a service level report: the tasks of some time with their outcome, and the attempts for them.

Invariant: a question reads one page, so that no long read keeps the write-ahead log from shrinking.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, case, func, literal_column, or_, select
from sqlalchemy.engine import Row

from watcher.ledger.history import IS_HISTORY
from watcher.ledger.rows import chunks
from watcher.ledger.tables import TASK_TIME_S, attempts, sources, tasks

PAGE = 2000


@dataclass(frozen=True, slots=True)
class Tries:
    """The attempts for some tasks.

    `first_post_ms` and `posts` are by row id of the task: when the first POST began (milliseconds since 1970), and
    their number. `outcomes` counts attempts by kind, outcome and HTTP status.
    """

    first_post_ms: dict[int, int]
    posts: dict[int, int]
    outcomes: dict[tuple[str, str | None, int | None], int]


# As text: an index on an expression serves only the very same expression.
_time_s: ColumnElement[int] = literal_column(TASK_TIME_S.text, Integer())
_COLUMNS: Select[Any] = select(
    tasks.c.id,
    tasks.c.task_index,
    tasks.c.state,
    tasks.c.canonical,
    tasks.c.block_number,
    tasks.c.deadline_block,
    tasks.c.deadline_s,
    _time_s.label("time_s"),
    func.coalesce(tasks.c.block_time_s * 1000, tasks.c.seen_at_ms).label("time_ms"),
    tasks.c.responded_block,
    (tasks.c.responded_time_s * 1000).label("responded_ms"),
    tasks.c.responded_by,
    tasks.c.error,
    IS_HISTORY.label("is_history"),
).join(sources, sources.c.id == tasks.c.source_id)


def identity(conn: Connection, source_id: int) -> tuple[int, bytes]:
    """Return chain id and address of a task manager."""
    row = conn.execute(select(sources.c.chain_id, sources.c.task_manager).where(sources.c.id == source_id)).one()
    return row.chain_id, row.task_manager


def task_outcomes(
    conn: Connection, source_id: int, since_ms: int, until_ms: int, after: Row[Any] | None, limit: int = PAGE
) -> Sequence[Row[Any]]:
    """Return the next tasks created within a time, in the order of their times, which count in whole seconds.

    Args:
        conn: a connection.
        source_id: the task manager.
        since_ms: the first moment, in milliseconds since 1970.
        until_ms: the moment behind the last.
        after: the last task of the page before; None for the first page.
        limit: the most tasks.
    """
    first_s = -(-since_ms // 1000) if after is None else after.time_s
    # `+ 0` hides the indices that begin with the source: the tasks are found by their time.
    page = _COLUMNS.where(_time_s >= first_s, _time_s < -(-until_ms // 1000), tasks.c.source_id + 0 == source_id)
    if after is not None:
        page = page.where(or_(_time_s > after.time_s, tasks.c.id > after.id))
    return conn.execute(page.order_by(_time_s, tasks.c.id).limit(limit)).all()


def tasks_within(conn: Connection, source_id: int, since_ms: int, until_ms: int, limit: int) -> int:
    """Return the number of tasks created within a time (milliseconds since 1970), at most `limit`."""
    within = (_time_s >= -(-since_ms // 1000), _time_s < -(-until_ms // 1000), tasks.c.source_id + 0 == source_id)
    rows = select(tasks.c.id).where(*within).limit(limit).subquery()
    return conn.execute(select(func.count()).select_from(rows)).scalar_one()


def tries_of(conn: Connection, ids: Sequence[int]) -> Tries:
    """Return the attempts for the tasks with these row ids."""
    tries = Tries({}, {}, {})
    is_post = attempts.c.kind == "post"
    for chunk in chunks(ids):
        mine = attempts.c.task_id.in_(chunk)
        for row in conn.execute(
            select(attempts.c.task_id, func.min(attempts.c.began_at_ms), func.count())
            .where(mine, is_post)
            .group_by(attempts.c.task_id)
        ):
            tries.first_post_ms[row[0]], tries.posts[row[0]] = row[1], row[2]
        status = case((is_post, attempts.c.http_status))
        for kind, outcome, code, count in conn.execute(
            select(attempts.c.kind, attempts.c.outcome, status, func.count())
            .where(mine)
            .group_by(attempts.c.kind, attempts.c.outcome, status)
        ):
            tries.outcomes[kind, outcome, code] = tries.outcomes.get((kind, outcome, code), 0) + count
    return tries
