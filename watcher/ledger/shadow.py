"""The runs of the shadow hook: which are due, and how each compares with the run of the live hook.

The runs of the live hook, in `attempts`, are the queue; `shadow_progress` holds the place in it. Invariant: nothing
here touches a task, its claim or its journal; the table is bounded, and the place moves in the commit of the runs
that it covers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from watcher.ledger.columns import Few
from watcher.ledger.rows import WITH_SOURCE, of_source, task_of
from watcher.ledger.side_tables import shadow_progress, shadow_runs
from watcher.ledger.tables import attempts, tasks
from watcher.ledger.transaction import Tx
from watcher.task import Task

# The newest runs that are kept; older ones leave.
KEPT = 100_000
# Runs of the live hook that may wait for the shadow; beyond, the oldest are dropped.
WAITING_LIMIT = 1000
_PAGE = 500

ANSWERED, SKIPPED, LATER, FAILED = "answered", "skipped", "later", "failed"


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run of the live hook: the place in the queue, the task, and the outcome as `attempts` names it.

    `answer` is the answer in the ledger, None for another outcome.
    """

    attempt_id: int
    row_id: int
    task: Task
    outcome: str
    answer: bytes | None
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """A run of the shadow on a task, beside that of the live hook.

    `outcome` is one of those above; `answer` is the answer, `reason` why there is none.
    """

    live: LiveRun
    version: str
    outcome: str
    answer: bytes | None
    reason: str
    duration_ms: int

    @property
    def agrees(self) -> bool:
        """True if both hooks came to the same outcome and, if they answered, to the same bytes."""
        return self.outcome == self.live.outcome and self.answer == self.live.answer


def begin(tx: Tx, source_id: int) -> int:
    """Return the place in the queue: the one that was left, or its present end. Later runs are the shadow's."""
    place: int | None = tx.conn.execute(
        select(shadow_progress.c.attempt_id).where(shadow_progress.c.source_id == source_id)
    ).scalar_one_or_none()
    if place is not None:
        return place
    end: int = tx.conn.execute(select(func.coalesce(func.max(attempts.c.id), 0))).scalar_one()
    tx.conn.execute(insert(shadow_progress).values(source_id=source_id, attempt_id=end, dropped=0))
    return end


def leave(tx: Tx, source_id: int) -> None:
    """Forget the place in the queue: there is no shadow any more. Its runs stay."""
    tx.conn.execute(delete(shadow_progress).where(shadow_progress.c.source_id == source_id))


def record(tx: Tx, source_id: int, runs: Sequence[ShadowRun], attempt_id: int, dropped: int = 0) -> None:
    """Store runs, each in place of an older one of the same task and version, and move the place in the queue.

    Args:
        tx: the transaction.
        source_id: the task manager.
        runs: the runs.
        attempt_id: the runs of the live hook up to this one need no run of the shadow any more.
        dropped: how many of these got none.
    """
    if runs:
        ids = [run.live.row_id for run in runs]
        version = runs[0].version
        tx.conn.execute(delete(shadow_runs).where(shadow_runs.c.task_id.in_(ids), shadow_runs.c.version == version))
        latest = {run.live.row_id: run for run in runs}
        tx.conn.execute(insert(shadow_runs), [_row(run, tx.now_ms) for run in latest.values()])
        newest = select(func.max(shadow_runs.c.id)).scalar_subquery()
        tx.conn.execute(delete(shadow_runs).where(shadow_runs.c.id <= newest - KEPT))
    tx.conn.execute(
        update(shadow_progress)
        .where(shadow_progress.c.source_id == source_id)
        .values(attempt_id=attempt_id, dropped=shadow_progress.c.dropped + dropped)
    )


def _row(run: ShadowRun, now_ms: int) -> dict[str, Any]:
    return {
        "task_id": run.live.row_id,
        "version": run.version,
        "outcome": run.outcome,
        "response": run.answer,
        "words": run.reason,
        "duration_ms": run.duration_ms,
        "agrees": run.agrees,
        "at_ms": now_ms,
        "live_outcome": run.live.outcome,
        "live_duration_ms": run.live.duration_ms,
    }


def waiting(conn: Connection, source_id: int, after_id: int, limit: int) -> list[LiveRun]:
    """Return the next runs of the live hook behind a place in the queue, at most `limit`."""
    rows = conn.execute(
        WITH_SOURCE.join(attempts, attempts.c.task_id == tasks.c.id)
        .add_columns(
            attempts.c.id.label("attempt_id"),
            attempts.c.outcome,
            attempts.c.duration_ms,
        )
        .where(Few(attempts.c.id > after_id), attempts.c.kind == "hook", of_source(tasks, source_id))
        .order_by(attempts.c.id)
        .limit(limit)
    )
    return [
        LiveRun(
            row.attempt_id,
            row.id,
            task_of(row),
            row.outcome,
            row.response if row.outcome == ANSWERED else None,
            row.duration_ms,
        )
        for row in rows
    ]


def surplus(conn: Connection, source_id: int, after_id: int) -> tuple[int, int]:
    """Return the place up to which the waiting runs exceed the limit, and their number; `after_id` and 0 if none do."""
    queue = select(attempts.c.id).join(tasks, tasks.c.id == attempts.c.task_id)
    queue = queue.where(Few(attempts.c.id > after_id), attempts.c.kind == "hook", of_source(tasks, source_id))
    last = conn.execute(queue.order_by(attempts.c.id.desc()).offset(WAITING_LIMIT).limit(1)).scalar_one_or_none()
    if last is None:
        return after_id, 0
    count = conn.execute(select(func.count()).select_from(queue.where(attempts.c.id <= last).subquery())).scalar_one()
    return last, count


def dropped_runs(conn: Connection, source_id: int) -> int:
    """Return how many runs of the live hook got none of the shadow since the shadow was set."""
    dropped = select(shadow_progress.c.dropped).where(shadow_progress.c.source_id == source_id)
    return conn.execute(dropped).scalar_one_or_none() or 0


def newest_version(conn: Connection, source_id: int) -> str | None:
    """Return the version of the shadow's newest run; None before the first."""
    return conn.execute(
        select(shadow_runs.c.version)
        .join(tasks, tasks.c.id == shadow_runs.c.task_id)
        .where(of_source(tasks, source_id))
        .order_by(shadow_runs.c.id.desc())
        .limit(1)
    ).scalar_one_or_none()


def stored_runs(
    conn: Connection, source_id: int, version: str | None, since_ms: int | None, before_id: int | None
) -> list[Row[Any]]:
    """Return the next page of runs with their tasks, newest first.

    Args:
        conn: a connection.
        source_id: the task manager.
        version: of the shadow; None: any.
        since_ms: only runs since then, in milliseconds since 1970; None: all.
        before_id: the id of the last run of the page before; None: the first page.
    """
    where = [of_source(tasks, source_id)]
    where += [] if version is None else [shadow_runs.c.version == version]
    where += [] if since_ms is None else [shadow_runs.c.at_ms >= since_ms]
    where += [] if before_id is None else [shadow_runs.c.id < before_id]
    query = select(
        shadow_runs,
        tasks.c.task_index,
        tasks.c.task_hash,
        tasks.c.message,
        tasks.c.response.label("live_response"),
        tasks.c.hook_version.label("live_version"),
    ).join(tasks, tasks.c.id == shadow_runs.c.task_id)
    return list(conn.execute(query.where(*where).order_by(shadow_runs.c.id.desc()).limit(_PAGE)))
