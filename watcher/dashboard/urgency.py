"""Why tasks are in their states, a page of them at a time; and the tasks with the nearest deadlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Row

from watcher.dashboard.view import View
from watcher.health.cause.cause import cause_of
from watcher.health.cause.evidence import Evidence
from watcher.ledger import overview
from watcher.ledger.cursor import Cursor
from watcher.ledger.finding import attempts_of, journals
from watcher.ledger.story import TaskRecord, source_record
from watcher.report.story import Cause, blocks_left

_LIMIT = 8


@dataclass(frozen=True, slots=True)
class Urgent:
    """An unanswered task. `blocks_left` or `seconds_left` count to its deadline, by the kind of it."""

    task_index: int
    state: str
    blocks_left: int | None
    seconds_left: float | None
    deadline_block: int | None
    cause: Cause


def urgent_tasks(view: View, cursor: Cursor) -> list[Urgent]:
    """Return the unanswered tasks with the nearest deadlines, nearest first."""
    now_s = view.now_ms / 1000
    rows = overview.nearest(view.conn, view.source_id, cursor.head_closed_block, now_s, _LIMIT)
    if not rows:
        return []
    urgent = []
    for row, cause in zip(rows, causes_of(view, rows), strict=True):
        left_s = None if row.deadline_s is None else row.deadline_s - now_s
        left = blocks_left(row, cursor)
        urgent.append(Urgent(row.task_index, row.state, left, left_s, row.deadline_block, cause))
    return urgent


def causes_of(view: View, rows: Sequence[Row[Any]]) -> list[Cause]:
    """Return why each task of a page is in its state."""
    ids = [row.id for row in rows]
    lines, tries = journals(view.conn, ids), attempts_of(view.conn, ids)
    source, plan = source_record(view.conn, view.source_id), view.plan
    records = (TaskRecord(row, lines.get(row.id, ()), tries.get(row.id, ()), ()) for row in rows)
    return [
        cause_of(
            Evidence(record, source, view.now_ms, plan.confirmations, plan.max_attempts, view.daemon, is_running=True)
        )
        for record in records
    ]
